"""Real-time recurrent learning: the gradient accumulated forward in time.

Backpropagation carries a row, ∂L/∂state_t, from the last step to the first. Here a matrix goes
along with the network, the *influence* of everything so far on the present state, and each loss is
differentiated the moment it is there. Nothing is kept of the past, and nothing waits for the end.
"""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.cells.cell import Cell, Params, State, split
from tinygrad_rnn.cells.problem import Gradients, Problem, check_lengths, pose
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import _by_length

__all__ = ["rtrl"]


def rtrl(
    cell: Cell,
    params: Params,
    x: Array,
    d_outputs: Array,
    state: State | None = None,
    lengths: Array | None = None,
    d_state: tuple[Array | None, ...] | None = None,
) -> Gradients:
    """Real-time recurrent learning: the gradient of :func:`tinygrad_rnn.bptt`, by forward mode.

    With δ_t = ∂L/∂state_t, J_t = ∂state_t/∂state_{t−1} and ∂⁺ the immediate derivative, the
    influence M_t = dstate_t/dθ of everything θ that the run depends on obeys

    M_t = J_t M_{t−1} + ∂⁺state_t/∂θ,  dL/dθ = Σ_{t=1}^{T} δ_t M_t.

    M_t has S rows, the size of the state, and a column for every weight, input and initial state:
    P + T·D + S. A step costs O(N S² (P + T·D + S)), of BPTT O(N (S² + P)): this is the road for
    checking gradients and for understanding them.

    Parameters
    ----------
    cell, params, x, d_outputs, state, lengths, d_state
        As for :func:`tinygrad_rnn.bptt`.

    Returns
    -------
    dict
        Every parameter, ``"x"``, and ``"state"`` (the initial state's, a tuple).

    Raises
    ------
    ValueError, TypeError
        As :func:`tinygrad_rnn.bptt`.

    References
    ----------
    Williams and Zipser 1989, *A learning algorithm for continually running fully recurrent neural
    networks*, Neural Computation 1.

    Examples
    --------
    h_t = w h_{t−1} + x_t with w = 1/2 and x = 1: dh_t/dw = h_{t−1} + w dh_{t−1}/dw is 0, 1, 2.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
    >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> g = tg.rtrl(cell, params, np.ones((3, 1)), np.array([[0.0], [0.0], [1.0]]))
    >>> g["W_h"].item(), g["x"].ravel().tolist()
    (2.0, [0.25, 0.5, 1.0])
    """
    problem, single = pose(cell, params, x, d_outputs, state, d_state)
    if lengths is None:
        gradients = _forward(problem, None)
    else:
        lengths = check_lengths(lengths, problem.x, single)
        gradients = _by_length(_forward, problem, None, lengths)
    if single:
        gradients["x"] = gradients["x"][:, 0]
        gradients["state"] = tuple(s[0] for s in gradients["state"])
    return gradients


def _forward(problem: Problem, _: int | None) -> Gradients:
    """Walk M_t = J_t M_{t−1} + ∂⁺ from t = 1, and add up δ_t M_t."""
    cell, params, x, state, d_outputs, d_state = problem
    T, N, D = x.shape
    S = len(state) * cell.H
    # The columns of M: the parameters, then x_1 … x_T, then the initial state.
    ends = np.cumsum([*(p.size for p in params.values()), T * D, S])
    P, columns = ends[-3], ends[-1]
    M, total = np.zeros((N, S, columns), x.dtype), np.zeros((N, 1, columns), x.dtype)
    M[:, :, -S:] = np.eye(S, dtype=x.dtype)
    for t, x_t in enumerate(x):
        by_params, by_x = _immediate(cell, params, x_t, state)
        M = cell.jacobian(params, x_t, state) @ M
        M[:, :, :P] += by_params
        M[:, :, P + t * D : P + (t + 1) * D] += by_x
        state = cell.step(params, x_t, state)
        total = total + d_outputs[t][:, None] @ M[:, : cell.H]  # the loss sees h only
    total = (total + np.concatenate(d_state, axis=1)[:, None] @ M)[:, 0]
    *d_params, d_x, d_initial = np.split(total, ends[:-1], axis=1)
    gradients: Gradients = {
        name: d.sum(axis=0).reshape(p.shape)
        for (name, p), d in zip(params.items(), d_params, strict=True)
    }
    gradients["x"] = d_x.reshape(N, T, D).swapaxes(0, 1)
    return {**gradients, "state": tuple(split(d_initial, len(state)))}


def _immediate(cell: Cell, params: Params, x_t: Array, state: State) -> tuple[Array, Array]:
    """Return ∂⁺state_t/∂θ (N, S, P) and ∂⁺state_t/∂x_t (N, S, D), one row at a time."""
    by_params, by_x = [], []
    for n in range(len(x_t)):
        at = params, x_t[n : n + 1], tuple(s[n : n + 1] for s in state)
        for row in np.eye(len(state) * cell.H, dtype=x_t.dtype)[:, None]:
            term = cell.local(*at, tuple(split(row, len(state))))
            by_params.append(np.concatenate([term[name].ravel() for name in params]))
            by_x.append(term["x"][0])
    rows = len(x_t), len(state) * cell.H, -1
    return np.reshape(by_params, rows), np.reshape(by_x, rows)
