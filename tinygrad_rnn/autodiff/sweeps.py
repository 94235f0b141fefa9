"""The two sweeps over a record: forward carries tangents, backward carries cotangents.

A record is the graph of Tensors that `tensor.apply` left behind. The order in which its nodes were
made is a topological order, so neither sweep needs recursion, and a shared node is visited once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Array, Tensor, raw


def ancestors(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Every Tensor of the same trace from which ``outputs`` were computed, in order of creation."""
    seen: dict[int, Tensor] = {}
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node._serial not in seen:
            seen[node._serial] = node
            if node._origin is not None:
                for parent in node._origin[3]:
                    if parent is not None:
                        stack.append(parent)
    return [seen[serial] for serial in sorted(seen)]


def leaves_of(output: Tensor) -> list[Tensor]:
    """Return the leaves ``output`` was computed from."""
    return [node for node in ancestors([output]) if node._origin is None]


def unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Sum a cotangent over the axes along which its array was broadcast."""
    extra = g.ndim - len(shape)
    stretched = [i + extra for i, n in enumerate(shape) if n == 1 != g.shape[i + extra]]
    return g.sum(axis=(*range(extra), *stretched)).reshape(shape)


def _cast(g: Array, dtype: np.dtype[Any]) -> Array:
    if g.dtype == dtype or g.dtype.hasobject:
        return g
    if g.dtype.kind == "c":
        raise TypeError(
            "A real input reached a complex result, so its derivative is complex. Make the input "
            "complex: x.astype(complex)."
        )
    return g.astype(dtype)


class Cotangents(dict[int, Array]):
    """The cotangents of the nodes still to be visited, by serial number; contributions add up."""

    def __init__(self) -> None:
        self._own: set[int] = set()  # sums made here: no one else holds them, so they may grow

    def add(self, node: Tensor, g: Array) -> None:
        """Add a contribution, in place where the sum so far is our own.

        Here, and only here, a cotangent gets the shape and the precision of its array.
        """
        value = node._value
        if type(g) is not np.ndarray and type(g) is not Tensor:
            g = np.asarray(g)
        if g.shape != value.shape:
            same = g.size == value.size  # only axes of length 1 were added
            g = g.reshape(value.shape) if same else unbroadcast(g, value.shape)
        if g.dtype is not value.dtype:
            g = _cast(g, value.dtype)
        key = node._serial
        if key not in self:
            self[key] = g
        elif key in self._own and type(g) is np.ndarray:
            self[key] += g
        else:
            self._keep(key, self[key] + g)

    def buffer(self, node: Tensor, dtype: Any) -> Array:
        """Return the sum so far as an array of our own, for contributions to a part of it."""
        key = node._serial
        if key not in self._own:
            zeros = np.zeros(node._value.shape, dtype)
            self._keep(key, np.asarray(zeros + self[key]) if key in self else zeros)
        return self[key]

    def _keep(self, key: int, total: Array) -> None:
        self[key] = total
        (self._own.add if type(total) is np.ndarray else self._own.discard)(key)


def sweep_backward(
    outputs: Sequence[Tensor],
    seeds: Sequence[Array],
    sources: Sequence[Tensor],
    *,
    release: bool = False,
) -> list[Array]:
    """Return the cotangents of the leaves ``sources`` for the cotangents ``seeds`` of ``outputs``.

    A node's cotangent is dropped once it has been passed on. With ``release`` so is the node's part
    of the record, which then cannot be swept again.
    """
    cotangents = Cotangents()
    for output, seed in zip(outputs, seeds, strict=True):
        cotangents.add(output, seed)
    order = ancestors(outputs)
    while order:
        node = order.pop()
        if node._origin is None or node._serial not in cotangents:
            continue
        g, y = cotangents.pop(node._serial), node._value
        rule, values, keywords, parents = node._origin
        if rule.accumulate is not None and type(g) is np.ndarray and parents[0] is not None:
            rule.accumulate(cotangents.buffer(parents[0], g.dtype), g, *values[1:])
        elif type(rule.vjps) is tuple:
            for parent, vjp in zip(parents, rule.vjps):  # noqa: B905  # options have no product
                if parent is not None and vjp is not None:
                    cotangents.add(parent, vjp(g, y, *values, **keywords))
        else:
            joint = rule.vjps(g, y, *values, **keywords)
            for parent, d in zip(parents, joint, strict=True):
                if parent is not None and d is not None:
                    cotangents.add(parent, d)
        if release:
            node._origin = None
    return [
        cotangents[s._serial] if s._serial in cotangents else np.zeros_like(raw(s)) for s in sources
    ]


def sweep_forward(
    outputs: Sequence[Tensor], sources: Sequence[Tensor], tangents: Sequence[Array]
) -> list[Array]:
    """Return the tangents of ``outputs`` for the tangents of the leaves ``sources``."""
    known = {s._serial: t for s, t in zip(sources, tangents, strict=True)}
    for node in ancestors(outputs):
        if node._origin is None:
            continue
        y = node._value
        rule, values, keywords, parents = node._origin
        inward = [None if p is None else known.get(p._serial) for p in parents]
        if type(rule.jvps) is tuple:
            total = None
            for t, jvp in zip(inward, rule.jvps):  # noqa: B905  # options have no product
                if t is not None and jvp is not None:
                    term = jvp(t, y, *values, **keywords)
                    total = term if total is None else total + term
        else:
            total = rule.jvps(inward, y, *values, **keywords)
        if total is not None:
            known[node._serial] = np.broadcast_to(total, y.shape)
    return [known[o._serial] if o._serial in known else np.zeros_like(raw(o)) for o in outputs]
