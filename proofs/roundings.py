"""What rounding does to the kernels' tanh and σ: an upper bound for all floats, in ball arithmetic.

The formulas of :mod:`tinygrad_rnn.kernels.elementwise` are run once more on numbers of which only
an enclosure and an enclosure of the error are known, over boxes that cover every argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from flint import arb

from tinygrad_rnn.kernels import elementwise
from tinygrad_rnn.scalars import precision

Function = Callable[[Any, Any], Any]
CELLS = 32  # boxes of the reduced argument on either side of 0
APART = 6  # from 2^(−APART) on, all octaves are one box


def _slope(e: Any, m: Any) -> Any:
    q = e / (1 + e)
    return q * (1 - q)


def _tanh_slope(e: Any, m: Any) -> Any:
    q = 1 / (1 + e)
    return 4 * e * q * q


# What the kernels compute from e = e^(−z) and m = e − 1: z is |x| for σ, and 2|x| for tanh.
FORMULAS: dict[str, Function] = {
    "e^(−z)": lambda e, m: e,
    "e^(−z) − 1": lambda e, m: m,
    "σ": lambda e, m: e / (1 + e),
    "σ, x > 0": lambda e, m: 1 - e / (1 + e),
    "σ'": _slope,
    "tanh": lambda e, m: m / (2 + m),
    "tanh, with its derivative": lambda e, m: m * (1 / (1 + e)),
    "tanh'": _tanh_slope,
}


def half_ulp(x: arb, u: float) -> float:
    """Bound what rounding to nearest does to a number in the ball x: u 2^⌊log₂|x|⌋."""
    return u * 2.0 ** (math.frexp(math.nextafter(float(abs(x).abs_upper()), math.inf))[1] - 1)


class Approx:
    """A computed number y(1 + θ): y is in the ball ``exact``, and θ = Σ cᵢεᵢ + τ, |εᵢ| ≤ u.

    ``errors`` are the balls cᵢ, by the roundings i they stem from, and |τ| ≤ ``rest``, the terms of
    second order. So errors that cancel may cancel. Whether a·b + c is rounded once or twice, the
    bound is the same or larger.
    """

    def __init__(self, exact: arb, errors: dict[Any, arb], rest: Any, u: float) -> None:
        self.exact, self.errors, self.rest, self.u = exact, errors, arb(rest).abs_upper(), u

    @property
    def size(self) -> arb:
        """A bound of |θ|."""
        total = self.u * sum((abs(c) for c in self.errors.values()), arb(0)) + self.rest
        return total.abs_upper()

    def _rounded(self, exact: arb, errors: dict[Any, arb], rest: arb) -> Approx:
        """Round y(1 + θ) to nearest."""
        before = Approx(exact, errors, rest, self.u)
        smallest, relative = exact.abs_lower(), arb(1)
        if smallest > 0:
            relative = relative.min(half_ulp(exact * (1 + before.size), 1.0) / smallest)
        rounding = relative * (1 + before.size)
        return Approx(exact, {**errors, object(): rounding}, rest, self.u)

    def _of(self, other: Any) -> Any:
        return other if isinstance(other, Approx) else Approx(arb(other), {}, 0, self.u)

    def _combined(self, a: Any, other: Approx, b: Any) -> dict[Any, arb]:
        keys = {**self.errors, **other.errors}
        zero = arb(0)
        return {k: a * self.errors.get(k, zero) + b * other.errors.get(k, zero) for k in keys}

    def __neg__(self) -> Any:
        return Approx(-self.exact, self.errors, self.rest, self.u)

    def __add__(self, other: Any) -> Approx:
        other = self._of(other)
        total = self.exact + other.exact
        a, b = self.exact / total, other.exact / total
        rest = abs(a) * self.rest + abs(b) * other.rest
        return self._rounded(total, self._combined(a, other, b), rest)

    __radd__ = __add__

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Approx:
        other = self._of(other)
        if other.exact == 4:
            return Approx(4 * self.exact, self.errors, self.rest, self.u)
        rest = self.rest + other.rest + self.size * other.size
        return self._rounded(self.exact * other.exact, self._combined(1, other, 1), rest)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Approx:
        other = self._of(other)
        # (1 + a)/(1 + b) = 1 + (a − b) − (a − b) b/(1 + b)
        second = (self.size + other.size) * other.size / (1 - other.size)
        rest = self.rest + other.rest + second
        return self._rounded(self.exact / other.exact, self._combined(1, other, -1), rest)

    def __rtruediv__(self, other: Any) -> Any:
        return self._of(other) / self


def _hull(lo: Any, hi: Any) -> arb:
    return arb(lo).union(arb(hi))


class Decay:
    """The steps of ``decay``: n nearest to z/ln 2, r near ρ = n ln 2 − z, p near e^ρ − 1.

    Then e^(−z) = 2^(−n)(1 + p) and e^(−z) − 1 = 2^(−n)p + (2^(−n) − 1). What is named ``…_error``
    bounds |computed − exact|.
    """

    def __init__(self, number: Any) -> None:
        format = elementwise.FORMATS[number]
        self.u = u = 2.0 ** -(format.mantissa + 1)
        self.degree, ln2 = format.degree, arb(2).log()
        high, low, last, per_ln2 = (
            arb(float(number(v))) for v in (format.high, format.low, format.last, 1 / math.log(2))
        )
        self.coefficients = {
            k: arb(float(number(1 / math.factorial(k)))) for k in range(2, format.degree + 1)
        }
        self.top = math.ceil(float(last * per_ln2)) + 1  # no n is larger
        # fl(z/ln 2 + MAGIC) is rounded to an integer.
        off = self.top * (u + abs(1 - 1 / (per_ln2 * ln2)))
        # n·HIGH − z is exact; n·LOW is rounded, and so is the sum, which is r.
        self.shift = self.top * (abs(high + low - ln2) + u * abs(low))
        self.reach = (ln2 * (off + 0.5) + self.shift + u).abs_upper()  # |r| is no larger
        self.underflow = arb(float(np.finfo(number).smallest_subnormal)).sqrt()
        grid = high.mid().man_exp()[1]  # HIGH is a multiple of 2^grid
        self.exact = {
            "n·HIGH is exact": (self.top * high * arb(2) ** -grid, arb(2) ** (format.mantissa + 1)),
            "n·HIGH − z is exact": (self.reach + self.top * abs(high - ln2), arb(1) / 2),
        }

    def relative_error(self, r: arb) -> arb:
        """|p − (e^r − 1)|/|r| for r itself: p = r + r²P(r), P by Horner's rule."""
        u, a, c = self.u, abs(r), self.coefficients
        value, error = c[self.degree] + 0 * r, arb(0)
        for k in range(self.degree - 1, 1, -1):
            product = value * r
            error = error * a + u * (abs(product) + error * a)
            value = product + c[k]
            error += half_ulp(abs(value) + error, u)
        rP, rP_error = abs(r * value), error * a
        rP_error += (rP + rP_error) * (2 * u + u * u)  # r · r · P is rounded twice
        p = abs(1 + r * value) + rP_error  # p/r
        rounding = half_ulp(a * p, u) / a.abs_lower() if a.abs_lower() > 0 else u * p
        taylor = [abs(1 / arb(math.factorial(k)) - c[k]) * a ** (k - 1) for k in c]
        tail = a**self.degree * a.exp() / math.factorial(self.degree + 1)
        # An underflow in r · r or later costs at most |r|√η, for it needs |r| < √η, or r² ≥ η.
        return (rP_error + rounding + sum(taylor, tail) + 4 * self.underflow).abs_upper()

    def boxes(self) -> Iterator[tuple[Approx, Approx]]:
        """Yield (e^(−z), e^(−z) − 1) as they are computed, over boxes that cover all z ≥ 0."""
        for i in range(CELLS):
            near = _hull(self.reach * i / CELLS, self.reach * (i + 1) / CELLS)
            yield self._at(0, -near)
            for n in range(1, APART + 1):
                yield self._at(n, near)
                yield self._at(n, -near)

    def _at(self, n: int, r: arb) -> tuple[Approx, Approx]:
        """Return both for computed r in a ball, and one n; n = APART stands for all from it on."""
        u, size, relative = self.u, abs(r), self.relative_error(r)
        if n == 0:  # z < ln 2/2: r = −z exactly, e = 1 + p and m = p
            lo, hi = size.abs_lower(), size.abs_upper()
            E, p_error, m = r.exp(), relative * size, -_hull(-(-lo).expm1(), -(-hi).expm1())
            # |r|/(1 − e^(−|r|)) grows with |r|, from 1 on.
            m_error = -relative * _hull(-lo / (-lo).expm1() if lo > 0 else 1, -hi / (-hi).expm1())
            s = arb(1)
        else:
            s = arb(2) ** -n if n < APART else _hull(0, arb(2) ** -n)
            shift = self.shift + half_ulp(r, u)
            E = (r + arb(0, shift.abs_upper())).exp()  # e^ρ
            p_error = relative * size.abs_upper() + r.exp() * shift.expm1()
            m = s * E - 1
            m_error = s * p_error / m
        rounding = half_ulp(E + arb(0, p_error.abs_upper()), u)
        e = Approx(s * E, {"p": p_error / u / E, "1 + p": rounding / u / E}, 0, u)
        if n == 0:
            return e, Approx(m, {"p": m_error / u}, 0, u)
        # 2^(−n) − 1 is rounded only if the number has more than its bits; 2^(−n)p may underflow.
        errors = {"p": m_error / u, "2^(−n) − 1": (0.5 if n == APART else 0) / m}
        return e, Approx(m, {}, 0, u)._rounded(m, errors, self.underflow)


@lru_cache
def _certified(number: Any, format: Any) -> tuple[dict[str, float], dict[str, Any]]:
    with precision(128):
        decay = Decay(number)
        found = dict.fromkeys(FORMULAS, 0.0)
        for e, m in decay.boxes():
            for name, formula in FORMULAS.items():
                size = (formula(e, m).size / e.u).abs_upper()
                found[name] = max(found[name], math.nextafter(float(size), math.inf))
    return found, decay.exact


def certified(number: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Bound each formula's relative error for every z ≥ 0, in units of u.

    Also return pairs of numbers that must be in order, for products and sums to be exact.
    """
    return _certified(number, elementwise.FORMATS[number])
