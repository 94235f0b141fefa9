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
            return {k: over(v, f) for k, v in node.items()}
        if isinstance(node, (tuple, list)):
            items = [over(v, f) for v in node]
            return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
        return None if node is None else f(node)

    skeleton = over(tree, lambda leaf: leaves.append(leaf) or len(leaves) - 1)  # type: ignore[func-returns-value]
    return leaves, lambda new: over(skeleton, new.__getitem__)


def in_order_of(pattern: Any, tree: Any) -> Any:
    """Return ``tree`` with the keys of its dicts in the order of ``pattern``'s, where they agree.

    Examples
    --------
    >>> in_order_of({"W": 0, "b": 0}, {"b": 1, "W": 2})
    {'W': 2, 'b': 1}
    """
    if isinstance(tree, dict) and isinstance(pattern, dict) and tree.keys() == pattern.keys():
        return {k: in_order_of(v, tree[k]) for k, v in pattern.items()}
    both_sequences = isinstance(tree, (tuple, list)) and isinstance(pattern, (tuple, list))
    if both_sequences and len(tree) == len(pattern):
        items = [in_order_of(p, t) for p, t in zip(pattern, tree, strict=True)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree
