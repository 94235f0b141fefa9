"""What every number system shares: how its elements meet foreign numbers, and NumPy object arrays.

NumPy's ufuncs on an object array call the element: ``a + b`` its ``__add__``, ``np.tanh`` its
``tanh()``, ``a > b`` its ``__gt__``. An element answers ``NotImplemented`` to an array, so that
``element * array`` is taken element by element as well.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from typing import Any

import numpy as np

Number = int | float | Fraction
FOREIGN = (int, float, Fraction, np.integer, np.bool_, np.float16, np.float32)


def number(value: Any) -> Number:
    """Return the Python number that equals ``value`` exactly.

    Raises
    ------
    TypeError
        If ``value`` is not a real number of a width Python can hold.
    """
    if not isinstance(value, FOREIGN):
        raise TypeError(
            f"expected an int, a float or a Fraction, got {type(value).__name__} {value!r}. "
            "Convert it first."
        )
    if isinstance(value, (np.integer, np.bool_)):
        return int(value)
    return value if isinstance(value, (int, Fraction)) else float(value)


def elementwise(function: Callable[[Any], Any], array: Any) -> np.ndarray[Any, Any]:
    """Apply ``function`` to every element; the result is an object array, also of no axes."""
    result = np.frompyfunc(function, 1, 1)(np.asarray(array, dtype=object))
    return np.asarray(result, dtype=object)


def lifted(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let a binary operation of elements accept whatever the element's ``_lift`` accepts."""

    @wraps(operation)
    def method(self: Any, other: Any) -> Any:
        other = self._lift(other)
        return NotImplemented if other is NotImplemented else operation(self, other)

    return method


class Element:
    """The operators that follow from ``+``, unary ``-``, ``*``, ``/`` and ``==``."""

    __slots__ = ()

    def _lift(self, other: Any) -> Any:
        """Return ``other`` as an element of this system, or ``NotImplemented``."""
        raise NotImplementedError

    @lifted
    def __sub__(self: Any, other: Any) -> Any:
        return self + (-other)

    def __rsub__(self: Any, other: Any) -> Any:
        return -self + other

    @lifted
    def __rtruediv__(self, other: Any) -> Any:
        return other / self

    def __pow__(self: Any, exponent: int) -> Any:
        """Return the integer power by repeated squaring."""
        if not isinstance(exponent, (int, np.integer)):
            return NotImplemented
        if exponent < 0:
            return 1 / self**-exponent
        if exponent < 2:
            return self if exponent else self._lift(1)
        half = self ** (exponent // 2)
        return half * half * self if exponent % 2 else half * half

    def __pos__(self: Any) -> Any:
        return self

    def conjugate(self: Any) -> Any:
        """Return the element itself: these are real numbers."""
        return self

    def __bool__(self: Any) -> bool:
        return bool(self != 0)


class Ordered(Element):
    """An element that compares as its ``value`` does."""

    __slots__ = ()
    value: Any

    @lifted
    def __eq__(self, other: Any) -> bool:
        return bool(self.value == other.value)

    @lifted
    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other.value)

    @lifted
    def __le__(self, other: Any) -> bool:
        return bool(self.value <= other.value)

    @lifted
    def __gt__(self, other: Any) -> bool:
        return bool(self.value > other.value)

    @lifted
    def __ge__(self, other: Any) -> bool:
        return bool(self.value >= other.value)
