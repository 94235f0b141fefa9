"""Three roads to a step Jacobian: the tape, the library's closed form, and the notes' formulas.

The formulas are written out index by index, as a human reader checks them, with explicit sums and
the textbook derivatives 1 − y² and y(1 − y): nothing is shared with the cells or the engine but the
values of f, σ and tanh, and the masks of the relus. Each of them is about one example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.autodiff import jacobian, sigmoid
from tinygrad_rnn.cells.cell import Params, State, split

from .catalogue import Comparison, equal
from .norms import Array


def by_tape(cell: Any, params: Params, x_t: Array, state: State) -> Array:
    """Differentiate the step: (N, S, N, S), where the examples must not mix."""

    def step(joint: Array) -> Array:
        parts = tuple(split(joint, len(state)))
        return np.concatenate(cell.step(params, x_t, parts), axis=1)

    return jacobian(step)(np.concatenate(state, axis=1))


def in_closed_form(cell: Any, params: Params, x: Array, before: State) -> list[Array]:
    """Return the library's closed form (N, S, S) of every step of a trajectory."""
    return [cell.jacobian(params, x_t, state) for x_t, *state in zip(x, *before, strict=True)]


def apart(examples: Sequence[Array]) -> Array:
    """Spread the Jacobians (i, j) of N examples over (N, i, N, j), zero between examples."""
    blocks = np.stack(examples)
    N, out, into = blocks.shape
    full = np.zeros((N, out, N, into), blocks.dtype)
    full[range(N), :, range(N)] = blocks
    return full


def meet(
    cell: Any, params: Params, x_t: Array, state: State, closed: Array, written: list[Array]
) -> Iterator[Comparison]:
    """Compare the tape, the closed form, and the formulas of the examples."""
    yield equal("the tape = the closed form", by_tape(cell, params, x_t, state), apart(closed))
    yield equal("the closed form = the formula written out", closed, np.stack(written))


# ---- written out ---------------------------------------------------------------------------------


def grid(n: int, m: int, entry: Callable[[int, int], Any]) -> Array:
    """Write out a matrix entry by entry."""
    return np.array([[entry(i, j) for j in range(m)] for i in range(n)])


def sums(v: Array, W: Array) -> Array:
    """Write out Σ_k v_k W_kj for every j."""
    return np.array([sum(v[k] * W[k, j] for k in range(len(v))) for j in range(W.shape[1])])


def textbook(activation: str, a: Array) -> Array:
    """Return f'(a) as in the notes: 1 − y² for tanh, y(1 − y) for σ, else the mask."""
    y = ACTIVATIONS[activation].value(a)
    if activation == "tanh":
        return 1 - y * y
    return y * (1 - y) if activation == "sigmoid" else ACTIVATIONS[activation].derivative(a)


def outside(slopes: Array, W: Array) -> Array:
    """Return D Wᵀ for one example: D = diag f' acts after W."""
    return grid(W.shape[1], W.shape[0], lambda i, j: slopes[i] * W[j, i])


def inside(slopes: Array, W: Array) -> Array:
    """Return Wᵀ D for one example: D = diag f' acts before W."""
    return grid(W.shape[1], W.shape[0], lambda i, j: W[j, i] * slopes[j])


def slopes(activation: str, params: Params, x_t: Array, h: Array) -> Array:
    """Return f'(a_t) of every example, a_t = x_t W_x + h_{t−1} W_h + b."""
    a = [
        sums(x_n, params["W_x"]) + sums(h_n, params["W_h"]) + params["b"]
        for x_n, h_n in zip(x_t, h, strict=True)
    ]
    return textbook(activation, np.stack(a))


def _gates(params: Params, H: int) -> list[tuple[Array, Array, Array]]:
    """Return W_x, W_h and b of each gate, in the order of the cell."""
    wide = (params["W_x"], params["W_h"], params["b"])
    cut = [np.split(p, p.shape[-1] // H, axis=-1) for p in wide]
    return list(zip(*cut, strict=True))


def gru_jacobian(variant: str, params: Params, x: Array, h: Array) -> Array:
    """Return ∂h_t/∂h_{t−1} for one example."""
    H = len(h)
    *r_gate, (X_z, W_z, b_z), (X_c, W_c, b_c) = _gates(params, H)
    z = sigmoid(sums(x, X_z) + sums(h, W_z) + b_z)
    if variant == "minimal":
        c = np.tanh(sums(x, X_c) + sums(h, W_c) + b_c)
        K = grid(H, H, lambda i, j: W_c[j, i])
    else:
        ((X_r, W_r, b_r),) = r_gate
        r = sigmoid(sums(x, X_r) + sums(h, W_r) + b_r)
        if variant == "reset_before":
            c = np.tanh(sums(x, X_c) + sums(r * h, W_c) + b_c)
            K = grid(H, H, lambda i, j: r[j] * W_c[j, i] + sum(
                W_c[k, i] * h[k] * r[k] * (1 - r[k]) * W_r[j, k] for k in range(H)
            ))  # fmt: skip
        else:
            u = sums(h, W_c) + params["b_h"]
            c = np.tanh(sums(x, X_c) + b_c + r * u)
            K = grid(H, H, lambda i, j: r[i] * W_c[j, i] + u[i] * r[i] * (1 - r[i]) * W_r[j, i])
    return grid(H, H, lambda i, j: (
        (i == j) * (1 - z[i])
        + z[i] * (1 - c[i] * c[i]) * K[i, j]
        + (c[i] - h[i]) * z[i] * (1 - z[i]) * W_z[j, i]
    ))  # fmt: skip


def _diagonal(w: Array) -> Array:
    return grid(len(w), len(w), lambda k, j: w[j] if k == j else 0)


def no_peepholes(H: int) -> list[Array]:
    """Return V_i = V_f = V_o = 0."""
    return [np.zeros((H, H), int)] * 3


def peepholes(params: Params) -> list[Array]:
    """Return V_i, V_f, V_o, whether diagonal or full."""
    if "W_c" in params:
        return np.split(params["W_c"], 3, axis=1)
    return [_diagonal(w) for w in params["w_c"]]


def lstm_factors(
    params: Params, V: list[Array], x: Array, h: Array, c: Array
) -> tuple[Array, Array]:
    """Return [[I, E], [0, I]] and [[G, 0], [A, F]] for one example; V = V_i, V_f, V_o."""
    H, (V_i, V_f, V_o) = len(h), V
    (X_i, W_i, b_i), (X_f, W_f, b_f), (X_g, W_g, b_g), (X_o, W_o, b_o) = _gates(params, H)
    i = sigmoid(sums(x, X_i) + sums(h, W_i) + sums(c, V_i) + b_i)
    f = sigmoid(sums(x, X_f) + sums(h, W_f) + sums(c, V_f) + b_f)
    g = np.tanh(sums(x, X_g) + sums(h, W_g) + b_g)
    c_t = f * c + i * g
    o = sigmoid(sums(x, X_o) + sums(h, W_o) + sums(c_t, V_o) + b_o)
    y = np.tanh(c_t)
    by_f, by_i, by_g, by_o = c * f * (1 - f), g * i * (1 - i), i * (1 - g * g), y * o * (1 - o)
    F = grid(H, H, lambda k, m: (k == m) * f[k] + by_f[k] * V_f[m, k] + by_i[k] * V_i[m, k])
    A = grid(H, H, lambda k, m: by_f[k] * W_f[m, k] + by_i[k] * W_i[m, k] + by_g[k] * W_g[m, k])
    E = grid(H, H, lambda k, m: (k == m) * o[k] * (1 - y[k] * y[k]) + by_o[k] * V_o[m, k])
    G = grid(H, H, lambda k, m: by_o[k] * W_o[m, k])
    one, zero = np.eye(H, dtype=int), np.zeros((H, H), int)
    return np.block([[one, E], [zero, one]]), np.block([[G, zero], [A, F]])
