"""The plain recurrent cell over time: h_t = f(a_t), a_t = x_t W_x + h_{t−1} W_h + b.

The buffer ``a`` begins as the input projections and collects the preactivations; the backward sweep
leaves ∂L/∂a in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.kernels.compile import BLOCK, Array, in_blocks, kernel, loop
from tinygrad_rnn.kernels.elementwise import (
    add,
    clear,
    copy,
    fold,
    slope,
    tanh,
    tanh_and_slope,
    unfold,
)
from tinygrad_rnn.kernels.matmul import (
    TALL,
    add_product,
    correlate,
    padded,
    panels,
    project,
    project_ahead,
    strided,
)

TANH, SIGMOID, LINEAR = range(3)
# The kind, and for those that are linear on both sides of 0 the slope on the left.
ACTIVATIONS = {
    "tanh": (TANH, 0.0),
    "sigmoid": (SIGMOID, 0.0),
    "relu": (LINEAR, 0.0),
    "leaky_relu": (LINEAR, 0.01),
    "identity": (LINEAR, 1.0),
}


@loop
def _activate(kind: int, left: Any, a: Array, h: Array) -> None:
    """Set h = f(a)."""
    if kind == TANH:
        for j in range(h.size):
            h[j] = tanh(a[j])
    elif kind == SIGMOID:
        for j in range(h.size):
            h[j] = unfold(fold(a[j]))
    elif left == 0:  # 0 · (−∞) is not 0
        for j in range(h.size):
            h[j] = left if a[j] <= 0 else a[j]
    else:
        for j in range(h.size):
            h[j] = a[j] if a[j] > 0 else left * a[j]


@loop
def _derive(kind: int, left: Any, d_h: Array, a: Array) -> None:
    """Set ∂L/∂a = ∂L/∂h ∘ f'(a), in place of a."""
    if kind == TANH:
        for j in range(a.size):
            a[j] = d_h[j] * tanh_and_slope(a[j])[1]
    elif kind == SIGMOID:
        for j in range(a.size):
            a[j] = d_h[j] * slope(fold(a[j]))
    else:
        for j in range(a.size):
            a[j] = d_h[j] if a[j] > 0 else left * d_h[j]


@kernel
def _forward(
    n0: int, n1: int, active: Array, kind: int, left: Any, x: Array, W_x: Array, b: Array,
    W: Array, a: Array, h: Array,
) -> None:  # fmt: skip
    """Run rows n0 … n1: fill h (T + 1, N, H), and ``a`` with the preactivations."""
    H, few = h.shape[2], n1 - n0 < TALL
    xs, hs, sums, W_x, W = strided(x), strided(h), strided(a), strided(W_x), strided(W)
    if few:
        project_ahead(n0, n1, xs, W_x, b, sums)
    for t in range(a.shape[0]):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            copy(h[t + 1, n], h[t, n])
        if end > n0:
            if not few:
                project(xs[t, n0:end], W_x, b, sums[t, n0:end])
            add_product(hs[t, n0:end], W, sums[t, n0:end])
        for n in range(n0, end):
            _activate(kind, left, a[t, n, :H], h[t + 1, n])


@kernel
def _backward(
    n0: int, n1: int, active: Array, kind: int, left: Any, W_x: Array, W: Array, a: Array,
    d_h: Array, e: Array, d_x: Array,
) -> None:  # fmt: skip
    """Turn ``a`` into ∂L/∂a for rows n0 … n1, and e from ∂L/∂h_T into ∂L/∂h_0; fill ∂L/∂x."""
    H, few, nothing = d_h.shape[2], n1 - n0 < TALL, e[0, :0]
    sums, to_x, to_h, W_x, W = strided(a), strided(d_x), strided(e), strided(W_x), strided(W)
    for t in range(a.shape[0] - 1, -1, -1):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            clear(a[t, n])
        for n in range(n0, end):
            add(e[n, :H], d_h[t, n])
            _derive(kind, left, e[n, :H], a[t, n, :H])
            clear(e[n])
        if end > n0:
            add_product(sums[t, n0:end], W, to_h[n0:end])
            if not few:
                project(sums[t, n0:end], W_x, nothing, to_x[t, n0:end])
    if few:
        project_ahead(n0, n1, sums, W_x, nothing, to_x)


def forward(
    params: dict[str, Array], x: Array, state: tuple[Array, ...], active: Array, activation: str
) -> tuple[Array, tuple[Array]]:
    """Return the states (1, T + 1, N, H), and what :func:`backward` needs besides them.

    Only the first ``active[t]`` sequences take step t; the others keep their state.
    """
    T, N, D = x.shape
    H = len(params["W_h"])
    kind, left = ACTIVATIONS[activation]
    a = np.empty((T, N, padded(H, x.dtype)), x.dtype)
    states = np.empty((1, T + 1, N, H), x.dtype)
    states[:, 0] = state
    inputs = x, panels(params["W_x"]), params["b"], panels(params["W_h"])
    work, left = T * N * (D + H) * H, x.dtype.type(left)
    in_blocks(_forward, N, BLOCK, work, active, kind, left, *inputs, a, *states)
    return states, (a,)


def backward(
    params: dict[str, Array], x: Array, states: Array, saved: tuple[Array],
    d_states: tuple[Array, ...], d_final: tuple[Array, ...], later: dict[str, Array],
    active: Array, activation: str,
) -> dict[str, Any]:  # fmt: skip
    """Return ∂L of every parameter, of x and of the initial state; what was saved is used up.

    ``later`` is ∂L of every parameter through later steps than these, which it includes.

    ``d_states`` is ∂L/∂h_t, t = 1 … T, (T, N, H); what h_T gets besides is ``d_final``.
    """
    (T, N, D), (h,), (a,), H = x.shape, states, saved, len(params["W_h"])
    kind, left = ACTIVATIONS[activation]
    e = np.zeros((N, padded(H, x.dtype)), x.dtype)
    e[:, :H] = d_final[0]
    d_x = np.zeros((T, N, padded(D, x.dtype)), x.dtype)
    back = panels(params["W_x"].T), panels(params["W_h"].T)
    work, left = T * N * (D + H) * H, x.dtype.type(left)
    in_blocks(_backward, N, BLOCK, work, active, kind, left, *back, a, *d_states, e, d_x)
    W_x, W_h, b = correlate(x, h[:-1], a, later["W_x"], later["W_h"], later["b"])
    return {"W_x": W_x, "W_h": W_h, "b": b, "x": d_x[..., :D], "state": (e[:, :H],)}
