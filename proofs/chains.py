"""The library's products of Jacobians as exact numbers: what it bounds, and its bounds as balls.

`jacobian_chain` computes in floats and promises bounds for the product of exactly those floats. A
claim about it is therefore the same in every number system: the case's floats go in, the Jacobians
that it multiplies are rational numbers, and the exponentials of its logarithms are enclosed.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import scalars

from .catalogue import Comparison, at_most, equal
from .norms import frobenius_squared, principal_minors
from .unrolled import product

Array = Any
BITS = 256
SWEEPS = 40  # LAPACK's decomposition is taken to be as good as that many of Jacobi's method


def floats(a: Any) -> Array:
    """Return the floats that an array of a case was lifted from, in any number system."""
    return np.asarray(a, dtype=np.float64)


def chain_of(
    cell: Any, params: Any, x: Array, state: Any, norm: str | int = 2
) -> tuple[Any, Array]:
    """Return the library's chain, and the Jacobians that it multiplies as rationals."""
    weights = {name: floats(p) for name, p in params.items()}
    chain = tg.jacobian_chain(cell, weights, floats(x), tuple(floats(s) for s in state), norm)
    slopes = chain._steps.slopes
    if norm == "fro" and slopes is not None:  # diag(f') and W_h one after the other
        return chain, scalars.rational(slopes)[..., None] * scalars.rational(weights["W_h"].T)
    return chain, scalars.rational(np.concatenate([J for _, J in chain._steps.jacobians()]))


def exact_product(chain: Any) -> Array:
    """Return the library's P_T = mantissa · 2^exponent as rationals, (N, S, S)."""
    power = np.array([Fraction(2) ** int(e) for e in np.ravel(chain.exponent)])
    return scalars.rational(chain.mantissa) * power[:, None, None]


def exp(log: Any) -> Any:
    """Return e^log of a float as a ball; 0 for −∞."""
    with scalars.precision(BITS):
        return scalars.Ball(log).exp() if np.isfinite(log) else scalars.Ball(0)


def exp_within(log: Any) -> tuple[Fraction, Fraction]:
    """Return rationals not above and not below e^log, two floats apart at most."""
    power = exp(log)
    return Fraction(power.lower), Fraction(power.upper)


def library_bounds(
    cell: Any, params: Any, x: Array, state: Any, *which: str
) -> Iterator[Comparison]:
    """Compare ``chain.lower`` with σ_min(P_T), ``upper`` and ``upper_global`` with ‖P_T‖₂.

    s ≤ σ_min(P) iff no principal minor of PᵀP − s²I is negative; ‖P‖₂ ≤ s iff none of s²I − PᵀP is.
    """
    chain, J = chain_of(cell, params, x, state)
    frobenius, _ = chain_of(cell, params, x, state, "fro")
    for n in range(J.shape[1]):
        P = product(J[:, n])
        for name in which:
            below, above = exp_within(getattr(frobenius, name)[-1, n])
            size = frobenius_squared(P)
            sides = (below * below, size) if name == "lower" else (size, above * above)
            yield at_most(f"e^{name} bounds ‖P‖_F, by the library", *sides)
            below, above = exp_within(getattr(chain, name)[-1, n])
            sign, s = (-1, above) if name == "lower" else (1, below)
            gap = sign * (s * s * np.eye(len(P), dtype=int) - P.T @ P)
            yield at_most(f"e^{name} bounds P, by the library", 0, np.array(principal_minors(gap)))
        # How far fl(P) may be from P, and its largest singular value from the truth.
        k = singular_value_roundings(len(P), SWEEPS) + len(J) * (len(P) + 1)
        off = gamma(k) * np.prod([np.abs(J_t).sum() for J_t in J[:, n]])
        s = exp_within(chain.log_norm[-1, n])[1] + off
        gap = s * s * np.eye(len(P), dtype=int) - P.T @ P
        yield at_most("‖P‖ ≤ e^log_norm, by the library", 0, np.array(principal_minors(gap)))


def alone_or_in_a_batch(cell: Any, params: Any, x: Array, state: Any) -> Iterator[Comparison]:
    """The first step of one sequence has the same product, bit for bit, in a batch of three."""
    one, many = (
        exact_product(
            chain_of(
                cell,
                params,
                np.repeat(x[:1, :1], N, axis=1),
                tuple(np.repeat(s[:1], N, axis=0) for s in state),
                "fro",
            )[0]
        )
        for N in (1, 3)
    )
    yield equal("the library's J_1 of one sequence, alone or in a batch", many, one)


# ---- how far the library's floats may be off ----------------------------------------------------
#
# What k roundings in a row make is off by γ_k = ku/(1 − ku) of itself at most, u = 2⁻⁵³, and γ_j +
# γ_k + γ_j γ_k ≤ γ_{j+k} (Higham 2002, §3.4). A fused multiply-add rounds less.


def gamma(k: int, u: Fraction = Fraction(1, 2**53)) -> Fraction:
    """Return γ_k = ku/(1 − ku), a bound on the relative error of k roundings."""
    return k * u / (1 - k * u)


def qr_roundings(S: int) -> int:
    """Return a k: Householder's QR of fl(JQ), (S, S), is that of JQ + E, ‖E‖_F ≤ γ_k ‖J‖_F ‖Q‖_F.

    The norm of a column is off by γ_{S+4}, so v by γ_{S+6} and τ by γ_{2S+10}. Each term of b − τ v
    (vᵀb) then has 5S + 25 roundings, and ‖|b| + τ|v||v|ᵀ|b|‖ ≤ 3‖b‖ since τ|v|² = 2. There are S
    reflections, and S roundings in fl(JQ). The same holds of forming Q from I.
    """
    return 3 * S * (5 * S + 25) + S


def singular_value_roundings(S: int, sweeps: int) -> int:
    """Return a k: every step of the QR recursion and Jacobi's method are off by γ_k at most.

    A rotation is orthogonal but for its cosine, off by γ_5, and rounds each entry three times more:
    γ_8 √2 of the two rows; a sweep has S(S − 1)/2. Rows orthogonal to S u of their lengths have the
    singular values to 2S² u. Multiplying the triangles takes another S + 3 roundings of a term.
    """
    return qr_roundings(S) + 8 * S * S * sweeps + 2 * S * S + S + 3
