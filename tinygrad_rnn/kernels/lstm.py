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
    clear,
    copy,
    fold,
    fold_all,
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
    stride,
    strided,
)


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
    n0: int, n1: int, active: Array, x: Array, W_x: Array, b: Array, W: Array, w_c: Array,
    V: Array, V_o: Array, a: Array, h: Array, c: Array,
) -> None:  # fmt: skip
    """Run rows n0 … n1: fill h and c (T + 1, N, H) and leave in ``a`` what `_backward` needs."""
    H, few = h.shape[2], n1 - n0 < TALL
    xs, hs, cs, gates = strided(x), strided(h), strided(c), strided(a)
    W_x, W, V, V_o = strided(W_x), strided(W), strided(V), strided(V_o)
    if few:
        project_ahead(n0, n1, xs, W_x, b, gates)
    for t in range(a.shape[0]):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            copy(h[t + 1, n], h[t, n])
            copy(c[t + 1, n], c[t, n])
        if end <= n0:
            continue
        if not few:
            project(xs[t, n0:end], W_x, b, gates[t, n0:end])
        add_product(hs[t, n0:end], W, gates[t, n0:end])
        if V.size:
            add_product(cs[t, n0:end], V, gates[t, n0:end])
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
            add_product(cs[t + 1, n0:end], V_o, gates[t, n0:end, 3 * H :])
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
    n0: int, n1: int, active: Array, W_x: Array, W: Array, w_c: Array, V: Array, V_o: Array,
    a: Array, c: Array, d_h: Array, d_c: Array, e_h: Array, e_c: Array, d_x: Array,
) -> None:  # fmt: skip
    """Turn ``a`` into ∂L/∂a for rows n0 … n1, and e_h, e_c from ∂L/∂state_T into ∂L/∂state_0.

    Fill ∂L/∂x.
    """
    H, few, nothing = c.shape[2], n1 - n0 < TALL, e_h[0, :0]
    gates, to_x, to_h, to_c = strided(a), strided(d_x), strided(e_h), strided(e_c)
    W_x, W, V, V_o = strided(W_x), strided(W), strided(V), strided(V_o)
    for t in range(a.shape[0] - 1, -1, -1):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            clear(a[t, n])
        if end <= n0:
            continue
        for n in range(n0, end):
            o, from_h, from_c = a[t, n, 3 * H : 4 * H], e_h[n, :H], e_c[n, :H]
            add(from_h, d_h[t, n])
            if d_c.size:
                add(from_c, d_c[t, n])
            _d_output(o, c[t + 1, n], from_h, from_c)
            clear(e_h[n])
            if w_c.size:
                add_each(from_c, o, w_c[2])
        if V.size:
            add_product(gates[t, n0:end, 3 * H :], V_o, to_c[n0:end])
        for n in range(n0, end):
            p, before, from_c = a[t, n], c[t, n], e_c[n, :H]
            _d_input(p[:H], p[2 * H : 3 * H], from_c)
            _d_forget(p[H : 2 * H], before, from_c)
            if w_c.size:
                add_each(from_c, p[:H], w_c[0])
                add_each(from_c, p[H : 2 * H], w_c[1])
        if V.size:
            add_product(gates[t, n0:end], V, to_c[n0:end])  # its first 2H columns, i and f
        add_product(gates[t, n0:end], W, to_h[n0:end])
        if not few:
            project(gates[t, n0:end], W_x, nothing, to_x[t, n0:end])
    if few:
        project_ahead(n0, n1, gates, W_x, nothing, to_x)


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
    T, N, D = x.shape
    H = len(params["W_h"])
    wide = padded(3 * H + padded(H, x.dtype), x.dtype)  # room for the panels of the last gate
    a = np.empty((T, N, wide), x.dtype)
    states = np.empty((2, T + 1, N, H), x.dtype)
    states[:, 0] = state
    w_c, V, V_o = _peepholes(params)
    inputs = x, panels(params["W_x"]), params["b"]
    matrices = panels(params["W_h"]), w_c, panels(V), panels(V_o)
    work = T * N * 4 * H * (D + H)
    in_blocks(_forward, N, BLOCK, work, active, *inputs, *matrices, a, *states)
    return states, (a,)


def backward(
    params: dict[str, Array], x: Array, states: Array, saved: tuple[Array],
    d_states: tuple[Array, ...], d_final: tuple[Array, ...], later: dict[str, Array],
    active: Array,
) -> dict[str, Any]:  # fmt: skip
    """Return ∂L of every parameter, of x and of the initial state; what was saved is used up.

    ``later`` is ∂L of every parameter through later steps than these, which it includes.

    ``d_states`` are ∂L/∂h_t and ∂L/∂c_t, t = 1 … T, (T, N, H), or for c no entries at all; what
    the final state gets besides them is ``d_final``.
    """
    (T, N, D), (h, c), (a,) = x.shape, states, saved
    H = len(params["W_h"])
    w_c, V, V_o = _peepholes(params)
    e = np.zeros((2, N, padded(H, x.dtype)), x.dtype)
    e[:, :, :H] = d_final
    d_x = np.zeros((T, N, padded(D, x.dtype)), x.dtype)
    matrices = (panels(m) for m in (params["W_x"].T, params["W_h"].T, V.T, V_o.T))
    W_x, W, V, V_o = matrices
    work = T * N * 4 * H * (D + H)
    back = W_x, W, w_c, V, V_o
    in_blocks(_backward, N, BLOCK, work, active, *back, a, c, *d_states, *e, d_x)
    sums = correlate(x, h[:-1], a, later["W_x"], later["W_h"], later["b"])
    gradients = dict(zip(("W_x", "W_h", "b"), sums, strict=True))
    if w_c.size:
        gradients["w_c"] = later["w_c"].copy()
        steps = stride(N)
        for t in range((T - 1) // steps * steps, -1, -steps):
            before, now = c[t : t + steps + 1][:-1], c[t + 1 : t + steps + 1]
            for k, (m, gate) in enumerate(((before, 0), (before, 1), (now, 3))):
                d = a[t : t + steps, :, gate * H : (gate + 1) * H]
                gradients["w_c"][k] += (m * d).sum(axis=(0, 1))
    if V.size:
        wide = np.insert(later["W_c"], [2 * H] * H, 0, axis=1)  # nothing for g
        before, now, _ = correlate(c[:-1], c[1:], a, wide, wide, later["b"])
        gradients["W_c"] = np.concatenate([before[:, : 2 * H], now[:, 3 * H :]], axis=1)
    return {**gradients, "x": d_x[..., :D], "state": tuple(e[:, :, :H])}
