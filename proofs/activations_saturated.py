"""How tanh and σ bend, how they saturate, and what the textbook formula 1 − y² loses there.

tanh'' and σ'' are bounded by constants that are attained; tanh' and σ' decay like e^(−2|a|) and
e^(−|a|), from above and from below. In floats 1 − y² is accurate in absolute terms only: once y has
rounded to 1 it is 0, which is wrong by 100 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.scalars.rounding import FUNCTION

from .activations import GAINS, RULES, derivative, ordered
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .numerics_cases import floats, in_balls
from .strategies import Draw, dyadics

Array = Any
BENT_MOST = 0.6584789484624085  # artanh(1/√3), where |tanh''| is largest


# ---- A-3 ----------------------------------------------------------------------------------------


@st.composite
def _points(draw: Draw, system: str) -> Case:
    """Draw points a and increments h ≠ 0."""
    gain, family = draw(st.sampled_from(GAINS))
    a, h = draw(dyadics(3)) * gain, draw(dyadics(3))
    return {"a": a, "h": np.where(h == 0, 1 / 16, h), "family": family}


@theorem(
    "A-3",
    "How much tanh and σ bend: |tanh''| ≤ 4/(3√3), |σ''| ≤ 1/(6√3)",
    statement=r"""For all $a,b\in\mathbb R$: $|\tanh''a|\le\frac4{3\sqrt3}$, with equality where
$\tanh^2a=\frac13$, and $|\sigma''(a)|=\frac18|\tanh''\frac a2|\le\frac1{6\sqrt3}$. So the
derivatives are Lipschitz, $|\tanh'b-\tanh'a|\le\frac4{3\sqrt3}|b-a|$ and
$|\sigma'(b)-\sigma'(a)|\le\frac1{6\sqrt3}|b-a|$: losses of one unit are smooth.""",
    hypotheses=("a is real",),
    proof="""With y = tanh a and s = y² ∈ [0, 1), y'' = −2y(1 − y²), so 27y''² = 108 s(1 − s)² =
16 − 4(4 − 3s)(1 − 3s)² ≤ 16, as 4 − 3s > 0, with equality at s = 1/3. σ(a) = (1 + tanh(a/2))/2
gives σ''(a) = tanh''(a/2)/8. The mean value theorem gives the Lipschitz bounds.""",
    sources=("S0-9", "S1-28"),
    cases=_points,
    systems=("field", "ball"),
    sensitivity=(
        Mistake("σ for σ', the prime missing", RULES + "d_sigmoid", lambda _: sigmoid),
        Mistake("1 − |y| for 1 − y²", RULES + "d_tanh", lambda _: lambda a: 1 - abs(np.tanh(a))),
    ),
    witness=lambda: {
        "a": np.array([BENT_MOST, -2 * BENT_MOST]),
        "h": np.full(2, 2.0**-20),
    },
)
def bending(a: Array, h: Array) -> Iterator[Comparison]:
    """The identity behind the bound; the bound, and how fast the derivatives change."""
    bend, y = derivative(derivative(np.tanh)), np.tanh(a)
    s = y * y
    yield equal("27y''² = 16 − 4(4 − 3s)(1 − 3s)²", 27 * bend(a) ** 2,
                16 - 4 * (4 - 3 * s) * (1 - 3 * s) ** 2)  # fmt: skip
    if not ordered(a):
        return
    for name, f, top, scale in (("tanh", np.tanh, 16, 27), ("σ", sigmoid, 1, 108)):
        second = derivative(derivative(f))(a)
        yield at_most(f"{name}''² ≤ its largest value", scale * second * second, top)
        change = derivative(f)(a + h) - derivative(f)(a)
        yield at_most(f"{name}' is Lipschitz", scale * change * change, top * h * h)
    yield equal("8σ''(2a) = tanh''(a)", 8 * derivative(derivative(sigmoid))(2 * a), bend(a))


# ---- A-4 ----------------------------------------------------------------------------------------


@st.composite
def _far_points(draw: Draw, system: str) -> Case:
    """Draw points, also so far out that tanh' underflows."""
    gain, family = draw(st.sampled_from((*GAINS, (256.0, "underflow"))))
    return {"a": draw(dyadics(3)) * gain, "family": family}


@theorem(
    "A-4",
    "Saturated units: tanh' decays like e^(−2|a|), σ' like e^(−|a|)",
    statement=r"""For all $a\in\mathbb R$: $e^{-2|a|}\le\tanh'a\le4e^{-2|a|}$ and
$\frac14e^{-|a|}\le\sigma'(a)\le e^{-|a|}$. The lower bounds are attained at $a=0$, the upper ones
in the limit $|a|\to\infty$: a saturated unit multiplies a gradient by $4e^{-2|a|}$.""",
    hypotheses=("a is real",),
    proof="""With e = e^(−2|a|) ∈ (0, 1], tanh' a = 1/cosh² a = 4/(e^|a| + e^(−|a|))² = 4e/(1 + e)²,
and 1 < (1 + e)² ≤ 4, with equality at e = 1, and (1 + e)² → 1 as e → 0. σ'(a) = tanh'(a/2)/4.""",
    sources=("S1-28", "S1-30"),
    cases=_far_points,
    systems=("ball",),
    sensitivity=(
        Mistake("σ' for tanh'", RULES + "d_tanh", lambda _: lambda a: sigmoid(a) * sigmoid(-a)),
        Mistake(
            "e^(−|a|) for e^(−2|a|)",
            RULES + "d_tanh",
            lambda _: lambda a: 4 * sigmoid(a) * sigmoid(-a),
        ),
        Mistake("σ for σ', the prime missing", RULES + "d_sigmoid", lambda _: sigmoid),
    ),
    witness=lambda: {"a": np.array([0.0, 18.0])},
)
def decay(a: Array) -> Iterator[Comparison]:
    """Both derivatives between two multiples of an exponential."""
    e, tanh_slope, slope = np.exp(-abs(a)), derivative(np.tanh)(a), derivative(sigmoid)(a)
    yield at_most("e^(−2|a|) ≤ tanh'", e * e, tanh_slope)
    yield at_most("tanh' ≤ 4e^(−2|a|)", tanh_slope, 4 * e * e)
    yield at_most("e^(−|a|)/4 ≤ σ'", e, 4 * slope)
    yield at_most("σ' ≤ e^(−|a|)", slope, e)


# ---- A-6 ----------------------------------------------------------------------------------------


@st.composite
def _floats(draw: Draw, system: str) -> Case:
    """Draw floats a, and by how many units u the tanh of a library may be off."""
    dtype = draw(st.sampled_from((np.float64, np.float32)))
    width = 8 * np.dtype(dtype).itemsize
    gain = draw(st.sampled_from((1.0, 8.0, 32.0)))
    a = draw(st.lists(st.floats(-1, 1, width=width), min_size=3, max_size=3))
    slip = draw(st.sampled_from((0, 0, 1, -1, 4, -4, 2**20, -(2**20))))
    return {
        "a": (np.array(a) * gain).astype(dtype),
        "slip": slip,
        "dtype": dtype,
        "family": f"{np.dtype(dtype).name}, {'tanh of NumPy' if slip == 0 else 'a worse one'}",
    }


def _single(right: Any) -> Any:
    return lambda a: right(np.asarray(a).astype(np.float32)).astype(float)


@theorem(
    "A-6",
    "1 − y² for tanh' is right to within units of u, but wrong by 100 % where y rounds to 1",
    statement=r"""Let $y$ be a float, $|y|\le1$, $|y-\tanh a|\le\kappa u$, with $u$ the unit
roundoff. Then $g=\mathrm{fl}(1-\mathrm{fl}(y^2))$ satisfies
$$|g-\tanh'a|\le(2\kappa+\tfrac34)u+\kappa^2u^2,$$ and the factor $2$ is sharp. In relative terms
this is $e^{2|a|}$ times as much (A-4): where $|y|=1$, as for the float nearest to $\tanh a$ if
$e^{2|a|}>4/u-1$, that is $|a|>19.07$ in double and $9.02$ in single precision, $g=0$, wrong by
100 %. The engine's $4e/(1+e)^2$, $e=e^{-2|a|}$, is within $12u\tanh'a+12\eta$ everywhere, $\eta$
the smallest positive float.""",
    hypotheses=("|y| ≤ 1", "rounding to nearest", "exp is accurate to 3 ulps"),
    proof="""|y² − tanh² a| = |y − t||y + t| ≤ κu(2 + κu) with t = tanh a, |t| < 1. Let p = fl(y²)
≤ 1. If p ≥ 1/2, then 1 − p is a float (Sterbenz), and |p − y²| ≤ u/2, half an ulp. If p < 1/2,
then |p − y²| ≤ u/4, and 1 − p ∈ (1/2, 1] is rounded by at most u/2. Either way 3u/4 (and u/2 if 1
− y·y is rounded once). For t → 1 and y = t − κu the error is near 2κu. If |y| = 1, g = 0. The
floats next to 1 are 1 − u and 1; tanh a rounds to 1 if 1 − tanh a = 2/(1 + e^(2|a|)) < u/2. For
the last claim let e have relative error ε, |ε| ≤ 6u. The logarithmic derivative of e/(1 + e)² is
(1 − e)/(1 + e), in [0, 1]; rounding 1 + e adds 2u, its square and the quotient u each: 10u and
terms of order u². Where e is subnormal the other operations are exact, and 4e is off by at most
12η.""",
    sources=("Higham 2002",),
    cases=_floats,
    systems=("ball",),
    sensitivity=(
        Mistake(
            "1 − y² in the engine's rule",
            RULES + "d_tanh",
            lambda _: lambda a: 1 - np.tanh(a) * np.tanh(a),
        ),
        Mistake("the rule in single precision", RULES + "d_tanh", _single),
    ),
    necessity=(
        # y = 1 + 2ju with 4j²u a little more than 1: fl(y²) is rounded up by nearly u.
        Necessity(
            "|y| ≤ 1",
            lambda: {
                "a": np.array([40.0]),
                "slip": 2 * math.ceil(math.sqrt(1.05 * 2.0**51)),
                "dtype": np.float64,
                "largest": 2.0,
            },
            system="ball",
        ),
    ),
    witness=lambda: {"a": np.array([20.0]), "slip": -(2**20), "dtype": np.float64},
)
def textbook_slope(a: Array, slip: int, dtype: Any, largest: float = 1.0) -> Iterator[Comparison]:
    """The float 1 − y² and the engine's tanh' against balls, at floats a."""
    a, u = floats(a, dtype), float(np.finfo(dtype).eps) / 2
    y = np.clip(np.tanh(a) + dtype(slip * u), -largest, largest)
    g = 1 - y * y

    def errors(a: Array, y: Array, g: Array, engine: Array) -> tuple[Array, ...]:
        t, true = np.tanh(a), 1 / (np.cosh(a) * np.cosh(a))
        return abs(y - t), abs(g - true), abs(engine - true), true

    off, error, engine_error, true = in_balls(errors, a, y, g, derivative(np.tanh)(a))
    yield at_most("|g − tanh'| ≤ (2κ + 3/4)u + κ²u²", error, 2 * off + 0.75 * u + off * off)
    rounded_away = abs(y) == 1
    yield equal("|y| = 1: wrong by 100 %", error[rounded_away], true[rounded_away])
    tiny = float(np.finfo(dtype).smallest_subnormal)
    yield at_most("the engine's tanh'", engine_error, FUNCTION * (u * true + tiny))
