"""Nested dicts, tuples and lists of arrays: parameters come that way, so derivatives do too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the leaves of ``tree`` and the function that puts others in their place.

    Examples
    --------
    >>> leaves, rebuild = flatten({"W": 1.0, "state": (2.0, 3.0)})
    >>> leaves, rebuild([10, 20, 30])
    ([1.0, 2.0, 3.0], {'W': 10, 'state': (20, 30)})
    """
    leaves: list[Any] = []

    def take(node: Any) -> Callable[[list[Any]], Any]:
        if isinstance(node, dict):
            parts = {k: take(v) for k, v in node.items()}
            return lambda new: {k: build(new) for k, build in parts.items()}
        if isinstance(node, (tuple, list)):
            builds = [take(v) for v in node]
            kind = type(node)
            if hasattr(kind, "_fields"):  # a namedtuple
                return lambda new: kind(*[build(new) for build in builds])
            return lambda new: kind(build(new) for build in builds)
        if node is None:
            return lambda new: None
        position = len(leaves)
        leaves.append(node)
        return lambda new: new[position]

    rebuild = take(tree)
    return leaves, rebuild
