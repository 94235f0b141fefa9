"""What the nodes of a record are called, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.sweeps import ancestors
from tinygrad_rnn.autodiff.tensor import Tensor, raw

INFIX = {
    "np.add": "+", "np.subtract": "-", "np.multiply": "*", "np.divide": "/", "np.power": "**",
    "np.matmul": "@",
}  # fmt: skip
SHOWN = 6  # entries; larger arrays are summarised


class Names:
    """The names of the nodes of a record, and of the arrays that the user named."""

    def __init__(self, output: Tensor, given: Mapping[str, Any]) -> None:
        self.nodes = ancestors([output])
        # Only arrays: Python shares small numbers among all who use them.
        self.arrays = {id(v): n for n, v in given.items() if isinstance(v, np.ndarray)}
        named = {v._serial: n for n, v in given.items() if isinstance(v, Tensor)}
        free_leaf, free_node = _fresh("x", given), _fresh("v", given)
        self.of: dict[int, str] = {}
        for node in self.nodes:
            if node._serial in named:
                name = named[node._serial]
            elif node is output and "L" not in given:
                name = "L"
            else:
                name = next(free_node if node._origin else free_leaf)
            self.of[node._serial] = name
        self.output = self[output]

    def __getitem__(self, node: Tensor) -> str:
        return self.of[node._serial]

    def expression(self, node: Tensor) -> str:
        """Return how a node was computed: ``w * x``."""
        if node._origin is None:
            return ""
        rule, values, keywords, parents = node._origin
        pairs = zip(values, parents, strict=True)
        arguments = [self.argument(v) if p is None else self[p] for v, p in pairs]
        if rule.name in INFIX:
            return f" {INFIX[rule.name]} ".join(arguments)
        if rule.name == "getitem":
            return f"{arguments[0]}[{_index(values[1])}]"
        options = [f"{k}={v}" for k, v in keywords.items() if v is not None and v is not False]
        return f"{rule.name}({', '.join([*arguments, *options])})"

    def argument(self, value: Any) -> str:
        """Return the name of a constant, or else the constant."""
        if id(value) in self.arrays:
            return self.arrays[id(value)]
        if isinstance(value, np.ndarray):
            return number(value) if value.size <= 3 else f"constant{value.shape}"
        return str(value)


def _fresh(letter: str, taken: Mapping[str, Any]) -> Iterator[str]:
    count = 0
    while True:
        count += 1
        if f"{letter}{count}" not in taken:
            yield f"{letter}{count}"


def _index(index: Any) -> str:
    """Return an index as it is written: ``1:, 0``."""
    if isinstance(index, tuple):
        return ", ".join(map(_index, index))
    if isinstance(index, slice):
        ends = ["" if end is None else str(end) for end in (index.start, index.stop)]
        return ":".join(ends if index.step is None else [*ends, str(index.step)])
    if index is Ellipsis:
        return "..."
    return number(index) if isinstance(index, np.ndarray) else str(index)


def number(value: Any) -> str:
    """Return a number, or a small array, in four digits; of a larger one its shape and size."""
    array = np.asarray(raw(value))
    if array.size > SHOWN:
        size = "" if array.dtype.hasobject else f", entries up to {np.max(np.abs(array)):.4g}"
        return f"{array.shape}{size}"
    form = str if array.dtype.hasobject else "{:.4g}".format
    if array.ndim == 0:
        return form(array[()])
    return " ".join(np.array2string(array, separator=", ", formatter={"all": form}).split())


def checked(name: str, tensor: Any) -> None:
    """Refuse what is no Tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(
            f"{name}() needs a Tensor, which remembers how it was computed, got "
            f"{type(tensor).__name__}. Start from leaves: w = tg.Tensor(2.0)."
        )
