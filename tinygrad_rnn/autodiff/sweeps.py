"""The two sweeps over a record: forward carries tangents, backward carries cotangents.

A record is the graph of Tensors that `tensor.apply` left behind. The order in which its nodes were
made is a topological order, so neither sweep needs recursion, and a shared node is visited once.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.arrays import scatter
from tinygrad_rnn.autodiff.tensor import Part, Tensor, raw
from tinygrad_rnn.functions import Array


def ancestors(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every Tensor of the same trace from which ``outputs`` were computed, in order of creation."""
    seen: dict[int, Tensor] = {}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node._serial not in seen:
            seen[node._serial] = node
            if node._origin is not None:
                stack += [parent for parent in node._origin[3] if parent is not None]
    return [seen[serial] for serial in sorted(seen)]


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum a cotangent over the axes along which its array was broadcast."""
    extra = g.ndim - len(shape)
    stretched = [i + extra for i, n in enumerate(shape) if n == 1 != g.shape[i + extra]]
    return g.sum(axis=(*range(extra), *stretched), keepdims=True).reshape(shape)


def cast(g: Array, dtype: np.dtype[Any]) -> Array:
    """Give a tangent or cotangent the precision of its array."""
    if g.dtype == dtype or g.dtype.hasobject:
        return g
    if dtype.hasobject and g.dtype.kind in "fc":
        raise TypeError("A float (co)tangent of exact numbers would round: lift it like them.")
    if g.dtype.kind == "c":
        raise TypeError("The derivative of a real input is complex: use x.astype(complex).")
    return g.astype(dtype)


class Cotangents(dict[int, Array]):
    """The cotangents of the nodes still to be visited, by serial number; contributions add up."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, Tensor]] = []  # a heap: the latest node first
        self.own: set[int] = set()  # sums made here: no one else holds them, so they may grow
        self.parts: dict[int, list[Part]] = {}  # contributions to parts of an array, still apart

    def add(self, node: Tensor, g: Array) -> None:
        """Add a contribution, in place where the sum so far is our own.

        Here, and only here, a cotangent gets the shape and the precision of its array.
        """
        value = node._value
        if type(g) is not np.ndarray and type(g) is not Tensor:
            if type(g) is Part:
                return self._add_part(node, g)
            g = np.asarray(g)
        if g.shape != value.shape:
            # As many numbers are the same numbers, in the same order.
            g = g.reshape(value.shape) if g.size == value.size else unbroadcast(g, value.shape)
        if g.dtype is not value.dtype:
            g = cast(g, value.dtype)
        key = node._serial
        if key not in self:
            self[key] = g
            if node._origin is not None:
                heappush(self.queue, (-key, node))
        elif key in self.own and type(g) is np.ndarray:
            self[key] += g
        else:
            self[key] = total = self[key] + g
            if type(total) is not Tensor:
                self[key] = np.asarray(total, getattr(total, "dtype", object))  # 0-d sums are bare
            (self.own.discard if type(total) is Tensor else self.own.add)(key)

    def _add_part(self, node: Tensor, part: Part) -> None:
        """Add later, together with other parts, so that the time is proportional to the parts."""
        if node._serial not in self:
            self.add(node, np.broadcast_to(np.zeros((), part.g.dtype), node.shape))
        parts = self.parts.setdefault(node._serial, [])
        parts.append(part)
        if len(parts) * part.g.size >= node.size:
            self._gather(node)

    def _gather(self, node: Tensor) -> None:
        parts = self.parts.pop(node._serial)
        self.add(node, scatter(node.shape, [p.index for p in parts], *[p.g for p in parts]))

    def take(self, node: Tensor) -> Array:
        """Return the cotangent of a node, None if there is none, and forget it."""
        if node._serial in self.parts:
            self._gather(node)
        return self.pop(node._serial, None)


def sweep_backward(
    outputs: list[Tensor], seeds: list[Array], sources: list[Tensor], release: bool = False
) -> list[Array]:
    """Return the cotangents of the leaves ``sources`` for the cotangents ``seeds`` of ``outputs``.

    A node's cotangent is dropped once it has been passed on. With ``release`` so is the node's part
    of the record, which then cannot be swept again.
    """
    cotangents = Cotangents()
    add, take, queue = cotangents.add, cotangents.take, cotangents.queue
    for output, seed in zip(outputs, seeds, strict=True):
        add(output, seed)
    while queue:
        node = heappop(queue)[1]
        g, y = take(node), node._value
        rule, values, keywords, parents = node._origin  # type: ignore[misc]  # no leaf is queued
        if isinstance(rule.vjps, tuple):
            for parent, vjp in zip(parents, rule.vjps):  # noqa: B905  # options have no product
                if parent is not None and vjp is not None:
                    add(parent, vjp(g, y, *values, **keywords) if keywords else vjp(g, y, *values))
        else:
            for parent, d in zip(parents, rule.vjps(g, y, *values), strict=True):
                if parent is not None:
                    add(parent, d)
        if release:
            node._origin = None
    return [_result(cotangents.take(s), s) for s in sources]


def sweep_forward(
    outputs: Sequence[Tensor], sources: Sequence[Tensor], tangents: Sequence[Array]
) -> list[Array]:
    """Return the tangents of ``outputs`` for the tangents of the leaves ``sources``."""
    known = {s._serial: cast(t, s.dtype) for s, t in zip(sources, tangents, strict=True)}
    for node in ancestors(outputs):
        if node._origin is None:
            continue
        rule, values, keywords, parents = node._origin
        inward = [None if p is None else known.get(p._serial) for p in parents]
        if all(t is None for t in inward):
            continue
        if isinstance(rule.jvps, tuple):
            pairs = zip(inward, rule.jvps)  # noqa: B905  # options have no product
            moving = [(t, jvp) for t, jvp in pairs if t is not None and jvp is not None]
            terms = [jvp(t, node._value, *values, **keywords) for t, jvp in moving]
        else:
            terms = [rule.jvps(inward, node._value, *values)]
        if terms:
            known[node._serial] = np.broadcast_to(sum(terms[1:], terms[0]), node.shape)
    return [_result(known.get(o._serial), o) for o in outputs]


def _result(found: Array | None, node: Tensor) -> Array:
    """Return an array that the caller may change: not a view, nor the seed that was passed in."""
    if found is None:
        return np.zeros_like(raw(node))
    return found if type(found) is Tensor else np.array(found)
