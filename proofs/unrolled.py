"""The unrolled network: its trajectory, products of Jacobians, and the notes' sums written out.

`step_jacobians` and `product` use the cells' closed forms and nothing of the engine;
`tape_jacobian` is the engine on the whole unrolled network and nothing of the closed forms.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.activations import activation
from tinygrad_rnn.cells import RNNCell

Array = Any


def trajectory(cell: Any, params: Any, x: Array, state: Any) -> list[Any]:
    """Return state_0, …, state_T."""
    states = [state]
    for x_t in x:
        states.append(cell.step(params, x_t, states[-1]))
    return states


def flat(state: Any) -> Array:
    """Put the components of a state side by side: (N, S)."""
    return np.concatenate(state, axis=1)


def vector(gradient: dict[str, Array]) -> Array:
    """Put the entries of a gradient by the parameters into one vector."""
    return np.concatenate([np.ravel(gradient[name]) for name in sorted(gradient)])


def step_jacobians(cell: Any, params: Any, x: Array, state: Any) -> Array:
    """Return the closed forms J_1, …, J_T, (T, N, S, S)."""
    before = trajectory(cell, params, x, state)[:-1]
    return np.stack([cell.jacobian(params, *at) for at in zip(x, before, strict=True)])


def slopes(cell: RNNCell, params: Any, x_t: Array, h: Array) -> Array:
    """Return f'(a_t), (N, H), written out."""
    a_t = x_t @ params["W_x"] + h @ params["W_h"] + params["b"]
    return activation(cell.activation).derivative(a_t)


def product(jacobians: Array) -> Array:
    """Return J_n ⋯ J_1: later steps on the left. Of none it is I."""
    P = np.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    for J in jacobians:
        P = J @ P
    return P


def tape_jacobian(
    cell: Any, params: Any, x: Array, state: Any, components: int | None = None
) -> Array:
    """Return ∂state_T/∂state_0 by the engine, (N, S, S), or that of the first components only."""

    def run(s: Array) -> Array:
        parts = [s[:, k : k + cell.H] for k in range(0, s.shape[1], cell.H)]
        return flat(trajectory(cell, params, x, (*parts, *state[len(parts) :]))[-1][:components])

    each = range(len(state[0]))
    return tg.jacobian(run)(flat(state[:components]))[each, :, each, :]


def double_sum(
    cell: Any, params: Any, x: Array, state: Any, d_outputs: Array, d_state: Any
) -> dict[str, Array]:
    """Return Σ_i (Σ_{t≥i} δ_t P_{t,i}) ∂⁺state_i/∂θ: closed-form products, ∂⁺ by the engine."""
    T, J = len(x), step_jacobians(cell, params, x, state)
    deltas = [flat((d, *(0 * other for other in d_state[1:]))) for d in d_outputs]
    deltas[-1] = deltas[-1] + flat(d_state)
    total: dict[str, Array] = dict.fromkeys(params, 0)
    for i, before in enumerate(trajectory(cell, params, x, state)[:-1]):
        lagged = [(deltas[t][:, None] @ product(J[i + 1 : t + 1]))[:, 0] for t in range(i, T)]
        _, pull = tg.vjp(lambda p, i=i, at=before: flat(cell.step(p, x[i], at)), params)
        (term,) = pull(sum(lagged))
        total = {name: total[name] + term[name] for name in params}
    return total


def nested(W: Array, d: Any, inner: Any, start: Array) -> Array:
    """Return the notes' g'(z_3)[inner_3 + W(g'(z_2)[inner_2 + W(g'(z_1)[inner_1 + W start])])]."""
    g_1, g_2, g_3 = d
    inner_1, inner_2, inner_3 = inner
    return g_3 * (inner_3 + W * (g_2 * (inner_2 + W * (g_1 * (inner_1 + W * start)))))


def notes_start(params: Any, h_0: Array, kappa: Array) -> Array:
    """Return H_0 = h_0 + κ_W W + κ_U U: ∂H_0/∂W and ∂(W H_0)/∂U are parts of the formula."""
    return h_0 + kappa[0] * params["W_h"] + kappa[1] * params["W_x"]


def forward_nesting(W: Array, d: Any, inner: Any, d_outputs: Array) -> Array:
    """Return Σ_t δ_t dh_t/dM for a matrix M that adds ``inner`` @ M to a_t, innermost step first.

    dh_t/dM = diag(f'(a_t)) [inner_t ⊗ I + W_hᵀ dh_{t−1}/dM].
    """
    total = carried = 0
    for d_t, own, delta in zip(d, inner, d_outputs, strict=True):
        immediate = (
            own[:, None, :, None] * np.eye(len(W), dtype=int)[:, None]
        )  # (N, out, M's shape)
        bracket = d_t[:, :, None, None] * (immediate + carried)
        carried = (W.T @ bracket.reshape(*d_t.shape, -1)).reshape(bracket.shape)
        total = total + (delta[:, :, None, None] * bracket).sum(axis=(0, 1))
    return total


def adjoint_nesting(W: Array, d: Any, inner: Any, d_outputs: Array) -> Array:
    """Return the same by the adjoint recursion λ_t = δ_t + (λ_{t+1} ∘ f'(a_{t+1})) W_hᵀ."""
    total = carried = 0
    for d_t, own, delta in zip(d[::-1], inner[::-1], d_outputs[::-1], strict=True):
        e = (delta + carried) * d_t
        total, carried = total + own.T @ e, e @ W.T
    return total
