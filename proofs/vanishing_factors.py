"""Factors below one need not vanish, factors above one need not explode, and one unit's threshold.

"If gradients < 1 … if gradients > 1 …", the notes say of the factors of the product. It takes a
bound that is *uniform*: factors that tend to one fast enough multiply to a finite limit that is not
zero. For one sigmoid unit the threshold of the weight is 4, the reciprocal of sup σ'.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .evidence import Box
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME
from .strategies import Draw
from .unrolled import product

Array = Any


# ---- V-7 ----------------------------------------------------------------------------------------


def _factors(n: int, tied: bool = False, power: int = 2) -> Case:
    """The number of factors, whether one tanh unit has them, and the power in 1 ∓ 1/k²."""
    return {
        "one": np.array(1.0),
        "π": Box(np.array(np.pi), np.array(2.0**-52)),
        "n": n,
        "tied": tied,
        "power": power,
    }


@st.composite
def _lengths(draw: Draw, system: str) -> Case:
    n = draw(st.integers(1, 24))
    return _factors(n, tied=system != "rational" and draw(st.booleans()))


def _untied(c: Array) -> Any:
    """Return ∂h_n/∂h_0 of the linear unit h_k = c_k h_{k−1}, whose weight changes with time."""
    cell, zero = RNNCell(1, 1, "identity"), 0 * c[:1]
    params = {"W_x": zero[None], "b": zero}
    steps = [
        cell.jacobian({**params, "W_h": c_k.reshape(1, 1)}, zero[None], (zero[None],))[0]
        for c_k in c.reshape(-1, 1)
    ]
    return product(np.stack(steps))[0, 0]


def _pinned(c: Array, w: int) -> Any:
    """Return ∂h_n/∂h_0 of one tanh unit of weight w, whose inputs pin w tanh'(a_k) = c_k.

    That is h_k = √(1 − c_k/w), which the input x_k = artanh h_k − w h_{k−1} brings about.
    """
    h = np.sqrt(1 - c / w)
    a = np.log((1 + h) / (1 - h)) / 2
    x = a - w * np.append(0 * h[:1], h[:-1])
    one = 1 + 0 * h[:1, None]
    params = {"W_x": one, "W_h": w * one, "b": 0 * one[0]}
    d_outputs = np.concatenate([0 * one] * (len(c) - 1) + [one])
    cell = RNNCell(1, 1, "tanh")
    gradients = bptt(cell, params, x[:, None], d_outputs, (0 * one[0],), method="chain")
    return gradients["state"][0][0]


@theorem(
    "V-7",
    "Factors below one need not vanish, and factors above one need not explode",
    statement=r"""There are recurrent units with $\partial h_k/\partial h_{k-1} = 1 - (k+1)^{-2} <
1$ for all $k$, and such with $\partial h_k/\partial h_{k-1} = 1 + k^{-2} > 1$: a linear unit with
these weights, and a $\tanh$ unit with one weight ($w = 1$, $w = 3$) driven by suitable inputs.
Their products neither vanish nor explode:
$$\prod_{k=1}^{n}\Big(1 - \frac1{(k+1)^2}\Big) = \frac{n+2}{2(n+1)} \downarrow \frac12, \qquad
P_n = \prod_{k=1}^n \Big(1 + \frac1{k^2}\Big) \uparrow \frac{\sinh\pi}{\pi}, \quad
\frac{n+2}{n+1}\,P_n \le \frac{\sinh\pi}{\pi} \le \frac{n+1}{n}\,P_n.$$""",
    hypotheses=("The factors tend to 1 like k⁻² (like k⁻¹ will not do)",),
    proof="""1 − (k + 1)^{−2} = [k/(k + 1)]·[(k + 2)/(k + 1)]: the first factors telescope to
1/(n + 1), the second to (n + 2)/2. Euler's product sin(πz) = πz Π(1 − z²/k²) at z = i gives the
limit of P_n. The rest of the product is R_n = Π_{k>n}(1 + 1/k²). As 1 + 1/k² ≤ k²/(k² − 1) =
[k/(k − 1)]·[k/(k + 1)], R_n ≤ (n + 1)/n; as 1 + 1/k² ≥ (k + 1)²/(k(k + 2)) =
[(k + 1)/k]·[(k + 1)/(k + 2)], R_n ≥ (n + 2)/(n + 1). A tanh unit has the factor w(1 − h_k²), which
is c_k if h_k² = 1 − c_k/w, possible for 0 < c_k ≤ w; the input artanh h_k − w h_{k−1} leads to
h_k.""",
    sources=("S4-4", "S4-9", "S1-30", "Euler 1748"),
    cases=_lengths,
    systems=("rational", "ball"),
    necessity=(Necessity("deviations like k⁻²", lambda: _factors(4, power=1)),),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        COUNTED_TWICE,
        Mistake(
            "the last step's Jacobian left out",
            "tinygrad_rnn.proofs.vanishing_factors.product",
            lambda right: lambda jacobians: right(jacobians[:-1]),
        ),
    ),
    witness=lambda: _factors(24),
)
def _factors_that_tend_to_one(
    one: Any, π: Any, n: int, tied: bool, power: int
) -> Iterator[Comparison]:
    k = np.arange(1, n + 1) * one
    below, above = 1 - 1 / (k + 1) ** power, 1 + 1 / k**power
    yield at_most("1/2 ≤ Π(1 − 1/(k+1)²)", one, 2 * np.prod(below))
    for c, w in ((below, 1), (above, 3)):
        through = _pinned(c, w) if tied else _untied(c)
        yield equal("∂h_n/∂h_0 = Π c_k", through, np.prod(c))
    yield equal("Π(1 − 1/(k+1)²) = (n+2)/(2n+2)", _untied(below), (n + 2) * one / (2 * n + 2))
    P = _untied(above)
    # Both bounds on the limit close in on it; where sinh is at hand, they are compared with it.
    low, high = P * (n + 2) / (n + 1), P * (n + 1) / n
    further = 1 + one / (n + 1) ** 2
    yield at_most("the lower bound increases", low, P * further * (n + 3) / (n + 2))
    yield at_most("the upper bound decreases", P * further * (n + 2) / (n + 1), high)
    if tied:
        limit = np.sinh(π) / π
        yield at_most("P_n (n+2)/(n+1) ≤ sinh(π)/π", low, limit)
        yield at_most("sinh(π)/π ≤ P_n (n+1)/n", limit, high)


# ---- V-8 ----------------------------------------------------------------------------------------


def _one_unit(w: Any, b: Any, h_0: Any, T: int) -> Case:
    numbers = {"w": w, "b": b, "h_0": h_0, "s": abs(w), "γ": 0.25, "v": w}
    return {name: np.array(number) for name, number in numbers.items()} | {"T": T}


@st.composite
def _one_units(draw: Draw, system: str) -> Case:
    """|w| ≤ s ≤ 4, any b, h_0 in [0, 1], in balls as boxes; and any weight v, often above 4.

    For boxes γ is a little more than 1/4, which σ' attains inside of some of them.
    """
    T, radius = draw(st.integers(1, 4)), np.array(0.12)  # of balls that reach not quite 1/8
    w, b = draw(st.integers(-30, 30)) / 8, draw(st.integers(-64, 64)) / 8
    h_0 = draw(st.integers(2, 14)) / 16
    boxes = {
        "w": Box(np.array(w), radius),
        "b": Box(np.array(b), radius),
        "h_0": Box(np.array(h_0), radius),
        "s": np.array(abs(w) + 1 / 8),
        "γ": np.array(0.25 + 2.0**-20),
    }
    family = draw(st.sampled_from(("box", "centre")))
    case = _one_unit(w, -w / 2, 0.5, T)
    if family == "box":
        case |= boxes
    return {**case, "v": np.array(draw(st.integers(-48, 96)) / 8), "family": family}


@theorem(
    "V-8",
    "One sigmoid unit explodes only where its weight exceeds 4",
    statement=r"""Let $h_t = \sigma(w h_{t-1} + b)$, $0 \le h_0 \le 1$, $|w| \le s$, $\gamma \ge
\sup\sigma' = \tfrac14$. Then
$$\Big|\frac{\partial h_T}{\partial h_0}\Big| \le (\gamma s)^T, \qquad
  \Big|\frac{\partial h_T}{\partial b}\Big|, \Big|\frac{\partial h_T}{\partial w}\Big|
  \le \gamma \sum_{k=0}^{T-1} (\gamma s)^k,$$
so that nothing explodes for $|w| \le 4$: with $\gamma = \tfrac14$ the first is at most $1$ and the
others at most $T/4$. The threshold is sharp. At $b = -w/2$, $h_0 = \tfrac12$ the unit rests, and
$\partial h_T/\partial h_0 = (w/4)^T$, $\partial h_T/\partial b = \tfrac14\sum_k (w/4)^k =
2\,\partial h_T/\partial w$ for every $w$: for $w > 4$ they grow without bound.""",
    hypotheses=("γ ≥ sup σ'", "s ≥ |w|", "|w| ≤ 4, for the bounds 1 and T/4", "0 ≤ h_0 ≤ 1"),
    proof="""∂h_t/∂h_{t−1} = w σ'(a_t) and 0 < σ' ≤ 1/4 (A-2), which bounds the product. By the
chain rule ∂h_T/∂b = Σ_t [Π_{i>t} w σ'(a_i)] σ'(a_t), and for ∂h_T/∂w the term of t has the
additional factor h_{t−1}, which is in [0, 1]. At b = −w/2 and h = 1/2 the preactivation is 0:
σ(0) = 1/2, σ'(0) = 1/4, and every bound on a factor is attained.""",
    sources=("S2-10", "S1-30", "Pascanu, Mikolov & Bengio 2013"),
    cases=_one_units,
    systems=("ball",),
    necessity=(
        Necessity(
            "γ ≥ sup σ'", lambda: _one_unit(4.0, -2.0, 0.5, 4) | {"γ": np.array(0.2)}, "ball"
        ),
        Necessity("s ≥ |w|", lambda: _one_unit(4.0, -2.0, 0.5, 4) | {"s": np.array(2.0)}, "ball"),
        Necessity("|w| ≤ 4", lambda: _one_unit(4.5, -2.25, 0.5, 4), "ball"),
        Necessity("0 ≤ h_0 ≤ 1", lambda: _one_unit(1.0, -2.0, 2.0, 1), "ball"),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        COUNTED_TWICE,
        Mistake(
            "σ' = 1 − y², as for tanh",
            "tinygrad_rnn.proofs.vanishing_factors.RNNCell",
            lambda right: lambda D, H, activation: right(D, H, "tanh"),
        ),
    ),
    witness=lambda: _one_unit(4.0, -2.0, 0.5, 4),
)
def _threshold_of_one_unit(
    w: Any, b: Any, h_0: Any, s: Any, γ: Any, v: Any, T: int
) -> Iterator[Comparison]:
    by_h, by_w, by_b = _one_unit_gradient(w, b, h_0, T)
    series = sum((γ * s) ** k for k in range(T))
    yield at_most("|∂h_T/∂h_0| ≤ (γs)ᵀ", abs(by_h), (γ * s) ** T)
    yield at_most("|∂h_T/∂b| ≤ γ Σ(γs)ᵏ", abs(by_b), γ * series)
    yield at_most("|∂h_T/∂w| ≤ γ Σ(γs)ᵏ", abs(by_w), γ * series)
    yield at_most("|∂h_T/∂h_0| ≤ 1", abs(by_h), 1)
    yield at_most("|∂h_T/∂b| ≤ γT", abs(by_b), T * γ)
    yield at_most("|∂h_T/∂w| ≤ γT", abs(by_w), T * γ)

    by_h, by_w, by_b = _one_unit_gradient(v, -v / 2, 1 / (2 + 0 * v), T)
    series = sum((v / 4) ** k for k in range(T))
    yield equal("at rest ∂h_T/∂h_0 = (w/4)ᵀ", by_h, (v / 4) ** T)
    yield equal("at rest ∂h_T/∂b = Σ(w/4)ᵏ/4", by_b, series / 4)
    yield equal("at rest ∂h_T/∂w = Σ(w/4)ᵏ/8", by_w, series / 8)


def _one_unit_gradient(w: Any, b: Any, h_0: Any, T: int) -> tuple[Any, Any, Any]:
    """Return the derivatives of h_T by h_0, w and b."""
    one = 1 + 0 * np.asarray(w).reshape(1, 1)
    params = {"W_x": 0 * one, "W_h": w * one, "b": b * one[0]}
    x = np.repeat(0 * one, T, axis=0)
    d_outputs = np.concatenate([x[1:], one])
    g = bptt(RNNCell(1, 1, "sigmoid"), params, x, d_outputs, (h_0 * one[0],), method="chain")
    return g["state"][0][0], g["W_h"][0, 0], g["b"][0]
