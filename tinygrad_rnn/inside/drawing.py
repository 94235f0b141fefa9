"""The record of a computation, drawn as a graph."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.inside.names import Names, checked, number

__all__ = ["Drawing", "draw"]

STYLE = 'fontname="monospace", fontsize=11, color="#808080", fontcolor="#808080"'


@dataclass(frozen=True)
class Drawing:
    """A record as a graph: text in a terminal, a picture in a notebook.

    ``dot`` is its source in Graphviz's language; :meth:`svg` needs the package ``graphviz`` and the
    program of that name.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> w = tg.Tensor(2.0)
    >>> tg.draw(w * w, w=w)
    L = w * w  = 4
    ├─ w  = 2
    └─ w  = 2
    """

    dot: str
    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def svg(self) -> str:
        """Return the picture.

        Raises
        ------
        ImportError
            If the package ``graphviz``, or Graphviz itself, is not installed.
        """
        try:
            graphviz = import_module("graphviz")
            made: str = graphviz.Source(self.dot).pipe(format="svg", encoding="utf-8")
        except (ImportError, OSError) as error:  # the program is missing: an OSError
            raise ImportError(
                "a picture needs Graphviz: pip install 'tinygrad_rnn[draw]', and the program dot "
                f"(apt install graphviz, brew install graphviz). print() draws with letters. "
                f"({error})"
            ) from None
        return made[made.index("<svg") :]

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg()
        except ImportError:
            return None  # a notebook then shows the text


def draw(tensor: Tensor, /, limit: int = 200, **names: Any) -> Drawing:
    """Draw what ``tensor`` was computed from: the record that the backward sweep walks.

    Parameters
    ----------
    tensor
        The result at the top.
    limit
        How many nodes to draw: the latest; what they were computed from is "…".
    **names
        What to call Tensors and arrays, as for :func:`explain`.

    Returns
    -------
    A Drawing. A notebook shows it as a picture, ``print`` as text, in which a node that is used
    more than once is written out where it first comes and named thereafter.

    Raises
    ------
    TypeError
        If ``tensor`` is no Tensor.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> w = tg.Tensor([1.0, 2.0])
    >>> print(tg.draw(np.sum(w * w), w=w))
    L = np.sum(v1)  = 5
    └─ v1 = w * w  = [1, 4]
       ├─ w  = [1, 2]
       └─ w  = [1, 2]
    """
    checked("draw", tensor)
    called = Names(tensor, names)
    shown = {node._serial for node in called.nodes[-limit:]}
    return Drawing(_dot(called, shown), _tree(tensor, called, shown))


def _parents(node: Tensor) -> list[Tensor]:
    return [] if node._origin is None else [p for p in node._origin[3] if p is not None]


def _described(node: Tensor, called: Names) -> str:
    expression = called.expression(node)
    return called[node] + (f" = {expression}" if expression else "")


def _tree(output: Tensor, called: Names, shown: set[int]) -> str:
    """Return the graph as an indented tree."""
    lines: list[str] = []
    written: set[int] = set()
    stack = [(output, "", "")]  # a node, the start of its line, and that of the lines below it
    while stack:
        node, start, below = stack.pop()
        again = node._serial in written and node._origin is not None
        if again:
            lines.append(f"{start}{called[node]}  (see above)")
            continue
        lines.append(f"{start}{_described(node, called)}  = {number(node)}")
        written.add(node._serial)
        parents = [p for p in _parents(node) if p._serial in shown]
        if len(parents) < len(_parents(node)):
            lines.append(f"{below}└─ …")
        for i, parent in enumerate(reversed(parents)):
            branch, rest = ("└─ ", "   ") if i == 0 else ("├─ ", "│  ")
            stack.append((parent, below + branch, below + rest))
    return "\n".join(lines)


def _dot(called: Names, shown: set[int]) -> str:
    """Return the graph in Graphviz's language, in a grey that light and dark pages show."""
    lines = [
        "digraph {",
        '  rankdir=LR; bgcolor="transparent";',
        f"  node [shape=box, style=rounded, {STYLE}]; edge [{STYLE}];",
    ]
    for node in called.nodes:
        if node._serial not in shown:
            continue
        text = f"{_described(node, called)}\n{number(node)}".replace('"', "'")
        look = ", style=bold" if node._origin is None else ""
        lines.append(f'  n{node._serial} [label="{text}"{look}];'.replace("\n", r"\n"))
        for parent in _parents(node):
            if parent._serial in shown:
                lines.append(f"  n{parent._serial} -> n{node._serial};")
    return "\n".join([*lines, "}"])
