"""Two ways through the sum over lags: adjoints backward, influences forward.

Backpropagation collects the terms by their early index, with a row λ_i = dL/ds_i that walks back
(C-2); real-time recurrent learning collects them by their late index, with a matrix ds_t/dθ that
walks forward. Both differentiate immediately. Using total derivatives where immediate ones belong
counts the term of lag k as often as k + 1 times (C-4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import recurrent
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.recurrent.rtrl import rtrl

from . import cases
from .catalogue import Case, Comparison, Mistake, Necessity, equal, theorem
from .mistakes import PRIME, sees_late_state
from .strategies import Draw, dyadics, gated, rnns
from .unrolled import flat, step_jacobians, trajectory, vector

Array = Any


def all_of(gradient: dict[str, Any]) -> Array:
    """Put a whole gradient into one vector: by the parameters, the inputs and the initial state."""
    return vector({**gradient, "state": flat(gradient["state"])})


# ---- C-2 ----------------------------------------------------------------------------------------


@st.composite
def _with_targets(draw: Draw, system: str) -> Case:
    """Draw a network and what its outputs should be."""
    case = draw(cases.networks(system))
    return {**case, "targets": draw(dyadics((*case["x"].shape[:2], case["cell"].H)))}


def _linear_with_targets() -> Case:
    return {**cases.linear_case(2), "targets": np.zeros((2, 1, 1))}


def losses(outputs: Any, targets: Array) -> list[Any]:
    """E_t = ‖h_t − y_t‖²."""
    return [tg.squared_error(h, y) for h, y in zip(outputs, targets, strict=True)]


def adjoints(jacobians: Array, deltas: list[Array]) -> list[Array]:
    """Return λ_0, …, λ_T with λ_{t−1} = δ_{t−1} + λ_t J_t; the loss does not see s_0."""
    rows = [deltas[-1][:, None]]
    for J, delta in zip(jacobians[::-1], [*deltas[-2::-1], 0 * deltas[0]], strict=True):
        rows.insert(0, delta[:, None] + rows[0] @ J)
    return [row[:, 0] for row in rows]


@theorem(
    "C-2",
    "Gradients of separate losses add up; carried backward or forward they are the same",
    statement=r"""Let $s_t = F(\theta, x_t, s_{t-1})$, $J_t = \partial s_t/\partial s_{t-1}$,
$\partial^+$ the derivative with $s_{t-1}$ fixed, $L = \sum_{t=1}^T E_t(s_t)$, $\delta_t = \partial
E_t/\partial s_t$, and let $s_0$ be constant. Then $\nabla L = \sum_t \nabla E_t$, and with
(backward) $\lambda_T = \delta_T$, $\lambda_{t-1} = \delta_{t-1} + \lambda_t J_t$, $\delta_0 = 0$,
(forward, real-time recurrent learning) $M_0 = 0$, $M_t = J_t M_{t-1} + \partial^+ s_t/\partial
\theta$, $$\frac{dL}{d\theta} = \sum_t \lambda_t \frac{\partial^+ s_t}{\partial\theta} = \sum_t
\delta_t M_t, \quad \frac{dL}{dx_t} = \lambda_t \frac{\partial^+ s_t}{\partial x_t}, \quad
\frac{dL}{ds_t} = \lambda_t.$$""",
    hypotheses=("each E_t reads s_t only", "s_0 does not depend on θ"),
    proof="""Differentiation is linear: ∇L = Σ ∇E_t. By the chain rule M_t := ds_t/dθ obeys M_t =
J_t M_{t−1} + ∂⁺s_t/∂θ, and M_0 = 0 as s_0 is constant; dE_t/dθ = δ_t M_t. s_{t−1} enters L through
E_{t−1} and through s_t: dL/ds_{t−1} = δ_{t−1} + (dL/ds_t) J_t, so λ_t = dL/ds_t. Now λ_t ∂⁺s_t/∂θ =
λ_t M_t − λ_t J_t M_{t−1} = λ_t M_t − λ_{t−1} M_{t−1} + δ_{t−1} M_{t−1}: summed over t = 1 … T it
telescopes to λ_T M_T − λ_0 M_0 + Σ_{t<T} δ_t M_t = Σ_{t≤T} δ_t M_t. x_t enters through s_t only.
""",
    sources=("S2-2", "Williams & Zipser 1989", "Pascanu, Mikolov & Bengio 2013"),
    cases=_with_targets,
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "each E_t reads s_t only: L has h_1 h_T added",
            lambda: {**_linear_with_targets(), "coupling": 1},
        ),
        Necessity(
            "constant s_0: it has W_h added",
            lambda: {**_linear_with_targets(), "start": cases.weights_start},
        ),
    ),
    sensitivity=(
        Mistake("h_t for h_{t−1} in ∂⁺", "tinygrad_rnn.cells.RNNCell.local", sees_late_state),
        PRIME,
        Mistake(
            "rtrl with the last loss only",
            "tinygrad_rnn.recurrent.rtrl._forward",
            lambda right: (
                lambda problem, _: right(
                    problem._replace(
                        d_outputs=np.concatenate(
                            [0 * problem.d_outputs[:-1], problem.d_outputs[-1:]]
                        )
                    ),
                    None,
                )
            ),
        ),
        Mistake(
            "rtrl sees the immediate influence of the next state",
            "tinygrad_rnn.recurrent.rtrl._immediate",
            lambda right: lambda cell, p, x_t, s: right(cell, p, x_t, cell.step(p, x_t, s)),
        ),
        Mistake(
            "λ_t without the loss of step t",
            "tinygrad_rnn.recurrent._backward",
            lambda right: (
                lambda problem, truncate: right(
                    problem._replace(d_outputs=0 * problem.d_outputs), truncate
                )
            ),
        ),
        Mistake(
            "λ_{t−1} = δ_{t−1} + λ_t J_{t−1}",
            "tinygrad_rnn.proofs.bptt_adjoints.adjoints",
            lambda right: lambda J, deltas: right(np.roll(J, 1, axis=0), deltas),
        ),
    ),
)
def backward_and_forward(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    targets: Array,
    coupling: int = 0,
    start: Callable[[Any, Any], Any] = lambda params, state: state,
) -> Iterator[Comparison]:
    """Compare the engine's gradient of the whole loss with the sums, the rows and the matrices."""

    def loss(params: Any, x: Array, state: Any) -> Any:
        h = [s[0] for s in trajectory(cell, params, x, start(params, state))[1:]]
        return sum(losses(h, targets)) + coupling * np.sum(h[0] * h[-1])

    d_params, d_x, d_state = tg.grad(loss, argnums=(0, 1, 2))(params, x, state)
    truth = all_of({**d_params, "x": d_x, "state": d_state})

    s_0 = start(params, state)
    states = trajectory(cell, params, x, s_0)
    delta = np.stack(tg.grad(lambda h: sum(losses(h, targets)))([s[0] for s in states[1:]]))
    each = range(len(x))
    one_loss = [np.where(np.equal(each, t)[:, None, None], delta, 0 * delta) for t in each]
    apart = [all_of(recurrent.bptt(cell, params, x, d, s_0, "chain")) for d in one_loss]
    yield equal("∇L = Σ ∇E_t", sum(apart), truth)
    for method in (None, "chain"):  # None: compiled kernels for floats, for other numbers the tape
        whole = recurrent.bptt(cell, params, x, delta, s_0, method)
        yield equal(f"bptt by {method or 'kernel or tape'}", all_of(whole), truth)
    yield equal("rtrl", all_of(rtrl(cell, params, x, delta, s_0)), truth)

    deltas = [flat((d, *(0 * other for other in s_0[1:]))) for d in delta]
    rows = adjoints(step_jacobians(cell, params, x, s_0), deltas)
    d_theta, d_inputs = 0, list[Array]()
    for t, (x_t, before) in enumerate(zip(x, states, strict=False)):
        step = lambda p, x_t, before=before: flat(cell.step(p, x_t, before))  # noqa: E731
        by_params, by_x = tg.vjp(step, params, x_t)[1](rows[t + 1])
        d_theta, d_inputs = d_theta + vector(by_params), [*d_inputs, by_x]
    yield equal("Σ λ_t ∂⁺s_t/∂θ", d_theta, vector(d_params))
    yield equal("λ_t ∂⁺s_t/∂x_t", np.stack(d_inputs), d_x)
    yield equal("λ_0 = dL/ds_0", rows[0], flat(d_state))


# ---- C-4 ----------------------------------------------------------------------------------------


def _last_loss(system: str) -> st.SearchStrategy[Case]:
    """Draw a network with a loss on the last state, through all its components."""
    plain = rnns(system, T=3, N=1, D=2, H=2)
    drawn = plain if system == "rational" else st.one_of(plain, gated(T=3, N=1, D=1, H=2))
    return cases.with_losses(drawn).map(
        lambda case: {k: v for k, v in case.items() if k != "d_outputs"}
    )


def _linear_with_last_loss(T: int) -> Case:
    return {**cases.linear_case(T), "d_state": (np.ones((1, 1)),)}


def total_derivative(
    cell: Any, params: Any, x: Array, state: Any, row: Array, start: Callable[[Any, Any], Any]
) -> Array:
    """Return row · ds_j/dθ, the total derivative of the last state of a run over j steps."""
    run = lambda p: flat(trajectory(cell, p, x, start(p, state))[-1])  # noqa: E731
    return vector(tg.vjp(run, params)[1](row)[0])


@theorem(
    "C-4",
    "With total derivatives for immediate ones the term of lag k is counted k + 1 times",
    statement=r"""Let $s_t = F(\theta, x_t, s_{t-1})$, let $L$ read $s_T$ only, with $\delta =
\partial L/\partial s_T$, and let $s_0$ be constant. Then $$\sum_{j=1}^T \delta P_{T,j}
\frac{ds_j}{d\theta} = \sum_{i=1}^T (T - i + 1)\, \delta P_{T,i} \frac{\partial^+
s_i}{\partial\theta}$$ with $P_{T,j} = \partial s_T/\partial s_j$: the sum over $j$ that gives
$dL/d\theta$ with immediate derivatives $\partial^+$ exceeds it, with total derivatives, by $\sum_i
(T - i)\, \delta P_{T,i} \partial^+ s_i/\partial\theta$.""",
    hypotheses=("L reads s_T only", "s_0 does not depend on θ"),
    proof="""By C-3, applied to a run of j steps, ds_j/dθ = Σ_{i≤j} P_{j,i} ∂⁺s_i/∂θ. By C-1
P_{T,j} P_{j,i} = P_{T,i}, so the left side is Σ_{j=1}^T Σ_{i≤j} δ P_{T,i} ∂⁺s_i/∂θ, in which i
occurs for each j from i to T: T − i + 1 times. With i = T − k that is k + 1. By C-3 the same sum,
each term once, is dL/dθ.""",
    sources=("S0-3",),
    cases=_last_loss,
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "the loss reads s_T only: it reads h_1 too",
            lambda: {**_linear_with_last_loss(2), "also": np.ones((1, 1))},
        ),
        Necessity(
            "constant s_0: it has W_h added",
            lambda: {**_linear_with_last_loss(2), "start": cases.weights_start},
        ),
    ),
    sensitivity=(
        Mistake(
            "immediate derivatives, each lag counted once",
            "tinygrad_rnn.proofs.bptt_adjoints.total_derivative",
            lambda right: (
                lambda cell, p, x, state, row, start: right(
                    cell, p, x[-1:], trajectory(cell, p, x, state)[-2], row, start
                )
            ),
        ),
        Mistake("h_t for h_{t−1} in ∂⁺", "tinygrad_rnn.cells.RNNCell.local", sees_late_state),
        Mistake(
            "contributions in reverse order",
            "tinygrad_rnn.recurrent.contributions",
            lambda right: lambda *args: {k: v[::-1] for k, v in right(*args).items()},
        ),
        PRIME,
    ),
)
def total_derivatives_overcount(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_state: Any,
    also: Any = 0,
    start: Callable[[Any, Any], Any] = lambda params, state: state,
) -> Iterator[Comparison]:
    """Compare the sum with total derivatives, by two roads, with the weighted terms of the sum."""
    T, s_0 = len(x), start(params, state)
    J = step_jacobians(cell, params, x, s_0)
    d_outputs = np.zeros_like(x[:, :, :1].repeat(cell.H, axis=2))
    d_outputs[0] = d_outputs[0] + also
    deltas = [flat((d, *(0 * other for other in d_state[1:]))) for d in d_outputs]
    deltas[-1] = deltas[-1] + flat(d_state)
    rows = adjoints(J, deltas)[1:]
    truth = sum(
        total_derivative(cell, params, x[:j], state, row, start)
        for j, row in enumerate(rows, start=1)
    )
    by_rtrl = [
        rtrl(cell, params, x[:j], 0 * d_outputs[:j], s_0, d_state=tuple(split(row, len(s_0))))
        for j, row in enumerate(rows, start=1)
    ]
    terms = recurrent.contributions(cell, params, x, d_outputs, s_0, d_state)
    of_step = [vector({name: terms[name][i] for name in params}) for i in range(T)]
    weighted = sum((T - i) * term for i, term in enumerate(of_step))
    forward = sum(vector({name: g[name] for name in params}) for g in by_rtrl)
    yield equal("Σ_j δ P_{T,j} ds_j/dθ, ds_j/dθ by the engine", truth, weighted)
    yield equal("Σ_j δ P_{T,j} ds_j/dθ, ds_j/dθ by rtrl", forward, weighted)
