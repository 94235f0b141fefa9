"""What vanishes when every step contracts: the terms of long lags, and not the gradient.

The notes conclude from "gradients < 1" that ∂L/∂W is infinitesimally small. Contracting steps bound
the *terms*: what a step k steps back adds decays like qᵏ. Their sum is bounded by a geometric
series, but not small, because the terms of short lags are not: the gradient is there, and it has
forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt, contributions

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .contracting import immediate_inputs, network, networks, steady
from .mistakes import NO_DIAGONAL, PRIME, sees_late_state
from .norms import frobenius_squared, largest
from .strategies import Draw

Array = Any


HYPOTHESES = (
    "γ ≥ sup |f'|",
    "q ≥ γ‖W_h‖₂ (an eigenvalue will not do)",
    "The loss depends on the last output alone",
)


def _without_each(**also: Any) -> tuple[Necessity, ...]:
    late = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    return (
        Necessity("γ ≥ sup |f'|", lambda: network(γ=np.array(0.25), q=np.array(1.0), **also)),
        Necessity("q ≥ γ‖W_h‖₂", lambda: network(q=np.array(0.25), **also)),
        Necessity("the last output alone", lambda: network(d_outputs=late, **also)),
    )


# ---- V-1 ----------------------------------------------------------------------------------------


@theorem(
    "V-1",
    "What a step k steps back adds to the gradient decays like qᵏ",
    statement=r"""Let $h_t = f(x_t W_x + h_{t-1} W_h + b)$ with $|f'| \le \gamma$ and
$\gamma\|W_h\|_2 \le q$. Let the loss depend on $h_T$ alone, $\delta = \partial L/\partial h_T$.
The term of step $t = T - k$ in $\partial L/\partial W_h$ has Frobenius norm at most
$\gamma\,\|\delta\|\,\|h_{t-1}\|\,q^k$; for $W_x$ and $b$ put $x_t$ and $1$ in place of
$h_{t-1}$.""",
    hypotheses=HYPOTHESES,
    proof="""The term is uᵀ(δ J_T ⋯ J_{t+1} D_t), where J_i = D_i W_hᵀ, D_i = diag f'(a_i), and u
is h_{t−1}, x_t or 1. It has rank one, so its Frobenius norm is ‖u‖ ‖δ J_T ⋯ J_{t+1} D_t‖, and
‖J_i‖ ≤ γ‖W_h‖ ≤ q, ‖D_t‖ ≤ γ.""",
    sources=("S0-1", "S0-2", "S1-29", "S4-4", "Pascanu, Mikolov & Bengio 2013"),
    cases=networks,
    systems=("rational", "ball"),
    necessity=_without_each(),
    sensitivity=(
        NO_DIAGONAL,
        PRIME,
        Mistake("h_t for h_{t−1} in ∂⁺", "tinygrad_rnn.cells.RNNCell.local", sees_late_state),
    ),
    witness=steady,
)
def _terms_decay(
    cell: Any, params: Any, x: Array, state: Any, d_outputs: Array, γ: Any, q: Any
) -> Iterator[Comparison]:
    terms = contributions(cell, params, x, d_outputs, state)
    powers = np.array([q[()] ** (2 * k) for k in reversed(range(len(x)))])  # q^2k, k = T − t
    δ = d_outputs[-1]
    for name, u in immediate_inputs(cell, params, x, state).items():
        lhs = np.array([frobenius_squared(term) for term in terms[name]])
        rhs = γ * γ * (δ @ δ) * (u * u).sum(axis=1) * powers
        yield at_most(f"‖term of {name}‖² ≤ (γ ‖δ‖ ‖u‖ qᵏ)²", lhs, rhs)


# ---- V-2 ----------------------------------------------------------------------------------------


@st.composite
def _networks_and_sums(draw: Draw, system: str) -> Case:
    """A network as for V-1, and a scalar one: 0 ≤ w < 1, two steps or more."""
    w = draw(st.integers(0, 15)) / 16
    case = draw(networks(system))
    return {**case, "w": np.array(w), "steps": draw(st.sampled_from((2, 3, 4, 9)))}


def _sum(w: float = 0.5, steps: int = 4) -> dict[str, Any]:
    return {"w": np.array(w), "steps": steps}


@theorem(
    "V-2",
    "The whole gradient does not vanish with the terms of long lags",
    statement=r"""For $h_t = w h_{t-1} + 1$, $h_0 = 0$, $0 \le w < 1$ and $T \ge 2$ the term of the
longest lag in $\partial h_T/\partial w$ is $w^{T-2}$, but
$$1 \le \frac{\partial h_T}{\partial w} = \sum_{k=1}^{T-1} k w^{k-1}
  = \frac{1 - T w^{T-1} + (T-1) w^T}{(1-w)^2} \le \frac{1}{(1-w)^2},$$
which is its limit. Under the hypotheses of V-1, with $\|h_t\| \le M$ for $t < T$,
$$\Big\|\frac{\partial L}{\partial W_h}\Big\|_F \le \gamma\,\|\delta\|\,M \sum_{k=0}^{T-1} q^k,$$
and likewise for $W_x$ and $b$. If $q < 1$ the sum is less than $1/(1-q)$.""",
    hypotheses=("0 ≤ w", "w < 1", "T ≥ 2", *HYPOTHESES),
    proof="""∂h_T/∂w = h_{T−1} + w ∂h_{T−1}/∂w with h_t = 1 + w + ⋯ + w^{t−1} gives the sum, by
induction; the step t adds h_{t−1} w^{T−t}, so t = 2 adds w^{T−2}. Differentiating Σ_{k<T} w^k =
(1 − w^T)/(1 − w) gives the closed form. For w ≥ 0 the partial sums increase, from 1 at T = 2 to
their limit, which is 1/(1 − w)² since T w^{T−1} → 0. The second bound adds up those of V-1.""",
    sources=("S4-4", "S4-6", "S0-7", "S1-24"),
    cases=_networks_and_sums,
    systems=("rational", "ball"),
    necessity=(
        Necessity("0 ≤ w", lambda: network(**_sum(w=-0.5, steps=3))),
        Necessity("w < 1", lambda: network(**_sum(w=1.5, steps=4))),
        Necessity("T ≥ 2", lambda: network(**_sum(steps=1))),
        *_without_each(**_sum()),
    ),
    sensitivity=(
        Mistake(
            "total in place of immediate derivatives: lag k counted k + 1 times (S0-3)",
            "tinygrad_rnn.proofs.vanishing.contributions",
            lambda right: (
                lambda *args: {
                    name: terms * np.arange(len(terms), 0, -1).reshape(-1, *[1] * (terms.ndim - 1))
                    for name, terms in right(*args).items()
                }
            ),
        ),
        Mistake(
            "the state is detached from the step before",
            "tinygrad_rnn.proofs.vanishing.bptt",
            lambda right: lambda *args: right(*args, truncate=1),
        ),
        Mistake(
            "W_h missing in the Jacobian: diag f' alone",
            "tinygrad_rnn.cells.RNNCell.jacobian",
            lambda right: (
                lambda cell, params, x_t, state: right(
                    cell,
                    {**params, "W_h": 0 * params["W_h"] + np.eye(cell.H, dtype=int)},
                    x_t,
                    state,
                )
            ),
        ),
    ),
    witness=lambda: {**steady(), **_sum(w=0.0, steps=2)},
)
def _gradient_stays(
    w: Any,
    steps: int,
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    γ: Any,
    q: Any,
) -> Iterator[Comparison]:
    T, one = steps, 1 + 0 * w.reshape(1, 1)
    linear = (
        RNNCell(1, 1, "identity"),
        {"W_x": one, "W_h": w * one, "b": 0 * one[0]},
        np.repeat(one, T, axis=0),
        np.concatenate([0 * one] * (T - 1) + [one]),
    )
    whole = bptt(*linear)["W_h"][0, 0]
    closed = (1 - T * w ** (T - 1) + (T - 1) * w**T) / ((1 - w) * (1 - w))
    yield equal("∂h_T/∂w is the closed form", whole, closed)
    yield at_most("1 ≤ ∂h_T/∂w", one, whole)
    yield at_most("∂h_T/∂w ≤ 1/(1 − w)²", whole, 1 / ((1 - w) * (1 - w)))
    terms = contributions(*linear)["W_h"][:, 0, 0]
    yield equal("the terms add up to it", terms.sum(), closed)
    yield equal("the longest lag's is w^{T−2}", terms[1], w ** (T - 2))

    gradient = bptt(cell, params, x, d_outputs, state)
    δ, series = d_outputs[-1], sum(q**k for k in range(len(x)))
    for name, u in immediate_inputs(cell, params, x, state).items():
        rhs = γ * γ * (δ @ δ) * largest((u * u).sum(axis=1)) * series * series
        yield at_most(
            f"‖∂L/∂{name}‖² ≤ (γ ‖δ‖ max‖u‖ Σqᵏ)²", frobenius_squared(gradient[name]), rhs
        )
