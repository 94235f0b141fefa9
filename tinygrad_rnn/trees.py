"""Nested dicts, tuples and lists of arrays: parameters come that way, so derivatives do too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """Return the leaves of ``tree`` and the function that puts others in their place.

    Examples
    --------
    >>> leaves, rebuild = flatten({"W": 1.0, "state": (2.0, 3.0)})
    >>> leaves, rebuild([10, 20, 30])
    ([1.0, 2.0, 3.0], {'W': 10, 'state': (20, 30)})
    """
    leaves: list[Any] = []

    def over(node: Any, f: Callable[[Any], Any]) -> Any:
        if isinstance(node, dict):
            parts = {
                k: over(node[k], f) for k in sorted(node, key=repr)
            }  # one order for equal dicts
            return {k: parts[k] for k in node}
        if isinstance(node, (tuple, list)):
            items = [over(v, f) for v in node]
            return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
        return None if node is None else f(node)

    skeleton = over(tree, lambda leaf: leaves.append(leaf) or len(leaves) - 1)  # type: ignore[func-returns-value]
    return leaves, lambda new: over(skeleton, new.__getitem__)
