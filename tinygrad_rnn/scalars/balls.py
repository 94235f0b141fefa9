"""Ball arithmetic: a number as a midpoint and a radius that certainly contains it.

Every operation returns a ball that contains the exact result for all numbers in its arguments, by
python-flint's ``arb`` (Johansson 2017, *Arb: efficient arbitrary-precision midpoint-radius interval
arithmetic*). A statement decided for balls is decided for those numbers.

The module is not called ``ball``: the package exports a function of that name and loads this
module, and with it flint, only when it is first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, TypeVar

import flint
import numpy as np
from flint import arb

from tinygrad_rnn.scalars.element import FOREIGN, elementwise, lifted, number
from tinygrad_rnn.scalars.undecided import Enclosure, Undecided

Result = TypeVar("Result")
DIGITS = 20  # of a midpoint in print, at most; what is left out goes into the radius


def _arb(value: Any) -> arb:
    """Return the number as an ``arb``: exact but for Fractions, which round at this precision."""
    if isinstance(value, arb):
        return value
    value = number(value)
    return arb(value.numerator) / value.denominator if isinstance(value, Fraction) else arb(value)


def _function(function: Callable[[arb], arb]) -> Callable[[Ball], Ball]:
    def method(self: Ball) -> Ball:
        return Ball(function(self.arb))

    return method


def _monotone(function: Callable[[arb], arb]) -> Callable[[Ball], Ball]:
    """Hull a monotone function by its values at the ends: tight however wide the ball."""

    def method(self: Ball) -> Ball:
        x = self.arb
        if x.is_exact():
            return Ball(function(x))
        return Ball(function(x.lower()).union(function(x.upper())))

    return method


def _even(function: Callable[[arb], arb]) -> Callable[[Ball], Ball]:
    """Hull an even function that is monotone in |x|."""

    def method(self: Ball) -> Ball:
        nearest, farthest = self.arb.abs_lower(), self.arb.abs_upper()
        return Ball(function(nearest).union(function(farthest)))

    return method


def _sigmoid(x: arb) -> arb:
    e = (-abs(x)).exp()
    return 1 / (1 + e) if x > 0 else e / (1 + e)


def _d_tanh(x: arb) -> arb:
    y = x.sech()
    return y * y


def _softplus(x: arb) -> arb:
    e = (-abs(x)).exp()
    return x + e.log1p() if x > 0 else e.log1p()


class Ball(Enclosure):
    """The unknown number within ``radius`` of ``value``.

    Ints, floats and Fractions mix with balls rigorously: each is exactly the number it is.
    A comparison answers only when it is certain; otherwise, and for balls that are not finite, it
    raises :class:`Undecided`. Functions are evaluated at the precision in force when called.

    Parameters
    ----------
    value : int, float, Fraction or flint.arb
        The midpoint; of a Fraction or an ``arb``, an enclosure.
    radius : int, float or Fraction
        Rounded upwards.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Ball
    >>> x = Ball(0, radius=0.125)
    >>> x + 1 > 0
    True
    >>> x > 0
    Traceback (most recent call last):
    tinygrad_rnn.scalars.undecided.Undecided: Ball([+/- 0.126]) > Ball(0) cannot be decided: ...
    """

    __slots__ = ("arb",)

    def __init__(self, value: Any, radius: Any = 0) -> None:
        center = _arb(value)
        self.arb = center + arb(0, _arb(radius).upper()) if radius else center

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Ball):
            return other
        return Ball(other) if isinstance(other, FOREIGN) else NotImplemented

    @lifted
    def __add__(self, other: Any) -> Ball:
        return Ball(self.arb + other.arb)

    __radd__ = __add__

    def __neg__(self) -> Ball:
        return Ball(-self.arb)

    @lifted
    def __mul__(self, other: Any) -> Ball:
        return Ball(self.arb * other.arb)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> Ball:
        return Ball(self.arb / other.arb)

    def __abs__(self) -> Ball:
        return Ball(abs(self.arb))

    def _below(self, other: Any) -> bool:
        return bool(self.is_finite and other.is_finite and self.arb < other.arb)

    def _at_most(self, other: Any) -> bool:
        return bool(self.is_finite and other.is_finite and self.arb <= other.arb)

    def __float__(self) -> float:
        """Return the float nearest to the midpoint."""
        return float(self.arb.mid())

    def __repr__(self) -> str:
        return f"Ball({self.arb.str(DIGITS, radius=True)})"

    @property
    def is_finite(self) -> bool:
        """Whether the ball says anything: its midpoint is a number and its radius finite."""
        return bool(self.arb.is_finite())

    @property
    def mid(self) -> Ball:
        """The midpoint, exactly, as a ball of radius 0."""
        return Ball(self.arb.mid())

    @property
    def rad(self) -> Ball:
        """The radius, exactly, as a ball of radius 0."""
        return Ball(self.arb.rad())

    @property
    def lower(self) -> float:
        """The largest float found not above any number in the ball."""
        exact = self.arb.lower()
        nearest = float(exact)
        return math.nextafter(nearest, -math.inf) if arb(nearest) > exact else nearest

    @property
    def upper(self) -> float:
        """The smallest float found not below any number in the ball."""
        return -(-self).lower

    exp = _monotone(arb.exp)
    expm1 = _monotone(arb.expm1)
    log = _monotone(arb.log)
    log1p = _monotone(arb.log1p)
    sqrt = _monotone(arb.sqrt)
    sin = _function(arb.sin)
    cos = _function(arb.cos)
    sinh = _monotone(arb.sinh)
    cosh = _even(arb.cosh)
    tanh = _monotone(arb.tanh)
    d_tanh = _even(_d_tanh)
    sigmoid = _monotone(_sigmoid)
    d_sigmoid = _even(lambda x: _d_tanh(x / 2) / 4)
    softplus = _monotone(_softplus)
    relu = _function(lambda x: x.max(arb(0)))

    def step(self) -> Ball:
        """Return 1 where x > 0, 0 where x ≤ 0, and the hull [0, 1] where that is unknown.

        Radii have 30 bits and round upwards, so the hull sticks out by some 2⁻³⁰.
        """
        if self.arb.is_nan():
            return self
        if self.arb > 0 or self.arb <= 0:
            return Ball(int(self.arb > 0))
        return Ball(0.5, radius=0.5)


def ball(array: Any) -> np.ndarray[Any, Any]:
    """Lift an array of ints, floats and Fractions to balls that contain them.

    Fractions are rounded at the precision in force: in a :func:`ladder`, lift inside ``compute``.

    Examples
    --------
    >>> from fractions import Fraction
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import ball
    >>> x = ball([Fraction(1, 3), 0.5])
    >>> bool(np.all(np.tanh(x) < x))
    True
    """
    return elementwise(lambda value: value if isinstance(value, Ball) else Ball(value), array)


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Compute with midpoints of ``bits`` bits inside a ``with`` block; restore the old precision.

    The precision is flint's, one for the whole process: do not compute with balls in two threads.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Ball, precision
    >>> with precision(256):
    ...     print((Ball(2).sqrt() ** 2 - 2).rad < 1e-70)
    True
    """
    before = flint.ctx.prec
    flint.ctx.prec = bits
    try:
        yield
    finally:
        flint.ctx.prec = before


def ladder(compute: Callable[[], Result], start: int = 64, limit: int = 4096) -> Result:
    """Run ``compute`` with doubled precision until it returns without :class:`Undecided`.

    Raises
    ------
    Undecided
        If it is still undecided at the last precision not above ``limit`` bits.
    ValueError
        If ``start`` is not between 2 and ``limit``.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Ball, ladder
    >>> ladder(lambda: Ball(1) + Ball(2) ** -1000 > 1)
    True
    """
    if not 2 <= start <= limit:
        raise ValueError(f"start must be in [2, limit] = [2, {limit}] bits, got {start}.")
    bits = start
    while True:
        try:
            with precision(bits):
                return compute()
        except Undecided:
            bits *= 2
            if bits > limit:
                raise


def encloses(balls: Any, numbers: Any) -> np.ndarray[Any, Any]:
    """Return for each ball whether it contains the number; a ball that is not finite does not.

    Parameters
    ----------
    balls : array of Ball
        The enclosures.
    numbers : array of int, float or Fraction
        Broadcast against ``balls``.

    Raises
    ------
    Undecided
        If a Fraction is so near the edge of its ball that 4096 bits do not tell.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import ball, encloses
    >>> encloses(ball(2).item().sqrt(), np.sqrt(2.0)).item()
    True
    >>> encloses(ball([1, 2]), [1.0, 2.5]).tolist()
    [True, False]
    """

    def check(b: Ball, value: Any) -> bool:
        def decide() -> bool:
            point = _arb(value)  # of a Fraction, a ball as small as the precision makes it
            if not (b.is_finite and point.is_finite() and b.arb.overlaps(point)):
                return False
            if b.arb.contains(point):
                return True
            raise Undecided(f"whether {b!r} contains {value!r} is not decided at this precision.")

        return ladder(decide)

    result = np.frompyfunc(check, 2, 1)(np.asarray(balls), np.asarray(numbers, dtype=object))
    return np.asarray(result, dtype=bool)


def contains_zero(balls: Any) -> np.ndarray[Any, Any]:
    """Return for each ball whether zero is not excluded; a ball that is not finite excludes none.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Ball, contains_zero
    >>> contains_zero([Ball(1), Ball(1, radius=2)]).tolist()
    [False, True]
    """
    result = np.frompyfunc(lambda b: not b.is_finite or b.arb.contains(0), 1, 1)(np.asarray(balls))
    return np.asarray(result, dtype=bool)
