"""Norms over any number system: what cannot be computed exactly is stated so that it need not be.

A maximum of balls is their hull's; the 2-norm is claimed through a certificate, ‖A‖₂ ≤ s iff
s²I − AᵀA is positive semidefinite, which LDLᵀ decides in exact arithmetic. It is never taken from a
singular value decomposition in floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.scalars import Rounded

Array = Any


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
    """‖A‖_∞, the largest row sum of |A|."""
    return largest(np.abs(A).sum(axis=-1))


def norm_one(A: Array) -> Any:
    """‖A‖₁, the largest column sum of |A|."""
    return largest(np.abs(A).sum(axis=-2))


def frobenius_squared(A: Array) -> Any:
    """‖A‖_F², the sum of squares."""
    return (A * A).sum()
