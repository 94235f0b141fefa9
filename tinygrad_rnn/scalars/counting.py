"""Arithmetic that counts itself: the cost of a formula, as an exact number of operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn import functions
from tinygrad_rnn.scalars.element import FOREIGN, Ordered, elementwise, number


@dataclass
class Tally:
    """How many operations of each kind the elements that share this tally have performed.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import Tally, counted
    >>> tally = Tally()
    >>> A = counted(np.eye(3), tally)
    >>> _ = np.tanh(A @ A)
    >>> tally
    Tally(add=18, mul=27, div=0, function=9)
    """

    add: int = 0
    mul: int = 0
    div: int = 0
    function: int = 0


def _function(function: Callable[[Any], Any]) -> Callable[[Count], Count]:
    def method(self: Count) -> Count:
        self.tally.function += 1
        return Count(np.asarray(function(self.value)).item(), self.tally)

    return method


class Count(Ordered):
    """A number that counts the operations done on it in the tally it shares.

    Subtraction is an addition. Changing a sign, comparing and ``abs`` are free, and so is what
    only starts an accumulation: ``0 + x``, ``0 * x``, ``1 * x`` with a literal int.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Count, Tally
    >>> tally = Tally()
    >>> x = Count(2.0, tally)
    >>> x * x - 1 / x, tally.mul, tally.add, tally.div
    (Count(3.5), 1, 1, 1)
    """

    __slots__ = ("tally", "value")

    def __init__(self, value: Any, tally: Tally) -> None:
        self.value = number(value)
        self.tally = tally

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Count):
            return other if other.tally is self.tally else NotImplemented
        return Count(other, self.tally) if isinstance(other, FOREIGN) else NotImplemented

    def _combine(self, kind: str, other: Any, free: tuple[int, ...]) -> Any:
        element = self._lift(other)
        if element is NotImplemented:
            return NotImplemented
        if not (type(other) is int and other in free):
            setattr(self.tally, kind, getattr(self.tally, kind) + 1)
        operation = {"add": operator.add, "mul": operator.mul, "div": operator.truediv}[kind]
        return Count(operation(self.value, element.value), self.tally)

    def __add__(self, other: Any) -> Any:
        return self._combine("add", other, free=(0,))

    __radd__ = __add__

    def __neg__(self) -> Count:
        return Count(-self.value, self.tally)

    def __mul__(self, other: Any) -> Any:
        return self._combine("mul", other, free=(0, 1))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Any:
        return self._combine("div", other, free=(1,))

    def __abs__(self) -> Count:
        return Count(abs(self.value), self.tally)

    def __float__(self) -> float:
        return float(self.value)

    def __repr__(self) -> str:
        return f"Count({self.value!r})"

    exp = _function(np.exp)
    expm1 = _function(np.expm1)
    log = _function(np.log)
    log1p = _function(np.log1p)
    sqrt = _function(np.sqrt)
    sin = _function(np.sin)
    cos = _function(np.cos)
    sinh = _function(np.sinh)
    cosh = _function(np.cosh)
    tanh = _function(np.tanh)
    d_tanh = _function(functions.d_tanh)
    sigmoid = _function(functions.sigmoid)
    d_sigmoid = _function(functions.d_sigmoid)
    softplus = _function(functions.softplus)
    relu = _function(functions.relu)
    step = _function(functions.step)


def counted(array: Any, tally: Tally) -> np.ndarray[Any, Any]:
    """Lift an array of numbers to elements that count their operations in ``tally``.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Tally, counted
    >>> tally = Tally()
    >>> x = counted([1.0, 2.0, 3.0], tally)
    >>> float(x @ x), tally.mul, tally.add
    (14.0, 3, 2)
    """
    return elementwise(lambda value: Count(value, tally), array)
