"""Exact p-values: how unlikely a statistic is whose law is known, with no table and no limit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from flint import arb

from tinygrad_rnn.scalars import precision

from .catalogue import Comparison, at_most

Array = Any


def chi_square_p(statistic: float, degrees: int) -> float:
    """Return the two-sided p-value 2 min(P(X ≥ s), P(X ≤ s)) of X ~ χ², off by less than 2⁻¹⁰⁰."""
    if not 0 <= statistic < math.inf:
        return 0.0
    with precision(128):
        above = (arb(statistic) / 2).gamma_upper(arb(degrees) / 2, regularized=1)
        return min(2 * float(tail.upper()) for tail in (above, 1 - above))


def fair_coin_p(heads: int, throws: int) -> float:
    """Return the two-sided p-value of a number of heads of a fair coin, exactly."""
    few = min(heads, throws - heads)
    tail = sum(math.comb(throws, k) for k in range(few + 1))
    return min(1.0, float(2 * tail / 2**throws))


def hoeffding_p(values: Array, mean: float, top: float) -> float:
    """Bound the two-sided p-value of the average of independent values in [0, top] of this mean."""
    off = float(values.mean() - mean) / top
    return min(1.0, 2 * math.exp(-2 * len(values) * off * off))


def none_is_unlikely(p: dict[str, float], false_alarm: float) -> Iterator[Comparison]:
    """Claim of each p-value that it is at least the false alarm over their number."""
    for label, value in p.items():
        yield at_most(f"the p-value of {label}", false_alarm / len(p), value)
