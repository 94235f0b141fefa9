"""Exact rational arithmetic: arrays of ``fractions.Fraction``.

``Fraction`` needs no wrapper, but it has a trap: ``Fraction + float`` is a float, so one
``np.zeros(n)`` in a formula silently ends the exactness. :func:`assert_exact` finds it.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.scalars.element import elementwise, number


def _fraction(value: Any) -> Fraction:
    value = number(value)
    if not math.isfinite(value):
        raise ValueError(f"only finite numbers are rational, got {value!r}.")
    return Fraction(value)


def rational(array: Any) -> np.ndarray[Any, Any]:
    """Lift an array to ``Fraction`` exactly: a float becomes the dyadic rational that it is.

    Raises
    ------
    ValueError
        If an element is infinite or NaN.
    TypeError
        If an element is not a real number.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import rational
    >>> x = rational([0.5, 3])
    >>> x @ x
    Fraction(37, 4)
    """
    return elementwise(_fraction, array)


def assert_exact(array: Any) -> None:
    """Refuse an array in which a float has ended the exactness.

    Raises
    ------
    TypeError
        Naming the first element that is a float or a complex number.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import assert_exact, rational
    >>> assert_exact(1 - rational([0.5]) ** 2)
    >>> assert_exact(np.zeros(1) + rational([0.5]))
    Traceback (most recent call last):
    TypeError: expected exact numbers, got the float 0.5 at index (0,). A float constant or ...
    """
    for index, value in np.ndenumerate(np.asarray(array)):
        if isinstance(value, (float, complex, np.inexact)):
            kind = "complex" if isinstance(value, (complex, np.complexfloating)) else "float"
            raise TypeError(
                f"expected exact numbers, got the {kind} {value!s} at index {index}. A float "
                "constant or accumulator entered the formula: write ints, and 0 * x for zeros."
            )
