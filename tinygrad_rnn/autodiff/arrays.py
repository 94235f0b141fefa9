"""The rule table, second part: sums, shapes and indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.rule import linear, rule
from tinygrad_rnn.autodiff.tensor import Part
from tinygrad_rnn.composed import composed
from tinygrad_rnn.functions import Array, astype, getitem

# ---- linear functions, each beside its transpose -----------------------------------------------


def _spread(g: Array, x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    """Broadcast what a reduction of ``x`` returned back to the shape of ``x``."""
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, x.shape)


def _unshape(g: Array, x: Array, order: Any = "C") -> Array:
    if order not in ("C", "F"):
        raise TypeError("The derivative of reshape and ravel needs order 'C' or 'F'.")
    return np.reshape(g, x.shape, order)


def _uncumsum(g: Array, x: Array, axis: Any = None) -> Array:
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)  # the sweep restores x's shape


def _untranspose(g: Array, x: Array, axes: Any = None) -> Array:
    return np.transpose(g, None if axes is None else np.argsort(np.mod(axes, x.ndim)))


# fmt: off
linear(np.sum,          _spread,                                    ("axis", "keepdims"))
linear(np.cumsum,       _uncumsum,                                  ("axis",))
linear(np.reshape,      lambda g, x, shape, order="C": _unshape(g, x, order),   ("shape", "order"))
linear(np.ravel,        _unshape,                                   ("order",))
linear(np.expand_dims,  lambda g, x, axis: _unshape(g, x),          ("axis",))
linear(np.squeeze,      lambda g, x, axis=None: _unshape(g, x),     ("axis",))
linear(np.broadcast_to, lambda g, x, shape: g,                      ("shape",))
linear(np.transpose,    _untranspose,                               ("axes",))
linear(np.swapaxes,     lambda g, x, a, b: np.swapaxes(g, a, b))
linear(np.moveaxis,     lambda g, x, source, destination: np.moveaxis(g, destination, source))
linear(np.flip,         lambda g, x, axis=None: np.flip(g, axis),   ("axis",))
linear(astype,          lambda g, x, dtype: g.astype(x.dtype))
# fmt: on

# ---- indexing ----------------------------------------------------------------------------------


def _add_at(buffer: Array, g: Array, index: Any) -> None:
    """Add ``g`` to buffer[index], once for every time an element is named."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(isinstance(p, (int, np.integer, slice, type(None), type(...))) for p in parts):
        buffer[index] += g
    else:
        np.add.at(buffer, index, g)


def _scatter(shape: tuple[int, ...], indices: list[Any], *gs: Array) -> Array:
    buffer = np.zeros(shape, gs[0].dtype)
    for g, index in zip(gs, indices, strict=True):
        _add_at(buffer, g, index)
    return buffer


def _scatter_push(ts: list[Any], y: Array, shape: Any, indices: list[Any], *gs: Array) -> Array:
    moved = [(t, i) for t, i in zip(ts[2:], indices, strict=True) if t is not None]
    return scatter(shape, [i for _, i in moved], *[t for t, _ in moved])


def _scatter_pull(g: Array, y: Array, shape: Any, indices: list[Any], *gs: Array) -> list[Any]:
    return [None, None, *[g[i] for i in indices]]


# fmt: off
scatter = rule(_scatter, _scatter_push, _scatter_pull)
rule(getitem, (lambda t, y, x, index: t[index],),
              (lambda g, y, x, index: Part(g, index),))
# fmt: on

# ---- joining -----------------------------------------------------------------------------------


def concatenate(axis: int, *arrays: Array) -> Array:
    """Join the arrays along an axis."""
    return np.concatenate(arrays, axis)


def _join_push(tangents: list[Any], y: Array, axis: int, *arrays: Array) -> Array:
    ts = zip(tangents[1:], arrays, strict=True)
    return join(axis, *[np.zeros_like(a) if t is None else t for t, a in ts])


def _join_pull(g: Array, y: Array, axis: int, *arrays: Array) -> list[Any]:
    return [None, *np.split(g, np.cumsum([a.shape[axis] for a in arrays])[:-1], axis)]


join = rule(concatenate, _join_push, _join_pull)


@composed(np.concatenate)
def _concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    if axis is None:
        return join(0, *map(np.ravel, arrays))
    return join(axis, *[a if hasattr(a, "shape") else np.asarray(a) for a in arrays])
