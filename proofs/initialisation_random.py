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
from tinygrad_rnn.recurrent import bptt

from .catalogue import Case, Comparison, Mistake, Necessity, equal, theorem
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, SKIP
from .p_values import chi_square_p, fair_coin_p, hoeffding_p, none_is_unlikely
from .strategies import Draw, dyadics
from .unrolled import product, step_jacobians

Array = Any
FALSE_ALARM = 1e-9


def _ratio(y: Array, v: Array, variance: float) -> float:
    """Return ‖y‖²/(variance ‖v‖²)."""
    return float((y @ y) / (variance * (v @ v)))


@st.composite
def _seeds(draw: Draw, system: str) -> Case:
    gain = draw(st.sampled_from((0.5, 1.0, 2.0)))
    return {"seed": draw(st.integers(0, 2**32 - 1)), "gain": gain}


def _seeded(**changed: Any) -> Case:
    return {"seed": 0, "gain": 1.0, **changed}


# ---- I-3 -----------------------------------------------------------------------------------------


def _one_column(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    column: Array = init.lecun(rng, (shape[0], 1), gain, **kind)
    return column + np.zeros(shape)


def _seldom(rng: Any, shape: Any, gain: float, **kind: Any) -> Array:
    """One entry in 10⁶ is not zero: the variance of lecun, with heavy tails."""
    return gain * 1e3 / math.sqrt(shape[0]) * (rng.integers(10**6, size=shape) == 0)


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
    cases=_seeds,
    systems=(),
    false_alarm=FALSE_ALARM,
    necessity=(
        Necessity("independent: all columns are one", lambda: _seeded(lecun=_one_column)),
        Necessity("mean 0: all entries are one number", lambda: _seeded(lecun=_shifted, seed=1)),
        Necessity("variance σ²/n: σ²", lambda: _seeded(lecun=_too_wide)),
        Necessity("Gaussian: mostly zeros", lambda: _seeded(lecun=_seldom)),
        Necessity("v does not depend on W: v is singular", lambda: _seeded(follow=True)),
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
                p[f"‖vW‖², {name}"] = chi_square_p(_ratio(y, x, variance), m)
                p[f"‖Wu‖², {name}"] = chi_square_p(_ratio(pulled, u, variance), n)
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


@theorem(
    "I-4",
    "A relu halves the mean square of a signal and of every tangent, so the variance is 2/fan-in",
    statement=r"""Let $h = \mathrm{relu}(vW)$, the columns $w_j$ of $W$, $n \times m$, be
independent with $w_j \sim -w_j$ and $P(v w_j = 0) = 0$, their entries independent of variance
$\sigma^2/n$, and $D = \mathrm{diag}(\mathrm{relu}'(vW))$. Then for every row $u$, $u = v$ or not,
$$E\|uWD\|^2 = \tfrac12 E\|uW\|^2 = \tfrac{m}{2n}\sigma^2\|u\|^2, \qquad vWD = h,$$
which $\sigma^2 = 2$ keeps the mean square of. The number $K$ of active units is binomial,
$B(m, \frac12)$. If the entries are Gaussian then $\frac{n\|uWD\|^2}{\sigma^2\|u\|^2}$ given $K$
has the law $\chi^2_K$.""",
    hypotheses=(
        "w_j ~ −w_j",
        "P(v w_j = 0) = 0",
        "the columns are independent",
        "the variance is σ²/n",
        "u and v do not depend on W: in an RNN, the first step",
    ),
    proof="""Let s_j = 1 if v w_j > 0, else 0. Changing the sign of w_j changes s_j into 1 − s_j, up
to the event v w_j = 0 of probability 0, and does not change (u w_j)². Since w_j ~ −w_j, E s_j φ((u
w_j)²) = E (1 − s_j) φ((u w_j)²) = ½ E φ((u w_j)²) for every bounded or nonnegative φ: s_j is a fair
coin and independent of (u w_j)². With φ(y) = y, E‖uWD‖² = Σ_j E s_j (u w_j)² = ½ Σ_j E(u w_j)²,
which I-3 gives. relu(a) = relu'(a) a gives vWD = h. The columns being independent, K is B(m, ½),
and given s, with K ones, the (u w_j)² with s_j = 1 are K independent numbers with their old law; if
the entries are Gaussian, n(u w_j)²/(σ²‖u‖²) is the square of a standard normal number (I-3).""",
    sources=("S1-31", "He, Zhang, Ren & Sun 2015"),
    cases=_seeds,
    systems=(),
    false_alarm=FALSE_ALARM,
    necessity=(
        Necessity("w_j ~ −w_j: positive entries", lambda: _seeded(rule=_positive)),
        Necessity("P(v w_j = 0) = 0: columns of zeros", lambda: _seeded(rule=_idle)),
        Necessity("independent columns: all are one", lambda: _seeded(rule=_repeated)),
        Necessity("variance 2/n: 1/n", lambda: _seeded(rule=init.lecun)),
        Necessity("v does not depend on W: v is a sum of columns", lambda: _seeded(follow=True)),
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
    active, variance = int((h > 0).sum()), 2 * gain**2 / n
    yield from none_is_unlikely(
        {
            "the number of active units": fair_coin_p(active, n),
            "‖h‖²": chi_square_p(_ratio(h, v, variance), active),
            "‖J u‖²": chi_square_p(_ratio(J @ u, u, variance), active),
        },
        FALSE_ALARM,
    )


# ---- I-5 -----------------------------------------------------------------------------------------


@st.composite
def _vectors_and_seeds(draw: Draw, system: str) -> Case:
    """Vectors for an orthogonal matrix, a row δ, and a seed."""
    n = draw(st.integers(1, 3))
    vectors = [draw(dyadics(n - k)) for k in range(n)]
    return {
        **draw(_seeds(system)),
        "vectors": tuple(np.where(x.any(), x, 1.0) for x in vectors),
        "delta": draw(dyadics((1, n))),
        "steps": draw(st.integers(1, 4)),
    }


def _isometric(W: Any = None, **changed: Any) -> Case:
    """Two units; W in place of an orthogonal matrix."""
    W = np.eye(2) if W is None else np.array(W, float)
    case = _seeded(vectors=(), delta=np.ones((1, 2)), steps=2, W=W)
    return {**case, **changed}


@theorem(
    "I-5",
    "Linear units: orthogonal weights keep every length, Gaussian ones only its mean square",
    statement=r"""(a) Let $Q$ be orthogonal, $g > 0$, and $W_h = gQ$ with linear units. Then $P =
\partial h_T/\partial h_0$ has $P^\top P = g^{2T} I$: all singular values are $g^T$, and $\|\delta
P\| = g^T\|\delta\|$ for all $\delta$. (b) Let $W_1, \ldots, W_T$ be independent, $n \times n$, with
independent entries $N(0, \sigma^2/n)$, and $P_t = W_t^\top \cdots W_1^\top$. For a fixed $v \ne 0$
the $S_t = n\|P_t v\|^2/(\sigma^2\|P_{t-1} v\|^2)$ are independent $\chi^2_n$, so $\sum_t S_t \sim
\chi^2_{nT}$, and
$$\|P_T v\|^2 = \|v\|^2 \prod_{t=1}^T \frac{\sigma^2 S_t}{n}, \qquad
  E\|P_T v\|^2 = \sigma^{2T}\|v\|^2, \qquad
  \frac{\mathrm{Var}\|P_T v\|^2}{(E\|P_T v\|^2)^2} = \Big(1 + \frac2n\Big)^T - 1 \ge
  \frac{2T}{n};$$
with $\sigma = 1$ the mean is kept, but $E\log\|P_T v\|^2 < \log \|v\|^2$. The same holds of rows
$\delta P$, with the factors in reverse order.""",
    hypotheses=(
        "(a) Q is orthogonal",
        "(a) the units are linear",
        "(b) the matrices are independent: a deep network, and not the powers of one W_h",
        "(b) the entries are Gaussian of variance σ²/n",
        "(b) v does not depend on them",
    ),
    proof="""(a) P is the product of T factors A = gQᵀ, and AᵀA = g²QQᵀ = g²I; in PᵀP this cancels
the innermost pair, T times. So all singular values are g^T; P is square, so PPᵀ = g^{2T}I as well,
which is the claim on δP. (b) Given W_1, …, W_{t−1}, the vector P_{t−1}v is fixed, W_t is Gaussian
as before, and S_t ~ χ²_n by I-3, whatever P_{t−1}v ≠ 0 is (it is 0 with probability 0). So S_t is
independent of S_1, …, S_{t−1}; by induction all are independent, and their sum is χ²_{nT}. The
product formula telescopes. E S_t = n and E S_t² = n² + 2n, so E‖P_T v‖² = σ^{2T}‖v‖² and
E‖P_T v‖⁴ = σ^{4T}(1 + 2/n)^T ‖v‖⁴; Bernoulli's inequality bounds the variance. As log is strictly
concave and S_t not constant, E log(S_t/n) < log E(S_t/n) = 0 by Jensen (it is finite, the density
of χ²_n being of order s^{n/2−1} at 0). For rows, W_tᵀ is distributed as W_t.""",
    sources=(
        "S0-10",
        "S1-31",
        "Saxe, McClelland & Ganguli 2014",
        "Chen, Pennington & Schoenholz 2018",
    ),
    cases=_vectors_and_seeds,
    systems=(),
    false_alarm=FALSE_ALARM,
    necessity=(
        Necessity("Q orthogonal: the eigenvalues are 1", lambda: _isometric([[1, 1], [0, 1]])),
        Necessity("linear units: tanh", lambda: _isometric(activation="tanh", drive=1.0), "ball"),
        Necessity(
            "independent: one matrix, 400 times", lambda: _isometric(fresh=False, layers=400)
        ),
        Necessity(
            "v does not depend on them: it is singular", lambda: _isometric(follow=True, layers=1)
        ),
    ),
    sensitivity=(
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "I − v vᵀ/(v·v): a projection for a reflection",
            "tinygrad_rnn.init.householder",
            lambda right: lambda v, A: (right(v, A) + A) / 2,
        ),
        Mistake(
            "‖x‖² for ‖x‖ in the mirror",
            "tinygrad_rnn.init.householder",
            lambda right: lambda v, A: A - np.outer(v, v @ A),
        ),
        Mistake(
            "He's variance for linear units",
            "tinygrad_rnn.init.lecun",
            lambda right: lambda rng, shape, gain: init.he(rng, shape, gain),
        ),
    ),
)
def _dynamical_isometry(
    seed: int,
    gain: float,
    vectors: Any,
    delta: Array,
    steps: int,
    W: Any = None,
    activation: str = "identity",
    drive: float = 0.0,
    layers: int = 16,
    rule: Any = None,
    fresh: bool = True,
    follow: bool = False,
) -> Iterator[Comparison]:
    H, T = delta.shape[1], steps
    cell = RNNCell(1, H, activation)
    Q = init.orthonormal(vectors) if W is None else W
    zero = 0 * delta
    params = {"W_x": zero, "W_h": gain * Q, "b": drive + zero[0]}
    x = np.stack([zero[:, :1]] * T)
    P = product(step_jacobians(cell, params, x, (zero,)))[0]
    lengths = gain ** (2 * T)
    yield equal("PᵀP = g²ᵀ I", P.T @ P, lengths * np.eye(H, dtype=int))
    (pulled,) = bptt(cell, params, x, np.stack([zero] * (T - 1) + [delta]), (zero,))["state"]
    yield equal("‖δP‖² = g²ᵀ ‖δ‖²", (pulled * pulled).sum(), lengths * (delta * delta).sum())

    n, rng = 36 if fresh else 2, np.random.default_rng(seed)
    wide = RNNCell(1, n, "identity")
    start = {name: np.zeros(shape) for name, shape in wide.shapes.items()}

    def drawn() -> Any:
        return init.redraw(wide, start, rng, W_h=partial(rule or init.lecun, gain=gain))

    net = [drawn() for _ in range(layers)] if fresh else [drawn()] * layers
    v = np.linalg.svd(net[0]["W_h"])[0][:, 0] if follow else rng.standard_normal(n)
    nothing, sums = np.zeros((1, 1)), dict.fromkeys(("forwards", "backwards"), 0.0)
    for way in sums:
        y = v
        for layer in net if way == "forwards" else net[::-1]:
            last = y / np.sqrt(y @ y)  # only the direction matters, and its length might overflow
            at = layer, nothing, (last[None],)
            y = wide.step(*at)[0][0] if way == "forwards" else last @ wide.jacobian(*at)[0]
            sums[way] += _ratio(y, last, gain**2 / n)
    yield from none_is_unlikely(
        {f"Σ S_t {way}": chi_square_p(s, n * layers) for way, s in sums.items()},
        FALSE_ALARM,
    )
