"""Storing a bit, and remembering long: what factors below one do and do not mean.

A unit that holds a bit against noise has a slope below one where it holds it, so it forgets how the
bit came about (Bengio, Simard & Frasconi 1994). A unit that forgets slowly is, with every factor
still below one, ever more sensitive to its weight (Zucchet & Orvieto 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt, unroll

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .evidence import Box
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME, sees_late_state
from .strategies import Draw, dyadics

Array = Any


def _unit(w: Any) -> dict[str, Array]:
    """Return the parameters of h_t = f(x_t + w h_{t−1})."""
    one = 1 + 0 * np.asarray(w).reshape(1, 1)
    return {"W_x": one, "W_h": w * one, "b": 0 * one[0]}


# ---- V-5 ----------------------------------------------------------------------------------------

GRID = 2.0**-20


def _held(w: float, μ: float) -> float:
    """Return a float just below the largest h = tanh(wh − μ), found by iterating from above."""
    h = 1.0
    for _ in range(500):
        h = math.tanh(w * h - μ)
    return math.floor(h / GRID) * GRID


def _latch(w: float, μ: float, low: float, **changed: Any) -> Case:
    """A unit that begins at ℓ and sees −μ twice; q is just above w(1 − ℓ²)."""
    q = math.ceil(w * (1 - low * low) / GRID + 1) * GRID
    return {
        "a": np.array(1 / 16),
        "w": np.array(w),
        "low": np.array(low),
        "x": np.full((2, 1), -μ),
        "h_0": np.array([low]),
        "q": np.array(q),
        **changed,
    }


@st.composite
def _latches(draw: Draw, system: str) -> Case:
    """A unit that holds a bit against inputs of size μ, and a fixed point tanh a.

    In balls the weight, the initial state and half of the time the inputs are boxes: ℓ is held by
    the smallest weight of the box with a margin, and q serves the largest.
    """
    excess, T = draw(st.integers(1, 32)) / 16, draw(st.integers(1, 4))
    w, radius = 1 + excess, excess / 16
    μ = draw(st.sampled_from((0.0, 1 / 16, 1 / 4))) * min(excess, 1.0) ** 1.5
    low = _held(w - 2 * radius, μ)
    x, start = μ * draw(dyadics((T, 1), 1.0)), low * (1 + 1 / 64)
    x = Box(0 * x, np.array(μ)) if draw(st.booleans()) else x
    h_0 = np.array([start + max(1 - start, 0) * draw(st.integers(0, 8)) / 8])
    return {
        **_latch(w + radius, μ, low),
        "a": np.array(draw(st.integers(1, 64)) / 16),
        "w": Box(np.array(w), np.array(radius)),
        "x": x,
        "h_0": Box(h_0, np.array(low / 64)),
        "family": "boxed inputs" if isinstance(x, Box) else "inputs",
    }


@theorem(
    "V-5",
    "Latching: a unit that holds a bit forgets how it got it",
    statement=r"""Let $h_t = \tanh(w h_{t-1} + x_t)$ with $w > 0$, $|x_t| \le \mu$, and let $\ell >
0$ be held: $\ell \le \tanh(w\ell - \mu)$. If $h_0 \ge \ell$ then $h_t \ge \ell$ for all $t$,
whatever the inputs, and $|\partial h_T/\partial h_0| \le (w(1-\ell^2))^T$, which vanishes if
$\ell^2 > 1 - 1/w$.

It does where the unit rests. Without inputs the largest $\ell$ that is held is the one fixed point
$h = \tanh(wh) > 0$ that every $w > 1$ has. There, with $a = wh$, the slope is
$$w\,(1 - h^2) = \frac{2a}{\sinh 2a}, \qquad
  1 - h^2 \le \frac{2a}{\sinh 2a} \le 1 - \tfrac23 h^2 < 1.$$""",
    hypotheses=(
        "|x_t| ≤ μ, where ℓ ≤ tanh(wℓ − μ)",
        "h_0 ≥ ℓ",
        "q ≥ w(1 − ℓ²), which is the factor",
        "ℓ² ≥ 1 − 1/w (the slope at ℓ itself is at most 1)",
    ),
    proof="""If h_{t−1} ≥ ℓ then w h_{t−1} + x_t ≥ wℓ − μ, and h_t ≥ tanh(wℓ − μ) ≥ ℓ. Hence
∂h_t/∂h_{t−1} = w(1 − h_t²) ≤ w(1 − ℓ²), and the product of T such factors bounds ∂h_T/∂h_0. Fixed
points: w = artanh(h)/h = Σ h^{2k}/(2k + 1) increases from 1 to ∞ on (0, 1). With h = tanh a, w =
a/tanh a and 1 − h² = 1/cosh²a, so that w(1 − h²) = a/(sinh a cosh a) = 2a/sinh 2a; it is at least
1 − h² as w ≥ 1. Let φ(h) = h − (1 − h²) artanh h. Then φ(0) = 0 and φ' = 2h artanh h ≥ 2h², whence
φ(h) ≥ 2h³/3 and w(1 − h²) = 1 − φ(h)/h ≤ 1 − 2h²/3.""",
    sources=("S0-1", "S1-25", "Bengio, Simard & Frasconi 1994"),
    cases=_latches,
    systems=("ball",),
    necessity=(
        Necessity("ℓ is held", lambda: _latch(1.5, 0.5, 0.75), "ball"),
        Necessity("h_0 ≥ ℓ", lambda: _latch(1.5, 0.0, 0.75, h_0=np.array([0.25])), "ball"),
        Necessity("q ≥ w(1 − ℓ²)", lambda: _latch(1.5, 0.0, 0.75, q=np.array(0.25)), "ball"),
        Necessity("ℓ² ≥ 1 − 1/w", lambda: _latch(3.0, 0.0, 0.25), "ball"),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        COUNTED_TWICE,
        Mistake(
            "w missing: f' alone",
            "tinygrad_rnn.cells.RNNCell.jacobian",
            lambda right: lambda self, p, x_t, h: right(self, {**p, "W_h": p["W_x"]}, x_t, h),
        ),
    ),
    witness=lambda: _latch(1.5, 0.0, _held(1.5, 0.0)),
)
def _a_held_bit_forgets(
    a: Any, w: Any, low: Any, x: Array, h_0: Array, q: Any
) -> Iterator[Comparison]:
    cell = RNNCell(1, 1, "tanh")
    yield at_most("ℓ ≤ h_t", low, unroll(cell, _unit(w), x, (h_0,), method="tape").outputs)
    d_outputs = np.concatenate([0 * x[1:], 1 + 0 * x[:1]])
    for method in ("tape", "chain"):
        (d,) = bptt(cell, _unit(w), x, d_outputs, (h_0,), method=method)["state"]
        yield at_most(f"|∂h_T/∂h_0| ≤ qᵀ, {method}", np.abs(d), q ** len(x))
    yield at_most("w(1 − ℓ²) ≤ 1", w * (1 - low * low), 1)

    a = a.reshape(1, 1)
    h = np.tanh(a)
    at_rest = _unit(a / h), 0 * a, (h,)
    slope = cell.jacobian(*at_rest)
    yield equal("tanh(wh) = h", cell.step(*at_rest)[0], h)
    yield equal("w(1 − h²) = 2a/sinh 2a", slope, 2 * a / np.sinh(2 * a))
    yield at_most("1 − h² ≤ w(1 − h²)", 1 - h * h, slope)
    yield at_most("w(1 − h²) + 2h²/3 ≤ 1", slope + 2 * h * h / 3, 1)


# ---- V-6 ----------------------------------------------------------------------------------------


def _noise(λ: float, noise: Array) -> Case:
    return {"λ": np.array(λ), "noise": noise}


@st.composite
def _white(draw: Draw, system: str) -> Case:
    """A factor |λ| < 1 and an orthogonal matrix: permutations with signs, and Hadamard's for T = 4.

    x = noise ε has independent entries of variance 1 mixed so that it stays white.
    """
    T = draw(st.sampled_from((1, 2, 4, 6)))
    λ = draw(st.integers(-15, 15)) / 16
    signs = np.array(draw(st.lists(st.sampled_from((-1.0, 1.0)), min_size=T, max_size=T)))
    noise = np.eye(T)[draw(st.permutations(range(T)))]
    if T == 4 and draw(st.booleans()):
        two = np.array([[1.0, 1.0], [1.0, -1.0]])
        noise = np.kron(two, two) / 2
    return _noise(λ, signs[:, None] * noise)


@theorem(
    "V-6",
    "The curse of memory: sensitivity explodes while every factor is below one",
    statement=r"""Let $h_t = \lambda h_{t-1} + x_t$, $h_0 = 0$, $|\lambda| < 1$, $r = \lambda^2$,
where the $x_t$ have mean 0, variance 1 and are uncorrelated. Then
$$\operatorname{Var} h_T = \sum_{k=0}^{T-1} r^k = \frac{1 - r^T}{1 - r} \le \frac1{1-r}, \qquad
\operatorname{Var} \frac{\partial h_T}{\partial \lambda} = \sum_{k=1}^{T-1} k^2 r^{k-1}
  = \frac{1 + r - T^2 r^{T-1} + (2T^2-2T-1) r^T - (T-1)^2 r^{T+1}}{(1-r)^3}
  \le \frac{1+r}{(1-r)^3};$$
the bounds are the limits as $T \to \infty$. The second exceeds the first without bound as
$|\lambda| \to 1$: if $1 - 1/T \le |\lambda|$, $T \ge 2$, then $\operatorname{Var} \partial
h_T/\partial\lambda \ge (T-1)T(2T-1)/96$.""",
    hypotheses=("|λ| < 1", "The inputs are white"),
    proof="""h_T = Σ_k λ^k x_{T−k} over 0 ≤ k < T, so ∂h_T/∂λ = Σ_{k≥1} k λ^{k−1} x_{T−k}; for white
inputs the variance of a linear form is the sum of the squares of its coefficients. The first sum is
geometric. Of Σ c_k r^{k−1}, times (1 − r)³, the power r^j has the coefficient
c_{j+1} − 3c_j + 3c_{j−1} − c_{j−2}. For c_k = k², k ≥ 0, it is 1 for j = 0 and j = 1, and then 0,
as third differences of squares vanish: the whole series is (1 + r)/(1 − r)³. What is taken away,
c_k = k² for k ≥ T, gives T² for j = T − 1, (T + 1)² − 3T² for j = T, (T + 2)² − 3(T + 1)² + 3T² =
(T − 1)² for j = T + 1, and then 0. For |λ| < 1 the terms are nonnegative and T² r^T → 0: the sums
increase to these limits. If |λ| ≥ 1 − 1/T then r^{k−1} ≥ (1 − 1/T)^{2T} ≥ 1/16 for T ≥ 2, as
(1 − 1/T)^T increases with T, and Σ_{k<T} k² = (T − 1)T(2T − 1)/6.""",
    sources=("S4-4", "S4-9", "S0-2", "Zucchet & Orvieto 2024"),
    cases=_white,
    systems=("rational", "ball"),
    necessity=(
        Necessity("|λ| < 1", lambda: _noise(1.5, np.eye(4))),
        Necessity("white", lambda: _noise(0.5, np.eye(4)[:, :1] + np.zeros((4, 4)))),
    ),
    sensitivity=(
        COUNTED_TWICE,
        Mistake(
            "the state is detached from the step before",
            "tinygrad_rnn.proofs.vanishing_memory.bptt",
            lambda right: lambda *args, **options: right(*args, **options, truncate=1),
        ),
        Mistake("h_t for h_{t−1} in ∂⁺", "tinygrad_rnn.cells.RNNCell.local", sees_late_state),
    ),
    witness=lambda: _noise(1 / 16, np.eye(6)),
)
def _curse_of_memory(λ: Any, noise: Array) -> Iterator[Comparison]:
    T, r, cell = len(noise), λ * λ, RNNCell(1, 1, "identity")
    last = np.concatenate([0 * noise[1:, :1], 1 + 0 * noise[:1, :1]])
    # h_T and ∂h_T/∂λ are linear in x: the columns of the noise give their coefficients.
    columns = noise.T[:, :, None]
    h = [unroll(cell, _unit(λ), x).final[0][0] for x in columns]
    s = [bptt(cell, _unit(λ), x, last, method="chain")["W_h"][0, 0] for x in columns]
    var_h, var_s = sum(c * c for c in h), sum(c * c for c in s)
    yield equal("Var h_T", var_h, (1 - r**T) / (1 - r))
    yield at_most("Var h_T ≤ 1/(1 − r)", var_h, 1 / (1 - r))
    top = 1 + r - T * T * r ** (T - 1) + (2 * T * T - 2 * T - 1) * r**T
    closed = (top - (T - 1) ** 2 * r ** (T + 1)) / (1 - r) ** 3
    yield equal("Var ∂h_T/∂λ", var_s, closed)
    yield at_most("Var ∂h_T/∂λ ≤ (1 + r)/(1 − r)³", var_s, (1 + r) / (1 - r) ** 3)
    if T >= 2 and bool(abs(λ[()]) >= Fraction(T - 1, T)):
        yield at_most("(T−1)T(2T−1)/96 ≤ Var ∂h_T/∂λ", (T - 1) * T * (2 * T - 1), 96 * var_s)
