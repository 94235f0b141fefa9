"""What rounding does to a gradient and to a product of Jacobians, bounded and compared with truth.

The floats are computed by the library; what they should be, exactly or in balls; how far off they
may be, by the running error analysis of `Rounded` or by γ_n = nu/(1 − nu). Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.chain import jacobian_chain
from tinygrad_rnn.recurrent import bptt

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, theorem
from .chains import gamma
from .norms import frobenius_squared, norm_inf, norm_one
from .numerics_cases import floats, in_balls, rounding_runs, tree
from .strategies import Draw

Array = Any

# (2⁵³ + 1)/2⁵³, the product of these floats, lies half-way between two floats: the worst rounding.
HALF_WAY = 321 / 256, 28059810762433 / 2**45


# ---- N-3 ----------------------------------------------------------------------------------------


@st.composite
def _gradients(draw: Draw, system: str) -> Case:
    """Draw a run of any cell, in single or double precision, and the road to its gradient."""
    case = draw(rounding_runs(T=3, N=2, D=1, H=2))
    return {**case, "method": draw(st.sampled_from(("kernel", "tape", "chain")))}


def _one_product() -> Case:
    """Return one linear unit, one step: ∂L/∂W_x = x δ, a single product and the worst of them."""
    x, δ = HALF_WAY
    zero, one = np.zeros((1, 1)), np.ones((1, 1))
    data = {
        "params": {"W_x": one, "W_h": one, "b": zero[0]},
        "x": np.full((1, 1, 1), x),
        "d_outputs": np.full((1, 1, 1), δ),
        "state": (zero,),
        "d_state": (zero,),
    }
    cell = RNNCell(1, 1, "identity")
    return {"cell": cell, "data": data, "dtype": np.float64, "method": "kernel"}


def _single(right: Any) -> Any:
    """Compute in single precision inside."""

    def backward(*args: Any) -> Any:
        found = right(*args)
        return {**found, "W_h": found["W_h"].astype(np.float32).astype(found["W_h"].dtype)}

    return backward


@theorem(
    "N-3",
    "A float gradient lies within its running error bound of the true one",
    statement=r"""Let $\hat g$ be the gradient of a recurrent network in float arithmetic with unit
roundoff $u$, by the tape, by the closed-form Jacobians, or by the kernels; let $g$ be the gradient
at the same floats in exact arithmetic, and $e$ the running error that `Rounded` accumulates along
the same formulas. Then $|\hat g-g|\le e$, entry by entry.""",
    hypotheses=(
        "IEEE 754 arithmetic, to nearest and with gradual underflow, without overflow",
        "elementary functions err by at most 12u|y| + 12η (N-5 for the kernels')",
    ),
    proof="""By induction over the operations, in the order in which they are computed. Claim: the
exact value T, the float x that `Rounded` carries, and the float x̂ of any other evaluation satisfy
|x − T| ≤ e and |x̂ − T| ≤ e, so that T ∈ [x − e, x + e] and x̂ ∈ [x − 2e, x + 2e]. Arguments are
floats, with e = 0. A function f of one operand differs by |f(x̂) − f(T)| ≤ e sup|f'| over [x − 2e,
x + 2e], by the mean value theorem; a product by |âb̂ − AB| ≤ |b̂|e_a + |A|e_b ≤ |a|e_b + |b|e_a +
3e_a e_b; a quotient by (|â − A| + |A/B||b̂ − B|)/|b̂|. Call this d. Rounding the result r of the
computed operands, by k units, adds at most ku|r| + kη/2, where |r| ≤ |T| + d and |T| ≤ |x| + d +
ku|r| + kη/2; solving for |r| gives ku(1 + 4ku)(|x| + 2d) + kη. In a sum of n + 1 terms, in any
order, each term takes part in at most n additions, which multiply it by at most n factors 1 + δ,
|δ| ≤ u: the errors add up, with γ_n times the sum of the magnitudes. A fused multiply-add leaves
out one rounding. e itself is computed with relative errors below the 2⁻⁴⁷ that each step adds. The
gradient is one of the values.""",
    sources=("Higham 2002",),
    cases=_gradients,
    systems=("ball",),
    sensitivity=(
        Mistake(
            "products that do not round",
            "tinygrad_rnn.scalars.rounding.Rounded._term",
            lambda right: (
                lambda self, value, propagated, roundings=1: right(self, value, propagated, 0)
            ),
        ),
        Mistake(
            "the errors of the operands forgotten",
            "tinygrad_rnn.scalars.rounding.Rounded._term",
            lambda right: (
                lambda self, value, propagated, roundings=1: right(self, value, 0.0, roundings)
            ),
        ),
        Mistake(
            "float32 inside the kernel's gradient", "tinygrad_rnn.kernels.lstm.backward", _single
        ),
        Mistake(
            "the closed form of h_t for that of h_{t−1}",
            "tinygrad_rnn.cells.RNNCell.jacobian",
            lambda right: lambda cell, p, x_t, h: right(cell, p, x_t, cell.step(p, x_t, h)),
        ),
    ),
    witness=_one_product,
)
def gradients_are_within_their_bounds(
    cell: Any, data: Any, dtype: Any, method: str
) -> Iterator[Comparison]:
    """The gradient by one of three roads, its bound, and the truth by the tape over balls."""
    data = tree(lambda a: floats(a, dtype), data)
    got = bptt(cell, **data, method=method)
    rounded = tree(lambda a: scalars.rounded(a, dtype), data)
    bound = bptt(cell, **rounded, method="tape" if method == "tape" else "chain")
    truth = in_balls(lambda data: bptt(cell, **data, method="tape"), data)
    for name, g, ĝ, e in zip(got, truth.values(), got.values(), bound.values(), strict=True):
        for one in zip(*(v if type(v) is tuple else (v,) for v in (g, ĝ, e)), strict=True):
            error = in_balls(lambda g, ĝ: abs(ĝ - g), *one[:2])
            allowed = scalars.errors(one[2])
            finite = np.isfinite(allowed)
            yield at_most(f"∂L/∂{name}", error[finite], allowed[finite])


# ---- N-4 ----------------------------------------------------------------------------------------


@st.composite
def _products(draw: Draw, system: str) -> Case:
    """Draw T matrices of floats with random bits, of entries near 1 or of very different sizes."""
    n, T = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from((np.float64, np.float32)))
    family = draw(st.sampled_from(("even", "graded")))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    J = rng.normal(size=(T, n, n))
    if family == "graded":
        J = J * 2.0 ** rng.integers(-8, 9, J.shape)
    return {"J": J.astype(dtype), "dtype": dtype, "family": family}


def product(J: list[Array]) -> Array:
    """J_T ⋯ J_1 for J_1, …, J_T."""
    return reduce(lambda P, J_t: J_t @ P, J)


def _two(a: float, b: float) -> Case:
    return {"J": np.array([[[a]], [[b]]]), "dtype": np.float64}


@theorem(
    "N-4",
    "What a formed product of Jacobians has lost",
    statement=r"""Let $\hat P$ be $P=J_T\cdots J_1$, $J_k\in\mathbb R^{n\times n}$, multiplied up in
float arithmetic with unit roundoff $u$, $nu<1$, without over- and underflow. Then, with
$\gamma_n=nu/(1-nu)$, $$|\hat P-P|\le\big((1+\gamma_n)^{T-1}-1\big)\,|J_T|\cdots|J_1|$$ entry by
entry, and $\|\hat P-P\|\le\big((1+\gamma_n)^{T-1}-1\big)\prod_k\|J_k\|$ in the norms
$1$, $\infty$ and Frobenius. This says nothing about the small singular values of $P$: the bound is
relative to the product of the norms, not to the norm of the product.""",
    hypotheses=("neither over- nor underflow", "the inner dimension is n, and nu < 1"),
    proof="""One product: each entry of AB is a sum of n products, each of which goes through at
most n roundings, one of its own and n − 1 of the sum, in any order; hence fl(AB) = AB + E, |E| ≤
γ_n|A||B|. Let P̂_t = fl(J_t P̂_{t−1}) and Q_t = |J_t|⋯|J_1|, and suppose |P̂_{t−1} − P_{t−1}| ≤
(c − 1)Q_{t−1}, so that |P̂_{t−1}| ≤ cQ_{t−1}. Then |P̂_t − P_t| ≤ |J_t||P̂_{t−1} − P_{t−1}| +
γ_n|J_t||P̂_{t−1}| ≤ (c − 1 + γ_n c)Q_t = ((1 + γ_n)c − 1)Q_t. With c = 1 for t = 1 the claim
follows by induction; for the other order, transpose. The three norms are monotone in |A|, equal for
A and |A|, and submultiplicative.""",
    sources=("Higham 2002",),
    cases=_products,
    systems=("rational",),
    necessity=(Necessity("neither over- nor underflow", lambda: _two(2.0**-600, 2.0**-600)),),
    sensitivity=(
        Mistake(
            "γ_1 for γ_n: the sum does not round",
            "tinygrad_rnn.proofs.numerics.gamma",
            lambda right: lambda n, u: right(1, u),
        ),
        Mistake(
            "the chain's product transposed",
            "tinygrad_rnn.proofs.numerics.jacobian_chain",
            lambda right: (
                lambda *args: replace(
                    right(*args), mantissa=np.swapaxes(right(*args).mantissa, -1, -2)
                )
            ),
        ),
        Mistake(
            "the chain's product kept in single precision",
            "tinygrad_rnn.proofs.numerics.jacobian_chain",
            lambda right: (
                lambda *args: replace(
                    right(*args), mantissa=right(*args).mantissa.astype(np.float32).astype(float)
                )
            ),
        ),
    ),
    witness=lambda: _two(*HALF_WAY),
)
def product_error(J: Array, dtype: Any) -> Iterator[Comparison]:
    """NumPy's products, from either end, and the library's chain, against exact rationals."""
    J = floats(J, dtype)
    u, n = Fraction(float(np.finfo(dtype).eps)) / 2, J.shape[-1]
    exact = scalars.rational(J)
    transposed = [J_t.T for J_t in J[::-1]]
    for label, computed in (("from J_1 on", product(J)), ("from J_T on", product(transposed).T)):
        yield from _compare(label, computed, exact, gamma(n, u))

    powers = _chain(J[0].astype(float), len(J))
    u = Fraction(1, 2**53)
    yield from _compare("the chain", powers, np.repeat(exact[:1], len(J), axis=0), gamma(n, u))


def _chain(J: Array, T: int) -> Array:
    """Jᵀ formed by the library: the product of the Jacobians of a linear network."""
    n = len(J)
    params = {"W_x": np.zeros((1, n)), "W_h": J.T, "b": np.zeros(n)}
    chain = jacobian_chain(RNNCell(1, n, "identity"), params, np.zeros((T, 1)))
    return np.ldexp(chain.mantissa, chain.exponent)


def _compare(label: str, computed: Array, J: Array, γ: Fraction) -> Iterator[Comparison]:
    factor = (1 + γ) ** (len(J) - 1) - 1
    error = abs(scalars.rational(computed) - product(J))
    yield at_most(f"{label}: entries", error, factor * product(abs(J)))
    for name, norm in (("1", norm_one), ("∞", norm_inf)):
        bound = factor * np.prod([norm(J_t) for J_t in J])
        yield at_most(f"{label}: ‖·‖_{name}", norm(error), bound)
    squares = np.prod([frobenius_squared(J_t) for J_t in J])
    yield at_most(f"{label}: ‖·‖_F²", frobenius_squared(error), factor * factor * squares)
