"""Free gates: exact rationals with stand-ins for σ and tanh, of the same ranges and the same laws.

A step Jacobian is a polynomial in the weights, the states and the values of the gates: the
derivatives enter as y(1 − y) and 1 − y². So a bound on it that holds for all gate values in their
ranges holds for σ and tanh, and can be decided in exact arithmetic. Here

    tanh a := a/(1 + |a|),  σ(a) := (1 + a/(1 + |a|))/2,  tanh' := 1 − tanh²,  σ' := σ(1 − σ),

odd, increasing, onto the rationals of (−1, 1) and (0, 1). A bias sets each gate to any of them, and
the cells of the library run on these numbers as they stand.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.scalars.element import FOREIGN, Ordered, elementwise, lifted


class Free(Ordered):
    """A rational number with the stand-ins for σ and tanh."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value if type(value) is Fraction else Fraction(value)

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Free):
            return other
        return Free(other) if isinstance(other, FOREIGN) else NotImplemented

    @lifted
    def __add__(self, other: Any) -> Free:
        return Free(self.value + other.value)

    __radd__ = __add__

    def __neg__(self) -> Free:
        return Free(-self.value)

    @lifted
    def __mul__(self, other: Any) -> Free:
        return Free(self.value * other.value)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> Free:
        return Free(self.value / other.value)

    def __abs__(self) -> Free:
        return Free(abs(self.value))

    def __hash__(self) -> int:
        return hash(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return str(self.value)

    def tanh(self) -> Free:
        """Return a/(1 + |a|)."""
        return Free(self.value / (1 + abs(self.value)))

    def sigmoid(self) -> Any:
        """Return (1 + a/(1 + |a|))/2."""
        return (1 + self.tanh()) * Fraction(1, 2)

    def d_tanh(self) -> Any:
        """Return 1 − tanh²."""
        return 1 - self.tanh() ** 2

    def d_sigmoid(self) -> Any:
        """Return σ(1 − σ)."""
        y = self.sigmoid()
        return y * (1 - y)


def freed(case: Any) -> Any:
    """Give every Fraction of a case free gates; other numbers keep their σ and tanh."""
    if isinstance(case, dict):
        return {k: freed(v) for k, v in case.items()}
    if isinstance(case, tuple):
        return tuple(map(freed, case))
    if isinstance(case, np.ndarray) and case.dtype.hasobject and isinstance(case.flat[0], Fraction):
        return elementwise(Free, case)
    return case


def floats(case: Any) -> Any:
    """Return a case in floats, which it was drawn in; None if its gates are free."""
    if isinstance(case, dict):
        return {k: floats(v) for k, v in case.items()}
    if isinstance(case, tuple):
        return tuple(map(floats, case))
    return elementwise(float, case).astype(np.float64)
