"""Enclosures of the gradient in ball arithmetic: by the tape, and by difference quotients.

The quotient is q(h) = (φ(x + hd) − φ(x − hd)) / 2h, with h so small that |hd| is 2⁻¹⁰⁰ of the
arguments, at several hundred bits. Rounding is enclosed. The truncation, h²/6 times the third
derivative, is bounded by |q(2h) − q(h)|; that is rigorous if the third derivative keeps its sign
and changes by less than a factor of 2 on [x − 2hd, x + 2hd].
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import flint
import numpy as np

from tinygrad_rnn.check.oracles import Contradiction, Unavailable
from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.tape import gradient
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars import Ball, ball, precision
from tinygrad_rnn.scalars.element import elementwise

ACCURACY = 64  # bits of an enclosure that are right: more than a float has
RESOLUTION = 2.0**-10  # or: the share of the rounding bound that it may be uncertain by
AGREEMENT = 50  # bits to which a confirmation holds, relative to every single entry
REACH = 100  # |hd| is at most 2^−REACH of the arguments
KINK = "the function has a kink exactly at these arguments"


def ladder(start: int, limit: int) -> Iterator[int]:
    """Yield precisions from ``start`` to ``limit``, each four times the one before."""
    bits = start
    while bits < limit:
        yield bits
        bits *= 4
    yield limit


def balls(
    problem: Problem, bounds: Sequence[Array], max_bits: int, accuracy: int = ACCURACY
) -> tuple[list[Array], int]:
    """Enclose the gradient by the tape over balls; also return the bits that took.

    Each entry gets ``accuracy`` right bits, or a radius far below its bound.
    """
    why = ""
    for bits in ladder(128, max_bits):
        try:
            with precision(bits):
                found = [ball(g) for g in gradient(problem, list(map(ball, problem.variables)))]
        except ArithmeticError as error:  # more bits may help
            why = f"{type(error).__name__}: {error}"
            continue
        except Exception as error:  # whatever a function does when it meets balls
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        if all(is_sharp(e, b, accuracy) for es, bs in zip(found, bounds, strict=True)
               for e, b in zip(es.flat, bs.flat, strict=True)):  # fmt: skip
            return found, bits
        why = f"the enclosures are still too wide at {bits} bits"
    raise Unavailable(why)


def is_sharp(e: Ball, bound: float, accuracy: int = ACCURACY) -> bool:
    """Return whether a ball has enough right bits, or is small beside a finite bound."""
    if not e.is_finite:
        return False
    small = math.isfinite(bound) and e.rad.upper <= RESOLUTION * bound
    return small or bool(e.arb.rel_accuracy_bits() >= accuracy)


def _two(e: int) -> Ball:
    return Ball(flint.arb(2) ** e)


def _value(problem: Problem, variables: Sequence[Array]) -> Ball:
    value = problem(*map(ball, variables))
    value = value.item() if isinstance(value, np.ndarray) else value
    return value if isinstance(value, Ball) else Ball(value)


def _smallest_exponent(problem: Problem) -> int:
    """Return the exponent of the smallest nonzero argument, or 0 if that is positive."""
    sizes = [np.abs(v[v != 0]) for v in problem.variables]
    return min([0, *(math.frexp(float(s.min()))[1] for s in sizes if s.size)])


def _quotient(
    problem: Problem, direction: Sequence[Array], reach: int, bits: int
) -> tuple[Ball, Ball]:
    """Return the derivative in a direction, and the gap between its one-sided quotients.

    The entries of the direction are balls of magnitude at most 2^reach.
    """
    with precision(bits):
        h = _two(_smallest_exponent(problem) - REACH - reach)

        def at(k: int) -> Ball:
            pairs = zip(problem.variables, direction, strict=True)
            return _value(problem, [ball(v) + k * h * d for v, d in pairs])

        center, right, left = at(0), at(1), at(-1)
        central = (right - left) / (2 * h)
        wide = (at(2) - at(-2)) / (4 * h)
        truncation = Ball(flint.arb(0, (wide - central).arb.abs_upper()))
        return central + truncation, abs((right - center) / h - (center - left) / h)


def confirm(
    problem: Problem, truth: Sequence[Array], rng: np.random.Generator, max_bits: int
) -> int:
    """Compare an enclosure of the gradient with a difference quotient; return the bits that took.

    One random direction does for all entries: its entry i is rᵢ/|gᵢ| to within a factor of 2, with
    rᵢ random in ±[1, 2) of 61 bits. So every entry contributes as much as any other, however small
    it is, and one that is wrong by more than 2^−AGREEMENT of itself shows, unless it cancels
    against another wrong one by chance.

    Raises
    ------
    Contradiction
        If they differ.
    Unavailable
        At a kink, and where ``max_bits`` are too few.
    """
    scales = _scales(truth)
    with precision(max_bits):
        direction = [elementwise(lambda e: _random(rng) * _two(int(e)), s) for s in scales]
        products = [np.ravel(d * g) for d, g in zip(direction, truth, strict=True)]
        slope = sum(np.concatenate(products), Ball(0))
        total = sum(np.abs(np.concatenate(products)), Ball(0))
        if total.arb.is_zero():
            total = abs(_value(problem, problem.variables))
        allowed = (Ball(total.arb.abs_upper()) * _two(-AGREEMENT)).arb
    reach = max(int(s.max(initial=0)) for s in scales) + 1
    for bits in ladder(4 * REACH + max(0, reach) - _smallest_exponent(problem), max_bits):
        try:
            estimate, gap = _quotient(problem, direction, reach, bits)
        except ArithmeticError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        if gap.arb > allowed:
            raise Unavailable(KINK)
        off = abs(estimate - slope).arb
        if off > allowed:
            raise Contradiction
        if off <= allowed and gap.arb <= allowed:
            return bits
    raise Unavailable(f"{max_bits} bits are too few for a difference quotient")


def _scales(truth: Sequence[Array]) -> list[Array]:
    """Return −exponent for every entry; zeros are looked at as closely as the smallest entry."""

    def exponent(g: Ball) -> int | None:
        """Return e with size about 2^e; what is lost in the radius counts as size."""
        size = max(abs(g.arb.mid()), g.arb.rad() * 2**ACCURACY)
        mantissa, e = size.mid().man_exp()
        return int(e) + int(mantissa).bit_length() if mantissa else None

    exponents = [elementwise(exponent, g) for g in truth]
    finest = max((-e for es in exponents for e in es.flat if e is not None), default=0)
    return [elementwise(lambda e: finest if e is None else -e, es).astype(int) for es in exponents]


def _random(rng: np.random.Generator) -> Ball:
    sign, size = rng.choice([-1, 1]), rng.integers(2**60, 2**61)
    random: Ball = Ball(int(sign * size)) * _two(-60)
    return random


def differences(problem: Problem, bounds: Sequence[Array], max_bits: int) -> list[Array]:
    """Enclose every entry of the gradient by a difference quotient of its own.

    Raises
    ------
    Unavailable
        At a kink, and where ``max_bits`` are too few.
    """
    found = []
    for k, v in enumerate(problem.variables):
        entries = np.empty(v.shape, dtype=object)
        for i in np.ndindex(v.shape):
            unit = [elementwise(lambda _: Ball(0), w) for w in problem.variables]
            unit[k][i] = Ball(1)
            entries[i] = _sharp_quotient(problem, unit, float(bounds[k][i]), max_bits)
        found.append(entries)
    return found


def _sharp_quotient(problem: Problem, unit: list[Array], bound: float, max_bits: int) -> Ball:
    for bits in ladder(4 * REACH - _smallest_exponent(problem), max_bits):
        estimate, gap = _quotient(problem, unit, 0, bits)
        if is_sharp(estimate, bound):
            if gap.arb > (abs(estimate) * _two(-AGREEMENT)).arb + bound:
                raise Unavailable(KINK)
            return estimate
    raise Unavailable(f"{max_bits} bits are too few for a difference quotient")
