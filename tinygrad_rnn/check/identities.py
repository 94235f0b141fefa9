"""Exact answers: over Fractions, and over a finite field for all arguments at once.

Both compare the engine's backward sweep with dual numbers, which go forward and use none of its
rules, in one random direction d: ⟨g, d⟩ = φ'(x; d). An error δ ≠ 0 of g escapes only if ⟨δ, d⟩ = 0,
which for d uniform on 2⁶¹ numbers has probability at most 2⁻⁶¹.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.check.dual import Dual
from tinygrad_rnn.check.oracles import Contradiction, Unavailable
from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.tape import gradient
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars import GF, field, rational
from tinygrad_rnn.scalars.element import FOREIGN, Element, elementwise, lifted, number

SIDES = 5  # pairs of opposite points around a kink


def _along(problem: Problem, variables: Sequence[Array], direction: Sequence[Array]) -> Any:
    """Return φ'(x; d) by dual numbers."""
    dual = np.frompyfunc(Dual, 2, 1)
    pairs = zip(variables, direction, strict=True)
    value = problem(*[np.asarray(dual(v, d), dtype=object) for v, d in pairs])
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.b if isinstance(value, Dual) else 0


def _inner(gradients: Sequence[Array], direction: Sequence[Array]) -> Any:
    return sum(np.sum(g * d) for g, d in zip(gradients, direction, strict=True))


def exact(problem: Problem, rng: np.random.Generator) -> list[list[Array]]:
    """Return the gradient in Fractions; at a kink, several that meet there.

    Raises
    ------
    Contradiction
        If the tape and dual numbers differ.
    Unavailable
        If f is not rational.
    """

    def random(v: Array) -> Array:
        return rational(rng.integers(-(2**60), 2**60, size=v.shape))

    try:
        here = problem.variables
        direction = list(map(random, here))
        right, left = (_along(problem, here, [s * d for d in direction]) for s in (1, -1))
        points = [here]
        if right != -left:
            shifts = [[random(v) / 2**260 for v in here] for _ in range(SIDES)]
            points = [
                [v + s * d for v, d in zip(here, shift, strict=True)]
                for shift in shifts
                for s in (1, -1)
            ]
        found = [gradient(problem, point) for point in points]
        slopes = [_along(problem, point, direction) for point in points]
    except Exception as error:  # whatever a function does when it meets Fractions
        raise Unavailable(f"{type(error).__name__}: {error}") from None
    if [_inner(g, direction) for g in found] != slopes:
        raise Contradiction
    return found


def partial_derivatives(problem: Problem) -> list[Array]:
    """Return the gradient by dual numbers alone: one run for every entry."""
    found = []
    for k, v in enumerate(problem.variables):
        entries = np.empty(v.shape, dtype=object)
        for i in np.ndindex(v.shape):
            unit = [elementwise(lambda _: Fraction(0), w) for w in problem.variables]
            unit[k][i] = Fraction(1)
            entries[i] = _along(problem, problem.variables, unit)
        found.append(entries)
    return found


def identity(
    problem: Problem, backward: Callable[[Sequence[Array]], list[Array]], rng: np.random.Generator
) -> int:
    """Test whether ``backward`` is the gradient of φ for all arguments; return the degree.

    Over GF(2⁶¹ − 1), at one random point, tanh and σ being random functions of which only
    y' = 1 − y² and y' = y(1 − y) is known. A false identity holds with probability at most
    degree/2⁶¹. Floats in φ are the fractions they are; 2⁶¹ is 1 in this field, so a constant that
    is off by just this factor is not seen.

    Raises
    ------
    Contradiction
        If it is not; or if it is, but by a law of tanh and σ other than these two, or only up to
        the rounding of constants.
    Unavailable
        If f or ``backward`` is not polynomial in the arguments and these symbols.
    """

    def draw(v: Array) -> Array:
        return elementwise(lambda value: Sample(value, 1), field(v.shape, rng))

    try:
        point, direction = ([draw(v) for v in problem.variables] for _ in range(2))
        reverse = Sample.of(_inner(backward(point), direction))
        forward = Sample.of(_along(problem, point, direction))
    except Exception:  # whatever a function does when it meets a finite field
        raise Unavailable("f or its gradient uses more than sums, products, tanh and σ") from None
    if reverse.value != forward.value:
        raise Contradiction
    return max(reverse.degree, forward.degree)


class Sample(Element):
    """A polynomial in the arguments and the symbols y = tanh a, y = σ(a): a value and its degree.

    Floats beside it are exactly the numbers they are.

    Examples
    --------
    >>> from tinygrad_rnn.check.identities import Sample
    >>> from tinygrad_rnn.scalars import GF
    >>> x = Sample(GF(3), 1)
    >>> (0.5 * x * x).value * 2 == 9, (0.5 * x * x).degree
    (True, 2)
    """

    __slots__ = ("degree", "value")

    def __init__(self, value: GF, degree: int) -> None:
        self.value, self.degree = value, degree

    @staticmethod
    def of(value: Any) -> Sample:
        """Return a constant as a polynomial of degree 0, and a polynomial as it is."""
        return value if isinstance(value, Sample) else Sample(GF(Fraction(number(value))), 0)

    def _lift(self, other: Any) -> Any:
        return Sample.of(other) if isinstance(other, (Sample, *FOREIGN)) else NotImplemented

    @lifted
    def __add__(self, other: Any) -> Sample:
        return Sample(self.value + other.value, max(self.degree, other.degree))

    __radd__ = __add__

    def __neg__(self) -> Sample:
        return Sample(-self.value, self.degree)

    @lifted
    def __mul__(self, other: Any) -> Sample:
        return Sample(self.value * other.value, self.degree + other.degree)

    __rmul__ = __mul__

    @lifted
    def __truediv__(self, other: Any) -> Sample:
        if other.degree:
            raise TypeError("division by a variable: not a polynomial.")
        return Sample(self.value / other.value, self.degree)

    @lifted
    def __eq__(self, other: Any) -> bool:
        raise TypeError("a polynomial is not compared with a number.")

    __hash__ = None  # type: ignore[assignment]

    def tanh(self) -> Sample:
        """Return the symbol: a random function of the value."""
        return Sample(self.value.tanh(), 1)

    def sigmoid(self) -> Sample:
        """Return the symbol: a random function of the value."""
        return Sample(self.value.sigmoid(), 1)

    def d_tanh(self) -> Any:
        """Return 1 − y² with y = tanh."""
        return 1 - self.tanh() ** 2

    def d_sigmoid(self) -> Any:
        """Return y(1 − y) with y = σ."""
        y = self.sigmoid()
        return y * (1 - y)
