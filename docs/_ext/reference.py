"""The public names in the documentation, read off the package, so that none is forgotten."""

import inspect
import re
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

import tinygrad_rnn
from tinygrad_rnn.cli import app
from tinygrad_rnn.proofs.mathml import EXPONENT, INDEX


def names(home: str) -> list[str]:
    """Return what a module offers: those of the package first, as ``tg.grad``."""
    module = f"tinygrad_rnn.{home}"
    public = tinygrad_rnn._HOMES.get(home, "").split()
    others = set(getattr(import_module(module), "__all__", ())) - set(public)
    return [f"tinygrad_rnn.{name}" for name in public] + [f"{module}.{n}" for n in sorted(others)]


def directive(name: str) -> str:
    """Return the autodoc directive for what stands under a dotted name."""
    module, _, last = name.rpartition(".")
    thing = getattr(import_module(module), last)
    if inspect.isclass(thing):
        return f".. autoclass:: {name}\n   :members:\n"
    if callable(thing):
        return f".. autofunction:: {name}\n"
    what = ", ".join(f"``{key}``" for key in thing) if isinstance(thing, dict) else f"``{thing}``"
    return f".. py:data:: {name}\n\n   {what}\n"


class Public(SphinxDirective):
    """``{public} clip optim``: the public names of some modules."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Write the directives of autodoc, and parse them."""
        found = [name for home in self.arguments[0].split() for name in names(home)]
        text = "\n".join(map(directive, found))
        return self.parse_text_to_nodes(f"```{{eval-rst}}\n{text}\n```\n")


class Help(SphinxDirective):
    """``{help} verify``: what a command says with --help."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Ask it."""
        environment = {"COLUMNS": "84", "NO_COLOR": "1"}
        asked = CliRunner().invoke(app, [self.arguments[0], "--help"], env=environment)
        if asked.exit_code:
            raise self.error(asked.output)
        text = asked.output.replace("Usage: root", "Usage: tinygrad-rnn").strip()
        return [nodes.literal_block(text, text, language="text")]


def _role(found: re.Match[str]) -> str:
    role = "sub" if found[1] else "sup"
    return rf"\ :{role}:`{(found[1] or found[2]).strip('{}()')}`\ "


def _marked(text: str, formula: bool) -> str:
    """Return the markup of plain text, with the indices and exponents of a formula."""
    if formula:
        text = re.sub(f"{INDEX.pattern}|{EXPONENT.pattern}", _role, text)
        text = re.sub(r"\\ (?=\s|$)", "", text)
    return re.sub(r"\||(?<=\w)_(?!\w)", r"\\\g<0>", text)


def _as_plain_text(sphinx: Any, what: str, name: str, thing: Any, options: Any, lines: Any) -> None:
    """Give formulas in docstrings their indices; other bars and underscores are no markup."""
    if what == "property" and lines:
        lines[0] = lines[0].replace(": ", " – ", 1)  # what stands before is no type
    literal = example = False
    for i, line in enumerate(lines):
        literal = literal and (not line.strip() or line.startswith(" "))
        example = line.startswith(">>>") or (example and bool(line.strip()))
        if not literal and not example:
            declares = re.fullmatch(r"[\w*, ]+( : .+)?", line)  # a name above what it means
            formula = not (declares and "".join(lines[i + 1 : i + 2]).startswith(" "))
            pieces = re.split(r"(``.+?``)", line)
            pieces[::2] = [_marked(text, formula) for text in pieces[::2]]
            lines[i] = "".join(pieces)
        literal = literal or line.endswith("::")


def _shapes_are_no_names(sphinx: Any, doctree: nodes.document) -> None:
    """Keep the T of (T, N, D) from being taken for the property of that name."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        if len(link["reftarget"]) == 1:
            link.replace_self(link.children)


def setup(sphinx: Any) -> dict[str, bool]:
    """Add the directives, and what makes docstrings read well."""
    sphinx.add_directive("public", Public)
    sphinx.add_directive("help", Help)
    sphinx.connect("autodoc-process-docstring", _as_plain_text, priority=400)  # before napoleon
    sphinx.connect("doctree-read", _shapes_are_no_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
