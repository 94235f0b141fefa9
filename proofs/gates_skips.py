r"""Skips in time: a state that is added to (G-14), and a state that is read $d$ steps later (G-15).

$h_t = h_{t-1} + \varepsilon F(h_{t-1})$ keeps every step Jacobian near the identity; a skip of lag
$d$ opens paths of few factors. Vectors are rows, $J_t = \mathrm{diag}(f'(a_t)) W_h^\top$.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import comb
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt

from .cases import bounded, one_step
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME, SKIP, UNTRANSPOSED
from .norms import largest, principal_minors, within
from .strategies import Draw, dyadics
from .unrolled import product, step_jacobians, tape_jacobian

Array = Any


# ---- G-14 ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Residual:
    """h_t = h_{t−1} + ε (f(a_t) − λ h_{t−1}) with a cell's f(a_t): leaky for λ = 1."""

    cell: RNNCell
    ε: Any
    λ: int

    @property
    def H(self) -> int:
        return self.cell.H

    def step(self, params: Any, x_t: Array, state: Any) -> Any:
        ((f,), (h,)) = self.cell.step(params, x_t, state), state
        return (h + self.ε * (f - self.λ * h),)

    def jacobian(self, params: Any, x_t: Array, state: Any) -> Array:
        one = np.eye(self.H, dtype=int)
        return one + self.ε * (self.cell.jacobian(params, x_t, state) - self.λ * one)


@st.composite
def _residuals(draw: Draw, system: str) -> Case:
    """An RNN with ω ≥ ‖W_h‖₂, λ, and a power of two ε with εm < 1, m = λ + γω."""
    case = draw(bounded(system, N=1))
    λ = draw(st.integers(0, 1))
    m = λ + float(ACTIVATIONS[case["cell"].activation].lipschitz * case["omega"])
    largest_power = np.ceil(np.log2(1 / m)) - 1 if m else 0
    ε = 2.0 ** (largest_power - draw(st.integers(0, 2)))
    v = draw(dyadics(case["cell"].H))
    return {**case, "λ": λ, "ε": np.array(ε), "v": np.where(v.any(), v, 1.0)}


def _one_unit(w: float, ω: float, ε: float, f: str = "identity", T: int = 1) -> Case:
    return {
        **one_step([[w]], f, T=T),
        "omega": np.array(ω),
        "ε": np.array(ε),
        "λ": 0,
        "v": np.ones(1),
    }


@theorem(
    "G-14",
    "Adding εF to the state keeps all singular values between (1 − εm)ⁿ and (1 + εm)ⁿ",
    statement=r"""Let $h_t = h_{t-1} + \varepsilon F_t(h_{t-1})$ with $\|\partial F_t/\partial h\|_2
\le m$ along the trajectory, $\varepsilon \ge 0$ and $\varepsilon m \le 1$. Then every singular
value of $P = \partial h_t/\partial h_i$, $n = t - i$, is between $(1 - \varepsilon m)^n$ and $(1 +
\varepsilon m)^n$. For $F_t(h) = f(x_t W_x + h W_h + b) - \lambda h$ with $|f'| \le \gamma$ and
$\lambda \ge 0$ one may take $m = \lambda + \gamma\|W_h\|_2$; $\lambda = 1$ is the leaky unit $h_t =
(1 - \varepsilon) h_{t-1} + \varepsilon f(a_t)$. Both bounds are attained.""",
    hypotheses=(
        "m ≥ ‖∂F/∂h‖: γ ≥ sup |f'| and ω ≥ ‖W_h‖₂ in m = λ + γω",
        "εm ≤ 1, for the lower bound",
    ),
    proof="""J_t = I + εA with ‖A‖ ≤ m, so ‖v‖ − εm‖v‖ ≤ ‖J_t v‖ ≤ ‖v‖ + εm‖v‖ by the triangle
inequality. Induction gives (1 − εm)ⁿ‖v‖ ≤ ‖Pv‖ ≤ (1 + εm)ⁿ‖v‖, the left side because 1 − εm ≥ 0.
The extremes of ‖Pv‖/‖v‖ are the extreme singular values. ∂F/∂h = diag(f'(a_t)) W_hᵀ − λI has a norm
of at most γ‖W_h‖ + λ. W_h = ωI and W_h = −ωI, linear and with λ = 0, attain the bounds.""",
    sources=("S0-13", "S0-14"),
    cases=_residuals,
    systems=("rational", "ball"),
    necessity=(
        Necessity("m: ω is less than ‖W_h‖", lambda: _one_unit(1.0, 0.5, 0.5)),
        Necessity("m: γ = 1/2 for the identity", lambda: {**_one_unit(1.0, 1.0, 0.5), "halved": 1}),
        Necessity("εm ≤ 1: εm = 3 and J = 0", lambda: _one_unit(-1.0, 3.0, 1.0)),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        SKIP,
        COUNTED_TWICE,
        UNTRANSPOSED,
    ),
    witness=lambda: _one_unit(1.0, 1.0, 0.5, T=3),
)
def _near_the_identity(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    omega: Any,
    ε: Any,
    λ: int,
    v: Array,
    halved: int = 0,
) -> Iterator[Comparison]:
    residual, n = _Residual(cell, ε, λ), len(x)
    m = λ + ACTIVATIONS[cell.activation].lipschitz * omega / 2**halved
    (P,) = product(step_jacobians(residual, params, x, state))
    low, high = (1 - ε * m) ** n, (1 + ε * m) ** n
    yield equal("the engine's = the closed form", tape_jacobian(residual, params, x, state)[0], P)
    yield at_most("σ_max(P) ≤ (1 + εm)ⁿ", *within("2", P, high))
    gap = P.T @ P - low * low * np.eye(cell.H, dtype=P.dtype)
    yield at_most("(1 − εm)ⁿ ≤ σ_min(P)", 0, np.array(principal_minors(gap)))
    length, image = v @ v, ((P @ v) ** 2).sum()
    yield at_most("‖Pv‖² ≤ (1 + εm)²ⁿ ‖v‖²", image, high * high * length)
    yield at_most("(1 − εm)²ⁿ ‖v‖² ≤ ‖Pv‖²", low * low * length, image)


# ---- G-15 ----------------------------------------------------------------------------------------


@st.composite
def _lags(draw: Draw, system: str) -> Case:
    """A lag, a time, coefficients of any sign, and 0 ≤ p, q ≤ 1."""
    d = draw(st.integers(2, 3))
    return {
        "d": d,
        "T": draw(st.integers(1, 2 * d + 1)),
        "a": np.array(draw(dyadics(()))),
        "b": np.array(draw(dyadics(()))),
        "p": np.array(draw(st.integers(0, 8)) / 8),
        "q": np.array(draw(st.sampled_from((0.25, 0.5, 1.0)))),
        "x": draw(dyadics(2 * d + 1)),
    }


def _lag(**changed: Any) -> Case:
    numbers = {"a": np.array(0.5), "b": np.array(0.5), "p": np.array(0.5), "q": np.array(0.5)}
    return {"d": 2, "T": 2, **numbers, "x": np.zeros(5), **changed}


def _delay_line(a: Any, b: Any, d: int) -> Array:
    """Return W_h of the linear RNN of (h_t, h_{t−1}, …, h_{t−d+1}): the first unit computes."""
    W = np.eye(d, k=1, dtype=np.asarray(a).dtype) + 0 * a
    W[0, 0], W[d - 1, 0] = a, b
    return W


def _network(a: Any, b: Any, d: int, x: Array) -> tuple[Any, ...]:
    """Return the cell, parameters, inputs and zero state whose h_t[0] is the scalar h_t."""
    zero = 0 * x[0]
    W_x, W_h = np.eye(1, d, dtype=x.dtype), _delay_line(a, b, d)
    params = {"W_x": W_x, "W_h": W_h, "b": np.repeat(zero, d)}
    return RNNCell(1, d, "identity"), params, x[:, None, None], (np.repeat(zero, d)[None],)


def _rows(a: Any, b: Any, d: int, x: Array) -> Array:
    """Return ∂h_t/∂(h_0, h_{−1}, …, h_{1−d}), (T, d), by the closed forms."""
    P, rows = np.eye(d, dtype=x.dtype), []
    for (J,) in step_jacobians(*_network(a, b, d, x)):
        P = J @ P
        rows.append(P[0])
    return np.array(rows, dtype=x.dtype)


def _row_by_engine(a: Any, b: Any, d: int, x: Array) -> Array:
    """Return the last of these rows."""
    cell, params, inputs, start = _network(a, b, d, x)
    d_outputs = np.zeros((len(x), 1, d), dtype=x.dtype) + 0 * x[0]
    d_outputs[-1, 0, 0] = 1 + 0 * x[0]
    (pulled,) = bptt(cell, params, inputs, d_outputs, start)["state"]
    return pulled[0]


def _paths(a: Any, b: Any, d: int, t: int) -> Any:
    """Return the sum over the paths of j skips and t − dj single steps, in any order."""
    return sum(comb(t - d * j + j, j) * a ** (t - d * j) * b**j for j in range(t // d + 1))


def _fewest(t: int, d: int) -> int:
    """Return the number of factors of the shortest path: skips as long as they fit."""
    return t // d + t % d


@theorem(
    "G-15",
    "A skip of lag d makes a gradient a sum over paths, and its decay d times slower",
    statement=r"""Let $h_t = a h_{t-1} + b h_{t-d} + x_t$, $d \ge 2$, where $h_{-1}, \ldots,
h_{1-d}$ do not depend on $h_0$, and $g_t = \partial h_t/\partial h_0$. (a) $g_t =
\sum_{j=0}^{\lfloor t/d \rfloor} \binom{t - dj + j}{j} a^{t-dj} b^j$, and $\partial h_t/\partial
h_{-s} = b\,g_{t-d+s}$ for $0 < s < d$, with $g_r = 0$ for $r < 0$. The shortest of the paths has
$\lfloor t/d \rfloor + (t \bmod d)$ factors, against $t$ without the skip. (b) If $a, b \ge 0$ and
$a + b = q \le 1$ then $g_t \le q^{\lceil t/d \rceil}$, and $g_t \ge \binom nk a^{t - dk} b^k$ with
$k = \lfloor t/d \rfloor$ and $n = k + (t \bmod d)$. (c) If $a, b \ge 0$ and $a + b = 1$ then $g_t +
b\,(g_{t-1} + \cdots + g_{t-d+1}) = 1$ for all $t \ge 0$: of any $d$ gradients in succession the
largest is at least $1/(1 + (d-1)b)$, and so it never vanishes.""",
    hypotheses=(
        "the values before h_0 do not depend on it",
        "(b) a, b ≥ 0",
        "(b) a + b ≤ 1",
        "(c) a + b = 1",
    ),
    proof="""Differentiating, g_t = a g_{t−1} + b g_{t−d} with g_0 = 1 and g_r = 0 for r < 0. (a) So
g_t is the sum of the weights of all ways to write t as an ordered sum of 1s, of weight a, and ds,
of weight b: with j of the ds there are t − dj + j summands, whose order is chosen in comb(t − dj +
j, j) ways. Their number t − (d − 1)j is least for the largest j. Only h_{d−s} reads h_{−s}, with
the factor b, and what is added to it comes to h_t with the factor g_{t−d+s}. (b) All terms are
nonnegative, and the lower bound is the one of the largest j. By induction g_t ≤ a q^⌈(t−1)/d⌉ + b
q^⌈(t−d)/d⌉ ≤ (a + b) q^{⌈t/d⌉−1}, as q ≤ 1 and both exponents are at least ⌈t/d⌉ − 1 (if t < d the
second term is 0). (c) The left side is 1 for t = 0. From t − 1 to t it grows by g_t − g_{t−1} + b
g_{t−1} − b g_{t−d} = g_t − a g_{t−1} − b g_{t−d} = 0. It is at most (1 + (d − 1)b) max g.""",
    sources=("S0-13", "S1-33"),
    cases=_lags,
    systems=("rational",),
    necessity=(
        Necessity(
            "the values before h_0: all of them are h_0, as in a padded start",
            lambda: _lag(padded=True),
        ),
        Necessity("a, b ≥ 0: a = −1/2, b = 1", lambda: _lag(p=np.array(-1.0), T=4)),
        Necessity("a + b ≤ 1: 2", lambda: _lag(p=np.array(1.0), q=np.array(2.0))),
        Necessity("a + b = 1: 1/2", lambda: _lag(total=Fraction(1, 2))),
    ),
    sensitivity=(
        SKIP,
        COUNTED_TWICE,
        UNTRANSPOSED,
        Mistake(
            "⌈t/d⌉ factors on the shortest path",
            "tinygrad_rnn.proofs.gates_skips._fewest",
            lambda right: lambda t, d: -(-t // d),
        ),
        Mistake(
            "W for Wᵀ: the delay line runs backwards",
            "tinygrad_rnn.proofs.gates_skips._delay_line",
            lambda right: lambda a, b, d: right(a, b, d).T.copy(),
        ),
    ),
    witness=lambda: _lag(a=np.array(0.0), b=np.array(1.0), p=np.array(0.0), T=4),
)
def _skip(
    d: int,
    T: int,
    a: Any,
    b: Any,
    p: Any,
    q: Any,
    x: Array,
    total: Any = 1,
    padded: bool = False,
) -> Iterator[Comparison]:
    def gradients(a: Any, b: Any) -> list[Any]:
        found = _rows(a, b, d, x[:T])
        return list(found.sum(axis=1) if padded else found[:, 0])

    a, b, p, q = a[()], b[()], p[()], q[()]
    closed = [_paths(a, b, d, t) for t in range(1, T + 1)]
    yield equal("g_t is the sum over the paths", np.array(gradients(a, b)), np.array(closed))
    by_engine = _row_by_engine(a, b, d, x[:T])
    earlier = [b * _paths(a, b, d, T - d + s) for s in range(1, d)]
    yield equal("g_T and ∂h_T/∂h_{−s} by the engine", by_engine, np.array([closed[-1], *earlier]))

    a, b = q * p, q * (1 - p)
    for t, g_t in enumerate(gradients(a, b), 1):
        yield at_most("g_t ≤ q^⌈t/d⌉", g_t, q ** (-(-t // d)))
        k, n = t // d, _fewest(t, d)
        shortest = comb(n, k) * a ** (n - k) * b**k
        yield at_most("the shortest paths alone ≤ g_t", shortest, g_t)

    a, b = total * p, total * (1 - p)
    kept = [1, *gradients(a, b)]
    for t in range(T + 1):
        recent = kept[max(0, t - d + 1) : t + 1]
        yield equal("g_t + b(g_{t−1} + ⋯) = 1", recent[-1] + b * sum(recent[:-1]), 1)
        yield at_most("1 ≤ (1 + (d − 1)b) max g", 1, (1 + (d - 1) * b) * largest(np.array(recent)))
