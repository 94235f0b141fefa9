"""Small networks on which the notes' formulas are evaluated, and the truth about them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt, contributions, unroll

Array = Any
Problem = tuple[RNNCell, dict[str, Array], Array, tuple[Array, ...]]

CHAIN = {"w": np.array(0.5), "x": np.ones(100)}  # o_t = o_{t−1}/2 + x_t, a hundred steps
THREE = {"w": np.array(0.5), "x": np.array([3.0, 1.0, 2.0])}


def unit(w: Array, x: Array, f: str = "identity", w_in: Array = 1, o_0: Array = 0) -> Problem:
    """Return cell, params, x, state of the unit o_t = f(x_t w_in + o_{t−1} w)."""
    w, nothing = w.reshape(1, 1), 0 * w.reshape(1)
    params = {"W_x": w_in + 0 * w, "W_h": w, "b": nothing}
    return RNNCell(1, 1, f), params, x[:, None], (o_0 + nothing,)


def gradient(cell: Any, params: Any, x: Array, state: Any) -> dict[str, Any]:
    """Return the gradient of the last output of a unit, by back-propagation through the tape."""
    d = bptt(cell, params, x, 0 * x[:, :1], state, method="tape", d_state=(1 + 0 * state[0],))
    return {
        "w": d["W_h"][0, 0], "w_in": d["W_x"][0, 0], "x": d["x"][:, 0], "o_0": d["state"][0][0],
    }  # fmt: skip


def outputs(problem: Problem) -> Array:
    """Return o_0, o_1, …, o_T of a unit."""
    return unroll(*problem, method="tape").states[0][:, 0]


def terms(w: Array, x: Array) -> Array:
    """Return what each step adds to ∂o_T/∂w_in of the linear unit, by the library."""
    cell, params, x, state = unit(w, x)
    return contributions(cell, params, x, 0 * x, state, (1 + 0 * state[0],))["W_x"][:, 0, 0]


def step_jacobian(f: str, a: Array, w: Array) -> Array:
    """Return ∂o_t/∂o_{t−1} of one unit with the preactivation a (1,), by the cell."""
    cell, params, x, state = unit(w, a, f)
    return cell.jacobian(params, x, (state[0][None],))[0, 0, 0]


def by_w(w: Array, x: Array) -> Array:
    """Return ∂o_T/∂w of the linear unit."""
    return gradient(*unit(w, x))["w"]


def by_w_in(w: Array, x: Array) -> Array:
    """Return ∂o_T/∂w_in of the linear unit."""
    return gradient(*unit(w, x))["w_in"]


def immediate_sum(w: Array, x: Array) -> Array:
    """Return Σ_j ∂o_T/∂o_j ∂⁺o_j/∂w_in of the linear unit: the factors written out."""
    T = len(x)
    return sum(w ** (T - j) * x[j - 1] for j in range(1, T + 1))


def total_sum(w: Array, x: Array) -> Array:
    """Return the same sum with total derivatives do_j/dw_in, each by the library."""
    T = len(x)
    return sum(w ** (T - j) * by_w_in(w, x[:j]) for j in range(1, T + 1))
