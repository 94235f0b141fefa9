"""Estimates of the gradient in plain floats: the complex step, and difference quotients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinygrad_rnn.check.oracles import Unavailable
from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.tape import gradient, operation, record
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars import Ball

STEP = 2.0**-60  # relative; h² is far below rounding, and h·g does not underflow before g does
MARGIN = 16  # how many times its own measured error a difference quotient is trusted to


def complex_step(problem: Problem, bounds: Sequence[Array]) -> list[Array]:
    """Estimate each entry by Im φ(x + ih)/h, h = 2⁻⁶⁰|x|.

    Squire and Trapp (1998), *Using complex variables to estimate derivatives of real functions*:
    there is no difference, so nothing cancels. The error is h²φ'''/6, measured by a second h, and
    that of a float evaluation, for which ``bounds`` is a bound.
    """
    variables = [v.astype(np.float64) for v in problem.variables]
    try:
        complex_variables = [v.astype(complex) for v in variables]
        for node in record(problem, complex_variables):
            if node.dtype.kind != "c":
                raise TypeError(f"{operation(node)} is not holomorphic.")
        gradient(problem, complex_variables)  # rules that compare refuse complex numbers
    except Exception as error:  # whatever a function does when it meets complex numbers
        raise Unavailable(f"{type(error).__name__}: {error}") from None

    def step(k: int, i: tuple[int, ...], h: float) -> float:
        moved = [v.astype(complex) for v in variables]
        moved[k][i] += 1j * h
        return float(np.imag(problem(*moved)) / h)

    def entry(k: int, i: tuple[int, ...]) -> tuple[float, float]:
        h = STEP * _scale(variables[k][i])
        first, second = step(k, i, h), step(k, i, h / 1024)
        return first, abs(first - second) + float(bounds[k][i])

    with np.errstate(all="ignore"):
        return _collect(variables, entry)


def central_difference(problem: Problem) -> list[Array]:
    """Estimate each entry by (φ(x + h) − φ(x − h)) / 2h at the best of many h.

    The error is the larger of |q(2h) − q(h)| and |q(h) − q(h/2)|, for the truncation, plus ε/h,
    where ε is how far values of φ lie apart at arguments that differ by rounding only. Both are
    measured, hence the ``MARGIN``.
    """

    def entry(k: int, i: tuple[int, ...]) -> tuple[float, float]:
        moved = [v.copy() for v in problem.variables]

        def at(x: float) -> tuple[float, float]:
            """Return x as its array holds it, and φ there."""
            moved[k][i] = x
            return float(moved[k][i]), float(np.asarray(problem(*moved)))

        def quotient(h: float) -> float:
            (right, above), (left, below) = at(x + h), at(x - h)
            return (above - below) / (right - left) if right > left else np.nan

        x, scale = float(problem.variables[k][i]), _scale(problem.variables[k][i])
        eps = float(np.finfo(problem.variables[k].dtype).eps)
        center = at(x)[1]
        jitter = [at(x + j * eps * scale)[1] for j in (-3, -2, -1, 1, 2, 3)]
        noise = max(abs(y - center) for y in jitter) + 8 * eps * abs(center)
        steps = [scale * 2.0**-j for j in range(1, int(-np.log2(eps)))]
        quotients = list(map(quotient, steps))
        changes = np.abs(np.diff(quotients))
        errors = np.maximum(changes[:-1], changes[1:]) + noise / np.array(steps[1:-1])
        if not np.isfinite(errors).any():
            return np.nan, np.nan
        best = int(np.nanargmin(errors))
        return quotients[best + 1], MARGIN * errors[best]

    with np.errstate(all="ignore"):
        return _collect(problem.variables, entry)


def _scale(x: float) -> float:
    return abs(float(x)) or 1.0


def _collect(
    variables: Sequence[Array], entry: Callable[[int, tuple[int, ...]], tuple[float, float]]
) -> list[Array]:
    """Make a ball of each entry's estimate and error."""
    found = []
    for k, v in enumerate(variables):
        estimates = np.empty(v.shape, dtype=object)
        for i in np.ndindex(v.shape):
            value, error = entry(k, i)
            if not (np.isfinite(value) and np.isfinite(error)):
                raise Unavailable("an estimate is not finite")
            estimates[i] = Ball(float(value), radius=float(error))
        found.append(estimates)
    return found
