r"""Backpropagation through time: the chain rule, written out for a recurrence.

The derivative of a late state by an early one is a product of step Jacobians, later steps on the
left (C-1). The gradient of a shared weight is the sum of the gradients of its copies, one a step
(C-3), where each term is an *immediate* derivative: the state before the step is held fixed. The
sum can be nested as Horner nests a polynomial, forward or backward in time (C-5); backward is the
adjoint recursion that libraries use. The engine's forward and backward modes are transposes of each
other on whole networks (C-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import recurrent
from tinygrad_rnn.cells import RNNCell

from . import cases
from .catalogue import Comparison, Mistake, Necessity, equal, theorem
from .mistakes import PRIME, RULES, TRANSPOSE, UNTRANSPOSED, of_rule, sees_late_state
from .unrolled import (
    adjoint_nesting,
    double_sum,
    forward_nesting,
    nested,
    notes_start,
    product,
    slopes,
    step_jacobians,
    tape_jacobian,
    trajectory,
    vector,
)

Array = Any


# ---- C-1 ----------------------------------------------------------------------------------------


@theorem(
    "C-1",
    "The Jacobian of t − i steps is a product of step Jacobians, later steps on the left",
    statement=r"""For a recurrence $s_t = F_t(s_{t-1})$ with differentiable $F_t$ and $J_t =
\partial s_t/\partial s_{t-1}$ (out $\times$ in), every $0 \le i \le s \le t$ has $P_{t,i} :=
\partial s_t/\partial s_i = J_t J_{t-1} \cdots J_{i+1}$, with $P_{i,i} = I$ and $P_{t,s} P_{s,i} =
P_{t,i}$. The factors do not commute: the order is decreasing. For a tanh RNN $J_t =
\mathrm{diag}(f'(x_t W_x + h_{t-1} W_h + b)) W_h^\top$, at step $t$'s own arguments.""",
    hypotheses=("s_t depends on the past through the whole of s_{t−1} only: (h, c) for an LSTM",),
    proof="""Induction on t. For t = i the map is the identity. s_t = F_t(s_{t−1}) and the chain
rule give ∂s_t/∂s_i = J_t · ∂s_{t−1}/∂s_i = J_t P_{t−1,i}. The semigroup law is associativity: the
first t − s factors of P_{t,i} are P_{t,s}, the others P_{s,i}. At a kink of relu both sides use the
library's f'(0) = 0, and the law is the same algebra.""",
    sources=("S2-3", "S2-4", "S2-5", "S2-6", "S0-9", "S1-28", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.with_steps,
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "the whole state: an LSTM's ∂h_t/∂h_i is not the product of its ∂h_k/∂h_{k−1}",
            lambda: {**cases.lstm_case(), "i": 0, "s": 1, "t": 2, "components": 1},
            "ball",
        ),
    ),
    sensitivity=(
        PRIME,
        TRANSPOSE,
        Mistake(
            "increasing order (S2-4)",
            "tinygrad_rnn.proofs.bptt.product",
            lambda right: lambda jacobians: right(jacobians[::-1]),
        ),
        Mistake(
            "J_t at the input of step t − 1 (S2-5)",
            "tinygrad_rnn.proofs.bptt.step_jacobians",
            lambda right: lambda cell, p, x, s: right(cell, p, np.roll(x, 1, axis=0), s),
        ),
        Mistake(
            "a GRU without its leak diag(1 − z)",
            "tinygrad_rnn.cells.gru.diag",
            lambda right: lambda v: 0 * right(v),
        ),
        UNTRANSPOSED,
    ),
)
def jacobians_multiply(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    i: int,
    s: int,
    t: int,
    components: int | None = None,
) -> Iterator[Comparison]:
    """Compare the engine on the unrolled cell with products of closed forms."""
    states = trajectory(cell, params, x, state)
    S = cell.H * (components or len(state))
    J = step_jacobians(cell, params, x, state)[..., :S, :S]

    def P(late: int, early: int) -> Array:
        return tape_jacobian(cell, params, x[early:late], states[early], components)

    yield equal("∂s_t/∂s_i = J_t ⋯ J_{i+1}", P(t, i), product(J[i:t]))
    yield equal("P_{t,s} P_{s,i} = P_{t,i}", P(t, s) @ P(s, i), P(t, i))
    yield equal("P_{i,i} = I", P(i, i), np.eye(S, dtype=int))


# ---- C-3 ----------------------------------------------------------------------------------------


@theorem(
    "C-3",
    "The gradient of a shared weight is the sum of immediate terms, one for each step",
    statement=r"""Let $s_t = F(\theta, x_t, s_{t-1})$, let $L$ depend on the states, with $\delta_t$
its partial derivative by $s_t$, and let $s_0$ be constant. Then $\frac{dL}{d\theta} = \sum_{t}
\sum_{i \le t} \delta_t P_{t,i} \frac{\partial^+ s_i}{\partial\theta} = \sum_i \lambda_i
\frac{\partial^+ s_i}{\partial\theta}$, where $\lambda_i = \sum_{t \ge i} \delta_t P_{t,i}$ and
$\partial^+$ holds $s_{i-1}$ fixed. Term $i$ is the gradient with respect to the copy $\theta_i$
that step $i$ uses, all copies being equal.""",
    hypotheses=(
        "all steps use the same θ",
        "s_0 does not depend on θ: otherwise δP_{t,0} ds_0/dθ is to be added",
    ),
    proof="""Give each step its own copy: L(θ_1, …, θ_T). On the diagonal θ_1 = … = θ_T = θ the
chain rule gives dL/dθ = Σ_i ∂L/∂θ_i. θ_i enters through s_i alone, with s_{i−1} independent of it,
so ∂L/∂θ_i = (Σ_{t≥i} δ_t ∂s_t/∂s_i) ∂⁺s_i/∂θ, and ∂s_t/∂s_i = P_{t,i} by C-1.""",
    sources=("S0-3", "S1-12", "S1-13", "S1-14", "S1-16", "S1-21", "S2-2",
             "Pascanu, Mikolov & Bengio 2013"),
    cases=lambda system: cases.with_losses(cases.networks(system)),
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "equal copies: the last step has twice the weights",
            lambda: {
                **cases.linear_with_loss(2),
                "last_copy": {"W_x": np.full((1, 1), 2.0), "W_h": np.ones((1, 1)), "b": np.ones(1)},
            },
        ),
        Necessity(
            "constant s_0: it has W_h added",
            lambda: {**cases.linear_with_loss(1), "start": cases.weights_start},
        ),
    ),
    sensitivity=(
        Mistake("h_t for h_{t−1} in ∂⁺", "tinygrad_rnn.cells.RNNCell.local", sees_late_state),
        Mistake(
            "total derivatives for immediate ones: lag k counted k + 1 times (S0-3)",
            "tinygrad_rnn.recurrent.contributions",
            lambda right: lambda cell, p, x, *rest: {
                name: np.stack([(len(x) - j) * term for j, term in enumerate(terms)])
                for name, terms in right(cell, p, x, *rest).items()
            },
        ),
        Mistake(
            "backpropagation cut after two steps",
            "tinygrad_rnn.recurrent._backward",
            lambda right: lambda problem, truncate: right(problem, 2),
        ),
        PRIME,
    ),
)  # fmt: skip
def gradients_add_up(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    d_state: Any,
    last_copy: Any = None,
    start: Callable[[Any, Any], Any] = lambda params, state: state,
) -> Iterator[Comparison]:
    """Compare the shared weight's gradient with those of copies, and with the sums."""
    T, losses = len(x), (list(d_outputs), d_state)

    def run(copies: Any, state: Any) -> Any:
        states = [state]
        for p, x_t in zip(copies, x, strict=True):
            states.append(cell.step(p, x_t, states[-1]))
        return [s[0] for s in states[1:]], states[-1]

    (shared,) = tg.vjp(lambda p: run([p] * T, start(p, state)), params)[1](losses)
    copies = [params] * (T - 1) + [last_copy or params]
    (untied,) = tg.vjp(lambda p: run(p, start(params, state)), copies)[1](losses)
    rest = (cell, params, x, d_outputs, start(params, state))
    terms = recurrent.contributions(*rest, d_state)
    double = double_sum(cell, params, x, start(params, state), d_outputs, d_state)
    of_copies = [vector(gradient) for gradient in untied]
    for i in range(T):
        term = vector({name: terms[name][i] for name in params})
        yield equal("term i is the gradient of copy i", term, of_copies[i])
    yield equal("the copies' gradients add up", sum(of_copies), vector(shared))
    yield equal("Σ_t Σ_{i≤t} δ_t P_{t,i} ∂⁺s_i", vector(double), vector(shared))
    for method in ("tape", "chain"):
        gradient = recurrent.bptt(*rest, method=method, d_state=d_state)
        yield equal(f"bptt by {method}", vector({n: gradient[n] for n in params}), vector(shared))


# ---- C-5 ----------------------------------------------------------------------------------------


@theorem(
    "C-5",
    "The nested formula, the adjoint recursion and the sum over lags are the same gradient",
    statement=r"""(a) Scalars, three steps, $H_t = g(z_t)$, $z_t = U x_t + W H_{t-1} + b$, and a
loss that reads $H_3$ only, with $\delta = \partial L/\partial H_3$: for every differentiable
$H_0(W, U)$ $\frac{dL}{dW} = \delta g'(z_3)[H_2 + W(g'(z_2)[H_1 + W(g'(z_1)[H_0 + W
\frac{dH_0}{dW}])])]$ and $\frac{dL}{dU} = \delta g'(z_3)[x_3 + W(g'(z_2)[x_2 + W(g'(z_1)[x_1 +
W\frac{dH_0}{dU}])])]$. (b) Matrices, any $T$, losses at every step, constant $h_0$: with $\lambda_t
= \delta_t + (\lambda_{t+1} \circ f'(a_{t+1})) W_h^\top$ and $\lambda_{T+1} = 0$, $\frac{dL}{dW_h} =
\sum_t h_{t-1}^\top (\lambda_t \circ f'(a_t))$, which equals $\sum_t \delta_t \frac{dh_t}{dW_h}$
nested from the inside and the double sum of C-3; likewise $W_x$ with $x_t$ for $h_{t-1}$.""",
    hypotheses=("(a) the loss reads H_3 only", "(b) h_0 does not depend on the weights"),
    proof="""dH_t/dW = g'(z_t)[H_{t−1} + W dH_{t−1}/dW] by the product and chain rules: substitute
it three times. For U, dz_t/dU = x_t + W dH_{t−1}/dU. In matrices the same recursion gives dh_t/dW_h
from the inside. Unrolled it is the sum over i ≤ t of P_{t,i} ∂⁺h_i/∂W_h, the terms of C-3;
collecting those with equal i gives λ_i = Σ_{t≥i} δ_t P_{t,i}, which obeys λ_i = δ_i + λ_{i+1}
J_{i+1}.""",
    sources=("S4-1", "S4-2", "S4-3", "Griewank & Walther 2008"),
    cases=cases.nestings,
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "(a) the loss reads H_2 as well", lambda: {**cases.notes_case(), "reads": (1, 2)}
        ),
        Necessity(
            "(b) h_0 has W_h added", lambda: {**cases.notes_case(), "start": cases.weights_start}
        ),
    ),
    sensitivity=(
        Mistake(
            "a bracket that closes too early",
            "tinygrad_rnn.proofs.bptt.nested",
            lambda right: (
                lambda W, g, inner, start: (
                    g[2] * inner[2] + W * (g[1] * inner[1] + W * (g[0] * (inner[0] + W * start)))
                )
            ),
        ),
        Mistake(
            "H_t in place of H_{t−1}",
            "tinygrad_rnn.proofs.bptt.nested",
            lambda right: lambda W, g, inner, start: right(W, g, (*inner[1:], inner[2]), start),
        ),
        Mistake(
            "λ_t carried by W_h in place of its transpose",
            "tinygrad_rnn.proofs.bptt.adjoint_nesting",
            lambda right: lambda W, *rest: right(W.T, *rest),
        ),
        Mistake(
            "backpropagation stops after one step",
            "tinygrad_rnn.recurrent._ROADS",
            lambda right: {"tape": lambda problem, truncate: right["tape"](problem, 1)},
        ),
        UNTRANSPOSED,
    ),
)
def nested_sums(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    notes: Any,
    reads: tuple[int, ...] = (2,),
    start: Callable[[Any, Any], Any] = lambda params, state: state,
) -> Iterator[Comparison]:
    """Compare the notes' formulas, the recursions, the sum over lags and the engine."""
    unit = RNNCell(1, 1, cell.activation)
    three = {name: notes[name] for name in unit.layout}
    W, kappa = notes["W_h"], notes["kappa"]

    def outputs(p: Any) -> list[Array]:
        states = trajectory(unit, p, notes["x"], (notes_start(p, notes["h_0"], kappa),))
        return [h for (h,) in states[1:]]

    H, pull = tg.vjp(outputs, three)
    (truth,) = pull([notes["delta"] if t in reads else 0 * notes["delta"] for t in range(3)])
    H = [notes_start(three, notes["h_0"], kappa), *H]
    d = [slopes(unit, three, x_t, h) for x_t, h in zip(notes["x"], H, strict=False)]
    for name, inner, at_0 in (("W_h", H[:3], kappa[0]), ("W_x", notes["x"], kappa[1])):
        written = notes["delta"] * nested(W, d, inner, at_0)
        yield equal(f"∂L/∂{name} as the notes nest it", written, truth[name])

    before = [h for (h,) in trajectory(cell, params, x, start(params, state))[:-1]]
    d = [slopes(cell, params, x_t, h) for x_t, h in zip(x, before, strict=True)]
    rest = (cell, params, x, start(params, state), d_outputs)
    double = double_sum(*rest, tuple(0 * s for s in state))
    _, pull = tg.vjp(lambda p: [s[0] for s in trajectory(cell, p, x, start(p, state))[1:]], params)
    (truth,) = pull(list(d_outputs))
    by_tape = recurrent.bptt(cell, params, x, d_outputs, start(params, state))
    for name, inner in (("W_h", before), ("W_x", list(x))):
        forward = forward_nesting(params["W_h"], d, inner, d_outputs)
        adjoint = adjoint_nesting(params["W_h"], d, inner, d_outputs)
        yield equal(f"{name}: nested forward", forward, truth[name])
        yield equal(f"{name}: nested backward, the adjoint recursion", adjoint, truth[name])
        yield equal(f"{name}: the sum over lags", double[name], truth[name])
        yield equal(f"{name}: bptt", by_tape[name], truth[name])


# ---- C-6 ----------------------------------------------------------------------------------------


def inner_product(v: Any, w: Any) -> Any:
    """⟨v, w⟩ of two trees of arrays of the same shapes."""
    if isinstance(v, dict):
        return sum(inner_product(v[k], w[k]) for k in v)
    if isinstance(v, (tuple, list)):
        return sum(inner_product(a, b) for a, b in zip(v, w, strict=True))
    return (v * w).sum()


@theorem(
    "C-6",
    "Forward and backward mode through a whole network are transposes of each other",
    statement=r"""Let $F(\theta, x, s_0) = (h_1, \dots, h_T, s_T)$ be an unrolled cell, $J$ its
Jacobian at one point. For every tangent $u$ and cotangent $v$: $\langle v, J u \rangle = \langle
J^\top v, u \rangle$, where $J u$ comes from one forward sweep, $J^\top v$ from one backward sweep,
and again from the closed-form Jacobians.""",
    hypotheses=("Both sweeps are made at the same point",),
    proof="""F is a composition of primitives f_k, J = J_K ⋯ J_1 on the whole record. The forward
sweep multiplies u by J_1, J_2, … in turn, the backward sweep v by J_Kᵀ, J_{K−1}ᵀ, …, and ⟨v, J_K ⋯
J_1 u⟩ = ⟨J_1ᵀ ⋯ J_Kᵀ v, u⟩ since ⟨w, J_k z⟩ = ⟨J_kᵀ w, z⟩ for each primitive. Fan-out is the
primitive z ↦ (z, z), whose transpose is addition.""",
    sources=("Griewank & Walther 2008",),
    cases=cases.with_directions,
    systems=("field", "rational"),
    necessity=(
        Necessity(
            "the same point: the backward sweep has h_0 = 2",
            lambda: {
                **cases.linear_with_loss(1),
                "u": {
                    "params": {"W_x": np.ones((1, 1)), "W_h": np.ones((1, 1)), "b": np.ones(1)},
                    "x": np.ones((1, 1, 1)),
                    "state": (np.ones((1, 1)),),
                },
                "elsewhere": (np.full((1, 1), 2.0),),
            },
        ),
    ),
    sensitivity=(
        UNTRANSPOSED,
        Mistake(
            "a product rule without its second term, forward",
            RULES,
            of_rule(np.multiply, jvps=lambda right: (right[0], None)),
        ),
        Mistake(
            "tanh in place of its derivative, forward",
            RULES,
            of_rule(np.tanh, jvps=lambda right: (lambda t, y, x: t * y,)),
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
    ),
)
def sweeps_are_transposes(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    d_state: Any,
    u: Any,
    elsewhere: Any = None,
) -> Iterator[Comparison]:
    """Pair the forward sweep with v, and two backward roads with u."""

    def run(params: Any, x: Array, state: Any) -> Any:
        result = recurrent.unroll(cell, params, x, state)
        return result.outputs, result.final

    at = elsewhere or state
    _, pushed = tg.jvp(run, (params, x, state), (u["params"], u["x"], u["state"]))
    pulled = tg.vjp(run, params, x, at)[1]((d_outputs, d_state))
    chain = recurrent.bptt(cell, params, x, d_outputs, at, method="chain", d_state=d_state)
    forward = inner_product((d_outputs, d_state), pushed)
    backward = inner_product(pulled, (u["params"], u["x"], u["state"]))
    closed = inner_product({**u["params"], "x": u["x"], "state": u["state"]}, chain)
    yield equal("⟨v, J u⟩ = ⟨Jᵀ v, u⟩", forward, backward)
    yield equal("⟨v, J u⟩ = ⟨Jᵀ v, u⟩, Jᵀ v in closed form", forward, closed)
