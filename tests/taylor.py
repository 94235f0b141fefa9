"""Truncated power series over balls, as array elements: derivatives without any rule of ours.

f(x + tε) = f(x) + ε f'(x)t + ε²/2 f''(x)tt + …, evaluated by NumPy's own functions on object
arrays. The arithmetic is flint's, so the coefficients are rigorous enclosures of the derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from flint import arb, arb_series

Array = Any
ORDER = 3  # value, first and second derivative


@contextmanager
def series() -> Iterator[None]:
    """Compute with 128 bits and series of three terms."""
    before = flint.ctx.prec, flint.ctx.cap
    flint.ctx.prec, flint.ctx.cap = 128, ORDER
    try:
        yield
    finally:
        flint.ctx.prec, flint.ctx.cap = before


def _arb(x: Any) -> arb:
    if isinstance(x, arb):
        return x
    x = Fraction(int(x) if isinstance(x, np.integer) else x)
    return arb(x.numerator) / x.denominator


def _decide(yes: bool, no: bool) -> bool:
    assert yes or no, "undecided: the test's inputs are too close to a kink"
    return bool(yes)


class Taylor:
    """A power series in ε; a number is the series that it is the value of."""

    __slots__ = ("s",)

    def __init__(self, s: arb_series) -> None:
        self.s = s

    def _binary(self, other: Any, f: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, Taylor):
            return Taylor(f(self.s, other.s))
        if isinstance(other, (int, float, Fraction, np.integer, np.floating, np.bool_)):
            return Taylor(f(self.s, arb_series([_arb(other)])))
        return NotImplemented

    def __add__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a + b)

    def __mul__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a * b)

    def __sub__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b - a)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b / a)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Taylor:
        return Taylor(-self.s)

    def __pos__(self) -> Taylor:
        return self

    def __abs__(self) -> Taylor:
        return self if self > 0 else -self

    def __pow__(self, n: Any) -> Any:
        if isinstance(n, Taylor):
            return (n * self.log()).exp()
        if n < 0:
            return 1 / self ** (-n)
        return self * self ** (n - 1) if n else Taylor(arb_series([1]))

    def __rpow__(self, base: Any) -> Taylor:
        return Taylor(arb_series([_arb(base)])) ** self

    def _order(self, other: Any) -> tuple[arb, arb]:
        return self.s[0], other.s[0] if isinstance(other, Taylor) else _arb(other)

    def __lt__(self, other: Any) -> bool:
        a, b = self._order(other)
        return _decide(a < b, a >= b)

    def __eq__(self, other: Any) -> bool:
        a, b = self._order(other)
        return _decide(a == b, a < b or a > b)

    def __gt__(self, other: Any) -> bool:
        return not (self < other or self == other)

    def __le__(self, other: Any) -> bool:
        return not self > other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __ne__(self, other: Any) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def conjugate(self) -> Taylor:
        return self

    def exp(self) -> Taylor:
        return Taylor(self.s.exp())

    def log(self) -> Taylor:
        return Taylor(self.s.log())

    def sin(self) -> Taylor:
        return Taylor(self.s.sin())

    def cos(self) -> Taylor:
        return Taylor(self.s.cos())

    def sqrt(self) -> Taylor:
        return Taylor(self.s.sqrt())

    def expm1(self) -> Taylor:
        return self.exp() - 1

    def log1p(self) -> Taylor:
        return (1 + self).log()

    def sinh(self) -> Taylor:
        return (self.exp() - (-self).exp()) / 2

    def cosh(self) -> Taylor:
        return (self.exp() + (-self).exp()) / 2

    def sigmoid(self) -> Taylor:
        return 1 / (1 + (-self).exp())

    def d_sigmoid(self) -> Taylor:
        return self.sigmoid() * (-self).sigmoid()

    def tanh(self) -> Taylor:
        return self.sinh() / self.cosh()

    def d_tanh(self) -> Taylor:
        return 1 / (self.cosh() * self.cosh())

    def softplus(self) -> Taylor:
        return (1 + self.exp()).log()

    def relu(self) -> Taylor:
        return self if self > 0 else 0 * self

    def step(self) -> Taylor:
        return Taylor(arb_series([int(self > 0)]))


def taylor(x: Any, *higher: Any) -> Array:
    """Return the array of series x + tε + …, for arrays x, t, … of exact numbers."""
    parts = np.broadcast_arrays(x, *higher)
    make = np.frompyfunc(lambda *cs: Taylor(arb_series([_arb(c) for c in cs])), len(parts), 1)
    return np.asarray(make(*parts), dtype=object)


def coefficient(array: Any, k: int) -> Array:
    """Return the balls that enclose the coefficients of εᵏ."""
    take = np.frompyfunc(
        lambda e: e.s[k] if isinstance(e, Taylor) else _arb(e if k == 0 else 0), 1, 1
    )
    return np.asarray(take(np.asarray(array, dtype=object)), dtype=object)


def agree(a: Array, b: Array) -> bool:
    """Whether two arrays of tight balls may hold the same numbers: for exact results, equality."""
    a, b = np.asarray(a, dtype=object), np.asarray(b, dtype=object)
    assert a.shape == b.shape, (a.shape, b.shape)
    return all(
        x.overlaps(y)
        and all(z.is_finite() and z.rad() <= (1 + abs(z)) * arb(2) ** -64 for z in (x, y))
        for x, y in zip(a.flat, b.flat, strict=True)
    )
