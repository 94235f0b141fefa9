"""The report of `verify` as one page of HTML that needs nothing else: no network, no fonts."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from . import mathml, plots
from .bibliography import WORKS, named
from .catalogue import CHAPTERS, SYSTEMS
from .notes import told
from .report import conclusion, script

Entry = dict[str, Any]


def html(report: Entry) -> str:
    """Return the page of a report."""
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "html": lambda text: Markup(mathml.html(text)),
        "source": lambda source: Markup(_linked(source, report["notes"])),
        "heat": lambda values, name: Markup(plots.heat(name, values)),
        "strip": lambda level: Markup(_strip(level)),
        "script": script,
        "slug": lambda verdict: verdict.lower().replace(" ", "-"),
    }
    sources = {s for e in (*report["theorems"], *report["examples"]) for s in e["sources"]}
    cited = {name for source in sources for name in named(source)}
    return environment.get_template("page.html").render(
        report=report,
        conclusion=conclusion(report),
        chapters=[
            (CHAPTERS[name], name, list(entries))
            for name, entries in groupby(report["theorems"], key=lambda entry: entry["chapter"])
        ],
        systems=SYSTEMS,
        works=[work for name, work in WORKS.items() if name in cited],
        refereed=told.summary(report["notes"], report["traps"]),
    )


def _linked(source: str, notes: list[Entry]) -> str:
    anchors = {name: WORKS[name].key for name in named(source)}
    anchors |= {row["id"]: row["id"] for row in notes if row["id"] == source}
    html = escape(source)
    for name, anchor in anchors.items():
        html = html.replace(escape(name), f'<a href="#{anchor}">{escape(name)}</a>')
    return html


def _strip(level: Entry) -> str:
    relation = level["tightest_relation"]
    what = "larger / smaller side" if relation == "≤" else "error / rounding error allowed"
    return plots.strip(level["ratios"][relation], level["tightest"], what)
