"""The library's products of Jacobians as exact numbers: what it bounds, and its bounds as balls.

`jacobian_chain` computes in floats and promises bounds for the product of exactly those floats. A
claim about it is therefore the same in every number system: the case's floats go in, the Jacobians
that it multiplies are rational numbers, and the exponentials of its logarithms are balls.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import scalars

from .catalogue import Comparison, at_most
from .norms import principal_minors
from .unrolled import product

Array = Any
BITS = 256


def floats(a: Any) -> Array:
    """Return the floats that an array of a case was lifted from, in any number system."""
    return np.asarray(a, dtype=np.float64)


def chain_of(cell: Any, params: Any, x: Array, state: Any) -> tuple[Any, Array]:
    """Return the library's chain in the 2-norm, and the Jacobians it multiplies as rationals."""
    weights = {name: floats(p) for name, p in params.items()}
    chain = tg.jacobian_chain(cell, weights, floats(x), tuple(floats(s) for s in state), norm=2)
    return chain, scalars.rational(np.concatenate([J for _, J in chain._steps.jacobians()]))


def exact_product(chain: Any) -> Array:
    """Return the library's P_T = mantissa · 2^exponent as rationals, (N, S, S)."""
    power = np.array([Fraction(2) ** int(e) for e in np.ravel(chain.exponent)])
    return scalars.rational(chain.mantissa) * power[:, None, None]


def exp(log: Any) -> Any:
    """Return e^log of a float as a ball; 0 for −∞."""
    with scalars.precision(BITS):
        return scalars.Ball(log).exp() if np.isfinite(log) else scalars.Ball(0)


def minors(A: Array, s: Any, sign: int) -> Array:
    """Return the principal minors of ±(s²I − AᵀA) as balls: none is negative iff ‖A‖₂ ≤ s.

    With the sign −1, iff σ_min(A) ≥ s.
    """
    with scalars.precision(BITS):
        A = scalars.ball(A)
        return np.array(principal_minors(sign * (s * s * np.eye(len(A), dtype=int) - A.T @ A)))


def library_bounds(
    cell: Any, params: Any, x: Array, state: Any, *which: str
) -> Iterator[Comparison]:
    """Compare ``chain.lower`` with σ_min(P_T), ``upper`` and ``upper_global`` with ‖P_T‖₂."""
    chain, J = chain_of(cell, params, x, state)
    for n in range(J.shape[1]):
        P = product(J[:, n])
        for name in which:
            bound = exp(getattr(chain, name)[-1, n])
            yield at_most(
                f"e^{name} bounds the product, by the library",
                0,
                minors(P, bound, -1 if name == "lower" else 1),
            )
