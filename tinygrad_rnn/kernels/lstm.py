"""The LSTM over time, i, f, g, o side by side, with no, diagonal or full peepholes.

The buffer ``a`` begins as the input projections and collects the preactivations. Each step leaves
there what the backward sweep needs, the gates i, f, o folded and the preactivation of g (see
`elementwise`), and the backward sweep leaves ∂L/∂a in its place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.kernels.compile import BLOCK, Array, in_blocks, kernel, loop
from tinygrad_rnn.kernels.elementwise import (
    add,
    add_each,
    fold,
    fold_all,
    slope,
    tanh,
    tanh_and_slope,
    unfold,
)
from tinygrad_rnn.kernels.matmul import add_product, correlate, padded, panels, project


@loop
def _memory(i: Array, f: Array, a_g: Array, before: Array, c: Array) -> None:
    """Set c_t = f ∘ c_{t−1} + i ∘ g."""
    for j in range(c.size):
        c[j] = unfold(f[j]) * before[j] + unfold(i[j]) * tanh(a_g[j])


@loop
def _output(a_o: Array, c: Array, h: Array) -> None:
    """Set h_t = o ∘ tanh(c_t); o folds."""
    for j in range(h.size):
        o = fold(a_o[j])
        a_o[j] = o
        h[j] = unfold(o) * tanh(c[j])


@kernel
def _forward(
    n0: int, n1: int, active: Array, a: Array, W: Array, w_c: Array, V: Array, V_o: Array,
    h: Array, c: Array,
) -> None:  # fmt: skip
    """Run rows n0 … n1: fill h and c (T + 1, N, H) and leave in ``a`` what `_backward` needs."""
    H = h.shape[2]
    for t in range(a.shape[0]):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            h[t + 1, n], c[t + 1, n] = h[t, n], c[t, n]
        if end <= n0:
            continue
        add_product(h[t, n0:end], W, a[t, n0:end])
        if V.size:
            add_product(c[t, n0:end], V, a[t, n0:end])
        for n in range(n0, end):
            p, before, now = a[t, n], c[t, n], c[t + 1, n]
            if w_c.size:
                add_each(p[:H], before, w_c[0])
                add_each(p[H : 2 * H], before, w_c[1])
            fold_all(p[: 2 * H])
            _memory(p[:H], p[H : 2 * H], p[2 * H : 3 * H], before, now)
            if w_c.size:
                add_each(p[3 * H : 4 * H], now, w_c[2])
        if V.size:
            add_product(c[t + 1, n0:end], V_o, a[t, n0:end, 3 * H :])
        for n in range(n0, end):
            _output(a[t, n, 3 * H : 4 * H], c[t + 1, n], h[t + 1, n])


@loop
def _d_output(o: Array, c: Array, d_h: Array, d_c: Array) -> None:
    """Set δ_o = ∂L/∂h ∘ tanh(c) ∘ o', in place of o; ∂L/∂c grows by ∂L/∂h ∘ o ∘ tanh'(c)."""
    for j in range(c.size):
        t, dt = tanh_and_slope(c[j])
        q, d = o[j], d_h[j]
        d_c[j] += d * unfold(q) * dt
        o[j] = d * t * slope(q)


@loop
def _d_input(i: Array, a_g: Array, d_c: Array) -> None:
    """Set δ_i = ∂L/∂c ∘ g ∘ i' and δ_g = ∂L/∂c ∘ i ∘ g', in place of i and g."""
    for j in range(d_c.size):
        g, dg = tanh_and_slope(a_g[j])
        q, d = i[j], d_c[j]
        i[j] = d * g * slope(q)
        a_g[j] = d * unfold(q) * dg


@loop
def _d_forget(f: Array, before: Array, d_c: Array) -> None:
    """Set δ_f = ∂L/∂c ∘ c_{t−1} ∘ f', in place of f; ∂L/∂c passes through f to c_{t−1}."""
    for j in range(d_c.size):
        q, d = f[j], d_c[j]
        f[j] = d * before[j] * slope(q)
        d_c[j] = d * unfold(q)


@kernel
def _backward(
    n0: int, n1: int, active: Array, a: Array, W: Array, w_c: Array, V: Array, V_o: Array,
    c: Array, d_h: Array, d_c: Array, e_h: Array, e_c: Array,
) -> None:  # fmt: skip
    """Turn ``a`` into ∂L/∂a for rows n0 … n1, and e_h, e_c from ∂L/∂state_T into ∂L/∂state_0."""
    H = c.shape[2]
    for t in range(a.shape[0] - 1, -1, -1):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            a[t, n] = 0
        if end <= n0:
            continue
        for n in range(n0, end):
            o, from_h, from_c = a[t, n, 3 * H : 4 * H], e_h[n, :H], e_c[n, :H]
            add(from_h, d_h[t, n])
            if d_c.size:
                add(from_c, d_c[t, n])
            _d_output(o, c[t + 1, n], from_h, from_c)
            e_h[n] = 0
            if w_c.size:
                add_each(from_c, o, w_c[2])
        if V.size:
            add_product(a[t, n0:end, 3 * H :], V_o, e_c[n0:end])
        for n in range(n0, end):
            p, before, from_c = a[t, n], c[t, n], e_c[n, :H]
            _d_input(p[:H], p[2 * H : 3 * H], from_c)
            _d_forget(p[H : 2 * H], before, from_c)
            if w_c.size:
                add_each(from_c, p[:H], w_c[0])
                add_each(from_c, p[H : 2 * H], w_c[1])
        if V.size:
            add_product(a[t, n0:end], V, e_c[n0:end])  # its first 2H columns, i and f
        add_product(a[t, n0:end], W, e_h[n0:end])


def _peepholes(params: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Return w_c, and W_c for i and f and for o; without entries where the cell has none."""
    W_h = params["W_h"]
    H, nothing = len(W_h), W_h[:0, :0]
    W_c = params.get("W_c", nothing)
    return np.ascontiguousarray(params.get("w_c", nothing)), W_c[:, : 2 * H], W_c[:, 2 * H :]


def forward(
    params: dict[str, Array], x: Array, state: tuple[Array, ...], active: Array
) -> tuple[Array, tuple[Array]]:
    """Return the states (2, T + 1, N, H), and what :func:`backward` needs besides them.

    Only the first ``active[t]`` sequences take step t; the others keep their state.
    """
    T, N, _ = x.shape
    H = len(params["W_h"])
    a = project(x, params["W_x"], params["b"], 3 * H + padded(H, x.dtype))
    states = np.empty((2, T + 1, N, H), x.dtype)
    states[:, 0] = state
    w_c, V, V_o = _peepholes(params)
    matrices = panels(params["W_h"]), w_c, panels(V), panels(V_o)
    in_blocks(_forward, N, BLOCK, T * N * 4 * H * H, active, a, *matrices, *states)
    return states, (a,)


def backward(
    params: dict[str, Array], x: Array, states: Array, saved: tuple[Array],
    d_states: tuple[Array, ...], d_final: tuple[Array, ...], active: Array,
) -> dict[str, Any]:  # fmt: skip
    """Return ∂L of every parameter, of x and of the initial state; what was saved is used up.

    ``d_states`` are ∂L/∂h_t and ∂L/∂c_t, t = 1 … T, (T, N, H), or for c no entries at all; what
    the final state gets besides them is ``d_final``.
    """
    (T, N, D), (h, c), (a,) = x.shape, states, saved
    H, W_x = len(params["W_h"]), params["W_x"]
    w_c, V, V_o = _peepholes(params)
    e = np.zeros((2, N, padded(H, x.dtype)), x.dtype)
    e[:, :, :H] = d_final
    matrices = panels(params["W_h"].T), w_c, panels(V.T), panels(V_o.T)
    in_blocks(_backward, N, BLOCK, T * N * 4 * H * H, active, a, *matrices, c, *d_states, *e)
    gradients = {
        "W_x": correlate(x, a, 4 * H),
        "W_h": correlate(h[:-1], a, 4 * H),
        "b": a.sum(axis=(0, 1))[: 4 * H],
    }
    if w_c.size:
        i, f, _, o = (a[..., k * H : (k + 1) * H] for k in range(4))
        pairs = (c[:-1], i), (c[:-1], f), (c[1:], o)
        gradients["w_c"] = np.stack([(m * d).sum(axis=(0, 1)) for m, d in pairs])
    if V.size:
        d_o = correlate(c[1:], a[..., 3 * H : 3 * H + e.shape[2]], H)
        gradients["W_c"] = np.concatenate([correlate(c[:-1], a, 2 * H), d_o], axis=1)
    gradients["x"] = project(a, W_x.T, np.zeros(D, x.dtype), D)[..., :D]
    gradients["state"] = tuple(e[:, :, :H])
    return gradients
