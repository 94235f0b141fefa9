"""Symmetries: what a change of the hidden coordinates does to a gradient (C-9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import recurrent
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell

from . import cases
from .catalogue import Case, Comparison, Necessity, equal, theorem
from .mistakes import PRIME, TRANSPOSE, UNTRANSPOSED
from .strategies import Draw, gated, rnns
from .unrolled import flat, vector

Array = Any
ODD = ("tanh", "identity")
HOMOGENEOUS = ("relu", "leaky_relu", "identity")


@st.composite
def _transformed(draw: Draw, system: str) -> Case:
    """Draw a network with losses and a change of coordinates that it allows.

    tanh is odd in floats and in balls, but a random function over a field. In balls everything is
    positive before the change: a sum that cancels to 0 is undecidable there.
    """
    sizes = {"T": 3, "N": 1, "D": 1, "H": 2}
    drawn = rnns(system, **sizes)
    if system != "rational":
        drawn = st.one_of(drawn, gated(**sizes))
    case = draw(cases.with_losses(drawn))
    cell, positive = case["cell"], ("params", "x", "state", "d_outputs", "d_state")
    if system == "ball":
        case |= {name: _above_zero(case[name]) for name in positive}
    f = getattr(cell, "activation", "tanh")
    odd = f in ODD and (system != "field" or f == "identity")
    signs = st.sampled_from((1, -1) if odd else (1,))
    powers = st.sampled_from((1, 2, 4) if f in HOMOGENEOUS else (1,))
    return {
        **case,
        "up": np.array([draw(signs) * draw(powers) for _ in range(cell.H)]),
        "down": np.array([draw(powers) for _ in range(cell.H)]),
        "order": draw(st.permutations(range(cell.H))),
    }


def _above_zero(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _above_zero(a) for name, a in tree.items()}
    return tuple(map(_above_zero, tree)) if isinstance(tree, tuple) else np.abs(tree) + 1 / 16


def _scaled(f: str, up: int, x: float = 1.0) -> Case:
    """Return one unit, whose state is multiplied by ``up``."""
    case = cases.linear_with_loss(2)
    one = {"up": np.array([up]), "down": np.array([1]), "order": [0]}
    return {**case, **one, "cell": RNNCell(1, 1, f), "x": case["x"] * x}


def moved(a: Array, up: Array, down: Array, order: list[int]) -> Array:
    """Write rows h (…, H) in the coordinates h A, where A is diag(up/down), then ``order``."""
    return (a * up / down)[..., order]


def carried(
    cell: Any, params: dict[str, Array], up: Array, down: Array, order: list[int]
) -> dict[str, Array]:
    """Write parameters in the coordinates h A.

    A candidate gets the factors of h; the preactivation of a gate does not, nor does what a gate
    sees of the state. Gradients are carried by the inverse transpose: exchange ``up`` and ``down``.
    """

    def columns(a: Array, gates: str) -> Array:
        parts = [
            moved(part, up, down, order) if gate == "c" else part[..., order]
            for part, gate in zip(np.split(a, len(gates), axis=-1), gates, strict=True)
        ]
        return np.concatenate(parts, axis=-1)

    def rows(a: Array) -> Array:
        return (a * down[:, None] / up[:, None])[order]

    gates = {"RNNCell": "c", "GRUCell": "rzc", "LSTMCell": "ifco"}[type(cell).__name__]
    gates = gates.replace("r", "") if getattr(cell, "variant", "") == "minimal" else gates
    carry = {
        "W_x": lambda a: columns(a, gates),
        "b": lambda a: columns(a, gates),
        "W_h": lambda a: rows(columns(a, gates)),
        "b_h": lambda a: columns(a, "c"),
        "w_c": lambda a: moved(a, down, up, order),
        "W_c": lambda a: rows(columns(a, "ifo")),
    }
    return {name: carry[name](a) for name, a in params.items()}


@theorem(
    "C-9",
    "Gradients follow a change of the hidden coordinates; sign flips change no bit",
    statement=r"""(a) In an RNN let $A$ be an invertible matrix with $f(zA) = f(z)A$ for every row
$z$: a permutation; a diagonal matrix of signs if $f$ is odd; a positive diagonal matrix if $f$ is
positively homogeneous; or a product of these. Replace $(W_x, W_h, b, h_0)$ by $(W_x A, A^{-1} W_h
A, bA, h_0 A)$ and the loss by the same function of $h_t A^{-1}$. Then $h_t$ becomes $h_t A$, and
the gradients $(g_x, g_h, g_b, g_0)$ by the four become $(g_x A^{-\top}, A^\top g_h A^{-\top}, g_b
A^{-\top}, g_0 A^{-\top})$; that by $x$ stays. (b) For a GRU or LSTM the same holds
with $A = S\Pi$, $S$ of signs, $\Pi$ a permutation: the columns of the candidate are multiplied by
$A$, those of a gate by $\Pi$, the rows that read the state by $A^{-1}$. (c) In floating point (a)
and (b) hold bit for bit, but for the sign of zeros, if $A$ is diagonal with entries $\pm 2^k$ and
nothing overflows or underflows.""",
    hypotheses=(
        "f(zA) = f(z)A: signs need an odd f",
        "f(zA) = f(z)A: other factors need a positively homogeneous f",
        "(bits) the factors are powers of two",
    ),
    proof="""(a) Induction: if h_{t−1} becomes h_{t−1} A, then a_t becomes x_t W_x A + h_{t−1} A A⁻¹
W_h A + b A = a_t A, and h_t becomes f(a_t A) = h_t A. So the new loss L' of the new parameters is
the old loss of the old ones: L(W_x, W_h, …) = L'(W_x A, A⁻¹ W_h A, …). By the chain rule g_x = g'_x
Aᵀ, g_h = A⁻ᵀ g'_h Aᵀ, and so on: solve for g'. (b) c_{t−1} and the candidate change like h, as tanh
is odd; a gate's preactivation h W becomes h A A⁻¹ W Π, so the gate is permuted only, and its
product with the candidate is again the old one times A. (c) Multiplication by ±2^k is exact and
commutes with rounding. Each number of the computation has one factor: h_i the factor a_i of its
unit, W_ij the factor a_j/a_i, and so each term of a sum the same, in the same order. f obeys (a) in
floats, and f' has the factor 1. An exact 0 may be +0 or −0.""",
    sources=("Sussmann 1992", "Albertini & Sontag 1993"),
    cases=_transformed,
    systems=("rational", "field", "ball"),
    necessity=(
        Necessity("odd f: σ and the factor −1", lambda: _scaled("sigmoid", -1), "ball"),
        Necessity("homogeneous f: tanh and the factor 2", lambda: _scaled("tanh", 2), "ball"),
        Necessity("powers of two: the factor 3", lambda: _scaled("relu", 3, 0.1), "float"),
    ),
    sensitivity=(
        PRIME,
        TRANSPOSE,
        UNTRANSPOSED,
    ),
)
def coordinates_change(
    cell: RNNCell | GRUCell | LSTMCell,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    d_state: Any,
    up: Array,
    down: Array,
    order: list[int],
) -> Iterator[Comparison]:
    """Compare the gradients of the network in new coordinates with those in the old, carried."""
    kept = list(range(cell.H))

    def changed(order: list[int]) -> tuple[Any, ...]:
        losses, *d_final = (moved(d, down, up, order) for d in (d_outputs, *d_state))
        start = tuple(moved(s, up, down, order) for s in state)
        return carried(cell, params, up, down, order), x, losses, start, tuple(d_final)

    def gradient(method: str, params: Any, x: Any, d_outputs: Any, state: Any, d: Any) -> Any:
        return recurrent.bptt(cell, params, x, d_outputs, state, method, d_state=d)

    def whole(gradient: Any) -> Array:
        return vector({**gradient, "state": flat(gradient["state"])})

    def expected(g: Any, order: list[int]) -> Array:
        by_params = carried(cell, {name: g[name] for name in params}, down, up, order)
        d_state = tuple(moved(d, down, up, order) for d in g["state"])
        return whole({**by_params, "x": g["x"], "state": d_state})

    given = params, x, d_outputs, state, d_state
    new = changed(order)
    h = recurrent.unroll(cell, params, x, state, "tape").outputs
    h_new = recurrent.unroll(cell, new[0], x, new[3], "tape").outputs
    yield equal("h_t A", h_new, moved(h, up, down, order))
    for method in ("tape", "chain"):
        carried_over = expected(gradient(method, *given), order)
        yield equal(f"the gradient by {method}", whole(gradient(method, *new)), carried_over)

    for method in ("tape", "chain", "kernel"):
        count = 0
        if x.dtype == np.float64:  # exact numbers have been compared already
            same = whole(gradient(method, *changed(kept)))
            count = int((same != expected(gradient(method, *given), kept)).sum())
        yield equal(f"no bit changes, by {method}", count, 0)
