"""Depth: orthogonal weights keep every length, Gaussian ones only its mean square."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import init
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt

from .catalogue import Case, Comparison, Mistake, Necessity, equal, theorem
from .initialisation_random import FALSE_ALARM, rarely_large, ratio, seeded, seeds
from .mistakes import COUNTED_TWICE, PROJECTION, SKIP
from .p_values import chi_square_p, none_is_unlikely
from .strategies import Draw, dyadics
from .unrolled import product, step_jacobians

Array = Any


@st.composite
def _vectors_and_seeds(draw: Draw, system: str) -> Case:
    """Vectors for an orthogonal matrix, a row δ, and a seed."""
    n = draw(st.integers(1, 3))
    vectors = [draw(dyadics(n - k)) for k in range(n)]
    return {
        **draw(seeds(system)),
        "vectors": tuple(np.where(x.any(), x, 1.0) for x in vectors),
        "delta": draw(dyadics((1, n))),
        "steps": draw(st.integers(1, 4)),
    }


def _isometric(W: Any = None, **changed: Any) -> Case:
    """Two units; W in place of an orthogonal matrix."""
    W = np.eye(2) if W is None else np.array(W, float)
    case = seeded(vectors=(), delta=np.ones((1, 2)), steps=2, W=W)
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
        Necessity("Gaussian: seldom large", lambda: _isometric(rule=rarely_large)),
        Necessity(
            "v does not depend on them: it is singular", lambda: _isometric(follow=True, layers=1)
        ),
    ),
    sensitivity=(
        SKIP,
        COUNTED_TWICE,
        PROJECTION,
        Mistake(
            "a mirror that is not divided by ‖v‖²/2",
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
            sums[way] += ratio(y, last, gain**2 / n)
    yield from none_is_unlikely(
        {f"Σ S_t {way}": chi_square_p(s, n * layers) for way, s in sums.items()},
        FALSE_ALARM,
    )
