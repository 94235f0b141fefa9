"""The road ``"kernel"``: compiled loops, and what makes them one operation of the engine.

Numba is imported when a kernel first runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import jvp, vjp
from tinygrad_rnn.autodiff.tensor import Rule, Tensor, apply, raw
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import Cell, Params, State, finite
from tinygrad_rnn.cells.problem import Gradients, Problem
from tinygrad_rnn.functions import Array

Trajectory = Callable[[Cell, Params, Array, State], State]

# The module of a cell's kernels, and the options that they take. A subclass may have another step.
_KERNELS: dict[type[Cell], tuple[str, Callable[[Any], tuple[Any, ...]]]] = {
    RNNCell: ("rnn", lambda cell: (cell.activation,)),
    GRUCell: ("gru", lambda cell: (cell.variant,)),
    LSTMCell: ("lstm", lambda cell: ()),
}
_PRECISIONS = {np.dtype(np.float32), np.dtype(np.float64)}
MEMORY = 2**24  # numbers in the largest batch of windows


def suits(cell: Cell, arrays: tuple[Array, ...]) -> bool:
    """Say whether there is a kernel: for the three cells, on float32 and float64."""
    return type(cell) in _KERNELS and _PRECISIONS.issuperset([a.dtype for a in arrays])


def _kernel(cell: Cell, arrays: tuple[Array, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Return the module of a cell's kernels and the options that they take."""
    if not suits(cell, arrays):
        kinds = ", ".join(sorted({str(raw(a).dtype) for a in arrays}))
        raise ValueError(
            "method='kernel' runs RNNCell, GRUCell and LSTMCell on float32 and float64, got "
            f"{type(cell).__name__} on {kinds}. Use method='tape'."
        )
    name, options = _KERNELS[type(cell)]
    return _module(name), options(cell)


@cache
def _module(name: str) -> Any:
    return import_module(f"tinygrad_rnn.kernels.{name}")


def _plain(a: Array) -> Array:
    """Return ``a`` as the kernels know arrays: contiguous, writeable, in native byte order."""
    if a.flags.carray and a.dtype.isnative:
        return a
    return np.require(a, a.dtype.newbyteorder("="), ["C", "A", "W"])


def _warn(what: str, arrays: Any) -> None:
    if not finite(arrays):
        warnings.warn(f"overflow encountered in {what}", RuntimeWarning, stacklevel=4)


def _forward(cell: Cell, params: Params, x: Array, state: State, active: Array) -> Any:
    """Return the kernels and their options, the states, and what the backward sweep needs."""
    module, options = _kernel(cell, (*params.values(), x, *state))
    states, saved = module.forward(params, x, state, active, *options)
    _warn("unroll", [states])
    return module, options, states, saved


def _all(x: Array) -> Array:
    active = np.empty(x.shape[0], np.int64)
    active.fill(x.shape[1])
    return active


def _zeros(params: Params) -> dict[str, Array]:
    return {name: np.zeros(p.shape, p.dtype) for name, p in params.items()}


def _ordered(problem: Problem, lengths: Array | None) -> tuple[Problem, Array, Any]:
    """Put the longest sequences first: those under way at any time stand together.

    Returns the problem with plain arrays, how many are under way at each step, and what puts the
    sequences back into their places.
    """
    cell, params, x, state, d_outputs, d_state = problem
    active, back = _all(x), slice(None)  # type: Array, Any
    if lengths is not None:
        order = np.argsort(-lengths, kind="stable")
        active, back = np.searchsorted(-lengths[order], -np.arange(len(x))), np.argsort(order)
        x, d_outputs = x[:, order], d_outputs[:, order]
        state, d_state = (tuple(s[order] for s in part) for part in (state, d_state))
    params, state = {name: _plain(p) for name, p in params.items()}, tuple(map(_plain, state))
    return Problem(cell, params, _plain(x), state, _plain(d_outputs), d_state), active, back


# ---- the trajectory, as one operation of the engine -------------------------------------------


def trajectory(cell: Cell, params: Params, x: Array, state: State, by_tape: Trajectory) -> State:
    """Return every state. On Tensors this is one node of the record.

    Derivatives of derivatives and forward mode differentiate ``by_tape`` instead.
    """
    names = tuple(params)
    run: list[Any] = []  # what the kernels know after running forward

    def arguments(args: tuple[Array, ...]) -> tuple[Params, Array, State]:
        count = len(names)
        return dict(zip(names, args[:count], strict=True)), args[count], args[count + 1 :]

    def stacked(*args: Array) -> Array:
        return np.stack(by_tape(cell, *arguments(args)))

    def unroll(*args: Array) -> Array:
        if any(type(a) is Tensor for a in args):  # of an outer trace
            return stacked(*args)
        plain = arguments(tuple(map(_plain, args)))
        run[:] = [*plain, *_forward(cell, *plain, _all(plain[1]))]
        return run[5]

    def pull(g: Array, y: Array, *args: Array) -> Any:
        if not run or type(g) is Tensor:
            return vjp(stacked, *args)[1](g)
        params, x, state, module, options, states, saved = run
        saved = tuple(a.copy() for a in saved)  # the sweep uses it up, and may not be the last
        g, zero = _plain(g), tuple(map(np.zeros_like, state))
        d = module.backward(
            params, x, states, saved, g[:, 1:], zero, _zeros(params), _all(x), *options
        )
        initial = map(np.add, d["state"], g[:, 0])
        return (*(d[name] for name in names), d["x"], *initial)

    def push(tangents: list[Any], y: Array, *args: Array) -> Array:
        full = [np.zeros_like(a) if t is None else t for t, a in zip(tangents, args, strict=True)]
        return jvp(stacked, args, full)[1]

    states = apply(Rule(unroll, push, pull), (*params.values(), x, *state), {})
    return tuple(states[k] for k in range(len(state)))


# ---- backpropagation through time -------------------------------------------------------------


def gradients(
    problem: Problem,
    truncate: int | None,
    lengths: Array | None = None,
    later: dict[str, Array] | None = None,
) -> Gradients:
    """Run the kernels forward and backward; the parameters' gradients begin with ``later``."""
    if truncate is not None and truncate < len(problem.x):
        return _windows(problem, truncate)
    (cell, params, x, state, d_outputs, d_state), active, back = _ordered(problem, lengths)
    module, options = _kernel(cell, (x,))  # a problem has one dtype
    states, saved = module.forward(params, x, state, active, *options)
    losses = [d_outputs, *[x[:0] for _ in state[1:]]]  # the loss sees h only
    result: Gradients = module.backward(
        params, x, states, saved, losses, d_state, later or _zeros(params), active, *options
    )
    result["x"] = result["x"][:, back]
    result["state"] = tuple(s[back] for s in result["state"])
    found = [*map(result.__getitem__, params), result["x"], *result["state"]]
    if not finite([states, *found]):
        _warn("unroll", [states])
        _warn("bptt", found)
    return result


def final(problem: Problem, lengths: Array | None) -> State:
    """Return the state after the last step."""
    (cell, params, x, state, _, _), active, back = _ordered(problem, lengths)
    return tuple(s[-1, back].copy() for s in _forward(cell, params, x, state, active)[2])


def stride(N: int) -> int:
    """Return the steps that the kernels' sums over time advance by; see `kernels.matmul`."""
    steps: int = _module("matmul").stride(N)
    return steps


def _windows(problem: Problem, k: int) -> Gradients:
    """Truncated BPTT with k < T: one batch of all windows of k steps, each with its last loss.

    The losses before step k, which reach the initial state, go back to it together.
    """
    cell, params, x, state, d_outputs, d_state = problem
    T, N, _ = x.shape
    run = _forward(cell, {n: _plain(p) for n, p in params.items()}, _plain(x), state, _all(x))
    states = run[2]
    zero = tuple(np.zeros_like(d) for d in d_state)
    head = Problem(cell, params, x[: k - 1], state, d_outputs[: k - 1], zero)
    total = gradients(head, None)
    total["x"] = np.concatenate([total["x"], np.zeros_like(x[k - 1 :])])
    most = max(1, MEMORY // (k * N * params["W_x"].size))
    for first in range(0, T - k + 1, most):
        starts = np.arange(first, min(first + most, T - k + 1))
        steps = starts + np.arange(k)[:, None]
        W = len(starts)
        losses = np.zeros((k, W, N, cell.H), x.dtype)
        losses[-1] = d_outputs[starts + k - 1]
        finals = [np.zeros((W, N, cell.H), x.dtype) for _ in d_state]
        if starts[-1] == T - k:
            for final, d in zip(finals, d_state, strict=True):
                final[-1] = d
        part = gradients(
            Problem(
                cell,
                params,
                x[steps].reshape(k, W * N, cell.D),
                tuple(s[starts].reshape(W * N, cell.H) for s in states),
                losses.reshape(k, W * N, cell.H),
                tuple(final.reshape(W * N, cell.H) for final in finals),
            ),
            None,
        )
        for name in params:
            total[name] += part[name]
        for i, d in enumerate(part["x"].reshape(k, W, N, cell.D)):
            total["x"][starts + i] += d
        if first == 0:
            total["state"] = tuple(
                a + b[:N] for a, b in zip(total["state"], part["state"], strict=True)
            )
    return total
