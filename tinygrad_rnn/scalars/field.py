"""The field of integers modulo the prime P = 2⁶¹ − 1, for testing polynomial identities.

Two different polynomials of degree d agree at a uniformly random point with probability at most
d/P (Schwartz 1980, Zippel 1979), so an equation that holds at a random point of the field holds
identically, but for about d · 4·10⁻¹⁹. tanh and σ are *random oracles*: fixed random functions
whose only known law is the polynomial for their derivative. What holds with them holds for every
value of the symbols y = tanh(a), hence for tanh itself.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NoReturn

import numpy as np

from tinygrad_rnn.scalars.element import FOREIGN, Element, elementwise, lifted, number

P = 2**61 - 1


def _oracle(name: str) -> Callable[[GF], GF]:
    """Return a random function on the field: a keyed hash, so that equal arguments agree."""

    def method(self: GF) -> GF:
        # 128 bits reduced modulo 61 are uniform to within 2⁻⁶⁷.
        digest = blake2b(self.value.to_bytes(8), key=name.encode(), digest_size=16).digest()
        return GF(int.from_bytes(digest))

    return method


class GF(Element):
    """An integer modulo P = 2⁶¹ − 1.

    Ints and Fractions convert (p/q ↦ p·q⁻¹); floats are refused, and nothing is ordered.

    Raises
    ------
    TypeError
        If made from, or combined with, a float; if ordered.
    ZeroDivisionError
        If divided by zero.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from tinygrad_rnn.scalars import GF
    >>> GF(Fraction(1, 3)) * 3 == 1, GF(-1)
    (True, GF(2305843009213693950))
    >>> y = GF(2).tanh()
    >>> GF(2).d_tanh() == 1 - y**2
    True
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = (value if type(value) is int else _residue(value)) % P

    def _lift(self, other: Any) -> Any:
        if isinstance(other, GF):
            return other
        return GF(other) if isinstance(other, FOREIGN) else NotImplemented

    @lifted
    def __add__(self, other: Any) -> GF:
        return GF(self.value + other.value)

    __radd__ = __add__

    def __neg__(self) -> GF:
        return GF(-self.value)

    @lifted
    def __mul__(self, other: Any) -> GF:
        return GF(self.value * other.value)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> GF:
        return GF(self.value * _inverse(other.value))

    @lifted
    def __eq__(self, other: Any) -> bool:
        return bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def _unordered(self, other: Any) -> NoReturn:
        raise TypeError(
            "a finite field has no order: <, >, maximum and abs mean nothing in it. "
            "Test this formula over Fraction or balls."
        )

    __lt__ = __le__ = __gt__ = __ge__ = _unordered

    def __repr__(self) -> str:
        return f"GF({self.value})"

    tanh = _oracle("tanh")
    sigmoid = _oracle("sigmoid")

    def d_tanh(self) -> Any:
        """Return 1 − y² with y = tanh."""
        return 1 - self.tanh() ** 2

    def d_sigmoid(self) -> Any:
        """Return y(1 − y) with y = σ."""
        y = self.sigmoid()
        return y * (1 - y)


def _residue(value: Any) -> int:
    value = number(value)
    if isinstance(value, float):
        raise TypeError(
            f"expected an int or a Fraction, got the float {value!r}: a finite field has no "
            "rounding. Use rational() first if its exact value is meant."
        )
    return int(value.numerator * _inverse(value.denominator))


def _inverse(value: int) -> int:
    if value % P == 0:
        raise ZeroDivisionError("division by zero in GF(2**61 - 1).")
    return pow(value, -1, P)


def field(like: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Draw uniformly random elements of the field, in the shape of an array or of a tuple.

    Parameters
    ----------
    like : ndarray or shape
        An array gives its shape, not its values.
    rng : numpy.random.Generator
        The source of randomness.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import field
    >>> A, B, C = field((3, 2, 2), np.random.default_rng(0))
    >>> bool(np.all((A @ B) @ C == A @ (B @ C)))
    True
    """
    shape = like.shape if isinstance(like, np.ndarray) else like
    return elementwise(GF, rng.integers(P, size=shape))
