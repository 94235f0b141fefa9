"""tanh, σ and their derivatives, of one float: the loops around them are vectorised.

All of them follow from e = e^(−z) and e − 1 with z ≥ 0, where nothing overflows and, in the
derivatives, nothing cancels: they are accurate in relative terms however far a unit is saturated.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from tinygrad_rnn.kernels.compile import PLAIN, Array, loop, scalar


class Format(NamedTuple):
    """What e^(−z) needs to know about a precision."""

    mantissa: int  # its bits
    high: float  # ln 2 = high + low, and n · high is exact for every n that occurs
    low: float
    degree: int  # of the Taylor polynomial of e^r, |r| ≤ ln 2 / 2
    last: float  # e^(−last) is the smallest positive number


FORMATS: dict[Any, Format] = {
    np.float32: Format(23, 0.693359375, -2.1219444005469058e-4, 7, 103.5),
    np.float64: Format(52, float.fromhex("0x1.62e42fefa38p-1"), 5.497923018708371e-14, 13, 745.0),
}


def _halves(number: Any) -> Any:
    """Make halves(x): for x = MAGIC + n the two factors 2^(−⌊n/2⌋) and 2^(−⌈n/2⌉) of 2^(−n).

    MAGIC = 1.5 · 2^mantissa is so large that n stands in the last bits of x.
    """
    mantissa = FORMATS[number].mantissa
    magic = number(1.5 * 2**mantissa)

    def plain(x: Any) -> Any:
        n = 0 if math.isnan(x) else int(x - magic)
        return np.ldexp(number(1), -(n // 2)), np.ldexp(number(1), -(n - n // 2))

    size = 8 * np.dtype(number).itemsize
    integer = ir.IntType(size)

    @intrinsic
    def halves(typing: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            bits = builder.bitcast(args[0], integer)
            n = builder.sub(bits, integer(int(magic.view(f"i{size // 8}"))))
            half = builder.lshr(n, integer(1))
            bias = integer((1 << (size - mantissa - 2)) - 1)
            factors = [
                builder.bitcast(
                    builder.shl(builder.sub(bias, k), integer(mantissa)),
                    context.get_value_type(x),
                )
                for k in (half, builder.sub(n, half))
            ]
            return context.make_tuple(builder, signature.return_type, factors)

        return types.UniTuple(x, 2)(x), codegen  # type: ignore[no-untyped-call]

    return plain if PLAIN else halves


@scalar
def decay(number: Any) -> Any:
    """Return (e^(−z), e^(−z) − 1) for z ≥ 0."""
    format, halves = FORMATS[number], _halves(number)
    MAGIC, PER_LN2 = number(1.5 * 2**format.mantissa), number(1 / math.log(2))
    HIGH, LOW, LAST, ONE = map(number, (format.high, format.low, format.last, 1))
    top, *others = (number(1 / math.factorial(k)) for k in range(format.degree, 1, -1))
    rest = tuple(others)

    def decay(x: Any) -> Any:
        z = LAST if x > LAST else x  # NaN stays
        shifted = z * PER_LN2 + MAGIC
        n = shifted - MAGIC
        r = (n * HIGH - z) + n * LOW
        p = top
        for coefficient in rest:
            p = p * r + coefficient
        p = r + r * r * p  # e^r − 1
        s1, s2 = halves(shifted)
        s = s1 * s2
        return (s1 * (ONE + p)) * s2, s * p + (s - ONE)

    return decay


@scalar
def fold(number: Any) -> Any:
    """Return σ(x) folded at 1/2: the smaller of σ and 1 − σ, negative if that is 1 − σ.

    One number from which σ, 1 − σ and σ' all follow without cancellation.
    """
    ONE = number(1)

    def fold(x: Any) -> Any:
        e = decay(abs(x))[0]
        q = e / (ONE + e)
        return -q if x > 0 else q

    return fold


@scalar
def unfold(number: Any) -> Any:
    """Return σ from its folded form; from its negative, 1 − σ."""
    ONE = number(1)

    def unfold(x: Any) -> Any:
        return x if x > 0 else ONE + x

    return unfold


@scalar
def slope(number: Any) -> Any:
    """Return σ' = σ (1 − σ) from the folded form of σ."""
    ONE = number(1)

    def slope(x: Any) -> Any:
        return abs(x) * (ONE - abs(x))

    return slope


@scalar
def tanh(number: Any) -> Any:
    """Return tanh x = (1 − e)/(1 + e) with e = e^(−2|x|), and the sign of x."""
    TWO = number(2)

    def tanh(x: Any) -> Any:
        m = decay(abs(x) + abs(x))[1]
        t = m / (TWO + m)
        return -t if x > 0 else t

    return tanh


@scalar
def tanh_and_slope(number: Any) -> Any:
    """Return tanh x and tanh' x = 4e/(1 + e)² with e = e^(−2|x|)."""
    ONE, FOUR = number(1), number(4)

    def tanh_and_slope(x: Any) -> Any:
        e, m = decay(abs(x) + abs(x))
        q = ONE / (ONE + e)
        t = m * q
        return -t if x > 0 else t, FOUR * e * q * q

    return tanh_and_slope


# ---- loops over one row ------------------------------------------------------------------------
# A loop is vectorised if it can be checked at its start that its arrays do not overlap. That takes
# pairs of pointers, so every loop of the kernels writes few arrays and reads few.


@loop
def copy(a: Array, b: Array) -> None:
    """Set a = b."""
    for j in range(a.size):
        a[j] = b[j]


@loop
def clear(a: Array) -> None:
    """Set a = 0."""
    for j in range(a.size):
        a[j] = 0


@loop
def add(a: Array, b: Array) -> None:
    """Do a += b."""
    for j in range(a.size):
        a[j] += b[j]


@loop
def add_each(a: Array, b: Array, c: Array) -> None:
    """Do a += b ∘ c."""
    for j in range(a.size):
        a[j] += b[j] * c[j]


@loop
def fold_all(a: Array) -> None:
    """Replace preactivations by folded gates."""
    for j in range(a.size):
        a[j] = fold(a[j])
