"""The report of `verify` as a person reads it: a table, what went wrong, one line to conclude."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .catalogue import CHAPTERS
from .notes import CLAIMS, told

Entry = dict[str, Any]

COLOURS = {
    "PROVED": "green",
    "CERTIFIED": "green",
    "CONSISTENT": "cyan",
    "INCONCLUSIVE": "yellow",
    "NOT CHECKED": "bright_black",
    "REFUTED": "bold red",
}


def _verdict(word: str) -> Text:
    return Text(word, COLOURS[word])


def _tested(level: Entry) -> str:
    if "examples" not in level:
        return "–"
    tightest = level["tightest"]
    return f"{level['examples']:,}" + (f"  {tightest:.3g}" if tightest is not None else "")


def _certified(level: Entry) -> str:
    if "examples" not in level:
        return "–"
    return f"{level['examples']:,}  {level['arithmetic']}"


def _proved(level: Entry) -> str:
    """``–`` where nothing is formalised; what Coq checked in part has no verdict of its own."""
    if not level.get("coq"):
        return "–"
    if level["verdict"] == "NOT CHECKED":
        return "in part" if level["reason"].startswith("proved in part") else "not checked here"
    return str(level["verdict"]).lower()


def table(report: Entry) -> Table:
    """One row a theorem, by chapter."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("id", no_wrap=True)
    made.add_column("theorem")
    made.add_column("tested\ncases, tightest", no_wrap=True)
    made.add_column("certified\ncases, arithmetic")
    made.add_column("proved\nby Coq")
    made.add_column("verdict", no_wrap=True)
    chapter = None
    for entry in report["theorems"]:
        if entry["chapter"] != chapter:
            chapter = entry["chapter"]
            made.add_row()
            made.add_row("", Text(CHAPTERS[chapter], "bold"))
        levels = entry["levels"]
        made.add_row(
            entry["id"],
            entry["title"],
            _tested(levels["tested"]),
            _certified(levels["certified"]),
            _proved(levels["proved"]),
            _verdict(entry["verdict"]),
        )
    if report["examples"]:
        made.add_row()
        made.add_row("", Text("The notes' worked examples", "bold"))
    for example in report["examples"]:
        made.add_row(example["id"], example["title"], "", "", "", _verdict(example["verdict"]))
    return made


def complaints(entry: Entry) -> list[str]:
    """What is wrong with the evidence of one theorem, a sentence each."""
    lines = []
    certified = entry["levels"]["certified"]
    for name, level in {
        "tested": entry["levels"]["tested"],
        **{f"certified over {k}": v for k, v in certified.get("systems", {}).items()},
    }.items():
        if level["verdict"] == "REFUTED":
            lines.append(f"{entry['id']} {name}: {level['failure']}")
        elif level["verdict"] == "INCONCLUSIVE":
            lines.append(
                f"{entry['id']} {name}: {level['undecided']} cases undecided, "
                f"{level['examples']} decided."
            )
    if entry["levels"]["proved"]["verdict"] == "INCONCLUSIVE":
        lines.append(f"{entry['id']} proved: {entry['levels']['proved']['reason']}.")
    for n in entry["necessity"]:
        if n["counterexample"] is None:
            lines.append(
                f"{entry['id']}: holds on the case stored against dropping {n['dropped']!r}."
            )
    for s in entry["sensitivity"]:
        if s["caught_by"] is None:
            lines.append(f"{entry['id']}: did not catch the planted mistake {s['mistake']!r}.")
    return lines


def script(entry: Entry) -> str | None:
    """Return the program that shows a refutation again, where it can be with no tolerance."""
    certified = entry["levels"]["certified"]
    found = (*certified.get("systems", {}).values(), entry["levels"]["tested"])
    return next((level["script"] for level in found if level["verdict"] == "REFUTED"), None)


def save_scripts(report: Entry, folder: Path) -> Iterator[str]:
    """Write the program of every refuted theorem into ``folder`` and say where it is."""
    for entry in report["theorems"]:
        if (text := script(entry)) is not None:
            path = folder / f"refuted-{entry['id']}.py"
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                yield f"Cannot write {path}: {error.strerror}."
            else:
                yield f"Saved {path}, which shows the refutation of {entry['id']} again."


def conclusion(report: Entry) -> str:
    """What was found, in a few sentences."""
    said = []
    if report["theorems"] or report["examples"]:
        said.append(_evidence(report))
    if report["notes"] or report["traps"]:
        said.append(told.summary(report["notes"], report["traps"]))
    return ("Interrupted: " if report["interrupted"] else "") + " ".join(said)


def _evidence(report: Entry) -> str:
    count = Counter(item["verdict"] for item in (*report["theorems"], *report["examples"]))
    levels = [level for e in report["theorems"] for level in e["levels"].values()]
    cases = sum(level.get("examples", 0) for level in levels)
    necessary = sum(len(e["necessity"]) for e in report["theorems"])
    planted = sum(len(e["sensitivity"]) for e in report["theorems"])
    found = ", ".join(f"{n} {word}" for word in COLOURS if (n := count[word]))
    return (
        f"{_many(report['theorems'], 'theorem')}, {_many(report['examples'], 'example')}: "
        f"{found}. "
        f"{cases:,} cases, {necessary} counterexamples to dropped hypotheses, "
        f"{planted} planted mistakes, {report['seconds']:.0f} s."
    )


def _many(things: list[Any], name: str) -> str:
    return f"{len(things)} {name}" + ("" if len(things) == 1 else "s")


def show(report: Entry, console: Console) -> None:
    """Print the whole report."""
    if report["theorems"] or report["examples"]:
        console.print(table(report))
        console.print()
    for entry in report["theorems"]:
        for line in complaints(entry):
            console.print(line, style="yellow", highlight=False, markup=False)
        if (text := script(entry)) is not None:
            console.print(f"\n{text}", highlight=False, markup=False, soft_wrap=True)
    for example in report["examples"]:
        if example["verdict"] not in ("CERTIFIED", "CONSISTENT"):
            console.print(f"{example['id']}: {example['detail']}", style="yellow", markup=False)
    for line in told.failures([*report["notes"], *report["traps"]]):
        console.print(line, style="yellow", highlight=False, markup=False)
    if len(report["notes"]) < len(CLAIMS):  # some were asked for by name
        for row in (*report["notes"], *report["traps"]):
            console.print(told.told(row), highlight=False, markup=False, soft_wrap=True)
    for reason, ids in _unchecked(report).items():
        console.print(f"{', '.join(ids)} not checked: {reason}.", style="bright_black")
    console.print(conclusion(report), highlight=False, markup=False)


def _unchecked(report: Entry) -> dict[str, list[str]]:
    """Why theorems have no verdict at all, and which."""
    why: dict[str, list[str]] = {}
    for entry in report["theorems"]:
        if entry["verdict"] == "NOT CHECKED":
            levels = entry["levels"].values()
            reasons = dict.fromkeys(level["reason"] for level in levels)
            why.setdefault("; ".join(reasons), []).append(entry["id"])
    return why
