"""What the theorems on gradients and on products of Jacobians are tried on.

Each hypothesis holds by construction: norms are set by scaling, never by rejecting.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import LSTMCell, RNNCell

from .catalogue import Case
from .evidence import Box
from .norms import norm_inf, within
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, gated, matrices, rnns, scaled, states

Array = Any


def networks(system: str) -> st.SearchStrategy[Case]:
    """Every cell, where the number system has its functions."""
    plain = rnns(system, T=3, D=2, H=2)
    return plain if system == "rational" else st.one_of(plain, gated(T=3, D=1, H=2))


def lstm_case() -> Case:
    """Return an LSTM of one unit over two steps, all weights 1/2."""
    cell = LSTMCell(1, 1)
    return {
        "cell": cell,
        "params": {name: np.full(shape, 0.5) for name, shape in cell.shapes.items()},
        "x": np.ones((2, 1, 1)),
        "state": (np.full((1, 1), 0.5), np.ones((1, 1))),
    }


def linear_case(T: int) -> Case:
    """Return h_t = x_t + h_{t−1}/2 with x = 1 and h_0 = 1: one linear unit."""
    return {
        "cell": RNNCell(1, 1, "identity"),
        "params": {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)},
        "x": np.ones((T, 1, 1)),
        "state": (np.ones((1, 1)),),
    }


def linear_with_loss(T: int) -> Case:
    """Return the same with the loss h_T."""
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    return {
        **linear_case(T),
        "d_outputs": np.stack([zero] * (T - 1) + [one]),
        "d_state": (zero,),
    }


@st.composite
def with_steps(draw: Draw, system: str) -> Case:
    """Draw a network and three times i ≤ s ≤ t of it."""
    case = draw(networks(system))
    i, s, t = sorted(draw(st.tuples(*[st.integers(0, len(case["x"]))] * 3)))
    return {**case, "i": i, "s": s, "t": t}


@st.composite
def with_losses(draw: Draw, case: Any) -> Case:
    """Draw a network and the cotangents of its outputs and of its last state."""
    drawn = draw(case)
    T, N = drawn["x"].shape[:2]
    H = drawn["cell"].H
    return {
        **drawn,
        "d_outputs": draw(dyadics((T, N, H))),
        "d_state": tuple(draw(dyadics((N, H))) for _ in drawn["state"]),
    }


def weights_start(params: Any, state: Any) -> Any:
    """Return an initial state that depends on the weights."""
    return tuple(s + params["W_h"].sum(axis=0) for s in state)


@st.composite
def nestings(draw: Draw, system: str) -> Case:
    """Draw an RNN with losses, and apart from it the notes' three steps of one unit."""
    case = draw(with_losses(rnns(system, T=3, D=2, H=2)))
    del case["d_state"]
    one = {"W_x": (1, 1), "W_h": (1, 1), "b": (1,), "x": (3, 1, 1), "h_0": (1, 1), "delta": (1, 1)}
    notes = {name: draw(dyadics(shape)) for name, shape in one.items()}
    return {**case, "notes": {**notes, "kappa": draw(dyadics(2))}}


def notes_case() -> Case:
    """Return linear units in both roles."""
    one = np.ones((1, 1))
    case = linear_case(2)
    return {
        **case,
        "d_outputs": np.ones((2, 1, 1)),
        "notes": {
            **{"W_x": one, "W_h": one / 2, "b": np.zeros(1)},
            **{"x": np.ones((3, 1, 1)), "h_0": one, "delta": one, "kappa": np.zeros(2)},
        },
    }


@st.composite
def with_directions(draw: Draw, system: str) -> Case:
    """Draw a network, cotangents of its results and a tangent ``u`` of its arguments."""
    case = draw(with_losses(networks(system)))
    return {
        **case,
        "u": {
            "params": {name: draw(dyadics(p.shape)) for name, p in case["params"].items()},
            "x": draw(dyadics(case["x"].shape)),
            "state": tuple(draw(dyadics(s.shape)) for s in case["state"]),
        },
    }


def two_norm_bound(W: Array, strict: bool) -> Any:
    """Return the least multiple of 1/16 that is ≥ ‖W‖₂, or > for a strict one: exactly decided."""
    exact, k = scalars.rational(W), int(np.linalg.norm(W, 2) * 16)
    while not all(m >= 0 for m in within("2", exact, Fraction(k, 16))[1]):
        k += 1
    return np.array((k + strict) / 16)


@st.composite
def bounded(draw: Draw, system: str, N: int = 2) -> Case:
    """Draw an RNN, also a contractive one, and ω ≥ ‖W‖₂; in balls ω is larger, against ties."""
    case = draw(rnns(system, T=3, N=N, D=1))
    case["params"]["W_h"] = case["params"]["W_h"] * draw(st.sampled_from((1.0, 0.125)))
    return {**case, "omega": two_norm_bound(case["params"]["W_h"], strict=system == "ball")}


def one_step(W: Any, f: str = "identity", b: Any = 0.0, T: int = 1, x: Any = 0.0) -> Case:
    """Return a network with the matrix W and h_0 = 0; all units see the input x."""
    H = len(W)
    return {
        "cell": RNNCell(1, H, f),
        "params": {"W_x": np.ones((1, H)), "W_h": np.array(W, float).T, "b": np.zeros(H) + b},
        "x": np.reshape(np.zeros(T) + x, (T, 1, 1)),
        "state": (np.zeros((1, H)),),
    }


def skew_norm(A: Array) -> Any:
    """‖S A S⁻¹‖_∞ with S = [[1, 1], [0, 1]]: induced by a norm that is not absolute."""
    S, inverse = np.array([[1, 1], [0, 1]]), np.array([[1, -1], [0, 1]])
    return norm_inf(S @ A @ inverse)


@st.composite
def with_margin(draw: Draw, system: str) -> Case:
    """In balls a tie of irrational numbers cannot be decided: there the margin is 2⁻⁶⁴."""
    margin = 2.0**-64 if system == "ball" else 0.0
    return {**draw(bounded(system, N=1)), "margin": np.array(margin)}


def contracted(A: Array, q: float) -> Array:
    """Return A scaled by a power of two and q, so that ‖A‖₁, ‖A‖_∞, hence ‖A‖₂, are at most q."""
    wide = np.abs(A).sum(axis=0).max() > np.abs(A).sum(axis=1).max()
    return scaled(A.T, q).T if wide else scaled(A, q)


@st.composite
def contractive(draw: Draw, system: str) -> Case:
    """Draw an RNN with γ‖W‖ ≤ q < 1; in balls less, against ties, and with boxes of inputs."""
    q = draw(st.sampled_from((0.25, 0.5, 0.75)))
    T = draw(st.integers(int(np.ceil(1 / (1 - q))), 5))
    n = {k: draw(st.integers(1, 3)) for k in ("N", "D", "H")}
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    family, A = draw(matrices(n["H"]))
    boxes = system == "ball" and draw(st.booleans())
    room = {"ball": 0.5 if boxes else 15 / 16}.get(system, 1.0)
    x, state = draw(dyadics((T, n["N"], n["D"]))), draw(states(cell, n["N"]))
    if boxes:
        x, state = Box(x, np.array(1 / 16)), tuple(Box(s, np.array(1 / 4)) for s in state)
    return {
        "cell": cell,
        "params": {
            "W_x": draw(dyadics((n["D"], n["H"]))),
            "W_h": contracted(A, q * room).T / float(ACTIVATIONS[cell.activation].lipschitz),
            "b": draw(dyadics(n["H"])),
        },
        "x": x,
        "state": state,
        "delta": draw(dyadics((n["N"], n["H"]))),
        "q": np.array(q),
        "family": "box" if boxes else family,
    }


def not_contractive(W: Any, q: float, T: int) -> Case:
    """Return linear units with the matrix W, whatever q."""
    delta = np.ones((1, len(W)))
    return {**one_step(W, T=T), "delta": delta, "q": np.array(q)}


@st.composite
def large_but_harmless(draw: Draw, system: str) -> Case:
    """Draw ‖W‖_∞ ≥ 8 ≥ 2/γ that does not explode, with the bound of ‖P_{t,0}‖_∞ for each t."""
    H, T = draw(st.integers(2, 3)), draw(st.integers(3, 5))
    family = draw(st.sampled_from(("nilpotent", "bounded", "saturated")))
    usable = ("tanh", "sigmoid", "relu") if family == "saturated" else RNN_ACTIVATIONS[system]
    cell = RNNCell(1, H, draw(st.sampled_from([f for f in RNN_ACTIVATIONS[system] if f in usable])))
    W, b = draw(dyadics((H, H))), draw(dyadics(H))
    W[0, -1] = draw(st.sampled_from((-8.0, 8.0)))
    x, state = draw(dyadics((T, 1, 1))), draw(states(cell, 1))
    if family == "nilpotent":
        W = np.triu(W, 1)
        size = np.abs(W).sum(axis=1).max()
        limits = [size**t if t < H else 0.0 for t in range(1, T + 1)]
    elif family == "bounded":
        column = np.append(draw(dyadics(1, 1.0)), W[:-1, -1])
        W = np.outer(column, np.eye(H)[0])
        limits = [np.abs(column).max()] * T
    else:
        b = np.where(cell.activation == "relu", -40.0, np.where(b < 0, -40.0, 40.0))
        limits = [0.5**t for t in range(1, T + 1)]
        x = Box(x, np.array(1.0)) if system == "ball" else x
    return {
        "cell": cell,
        "params": {"W_x": draw(dyadics((1, H))), "W_h": W.T, "b": b * np.ones(H)},
        "x": x,
        "state": state,
        "limits": np.array(limits),
        "family": family,
    }


@st.composite
def pinned(draw: Draw, system: str) -> Case:
    """Draw c ≥ 2 and preactivations for which one unit is active and the other is not."""
    c, T = draw(dyadics((), 1.0)) + 3, draw(st.sampled_from((1, 2, 3, 5, 20)))
    usable = [f for f in RNN_ACTIVATIONS[system] if f in ("tanh", "relu")]
    f = draw(st.sampled_from(usable))
    small, large = draw(dyadics(T, 0.25)), draw(dyadics(T, 8.0))
    large = np.where(large < 0, large - 3, large + 3)
    pins = [small, large] if f == "tanh" else [np.abs(small) + 1, -np.abs(large)]
    return {**nilpotent_pinned(c, np.stack(pins, axis=1), f), "family": f}


def nilpotent_pinned(c: Any, pins: Array, f: str) -> Case:
    """Return the network of B-8: ``pins`` are its preactivations."""
    return {
        "cell": RNNCell(2, 2, f),
        "params": {"W_x": np.eye(2), "W_h": c * np.array([[1.0, 1], [-1, -1]]), "b": np.zeros(2)},
        "pins": pins,
        "state": (np.zeros((1, 2)),),
        "c": np.array(float(c)),
    }
