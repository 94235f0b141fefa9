"""Comparisons that answer only when they are certain.

An enclosure stands for an unknown number. ``a < b`` has three answers: certainly, certainly not,
and unknown. Taking *unknown* for *no* is how ``np.maximum(x, 0)`` turns an enclosure of zero into
the number 0, so here unknown is an exception.
"""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.scalars.element import Element, lifted


class Undecided(ArithmeticError):
    """A comparison of two enclosures that overlap: neither true nor false is certain.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import Ball, Undecided
    >>> third = Ball(1) / 3
    >>> try:
    ...     third * 3 == 1
    ... except Undecided:
    ...     print("not at this precision")
    not at this precision
    """


def _decide(yes: bool, no: bool, a: Any, relation: str, b: Any) -> bool:
    if yes or no:
        return yes
    raise Undecided(
        f"{a!r} {relation} {b!r} cannot be decided: the enclosures overlap or are not finite. "
        "Raise the precision, or use a function that takes the hull (relu, step)."
    )


class Enclosure(Element):
    """An element that stands for an unknown number; a subclass says what is *certainly* so."""

    __slots__ = ()

    def _below(self, other: Any) -> bool:
        """Return whether ``self < other`` for certain."""
        raise NotImplementedError

    def _at_most(self, other: Any) -> bool:
        """Return whether ``self <= other`` for certain."""
        raise NotImplementedError

    @lifted
    def __lt__(self, other: Any) -> bool:
        return _decide(self._below(other), other._at_most(self), self, "<", other)

    @lifted
    def __le__(self, other: Any) -> bool:
        return _decide(self._at_most(other), other._below(self), self, "<=", other)

    @lifted
    def __gt__(self, other: Any) -> bool:
        return _decide(other._below(self), self._at_most(other), self, ">", other)

    @lifted
    def __ge__(self, other: Any) -> bool:
        return _decide(other._at_most(self), self._below(other), self, ">=", other)

    @lifted
    def __eq__(self, other: Any) -> bool:
        equal = self._at_most(other) and other._at_most(self)
        return _decide(equal, self._below(other) or other._below(self), self, "==", other)

    __hash__ = None  # type: ignore[assignment]
