"""Dual numbers a + bε, ε² = 0: derivatives by arithmetic alone, without the engine's rules."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tinygrad_rnn.scalars.element import Element, lifted


class Dual(Element):
    """f(a + bε) = f(a) + f'(a) b ε, over Fractions or another number system without floats.

    ε is positive and smaller than every number, so a comparison that ties in a is decided by b: the
    derivative is the one-sided one.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from tinygrad_rnn.check.dual import Dual
    >>> x = Dual(Fraction(3), Fraction(1))
    >>> (x * x / 2).b, Dual(Fraction(0), Fraction(-1)).relu().b
    (Fraction(3, 1), Fraction(0, 1))
    """

    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Dual):
            return other
        if isinstance(self.a, Element):
            other = self.a._lift(other)
        elif not isinstance(other, (int, Fraction)):
            return NotImplemented
        return other if other is NotImplemented else Dual(other, 0 * self.a)

    @lifted
    def __add__(self, other: Any) -> Dual:
        return Dual(self.a + other.a, self.b + other.b)

    __radd__ = __add__

    def __neg__(self) -> Dual:
        return Dual(-self.a, -self.b)

    @lifted
    def __mul__(self, other: Any) -> Dual:
        return Dual(self.a * other.a, self.a * other.b + self.b * other.a)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> Dual:
        q = self.a / other.a
        return Dual(q, (self.b - q * other.b) / other.a)

    def __abs__(self) -> Dual:
        return self if self > 0 else -self

    @lifted
    def __eq__(self, other: Any) -> bool:
        return bool(self.a == other.a and self.b == other.b)

    @lifted
    def __lt__(self, other: Any) -> bool:
        return bool(self.a < other.a or (self.a == other.a and self.b < other.b))

    @lifted
    def __le__(self, other: Any) -> bool:
        return not other < self

    @lifted
    def __gt__(self, other: Any) -> bool:
        return bool(other < self)

    @lifted
    def __ge__(self, other: Any) -> bool:
        return not self < other

    __hash__ = None  # type: ignore[assignment]

    def tanh(self) -> Dual:
        """Return tanh a + (1 − tanh²a) b ε."""
        y = self.a.tanh()
        return Dual(y, (1 - y * y) * self.b)

    def sigmoid(self) -> Dual:
        """Return σ(a) + σ(a)(1 − σ(a)) b ε."""
        y = self.a.sigmoid()
        return Dual(y, y * (1 - y) * self.b)

    def relu(self) -> Dual:
        """Return the dual number if it is positive, else 0."""
        return self if self > 0 else 0 * self
