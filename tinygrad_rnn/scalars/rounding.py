"""Running error analysis: a float, and how far any float evaluation of its formula can be off.

For an element with value x and error e let T be the exact value of its formula. Then |x̂ − T| ≤ e
for *every* evaluation x̂ of the formula in the given precision: in any order and association of its
sums, with or without fused multiply-add, with sums accumulated in higher precision. Two float
results of one formula therefore differ by at most e₁ + e₂, which makes the tolerance of a test
derived instead of chosen (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, §3.3).

It assumes rounding to nearest, gradual underflow, and elementary functions that err by at most
:data:`ULPS` units in the last place. Where overflow or a division by zero cannot be excluded, e is
infinite. x is computed in double, which is one evaluation allowed in any lower precision.

**Propagation.** x is itself such an evaluation, so T ∈ [x − e, x + e] and x̂ ∈ [x − 2e, x + 2e]:
the sup of a derivative is taken over the second interval, and a branch on x is certain only if it
is the same on all of it. For a product, |âb̂ − AB| ≤ |b̂|e_a + |A|e_b ≤ |a|e_b + |b|e_a + 3e_a·e_b,
and the quotient is alike.

**Rounding.** Rounding r to x̂ by k units of roundoff u adds at most ku|r| + kη/2, η the smallest
subnormal. If d bounds the propagated error then |r| ≤ |T| + d and |T| ≤ (|x| + kη/2)/(1 − ku) + d,
so that ku(1 + 4ku)(|x| + 2d) + kη covers it.

**Sums.** In a sum of n + 1 floats in any order each of them goes through at most n roundings, so
the error is at most γ_n · Σ|termᵢ|, γ_n = nu/(1 − nu) (Higham 2002, §4.2). An element that is a sum
thus keeps its number of additions, the errors and the magnitudes of its terms apart. Charging each
addition u times the magnitude so far would bound *this* order only: a large term added last costs
one rounding here and n in the order that starts with it.

**The arithmetic of e** is float too. All its terms are nonnegative, so its relative errors only add
up: to less than 60 · 2⁻⁵³ in each formula below (an elementary function counts 12), which
``GROWTH`` = 1 + 64 · 2⁻⁵³ repays; what underflows is repaid by ``UNDERFLOW``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tinygrad_rnn import functions
from tinygrad_rnn.scalars.element import FOREIGN, elementwise, lifted, number
from tinygrad_rnn.scalars.undecided import Enclosure

ULPS = 6
"""What an elementary function may err by, in units in the last place; one of them is ≤ 2u|y|.

NumPy's exp keeps within 4 and the formulas e/(1 + e)² of tanh' and σ' add four roundings. Measured
maxima: float64 tanh 1.2, σ 2.4, tanh' 3.9; C's tanh 1.9; float32 exp 2.5, log 3.1, tanh' 5.0.
The tests assert it for every function on the platform they run on. The kernels' own tanh, σ and
their derivatives are proved to keep within 8u|y| for every float (theorem N-5).
"""

FUNCTION = 2 * ULPS  # in units of u|y|
GROWTH = 1 + 2.0**-47
UNDERFLOW = 32 * math.ulp(0.0)


@dataclass(frozen=True)
class _Format:
    """A floating-point format: unit roundoff, smallest subnormal, largest number."""

    scalar: type[np.floating[Any]]
    roundoff: float
    tiny: float
    largest: float


@cache
def _format(dtype: np.dtype[Any]) -> _Format:
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"dtype must be float64 or float32, got {dtype}.")
    info = np.finfo(dtype)
    return _Format(dtype.type, float(info.eps) / 2, float(info.smallest_subnormal), float(info.max))


# A function's slope: an upper bound of |f'| on [lo, hi].
_Slope = Callable[[float, float], Any]


def _near(lo: float, hi: float) -> float:
    return max(lo, -hi, 0.0)


def _far(lo: float, hi: float) -> float:
    return max(-lo, hi)


def _function(
    function: Callable[[Any], Any], slope: _Slope, span: float = math.inf, roundings: int = FUNCTION
) -> Callable[[Rounded], Rounded]:
    """Return a function's method; no two of its values are more than ``span`` apart."""

    def method(self: Rounded) -> Rounded:
        x, e = self.value, self.error
        propagated = e
        if 0 < e < math.inf:
            lo = math.nextafter(x - 2 * e, -math.inf)
            hi = math.nextafter(x + 2 * e, math.inf)
            # A slope that underflows to 0 is not 0.
            propagated = min(e * (float(slope(lo, hi)) + UNDERFLOW), span)
        return self._term(float(function(x)), propagated, roundings)

    return method


class Rounded(Enclosure):
    """A float and its running error bound; made by :func:`rounded`.

    Comparisons are decided when every evaluation decides them alike, and otherwise raise
    :class:`Undecided`. Overflow and invalid operations warn as for floats (``np.errstate``).

    Attributes
    ----------
    value : float
        One evaluation of the formula.
    error : float
        An upper bound of |x̂ − T| for every evaluation x̂, T the exact value of the formula.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import rounded
    >>> a, b, c = rounded([1e16, 1.0, -1e16])
    >>> a + b + c, (1e16 + 1.0) - 1e16, (1e16 - 1e16) + 1.0
    (Rounded(0.0, error=4.4), 0.0, 1.0)
    """

    __slots__ = ("additions", "error", "format", "size", "terms", "value")

    def __init__(
        self, value: float, terms: float, size: float, additions: int, format: _Format
    ) -> None:
        self.value = value
        self.terms = terms  # the sum of the terms' errors
        self.size = size  # at least the sum of the terms' magnitudes, in every evaluation
        self.additions = additions
        self.format = format
        nu = additions * format.roundoff
        error = (terms + nu / (1 - nu) * size) * GROWTH if 0 < nu < 1 else terms
        reach = size + 2 * error
        safe = nu < 1 and math.isfinite(reach) and reach <= format.largest
        self.error = error if safe else math.inf

    def _term(self, value: float, propagated: float, roundings: int = 1) -> Rounded:
        """Return the outcome of a rounded operation; sums start afresh from it."""
        k = roundings * self.format.roundoff
        rounding = k * (1 + 4 * k) * (abs(value) + 2 * propagated) + roundings * self.format.tiny
        return self._known(value, (propagated + rounding) * GROWTH + UNDERFLOW)

    def _known(self, value: float, error: float) -> Rounded:
        return Rounded(value, error, (abs(value) + 2 * error) * GROWTH, 0, self.format)

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Rounded):
            return other if other.format == self.format else NotImplemented
        return _lift(other, self.format) if isinstance(other, FOREIGN) else NotImplemented

    @lifted
    def __add__(self, other: Any) -> Rounded:
        if other.size == 0:  # adding zero does not round
            return self
        if self.size == 0:
            return other  # type: ignore[no-any-return]
        return Rounded(
            self.value + other.value,
            (self.terms + other.terms) * GROWTH,
            (self.size + other.size) * GROWTH,
            self.additions + other.additions + 1,
            self.format,
        )

    __radd__ = __add__

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.terms, self.size, self.additions, self.format)

    @lifted
    def __mul__(self, other: Any) -> Rounded:
        for a, b in ((self, other), (other, self)):
            if b.error == 0 and b.value in (-1, 0, 1) and math.isfinite(a.error):
                return b if b.value == 0 else a if b.value == 1 else -a
        a, b, e, d = abs(self.value), abs(other.value), self.error, other.error
        return self._term(self.value * other.value, a * d + b * e + 3 * e * d)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> Rounded:
        a, b, e, d = abs(self.value), abs(other.value), self.error, other.error
        if d == math.inf or b <= 2 * d:
            return self._known(math.nan, math.inf)
        # |â/b̂ − A/B| ≤ (|â − A| + |A/B| |b̂ − B|) / |b̂|
        return self._term(self.value / other.value, (e + (a + e) / (b - d) * d) / (b - 2 * d))

    def __pow__(self, exponent: int) -> Any:
        """Return the power, whether by repeated multiplication or by a library's pow."""
        power = super().__pow__(exponent)
        if power is NotImplemented or exponent in (0, 1):
            return power
        return self._term(power.value, power.error, FUNCTION)

    def __abs__(self) -> Rounded:
        return self._known(abs(self.value), self.error)

    def relu(self) -> Rounded:
        """Return max(x, 0), which is 1-Lipschitz and does not round."""
        if self.value + 2 * self.error < 0:
            return self._known(0.0, 0.0)
        return self._known(max(self.value, 0.0), self.error)

    def step(self) -> Rounded:
        """Return relu's derivative, with error 1 where two evaluations can disagree."""
        certain = self.error == 0 or abs(self.value) > 2 * self.error
        return self._known(float(self.value > 0), 0.0 if certain else 1.0)

    exp = _function(np.exp, lambda lo, hi: np.exp(hi))
    expm1 = _function(np.expm1, lambda lo, hi: np.exp(hi))
    log = _function(np.log, lambda lo, hi: 1 / lo if lo > 0 else math.inf)
    log1p = _function(np.log1p, lambda lo, hi: 1 / (1 + lo) if lo > -1 else math.inf)
    sqrt = _function(np.sqrt, lambda lo, hi: 0.5 / np.sqrt(lo) if lo > 0 else math.inf, roundings=1)
    sin = _function(np.sin, lambda lo, hi: 1, span=2)
    cos = _function(np.cos, lambda lo, hi: 1, span=2)
    sinh = _function(np.sinh, lambda lo, hi: np.cosh(_far(lo, hi)))
    cosh = _function(np.cosh, lambda lo, hi: np.sinh(_far(lo, hi)))
    tanh = _function(np.tanh, lambda lo, hi: functions.d_tanh(_near(lo, hi)), span=2)
    sigmoid = _function(functions.sigmoid, lambda lo, hi: functions.d_sigmoid(_near(lo, hi)), 1)
    softplus = _function(functions.softplus, lambda lo, hi: functions.sigmoid(hi))
    # tanh'' = −2 tanh tanh', and σ'' = −tanh(x/2) σ'.
    d_tanh = _function(
        functions.d_tanh,
        lambda lo, hi: 2 * np.tanh(_far(lo, hi)) * functions.d_tanh(_near(lo, hi)),
        span=1,
    )
    d_sigmoid = _function(
        functions.d_sigmoid,
        lambda lo, hi: np.tanh(_far(lo, hi) / 2) * functions.d_sigmoid(_near(lo, hi)),
        span=0.25,
    )

    def _below(self, other: Any) -> bool:
        # x̂ is within 2e of x. With both errors 0 the sign of the difference is exact.
        return bool(other.value - self.value > 2 * (self.error + other.error) * GROWTH)

    def _at_most(self, other: Any) -> bool:
        exactly = self.error == other.error == 0 and self.value == other.value
        return exactly or self._below(other)

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        return f"Rounded({self.value!r}, error={self.error:.2g})"


def _lift(value: Any, format: _Format) -> Rounded:
    value = number(value)
    x = float(value)
    exact = Rounded(x, 0.0, abs(x), 0, format)
    if math.isfinite(x) and abs(x) <= format.largest and float(format.scalar(x)) == value:
        return exact
    return exact._term(x, 0.0)


def rounded(array: Any, dtype: Any = np.float64) -> np.ndarray[Any, Any]:
    """Lift exact inputs to floats with an error bound: 0 where ``dtype`` holds the input exactly.

    An input that ``dtype`` does not hold has the error of its own rounding.

    Parameters
    ----------
    array : array of int, float or Fraction
        The exact inputs.
    dtype : float64 or float32
        The precision whose evaluations are to be covered.

    Raises
    ------
    TypeError
        If ``dtype`` is another, or an element is not a real number.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import errors, rounded, values
    >>> x = np.random.default_rng(0).normal(size=100)
    >>> total = rounded(x).sum()
    >>> abs(float(x.sum()) - float(x[::-1].sum())) <= 2 * total.error
    True
    """
    format = _format(np.dtype(dtype))
    return elementwise(lambda value: _lift(value, format), array)


def values(array: Any) -> np.ndarray[Any, Any]:
    """Return the floats of an array of :class:`Rounded`.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import rounded, values
    >>> values(rounded([1, 2]) * 3).tolist()
    [3.0, 6.0]
    """
    return elementwise(float, array).astype(float)


def errors(array: Any) -> np.ndarray[Any, Any]:
    """Return the error bounds of an array of :class:`Rounded`; a plain number (empty sum) has none.

    Examples
    --------
    >>> from tinygrad_rnn.scalars import errors, rounded
    >>> errors(rounded([1, 2])).tolist()
    [0.0, 0.0]
    """
    return elementwise(lambda e: e.error if isinstance(e, Rounded) else 0.0, array).astype(float)
