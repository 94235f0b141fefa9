r"""Random initial weights: which variance keeps signals and gradients, and what it cannot promise.

These claims are about distributions. Each case draws weights from a seed by the library's rules and
computes the exact p-values of statistics whose law the theorem states. A case fails by chance with
a probability of at most $\alpha$, up to the rounding of the statistics. Vectors are rows, $y =
vW$, and $W$ has shape $(n, m)$, fan-in by fan-out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import init
from tinygrad_rnn.cells import RNNCell

from .catalogue import Case, Comparison, Mistake, Necessity, theorem
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, SKIP
from .p_values import chi_square_p, fair_coin_p, hoeffding_p, none_is_unlikely
from .strategies import Draw

Array = Any
FALSE_ALARM = 1e-9


def ratio(y: Array, v: Array, variance: float) -> float:
    """Return ‖y‖²/(variance ‖v‖²)."""
    return float((y @ y) / (variance * (v @ v)))


@st.composite
def seeds(draw: Draw, system: str) -> Case:
    """Draw a seed and a gain σ."""
    gain = draw(st.sampled_from((0.5, 1.0, 2.0)))
    return {"seed": draw(st.integers(0, 2**32 - 1)), "gain": gain}


def seeded(**changed: Any) -> Case:
    """Return one seed, gain 1."""
    return {"seed": 0, "gain": 1.0, **changed}


# ---- I-3 -----------------------------------------------------------------------------------------


def _one_column(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    column: Array = init.lecun(rng, (shape[0], 1), gain, **kind)
    return column + np.zeros(shape)


def rarely_large(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    """One entry in 10⁶ is large, the others are small: the variance of lecun, with heavy tails."""
    large = 1e3 * math.sqrt(1 - 1e-6) * (rng.integers(10**6, size=shape) == 0)
    small = 1e-3 * rng.standard_normal(shape)
    return gain / math.sqrt(shape[0]) * (large * rng.choice((-1, 1), shape) + small)


def _shifted(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    """The second moment is that of lecun, but it is all mean."""
    return gain / math.sqrt(shape[0]) * np.ones(shape)


def _too_wide(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    """The variance without the division by n."""
    return init.lecun(rng, shape, gain * math.sqrt(shape[0]), **kind)


@theorem(
    "I-3",
    "The variance 1/fan-in keeps the mean square of a signal",
    statement=r"""Let the entries of $W$, $n \times m$, be independent with mean 0 and variance
$\sigma^2/n$, and $v$, $u$ fixed rows of $n$ and $m$ numbers. Then $E\|vW\|^2 = \frac mn \sigma^2
\|v\|^2$, so that the mean square of an entry is $\sigma^2$ times that of $v$, and $E\|Wu^\top\|^2 =
\sigma^2\|u\|^2$. If the entries are Gaussian, $\frac{n\|vW\|^2}{\sigma^2\|v\|^2} \sim \chi^2_m$ and
$\frac{n\|Wu^\top\|^2}{\sigma^2\|u\|^2} \sim \chi^2_n$; with Glorot's variance $2\sigma^2/(n+m)$ the
same with $(n+m)/2$ for $n$ in the numerators. If they are bounded by $a$, the average of the $m$
entries of $vW$ squared is off its mean by $r a^2\|v\|_1^2$ or more with probability at most
$2e^{-2mr^2}$; uniform entries have $a^2 = 3\sigma^2/n$.""",
    hypotheses=(
        "the entries of W are independent",
        "their mean is 0",
        "their variance is σ²/n",
        "for the law, they are Gaussian",
        "v and u do not depend on W (see I-4 and I-5)",
    ),
    proof="""y = vW has the entries y_j = Σ_i v_i W_ij of mean 0 and, the terms being independent of
mean 0, of variance Σ_i v_i² σ²/n = σ²‖v‖²/n. Summing E y_j² over the m columns gives the first
claim; the second is the same of rows. Different columns are independent, and sums of independent
Gaussians are Gaussian: the y_j √n/(σ‖v‖) are m independent standard normal numbers, whose squares
add up to χ²_m by definition. |y_j| ≤ a‖v‖₁ puts y_j² into [0, a²‖v‖₁²], and Hoeffding's inequality
for m independent numbers is the last claim. The variance of a number uniform on [−a, a] is
a²/3.""",
    sources=(
        "S1-31",
        "LeCun, Bottou, Orr & Müller 1998",
        "Glorot & Bengio 2010",
        "Hoeffding 1963",
    ),
    cases=seeds,
    systems=(),
    false_alarm=FALSE_ALARM,
    necessity=(
        Necessity("independent: all columns are one", lambda: seeded(lecun=_one_column)),
        Necessity("mean 0: all entries are one number", lambda: seeded(lecun=_shifted, seed=1)),
        Necessity("variance σ²/n: σ²", lambda: seeded(lecun=_too_wide)),
        Necessity("Gaussian: seldom large", lambda: seeded(lecun=rarely_large)),
        Necessity("v does not depend on W: v is singular", lambda: seeded(follow=True)),
    ),
    sensitivity=(
        Mistake(
            "fan-out for fan-in",
            "tinygrad_rnn.init.lecun",
            lambda right: (
                lambda rng, shape, gain, **kind: right(rng, shape[::-1], gain, **kind).T.copy()
            ),
        ),
        Mistake(
            "uniform on ± the standard deviation",
            "tinygrad_rnn.init._independent",
            lambda right: (
                lambda rng, shape, variance, kind: right(
                    rng, shape, variance / 3 if kind == "uniform" else variance, kind
                )
            ),
        ),
        Mistake(
            "the gain is not squared",
            "tinygrad_rnn.init._independent",
            lambda right: (
                lambda rng, shape, variance, kind: right(rng, shape, math.sqrt(variance), kind)
            ),
        ),
        Mistake(
            "Glorot: 1/(n + m) for 2/(n + m)",
            "tinygrad_rnn.init.glorot",
            lambda right: (
                lambda rng, shape, gain, **kind: right(rng, shape, gain, **kind) / math.sqrt(2)
            ),
        ),
    ),
)
def _mean_square(
    seed: int, gain: float, lecun: Any = None, follow: bool = False
) -> Iterator[Comparison]:
    rng, n, m = np.random.default_rng(seed), 40, 400
    cell = RNNCell(n, m, "identity")
    start = {name: np.zeros(shape) for name, shape in cell.shapes.items()}
    v, u = rng.standard_normal(n), rng.standard_normal(m)
    rules = {
        "lecun": (lecun or init.lecun, gain**2 / n),
        "glorot": (init.glorot, gain**2 * 2 / (n + m)),
    }
    p = {}
    for name, (rule, variance) in rules.items():
        for kind in ("normal", "uniform"):
            W_x = partial(rule, gain=gain, distribution=kind)
            params = init.redraw(cell, start, rng, W_x=W_x)
            x = v if kind == "normal" else np.eye(n)[0]  # where ‖x‖₁ = ‖x‖, the bound is best
            if follow:
                x = np.linalg.svd(params["W_x"])[0][:, 0]
            state = (np.zeros((1, m)),)
            y = cell.step(params, x[None], state)[0][0]
            pulled = cell.local(params, x[None], state, (u[None],))["x"][0]
            if kind == "normal":
                p[f"‖vW‖², {name}"] = chi_square_p(ratio(y, x, variance), m)
                p[f"‖Wu‖², {name}"] = chi_square_p(ratio(pulled, u, variance), n)
            else:
                top = float(3 * variance * np.abs(x).sum() ** 2)
                mean = float(variance * (x @ x))
                p[f"mean (vW)², uniform {name}"] = hoeffding_p(y * y, mean, top)
    yield from none_is_unlikely(p, FALSE_ALARM)


# ---- I-4 -----------------------------------------------------------------------------------------


def _positive(rng: Any, shape: Any, gain: float) -> Array:
    return np.abs(init.he(rng, shape, gain))


def _repeated(rng: Any, shape: Any, gain: float) -> Array:
    """All columns are one."""
    return init.he(rng, (shape[0], 1), gain).repeat(shape[1], axis=1)


def _idle(rng: Any, shape: Any, gain: float) -> Array:
    """Nine columns in ten are zero."""
    return init.he(rng, shape, gain) * (rng.integers(10, size=shape[1]) == 0)


def _he_rarely_large(rng: Any, shape: Any, gain: float) -> Array:
    return rarely_large(rng, shape, gain * math.sqrt(2))


@theorem(
    "I-4",
    "A relu halves the mean square of a signal and of every tangent, so the variance is 2/fan-in",
    statement=r"""Let $h = \mathrm{relu}(vW)$, the columns $w_j$ of $W$, $n \times m$, be
independent with $w_j \sim -w_j$ and $P(v w_j = 0) = 0$, their entries independent of variance
$\sigma^2/n$, and $D = \mathrm{diag}(\mathrm{relu}'(vW))$. Then for every row $u$, $u = v$ or not,
$$E\|uWD\|^2 = \tfrac12 E\|uW\|^2 = \tfrac{m}{2n}\sigma^2\|u\|^2, \qquad vWD = h,$$
which $\sigma^2 = 2$ keeps the mean square of. The number $K$ of active units is binomial,
$B(m, \frac12)$. If the entries are Gaussian then $\frac{n\|uWD\|^2}{\sigma^2\|u\|^2}$ given $K$
has the law $\chi^2_K$. Cotangents are then not halved, but would be if $D$ did not depend on
$W$: for every row $\delta$
$$E\|\delta D W^\top\|^2 = \sigma^2 \Big(\tfrac12 \|\delta\|^2 + \frac{(\sum_j \delta_j)^2 -
\|\delta\|^2}{2\pi n}\Big);$$
of the part $r$ of $\delta DW^\top$ perpendicular to $v$, $\frac{n\|r\|^2}{\sigma^2\|\delta D\|^2}$
given $D$ has the law $\chi^2_{n-1}$.""",
    hypotheses=(
        "w_j ~ −w_j",
        "P(v w_j = 0) = 0",
        "the columns are independent",
        "the variance is σ²/n",
        "for the laws, the entries are Gaussian",
        "u, v and δ do not depend on W: in an RNN, the first step",
    ),
    proof="""Let s_j = 1 if v w_j > 0, else 0. Changing the sign of w_j changes s_j into 1 − s_j, up
to the event v w_j = 0 of probability 0, and does not change (u w_j)². Since w_j ~ −w_j, E s_j φ((u
w_j)²) = E (1 − s_j) φ((u w_j)²) = ½ E φ((u w_j)²) for every bounded or nonnegative φ: s_j is a fair
coin and independent of (u w_j)². With φ(y) = y, E‖uWD‖² = Σ_j E s_j (u w_j)² = ½ Σ_j E(u w_j)²,
which I-3 gives. relu(a) = relu'(a) a gives vWD = h. The columns being independent, K is B(m, ½),
and given s, with K ones, the (u w_j)² with s_j = 1 are K independent numbers with their old law; if
the entries are Gaussian, n(u w_j)²/(σ²‖u‖²) is the square of a standard normal number (I-3).
Then also w_j = σ/√n (z_j v̂ + w'_j) with v̂ = vᵀ/‖v‖, z_j standard normal, and w'_j standard normal
in the n − 1 dimensions perpendicular to v and independent of z_j, hence of s_j, which says z_j > 0.
Given s, √n r/σ = Σ_j δ_j s_j w'_j is Gaussian with the variance Σ_j δ_j² s_j = ‖δD‖² in each of
these dimensions. Finally E‖Σ_j δ_j s_j w_j‖² = Σ_j δ_j² E s_j‖w_j‖² + Σ_{j≠k} δ_j δ_k E(s_j w_j) ·
E(s_k w_k), where E s_j‖w_j‖² = σ²/2, as s_j is independent of ‖w_j‖ too, and E(s_j w_j) = σ/√n v̂ E
max(z_j, 0) = σ/√(2πn) v̂.""",
    sources=("S1-31", "He, Zhang, Ren & Sun 2015"),
    cases=seeds,
    systems=(),
    false_alarm=FALSE_ALARM,
    necessity=(
        Necessity("w_j ~ −w_j: positive entries", lambda: seeded(rule=_positive)),
        Necessity("P(v w_j = 0) = 0: columns of zeros", lambda: seeded(rule=_idle)),
        Necessity("independent columns: all are one", lambda: seeded(rule=_repeated)),
        Necessity("Gaussian: seldom large", lambda: seeded(rule=_he_rarely_large)),
        Necessity("variance 2/n: 1/n", lambda: seeded(rule=init.lecun)),
        Necessity("v does not depend on W: v is a sum of columns", lambda: seeded(follow=True)),
    ),
    sensitivity=(
        NO_DIAGONAL,
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "σ² = 1: the relu forgotten",
            "tinygrad_rnn.init.he",
            lambda right: lambda rng, shape, gain: right(rng, shape, gain / math.sqrt(2)),
        ),
    ),
)
def _half(seed: int, gain: float, rule: Any = None, follow: bool = False) -> Iterator[Comparison]:
    rng, n = np.random.default_rng(seed), 600
    cell = RNNCell(1, n, "relu")
    start = {name: np.zeros(shape) for name, shape in cell.shapes.items()}
    params = init.redraw(cell, start, rng, W_h=partial(rule or init.he, gain=gain))
    v, u = rng.standard_normal(n), rng.standard_normal(n)
    if follow:
        v = params["W_h"].sum(axis=1)
    at = params, np.zeros((1, 1)), (v[None],)
    h, J = cell.step(*at)[0][0], cell.jacobian(*at)[0]
    on, variance = h > 0, 2 * gain**2 / n
    active, delta = int(on.sum()), rng.standard_normal(n)
    pulled = delta @ J
    perpendicular = pulled - (pulled @ v) / (v @ v) * v
    yield from none_is_unlikely(
        {
            "the number of active units": fair_coin_p(active, n),
            "‖h‖²": chi_square_p(ratio(h, v, variance), active),
            "‖J u‖²": chi_square_p(ratio(J @ u, u, variance), active),
            "‖r‖²": chi_square_p(ratio(perpendicular, delta * on, variance), n - 1),
        },
        FALSE_ALARM,
    )
