"""A cell over time: its trajectory, and backpropagation through time by more than one road.

The road ``"kernel"`` runs the compiled loops of :mod:`tinygrad_rnn.kernels`. The road ``"tape"``
differentiates the unrolled cell. The road ``"chain"`` multiplies the cell's closed-form Jacobians
and immediate gradients; of the differentiation engine it uses only the elementwise functions (σ',
tanh', …). That they agree is evidence for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.cells.cell import Cell, Params, State, split
from tinygrad_rnn.cells.problem import Gradients, Problem, check_lengths, pose, prepare
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import by_kernel, checkpointed


@dataclass(frozen=True, eq=False)
class Run:
    """A trajectory: ``outputs`` h_1…h_T (T, N, H), and ``states``, each (T + 1, N, H).

    ``states`` has one entry for each component of the state and begins with the initial one;
    ``final`` is the state after the last step. For one sequence, (T, D), the axis N is absent.

    Examples
    --------
    Sequences of unequal lengths need no mask: ``states`` holds the state after every step.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell, lengths = tg.RNNCell(D=2, H=3), np.array([7, 4])
    >>> run = tg.unroll(cell, cell.init(0), np.ones((7, 2, 2)))
    >>> run.states[0][lengths, np.arange(2)].shape
    (2, 3)
    """

    outputs: Array
    states: State
    final: State


def unroll(
    cell: Cell, params: Params, x: Array, state: State | None = None, method: str | None = None
) -> Run:
    """Run a cell over a sequence: state_t = step(params, x_t, state_{t−1}), t = 1…T.

    Parameters
    ----------
    cell, params
        A cell and its parameters.
    x
        Inputs (T, N, D), or (T, D) for one sequence.
    state
        The initial state, a tuple of (N, H), or of (H,) for one sequence; zero if left out.
    method
        ``"kernel"``: compiled loops, for the library's cells on float32 and float64; ``"tape"``:
        plain steps, for everything. None takes the kernel where there is one. Where ``params``,
        ``x`` or ``state`` contain Tensors the results are Tensors; higher derivatives and forward
        mode go through plain steps with either method.

    Raises
    ------
    ValueError
        For wrong shapes, missing or unknown parameters, NaN or infinities, an unknown method, and
        where there is no kernel.
    TypeError
        For integer arrays and for a mixture of precisions or number systems.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.LSTMCell(D=2, H=3)
    >>> run = tg.unroll(cell, cell.init(0), np.ones((7, 5, 2)))
    >>> run.outputs.shape, [s.shape for s in run.states], [s.shape for s in run.final]
    ((7, 5, 3), [(8, 5, 3), (8, 5, 3)], [(5, 3), (5, 3)])
    """
    _check_method(method, _TRAJECTORIES)
    params, x, state, single = prepare(cell, params, x, state)
    if method is None:
        method = _default(cell, (*params.values(), x, *state))
    states = _TRAJECTORIES[method](cell, params, x, state)
    if single:
        states = tuple(s[:, 0] for s in states)
    return Run(states[0][1:], states, tuple(s[-1] for s in states))


def bptt(
    cell: Cell,
    params: Params,
    x: Array,
    d_outputs: Array,
    state: State | None = None,
    method: str | None = None,
    truncate: int | None = None,
    lengths: Array | None = None,
    d_state: tuple[Array | None, ...] | None = None,
    checkpoint: int | str | None = None,
) -> Gradients:
    """Backpropagation through time: the gradient of L(h_1, …, h_T, state_T).

    With δ_t = ∂L/∂state_t, J_i = ∂state_i/∂state_{i−1} and ∂⁺ the immediate derivative,

    ∂L/∂θ = Σ_{t=1}^{T} Σ_{i=1}^{t} δ_t J_t ⋯ J_{i+1} ∂⁺state_i/∂θ.

    Parameters
    ----------
    cell, params, x, state
        As for :func:`unroll`.
    d_outputs
        ∂L/∂h_t, of the shape of the outputs: (T, N, H), or (T, H) for one sequence.
    method
        ``"kernel"`` runs compiled loops, for the library's cells on float32 and float64; ``"tape"``
        differentiates the unrolled cell; ``"chain"`` uses the closed-form Jacobians. None takes the
        kernel where there is one, else the tape.
    truncate
        k ≥ 1 keeps the terms with t − i < k: the loss at step t goes back through at most the k
        steps t, …, t − k + 1. The initial state is reached from the steps t ≤ k. None keeps all.
    lengths
        The number of steps (N,) of each sequence, 0 … T. What ``x`` and ``d_outputs`` hold beyond
        it is padding and has gradient zero; state_T is then the state after the sequence's own last
        step.
    d_state
        ∂L/∂state_T, a tuple of (N, H), where None means zero.
    checkpoint
        k keeps only the state before every k-th step and computes the others again, segment by
        segment: memory for T/k + k steps instead of T, at the price of a second run; ``"sqrt"`` is
        k = ⌈√T⌉. Kernels round k up to a multiple of ⌊256/N⌋, for N > 256 of 1, the steps by which
        their sums advance. The result is the same bit for bit. None keeps all states.

    Returns
    -------
    dict
        Every parameter, ``"x"``, and ``"state"`` (the initial state's, a tuple). On complex numbers
        it is the plain transpose, without conjugates.

    Raises
    ------
    ValueError
        For wrong shapes, missing or unknown parameters, NaN or infinities, an unknown method,
        ``truncate``, ``lengths`` or ``checkpoint`` out of range, ``checkpoint`` with ``truncate``,
        and where there is no kernel.
    TypeError
        For integer arrays, a mixture of precisions or number systems, and Tensors.

    Examples
    --------
    The gradient of h_3 = w h_2 + x_3, …, with w = 1/2 and x = 1: ∂h_3/∂w = h_2 + w h_1 = 2.

    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
    >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> d_outputs = np.array([[0.0], [0.0], [1.0]])
    >>> for method in "kernel", "tape", "chain":
    ...     g = tg.bptt(cell, params, np.ones((3, 1)), d_outputs, method=method)
    ...     print(g["W_h"].item(), g["x"].ravel().tolist())
    2.0 [0.25, 0.5, 1.0]
    2.0 [0.25, 0.5, 1.0]
    2.0 [0.25, 0.5, 1.0]
    """
    _check_method(method, _ROADS)
    if truncate is not None and (not isinstance(truncate, (int, np.integer)) or truncate < 1):
        raise ValueError(f"truncate must be None or an integer ≥ 1, got {truncate!r}.")
    problem, single = pose(cell, params, x, d_outputs, state, d_state)
    if lengths is not None:
        lengths = check_lengths(lengths, problem.x, single)
    if method is None:
        method = _default(cell, (*problem.params.values(), problem.x, *problem.state))
    road = _ROADS[method]
    if checkpoint is not None:
        if truncate is not None:
            raise ValueError(
                "checkpoint saves memory in one sweep over all steps, truncate makes many short "
                "ones: give one of them."
            )
        k = checkpointed.spacing(checkpoint, len(problem.x))
        road = partial(_CHECKPOINTED[method], k)
    if method == "kernel" and truncate is None:
        gradients = road(problem, None, lengths)
    elif lengths is None:
        gradients = road(problem, truncate)
    else:
        gradients = _by_length(road, problem, truncate, lengths)
    if single:
        gradients["x"] = gradients["x"][:, 0]
        gradients["state"] = tuple(s[0] for s in gradients["state"])
    return gradients


def contributions(
    cell: Cell,
    params: Params,
    x: Array,
    d_outputs: Array,
    state: State | None = None,
    d_state: tuple[Array | None, ...] | None = None,
) -> dict[str, Array]:
    """Split ∂L/∂θ into the terms of the notes' sum over j: what step j adds to it.

    With λ_j = ∂L/∂state_j, term j is λ_j ∂⁺state_j/∂θ. The terms sum to :func:`bptt`. They are also
    the gradients of untied copies θ_1, …, θ_T of the parameters.

    Parameters
    ----------
    cell, params, x, d_outputs, state, d_state
        As for :func:`bptt`.

    Returns
    -------
    dict
        For every parameter an array (T, …).

    Raises
    ------
    ValueError, TypeError
        As :func:`bptt`.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
    >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> d_outputs = np.array([[0.0], [0.0], [1.0]])
    >>> tg.contributions(cell, params, np.ones((3, 1)), d_outputs)["W_h"].ravel().tolist()
    [0.0, 0.5, 1.5]
    """
    problem, _ = pose(cell, params, x, d_outputs, state, d_state)
    terms = {
        name: np.zeros((len(problem.x), *p.shape), p.dtype) for name, p in problem.params.items()
    }
    for t, term, _ in _backward(problem, None):
        for name in terms:
            terms[name][t] = term[name]
    return terms


# ---- the roads --------------------------------------------------------------------------------


def _trajectory(cell: Cell, params: Params, x: Array, state: State) -> State:
    """Return every state from the initial one on, stacked over time."""
    states = [state]
    for x_t in x:
        states.append(cell.step(params, x_t, states[-1]))
    return tuple(np.stack(component) for component in zip(*states, strict=True))


def _tape(problem: Problem, truncate: int | None) -> Gradients:
    """Differentiate the unrolled cell."""
    if truncate is not None:
        return _windows(problem, truncate)

    def run(params: Params, x: Array, state: State) -> tuple[list[Array], State]:
        outputs = []
        for x_t in x:
            state = problem.cell.step(params, x_t, state)
            outputs.append(state[0])
        return outputs, state

    _, pullback = vjp(run, problem.params, problem.x, problem.state)
    d_params, d_x, d_initial = pullback((list(problem.d_outputs), problem.d_state))
    return {**d_params, "x": d_x, "state": d_initial}


def _windows(problem: Problem, truncate: int) -> Gradients:
    """Truncated BPTT by its definition: the loss of each step over its own window of k steps.

    The state before a window is a constant, unless it is the initial one.
    """
    T = len(problem.x)
    if T == 0:
        return _tape(problem, None)
    states = _trajectory(*problem[:4])
    total = problem.zeros()
    for t in range(T):
        start = max(0, t + 1 - truncate)
        d_outputs = np.zeros_like(problem.d_outputs[start : t + 1])
        d_outputs[-1] = problem.d_outputs[t]
        part = _tape(
            problem._replace(
                x=problem.x[start : t + 1],
                state=tuple(s[start] for s in states),
                d_outputs=d_outputs,
                d_state=tuple(d if t == T - 1 else np.zeros_like(d) for d in problem.d_state),
            ),
            None,
        )
        for name in problem.params:
            total[name] = total[name] + part[name]
        total["x"][start : t + 1] = total["x"][start : t + 1] + part["x"]
        if start == 0:
            total["state"] = tuple(map(np.add, total["state"], part["state"]))
    return total


def _chain(problem: Problem, truncate: int | None) -> Gradients:
    """Multiply the closed-form Jacobians and sum the immediate gradients."""
    gradients = problem.zeros()
    gradients["state"] = problem.d_state
    for t, term, d_before in _backward(problem, truncate):
        for name in problem.params:
            gradients[name] = gradients[name] + term[name]
        gradients["x"][t] = term["x"]
        gradients["state"] = d_before
    return gradients


def _backward(
    problem: Problem, truncate: int | None
) -> Iterator[tuple[int, dict[str, Array], State]]:
    """Walk λ_{t−1} = λ_t J_t back from t = T, where λ_t includes the loss of step t.

    Yields t, the immediate gradient of step t, and λ_{t−1}. With truncation the losses under way
    travel in separate rows, the youngest first, and the oldest drops out after k steps.
    """
    cell, params, x, state, d_outputs, d_state = problem
    states = _trajectory(cell, params, x, state)
    others = [np.zeros_like(d) for d in d_state[1:]]  # the loss sees h only
    rows = np.concatenate(d_state, axis=1)[:, None]  # (N, losses under way, S)
    for t in reversed(range(len(x))):
        before = tuple(s[t] for s in states)
        loss = np.concatenate([d_outputs[t], *others], axis=1)[:, None]
        if truncate is None or t == len(x) - 1:  # d_state belongs to the loss of step T
            rows = rows + loss
        else:
            rows = np.concatenate([loss, rows], axis=1)[:, :truncate]
        term = cell.local(params, x[t], before, _components(rows, cell.H))
        rows = rows @ cell.jacobian(params, x[t], before)
        yield t, term, _components(rows, cell.H)


def _components(rows: Array, H: int) -> State:
    """Add up the rows (N, ·, S) and cut the result into the components of the state."""
    total = rows.sum(axis=1)
    return tuple(split(total, total.shape[1] // H))


def _by_length(
    road: Callable[[Problem, int | None], Gradients],
    problem: Problem,
    truncate: int | None,
    lengths: Array,
) -> Gradients:
    """Sum over the batches of equal length: the padding is never looked at."""
    total = problem.zeros()
    for T in np.unique(lengths):
        n = lengths == T
        part = road(
            problem._replace(
                x=problem.x[:T, n],
                state=tuple(s[n] for s in problem.state),
                d_outputs=problem.d_outputs[:T, n],
                d_state=tuple(d[n] for d in problem.d_state),
            ),
            truncate,
        )
        for name in problem.params:
            total[name] = total[name] + part[name]
        total["x"][:T, n] = part["x"]
        for whole, some in zip(total["state"], part["state"], strict=True):
            whole[n] = some
    return total


def _kernel_trajectory(cell: Cell, params: Params, x: Array, state: State) -> State:
    return by_kernel.trajectory(cell, params, x, state, _trajectory)


_TRAJECTORIES = {"tape": _trajectory, "kernel": _kernel_trajectory}
_ROADS: dict[str, Callable[..., Gradients]] = {
    "tape": _tape,
    "chain": _chain,
    "kernel": by_kernel.gradients,
}
_CHECKPOINTED: dict[str, Callable[..., Gradients]] = {
    "tape": lambda k, problem, _: checkpointed.tape(problem, k, _trajectory),
    "chain": lambda k, problem, _: checkpointed.chain(problem, k, _trajectory, _backward),
    "kernel": lambda k, problem, _, lengths: checkpointed.kernel(problem, k, lengths),
}


def _check_method(method: str | None, methods: Mapping[str, Any]) -> None:
    if method is not None and method not in methods:
        names = ", ".join(map(repr, methods))
        raise ValueError(f"method must be one of {names}, got {method!r}.")


def _default(cell: Cell, arrays: tuple[Array, ...]) -> str:
    return "kernel" if by_kernel.suits(cell, arrays) else "tape"
