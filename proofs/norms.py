"""Norms over any number system: what cannot be computed exactly is stated so that it need not be.

A maximum of balls is their hull's; the 2-norm is claimed through a certificate without roots,
‖A‖₂ ≤ s iff s²I − AᵀA is positive semidefinite, which its principal minors decide with nothing but
+ and ×. It is never taken from a singular value decomposition in floats.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from tinygrad_rnn.scalars import Rounded

Array = Any
NORMS = ("1", "2", "∞")  # induced by absolute norms


def larger(a: Any, b: Any) -> Any:
    """max(a, b) = (a + b + |a − b|)/2, which encloses where a comparison would be undecided."""
    a, b = np.asarray(a, dtype=object)[()], np.asarray(b, dtype=object)[()]
    if hasattr(a, "arb") and hasattr(b, "arb"):
        return type(a)(a.arb.max(b.arb))
    if isinstance(a, Rounded) or isinstance(b, Rounded):
        return relu_of(a - b) + b
    return a if a >= b else b


def relu_of(a: Any) -> Any:
    """max(a, 0) of one element that knows how."""
    return a.relu() if hasattr(a, "relu") else max(a, 0)


def largest(values: Array) -> Any:
    """The maximum of an array; of balls, a ball that contains it."""
    flat = list(np.asarray(values).ravel())
    top = flat[0]
    for v in flat[1:]:
        top = larger(top, v)
    return top


def norm_inf(A: Array) -> Any:
    """‖A‖_∞, the largest row sum of |A|; of a batch, the largest norm."""
    return largest(np.abs(A).sum(axis=-1))


def norm_one(A: Array) -> Any:
    """‖A‖₁, the largest column sum of |A|; of a batch, the largest norm."""
    return largest(np.abs(A).sum(axis=-2))


ROW_AND_COLUMN = {"1": norm_one, "∞": norm_inf}


def frobenius_squared(A: Array) -> Any:
    """‖A‖_F², the sum of squares."""
    return (A * A).sum()


def within(norm: str, A: Array, s: Any) -> tuple[Any, Any]:
    """Return (lhs, rhs) such that ‖A‖ ≤ s iff lhs ≤ rhs, in one of the NORMS; of a batch, of all.

    For s ≥ 0, ‖A‖₂ ≤ s iff s²I − AᵀA is positive semidefinite.
    """
    if norm == "2":
        gap = s * s * np.eye(A.shape[-1], dtype=A.dtype) - np.swapaxes(A, -1, -2) @ A
        flat = gap.reshape(-1, *A.shape[-2:])
        return 0, np.array([m for S in flat for m in principal_minors(S)])
    return ROW_AND_COLUMN[norm](A), s


def principal_minors(S: Array) -> list[Any]:
    """All principal minors: a symmetric S is positive semidefinite iff none is negative."""
    every = range(len(S))
    return [determinant(S[np.ix_(k, k)]) for n in every for k in combinations(every, n + 1)]


def determinant(A: Array) -> Any:
    """Return det A by expansion along the first row: it needs no division, unlike elimination."""
    if len(A) == 1:
        return A[0, 0]
    minors = (determinant(np.delete(A[1:], j, axis=1)) for j in range(len(A)))
    return sum((-1) ** j * A[0, j] * m for j, m in enumerate(minors))
