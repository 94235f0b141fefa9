"""The curvature of softmax cross-entropy, and binary cross-entropy without overflow.

The Jacobian of softmax, diag p − ppᵀ, is the Hessian of the loss above it: positive semidefinite
and at most 1/2, so that a step of size η < 4 descends on logits. The stable form of binary
cross-entropy is an identity, not an approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import activations, losses
from tinygrad_rnn.autodiff import grad, jacobian, relu, sigmoid
from tinygrad_rnn.scalars import rational

from .activations import GAINS
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .norms import principal_minors, within
from .numerics_cases import floats
from .strategies import Draw, dyadics

Array = Any


# ---- A-7 ----------------------------------------------------------------------------------------


@st.composite
def _simplices(draw: Draw, system: str) -> Case:
    """Draw logits z, one target class k, and free probabilities p in sixteenths."""
    C = draw(st.integers(1, 4))
    gain, family = draw(st.sampled_from(GAINS))
    cuts = sorted(draw(st.lists(st.integers(0, 16), min_size=C - 1, max_size=C - 1)))
    return {
        "z": draw(dyadics(C)) * gain,
        "k": draw(st.integers(0, C - 1)),
        "p": np.diff([0, *cuts, 16]) / 16,
        "family": family,
    }


def _free(*p: float) -> Callable[[], Case]:
    return lambda: {"z": np.zeros(len(p)), "k": 0, "p": np.array(p)}


def _covariance(p: Array) -> Array:
    """Diag p − ppᵀ."""
    return np.array([[p[i] * ((i == j) - p[j]) for j in range(len(p))] for i in range(len(p))])


@theorem(
    "A-7",
    "The Jacobian of softmax is positive semidefinite and at most 1/2",
    statement=r"""Let $p=\mathrm{softmax}(z)$. Then $\partial p/\partial z=S=\mathrm{diag}\,p-
pp^\top$, which is also the Hessian of $z\mapsto-\log p_k$ for every $k$. For every $p\ge0$ with
$\sum_ip_i=1$: $S\mathbf1=0$, $0\preceq S$, $\|S\|_\infty=\max_i2p_i(1-p_i)\le\tfrac12$ and
$\|S\|_2\le\tfrac12$, attained at $p=(\tfrac12,\tfrac12)$.""",
    hypotheses=("p ≥ 0", "Σp = 1"),
    proof="""∂p_i/∂z_j = p_i(δ_ij − p_j) by the quotient rule, and ∇(−log p_k) = p − e_k (L-2) has
the derivative S. vᵀSv = Σp_i v_i² − (Σp_i v_i)² is the variance of v under p, ≥ 0, and 0 for v =
1; as S is symmetric, S1 = 0. Row i has the absolute sum p_i(1 − p_i) + p_i Σ_{j≠i} p_j = 2p_i(1 −
p_i) = 1/2 − 2(p_i − 1/2)². The spectral radius, which is ‖S‖₂, is at most ‖S‖_∞. For p = (1/2,
1/2) and v = (1, −1), Sv = v/2.""",
    sources=("S3-4",),
    cases=_simplices,
    systems=("rational", "ball"),
    necessity=(Necessity("p ≥ 0", _free(2.0, -1.0)), Necessity("Σp = 1", _free(1.0, 1.0))),
    sensitivity=(
        Mistake(
            "softmax without its denominator",
            "tinygrad_rnn.activations.softmax",
            lambda _: np.exp,
        ),
        Mistake(
            "σ of each logit by itself",
            "tinygrad_rnn.activations.softmax",
            lambda _: sigmoid,
        ),
        Mistake(
            "the loss of two layers of softmax",
            "tinygrad_rnn.losses.cross_entropy",
            lambda right: lambda z, k: right(activations.softmax(z), k),
        ),
    ),
    witness=_free(0.5, 0.5, 0.0),
)
def softmax_jacobian(z: Array, k: int, p: Array) -> Iterator[Comparison]:
    """The engine's Jacobian and Hessian at z, where there is exp; the norms for rational p."""
    if not isinstance(z[0], Fraction):
        S = _covariance(activations.softmax(z))
        yield equal("∂p/∂z = diag p − ppᵀ", 1 + jacobian(activations.softmax)(z), 1 + S)
        hessian = jacobian(grad(losses.cross_entropy))(z, np.array(k))
        yield equal("it is the Hessian of the loss", 1 + hessian, 1 + S)
    p = rational(floats(p))
    S, C = _covariance(p), len(p)
    yield equal("S1 = 0", S.sum(axis=1), 0 * p)
    yield at_most("‖S‖_∞ ≤ 1/2", 2 * abs(S).sum(axis=1), 1)
    yield at_most("0 ≼ S", 0, principal_minors(S))
    yield at_most("‖S‖₂ ≤ 1/2", *within("2", S, Fraction(1, 2)))
    for i, j in combinations(range(C), 2):
        v = np.array([(n == i) - (n == j) for n in range(C)], dtype=object)
        yield at_most("vᵀSv ≤ v·v/2, v = e_i − e_j", 2 * (v @ S @ v), v @ v)


# ---- L-3 ----------------------------------------------------------------------------------------


@st.composite
def _logits(draw: Draw, system: str) -> Case:
    """Draw logits up to 2^1023, none of them 0, and targets; hard ones for moderate logits."""
    gain, family = draw(st.sampled_from((*GAINS, (2.0**1022, "huge"))))
    z = draw(dyadics(3))
    y = abs(draw(dyadics(3, 1.0)))
    if family == "huge":
        y = np.clip(y, 1 / 16, 15 / 16)  # L itself may be e^(−z), which no float holds
    elif draw(st.booleans()):
        y = np.round(y)
    return {"z": np.where(z == 0, 1 / 16, z) * gain, "y": y, "family": family}


@theorem(
    "L-3",
    "The stable form of binary cross-entropy is exact, and never overflows",
    statement=r"""For $z\in\mathbb R$ and $y\in[0,1]$ $$-y\log\sigma(z)-(1-y)\log(1-\sigma(z))=
\max(z,0)-yz+\log(1+e^{-|z|}),$$ and this lies in $[0,\,|z|+\log2]$: if $|z|$ is less than the
largest float by a factor of two, nothing on the right overflows.""",
    hypotheses=("0 ≤ y ≤ 1",),
    proof="""−log σ(z) = log(1 + e^(−z)) and −log(1 − σ(z)) = log(1 + e^z) = z + log(1 + e^(−z)),
so the left is (1 − y)z + log(1 + e^(−z)). If z ≥ 0 this is z − yz + log(1 + e^(−|z|)); if z < 0,
log(1 + e^(−z)) = −z + log(1 + e^z) makes it −yz + log(1 + e^(−|z|)). max(z, 0) − yz is (1 − y)z
for z ≥ 0 and y|z| for z < 0, in [0, |z|] either way, and log(1 + e^(−|z|)) is in (0, log 2].
Every intermediate result is at most |z| + log 2.""",
    sources=("S1-4",),
    cases=_logits,
    systems=("ball",),
    necessity=(
        Necessity("0 ≤ y ≤ 1", lambda: {"z": np.full(1, 2.0), "y": np.full(1, 2.0)}, system="ball"),
    ),
    sensitivity=(
        Mistake(
            "the leading minus missing (S1-9)",
            "tinygrad_rnn.losses.binary_cross_entropy",
            lambda right: lambda z, y: -right(z, y),
        ),
        Mistake(
            "e^(−z) for e^(−|z|)",
            "tinygrad_rnn.losses.softplus",
            lambda _: lambda z: relu(z) + np.log1p(np.exp(-z)),
        ),
        Mistake(
            "the logarithms of σ and 1 − σ: they overflow",
            "tinygrad_rnn.losses.binary_cross_entropy",
            lambda _: (
                lambda z, y: -np.sum(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z)))
            ),
        ),
    ),
    # An undecided logit: softplus is log 2.
    witness=lambda: {"z": np.full(1, 2.0**-20), "y": np.zeros(1)},
)
def stable_form(z: Array, y: Array) -> Iterator[Comparison]:
    """The loss of the library, one logit at a time, between its bounds; and as it is defined."""
    log_two, size = np.log(2 + 0 * z), abs(z)
    stable = relu(z) - y * z + np.log1p(np.exp(-size))
    yield at_most("0 ≤ L", 0, stable)
    yield at_most("L ≤ |z| + log 2", stable, size + log_two)
    loss = _each(z, y)
    yield at_most("the library's L ≤ |z| + log 2", loss, size + log_two)
    yield equal("the library's is the stable form", loss, stable)
    yield at_most("no overflow", _each(floats(z), floats(y)), abs(floats(z)) + 1)
    if (size < 512).all():  # further out 1 − σ is 0 in floats
        defined = -(y * np.log(sigmoid(z)) + (1 - y) * np.log(sigmoid(-z)))
        yield equal("it is the logarithm of the likelihood", loss, defined)


def _each(z: Array, y: Array) -> Array:
    """Return the library's loss of every logit by itself."""
    return np.array([losses.binary_cross_entropy(z[[i]], y[[i]]) for i in range(len(z))])
