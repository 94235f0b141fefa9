"""The GRU over time, r, z, c side by side; ``minimal`` has no r.

The buffer ``a`` begins as the input projections and collects the preactivations. Each step leaves
there what the backward sweep needs, the gates r, z folded and the preactivation of c (see
`elementwise`), and the backward sweep leaves ∂L/∂a in its place. A second buffer ``s`` holds
r ∘ h_{t−1} for ``reset_before``; for ``reset_after`` it holds h_{t−1} W_hc + b_h, and then its
cotangent.
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
    strided,
)

MINIMAL, BEFORE, AFTER = range(3)
VARIANTS = {"minimal": MINIMAL, "reset_before": BEFORE, "reset_after": AFTER}


@loop
def _reset(r: Array, h: Array, s: Array) -> None:
    """Set s = r ∘ h_{t−1}."""
    for j in range(s.size):
        s[j] = unfold(r[j]) * h[j]


@loop
def _add_reset(r: Array, s: Array, a_c: Array) -> None:
    """Do a_c += r ∘ s."""
    for j in range(s.size):
        a_c[j] += unfold(r[j]) * s[j]


@loop
def _mix(z: Array, a_c: Array, before: Array, h: Array) -> None:
    """Set h_t = z ∘ c + (1 − z) ∘ h_{t−1}; z folds."""
    for j in range(h.size):
        q = fold(z[j])
        z[j] = q
        h[j] = unfold(q) * tanh(a_c[j]) + unfold(-q) * before[j]


@kernel
def _forward(
    n0: int, n1: int, active: Array, variant: int, x: Array, W_x: Array, b: Array, W: Array,
    W_c: Array, a: Array, s: Array, h: Array,
) -> None:  # fmt: skip
    """Run rows n0 … n1: fill h (T + 1, N, H) and leave in ``a`` and s what `_backward` needs."""
    H, few = h.shape[2], n1 - n0 < TALL
    xs, hs, gates, resets = strided(x), strided(h), strided(a), strided(s)
    W_x, W, W_c = strided(W_x), strided(W), strided(W_c)
    if few:
        project_ahead(n0, n1, xs, W_x, b, gates)
    z = 0 if variant == MINIMAL else H  # where z begins; c comes after it
    for t in range(a.shape[0]):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            copy(h[t + 1, n], h[t, n])
        if end <= n0:
            continue
        if not few:
            project(xs[t, n0:end], W_x, b, gates[t, n0:end])
        add_product(hs[t, n0:end], W, gates[t, n0:end])
        if variant == AFTER:
            add_product(hs[t, n0:end], W_c, resets[t, n0:end])
        if variant != MINIMAL:
            for n in range(n0, end):
                r = a[t, n, :H]
                fold_all(r)
                if variant == BEFORE:
                    _reset(r, h[t, n], s[t, n, :H])
                else:
                    _add_reset(r, s[t, n, :H], a[t, n, 2 * H : 3 * H])
        if variant == BEFORE:
            add_product(resets[t, n0:end], W_c, gates[t, n0:end, 2 * H :])
        for n in range(n0, end):
            p = a[t, n]
            _mix(p[z : z + H], p[z + H : z + 2 * H], h[t, n], h[t + 1, n])


@loop
def _d_mix(z: Array, a_c: Array, before: Array, d_h: Array) -> None:
    """Set δ_z = ∂L/∂h ∘ (c − h_{t−1}) ∘ z' and δ_c = ∂L/∂h ∘ z ∘ c', in place of z and c.

    ∂L/∂h passes on to h_{t−1} through 1 − z.
    """
    for j in range(d_h.size):
        c, dc = tanh_and_slope(a_c[j])
        q, d = z[j], d_h[j]
        z[j] = d * (c - before[j]) * slope(q)
        a_c[j] = d * unfold(q) * dc
        d_h[j] = d * unfold(-q)


@loop
def _d_reset_before(r: Array, before: Array, d_s: Array, d_h: Array) -> None:
    """Set δ_r = ∂L/∂s ∘ h_{t−1} ∘ r', in place of r; ∂L/∂s passes through r to h_{t−1}."""
    for j in range(r.size):
        q, d = r[j], d_s[j]
        d_h[j] += d * unfold(q)
        r[j] = d * before[j] * slope(q)


@loop
def _d_reset_after(r: Array, d_c: Array, s: Array) -> None:
    """Set δ_r = δ_c ∘ s ∘ r' and ∂L/∂s = δ_c ∘ r, in place of r and s."""
    for j in range(r.size):
        q, d = r[j], d_c[j]
        r[j] = d * s[j] * slope(q)
        s[j] = d * unfold(q)


@kernel
def _backward(
    n0: int, n1: int, active: Array, variant: int, W_x: Array, W: Array, W_c: Array, a: Array,
    s: Array, h: Array, d_h: Array, e: Array, d_x: Array,
) -> None:  # fmt: skip
    """Turn ``a`` into ∂L/∂a for rows n0 … n1, and e from ∂L/∂h_T into ∂L/∂h_0; fill ∂L/∂x."""
    H, few, nothing = h.shape[2], n1 - n0 < TALL, e[0, :0]
    z = 0 if variant == MINIMAL else H
    d_s = np.empty((n1 - n0, e.shape[1]), e.dtype)
    gates, resets, to_x, to_h, to_s = strided(a), strided(s), strided(d_x), strided(e), strided(d_s)
    W_x, W, W_c = strided(W_x), strided(W), strided(W_c)
    for t in range(a.shape[0] - 1, -1, -1):
        end = min(n1, active[t])
        for n in range(max(n0, end), n1):
            clear(a[t, n])
            if variant == AFTER:
                clear(s[t, n])
        if end <= n0:
            continue
        for n in range(n0, end):
            p, from_h = a[t, n], e[n, :H]
            add(from_h, d_h[t, n])
            _d_mix(p[z : z + H], p[z + H : z + 2 * H], h[t, n], from_h)
            if variant == AFTER:
                _d_reset_after(p[:H], p[2 * H : 3 * H], s[t, n, :H])
        if variant == AFTER:
            add_product(resets[t, n0:end], W_c, to_h[n0:end])
        if variant == BEFORE:
            for n in range(end - n0):
                clear(d_s[n])
            add_product(gates[t, n0:end, 2 * H :], W_c, to_s[: end - n0])
            for n in range(n0, end):
                _d_reset_before(a[t, n, :H], h[t, n], d_s[n - n0, :H], e[n, :H])
        add_product(gates[t, n0:end], W, to_h[n0:end])  # r and z; for `minimal` z and c
        if not few:
            project(gates[t, n0:end], W_x, nothing, to_x[t, n0:end])
    if few:
        project_ahead(n0, n1, gates, W_x, nothing, to_x)


def _recurrent(params: dict[str, Array], variant: str) -> tuple[Array, Array]:
    """Return what multiplies h_{t−1} for all gates together, and W_hc where it stands apart."""
    W_h = params["W_h"]
    split = 2 * len(W_h)
    return W_h[:, :split], W_h[:, split:]


def forward(
    params: dict[str, Array], x: Array, state: tuple[Array, ...], active: Array, variant: str
) -> tuple[Array, tuple[Array, Array]]:
    """Return the states (1, T + 1, N, H), and what :func:`backward` needs besides them.

    Only the first ``active[t]`` sequences take step t; the others keep their state.
    """
    T, N, D = x.shape
    W, W_c = _recurrent(params, variant)
    H, kind = len(W), VARIANTS[variant]
    wide = padded(H, x.dtype)
    a = np.empty((T, N, padded(2 * H + wide, x.dtype)), x.dtype)  # room for c's panels
    s = np.zeros((0 if kind == MINIMAL else T, N, wide), x.dtype)
    if kind == AFTER:
        s[..., :H] = params["b_h"]
    states = np.empty((1, T + 1, N, H), x.dtype)
    states[:, 0] = state
    work = T * N * (D + H) * params["W_x"].shape[1]
    matrices = panels(params["W_x"]), params["b"], panels(W), panels(W_c)
    in_blocks(_forward, N, BLOCK, work, active, kind, x, *matrices, a, s, *states)
    return states, (a, s)


def backward(
    params: dict[str, Array], x: Array, states: Array, saved: tuple[Array, Array],
    d_states: tuple[Array, ...], d_final: tuple[Array, ...], later: dict[str, Array],
    active: Array, variant: str,
) -> dict[str, Any]:  # fmt: skip
    """Return ∂L of every parameter, of x and of the initial state; what was saved is used up.

    ``later`` is ∂L of every parameter through later steps than these, which it includes.

    ``d_states`` is ∂L/∂h_t, t = 1 … T, (T, N, H); what h_T gets besides is ``d_final``.
    """
    (T, N, D), (h,), (a, s) = x.shape, states, saved
    W, W_c = _recurrent(params, variant)
    H, kind, G = len(W), VARIANTS[variant], params["W_x"].shape[1]
    e = np.zeros((N, padded(H, x.dtype)), x.dtype)
    e[:, :H] = d_final[0]
    d_x = np.zeros((T, N, padded(D, x.dtype)), x.dtype)
    work = T * N * (D + H) * G
    matrices = panels(params["W_x"].T), panels(W.T), panels(W_c.T)
    in_blocks(_backward, N, BLOCK, work, active, kind, *matrices, a, s, h, *d_states, e, d_x)
    names = "W_x", "W_h", "b"
    gates = [later[name][..., : 2 * H] for name in names]
    candidate = [later[name][..., 2 * H :] for name in names]
    sums = [*correlate(x, h[:-1], a, *gates)]
    if kind != MINIMAL:
        d_c, nothing = a[..., 2 * H : 2 * H + e.shape[1]], x[..., :0]
        if kind == BEFORE:
            last = [*correlate(x, s, d_c, *candidate)]
        else:
            W_xc, W_hc, b_c = candidate
            W_xc, _, b_c = correlate(x, nothing, d_c, W_xc, W_xc[:0], b_c)
            W_hc, _, b_h = correlate(h[:-1], nothing, s, W_hc, W_hc[:0], later["b_h"])
            last = [W_xc, W_hc, b_c]
        sums = [np.concatenate(pair, axis=-1) for pair in zip(sums, last, strict=True)]
    gradients = dict(zip(names, sums, strict=True))
    if kind == AFTER:
        gradients["b_h"] = b_h
    return {**gradients, "x": d_x[..., :D], "state": (e[:, :H],)}
