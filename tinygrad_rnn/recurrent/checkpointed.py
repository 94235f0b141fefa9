"""Backpropagation through time that keeps few states and computes the others again.

Of T steps only the states before every k-th are kept. From the last segment of k steps to the
first, a segment runs again and is swept backward: memory T/k + k states, for k = √T it is O(√T),
and the price is a second run (Chen et al. 2016, *Training deep nets with sublinear memory cost*).

Floating-point sums depend on their order. So each segment goes on with the sums that the segments
after it have begun, and the result is that of one sweep bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.cells.cell import Cell, Params, State
from tinygrad_rnn.cells.problem import Gradients, Problem
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import by_kernel

Later = dict[str, Array]  # the parameters' gradients through later segments
Trajectory = Callable[[Cell, Params, Array, State], State]
Walk = Callable[[Problem, None], Iterator[tuple[int, dict[str, Array], State]]]


def spacing(checkpoint: int | str, T: int) -> int:
    """Return k, the steps from one kept state to the next: ⌈√T⌉ for ``"sqrt"``.

    Raises
    ------
    ValueError
        If it is neither ``"sqrt"`` nor a positive integer.
    """
    if isinstance(checkpoint, str) and checkpoint == "sqrt":
        return math.isqrt(max(T - 1, 0)) + 1
    integer = isinstance(checkpoint, (int, np.integer)) and not isinstance(checkpoint, bool)
    if not integer or int(checkpoint) < 1:
        raise ValueError(f"checkpoint must be None, an integer ≥ 1 or 'sqrt', got {checkpoint!r}.")
    return int(checkpoint)


def kernel(problem: Problem, k: int, lengths: Array | None) -> Gradients:
    """Run the kernels over segments of k steps, or the next multiple of their sums' pieces."""
    stride = by_kernel.stride(problem.x.shape[1])
    k = -(-k // stride) * stride

    def left(t: int) -> Array | None:
        return None if lengths is None else lengths - t

    return _segments(
        problem,
        k,
        lambda part, t: by_kernel.final(part, left(t)),
        lambda part, t, later: by_kernel.gradients(part, None, left(t), later),
    )


def tape(problem: Problem, k: int, trajectory: Trajectory) -> Gradients:
    """Differentiate the unrolled cell over segments of k steps.

    A segment has the loss on its initial state, not the one on its last, for then the cotangent of
    each state adds up in the order of the whole: first the loss, then the uses by the next step.
    """
    T = len(problem.x)

    def sweep(part: Problem, t: int, later: Later | None) -> Gradients:
        end = t + len(part.x)
        losses = list(problem.d_outputs[max(t - 1, 0) : end if end == T else end - 1])

        def run(params: Params, x: Array, state: State) -> tuple[list[Array], State, Any]:
            outputs = [state[0]] if t > 0 else []
            for x_t in x:
                state = part.cell.step(params, x_t, state)
                outputs.append(state[0])
            return outputs[: len(losses)], state, params if later else {}

        _, pullback = vjp(run, part.params, part.x, part.state)
        d_params, d_x, d_initial = pullback((losses, part.d_state, later or {}))
        return {**d_params, "x": d_x, "state": d_initial}

    return _segments(problem, k, _last(trajectory), sweep)


def chain(problem: Problem, k: int, trajectory: Trajectory, walk: Walk) -> Gradients:
    """Multiply the closed-form Jacobians of segments of k steps."""

    def sweep(part: Problem, _: int, later: Later | None) -> Gradients:
        gradients = part.zeros()
        gradients.update(later or {}, state=part.d_state)
        for t, term, d_before in walk(part, None):
            for name in part.params:
                gradients[name] = gradients[name] + term[name]
            gradients["x"][t] = term["x"]
            gradients["state"] = d_before
        return gradients

    return _segments(problem, k, _last(trajectory), sweep)


def _last(trajectory: Trajectory) -> Callable[[Problem, int], State]:
    return lambda part, _: tuple(s[-1].copy() for s in trajectory(*part[:4]))


def _segments(
    problem: Problem,
    k: int,
    final: Callable[[Problem, int], State],
    sweep: Callable[[Problem, int, Later | None], Gradients],
) -> Gradients:
    """Keep the ``final`` state of each segment; then ``sweep`` them from the last to the first.

    Both are told the segment and how many steps precede it.
    """
    starts = range(0, max(len(problem.x), 1), k)

    def segment(t: int, state: State, d_state: State) -> Problem:
        steps = slice(t, t + k)
        x, d_outputs = problem.x[steps], problem.d_outputs[steps]
        return problem._replace(x=x, state=state, d_outputs=d_outputs, d_state=d_state)

    kept = [problem.state]
    for t in starts[:-1]:
        kept.append(final(segment(t, kept[-1], problem.d_state), t))
    later, d_x, d_state = None, np.empty_like(problem.x), problem.d_state
    for t in reversed(starts):
        part = sweep(segment(t, kept.pop(), d_state), t, later)
        d_x[t : t + k], d_state = part["x"], part["state"]
        later = {name: part[name] for name in problem.params}
    return {**(later or {}), "x": d_x, "state": d_state}
