"""RNNs whose steps contract, or expand, by a known factor: γ‖W_h‖₂ ≤ q by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import unroll

from .catalogue import Case
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, matrices, sizes

Array = Any


def _norm_bound(W: Array) -> float:
    """Bound ‖W‖₂² by ‖W‖_F² and by ‖W‖₁ ‖W‖_∞, exactly on small multiples of 1/16."""
    A = np.abs(W)
    return float(min((A * A).sum(), A.sum(axis=0).max() * A.sum(axis=1).max()))


@st.composite
def networks(draw: Draw, /, system: str, **tops: int) -> Case:
    """An RNN, one sequence, a loss of its last output alone, and q with γ‖W_h‖₂ ≤ q.

    W_h is scaled by a power of two, so that the bound on its norm that can be computed exactly lies
    in (1/2, 1] times q/γ, or is zero. In balls no preactivation is exactly zero, where f' would be
    γ and the bound an equation of irrational numbers: b has multiples of 1/16 moved by 2⁻¹⁵.
    """
    n = draw(sizes(**tops))
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    γ = float(ACTIVATIONS[cell.activation].lipschitz)
    family, W_h = draw(matrices(n["H"]))
    q = draw(st.sampled_from((0.25, 0.5, 0.75, 0.9375, 1.5)))
    if bound := _norm_bound(W_h):
        W_h = W_h * 2.0 ** np.floor(np.log2(q / γ / np.sqrt(bound)))
    gain = draw(st.sampled_from((0.25, 1.0, 8.0)))
    d_outputs = np.zeros((n["T"], n["H"]))
    d_outputs[-1] = draw(dyadics(n["H"]))
    return {
        "cell": cell,
        "params": {
            "W_x": draw(dyadics((n["D"], n["H"]))) * gain,
            "W_h": W_h,
            "b": draw(dyadics(n["H"])) * gain + (2.0**-15 if system == "ball" else 0),
        },
        "x": draw(dyadics((n["T"], n["D"]))),
        "state": (draw(st.sampled_from((0.0, 1.0))) * draw(dyadics(n["H"], 1.0)),),
        "d_outputs": d_outputs,
        "γ": np.array(γ),
        "q": np.array(q),
        "family": family,
    }


def network(**changed: Any) -> Case:
    """h_t = h_{t−1} W_h + x_t (1, 1), three steps, where ‖W_h‖₂ = 4 but every eigenvalue is 0."""
    return {
        "cell": RNNCell(1, 2, "identity"),
        "params": {
            "W_x": np.ones((1, 2)),
            "W_h": np.array([[2.0, 2.0], [-2.0, -2.0]]),
            "b": np.zeros(2),
        },
        "x": np.ones((3, 1)),
        "state": (np.array([1.0, 0.0]),),
        "d_outputs": np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]),
        "γ": np.array(1.0),
        "q": np.array(4.0),
        **changed,
    }


def steady() -> Case:
    """h_t = h_{t−1}/2 + 1 with h_0 = 2: every step contracts by 1/2 exactly, and h_t = 2 for ever.

    All norms multiply here without loss, so it attains the bounds.
    """
    one = np.ones((1, 1))
    return {
        "cell": RNNCell(1, 1, "identity"),
        "params": {"W_x": one, "W_h": one / 2, "b": np.zeros(1)},
        "x": np.ones((4, 1)),
        "state": (np.array([2.0]),),
        "d_outputs": np.array([[0.0], [0.0], [0.0], [1.0]]),
        "γ": np.array(1.0),
        "q": np.array(0.5),
    }


def immediate_inputs(cell: Any, params: Any, x: Array, state: Any) -> dict[str, Array]:
    """Return what multiplies each parameter at each step: h_{t−1}, x_t and 1, as rows."""
    h = unroll(cell, params, x, state).states[0]
    return {"W_h": h[:-1], "W_x": x, "b": 1 + 0 * x[:, :1]}
