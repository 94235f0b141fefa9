"""Truncated backpropagation, and the share of long lags: how much of a gradient is old.

Truncation is the remedy that gives up what vanishes anyway. What it drops is bounded by the tail of
a geometric series, so it is harmless exactly where nothing of a long lag could be learnt; where
steps expand, the long lags are all there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.clip import global_norm
from tinygrad_rnn.recurrent import bptt, contributions, unroll

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .contracting import immediate_inputs, network, networks, steady
from .mistakes import NO_DIAGONAL, PRIME
from .norms import frobenius_squared, largest
from .strategies import Draw, dyadics
from .unrolled import product, step_jacobians

Array = Any
METHODS = ("tape", "chain", "kernel")


# ---- V-3 ----------------------------------------------------------------------------------------


@st.composite
def _truncated(draw: Draw, system: str) -> Case:
    """A network as for V-1, a loss of every output, and a window of 1 ≤ K ≤ T steps."""
    case = draw(networks(system, T=3, D=1, H=2))
    T, H = case["d_outputs"].shape
    d_outputs = draw(dyadics((T, H)))
    return {**case, "d_outputs": d_outputs, "K": draw(st.integers(1, T))}


def _by_chunks(right: Any) -> Any:
    """Cut the sequence into chunks of K steps, as training loops do that detach the state."""

    def wrong(cell: Any, params: Any, x: Array, d: Array, state: Any, **options: Any) -> Any:
        K = options.pop("truncate", None) or len(x)
        h = unroll(cell, params, x, state).states[0]
        cuts = range(0, len(x), K)
        parts = [right(cell, params, x[s : s + K], d[s : s + K], (h[s],), **options) for s in cuts]
        return {name: sum(part[name] for part in parts) for name in params} | {
            "state": parts[0]["state"]
        }

    return wrong


@theorem(
    "V-3",
    "Truncated backpropagation drops the terms of long lags, a geometric tail",
    statement=r"""Let $h_t = f(x_t W_x + h_{t-1} W_h + b)$ with $|f'| \le \gamma$ and
$\gamma\|W_h\|_2 \le q$, and let $\delta_t = \partial L/\partial h_t$ be immediate. Backpropagation
truncated to $K \ge 1$ steps keeps of the loss at each step $t$ the terms of the lags $t - i < K$.
What it drops of $\partial L/\partial W_h$ is $\sum_{t > K} R_t$,
$R_t = \sum_{i \le t-K} \big(\tfrac{\partial^+ h_i}{\partial W_h}\big)^{\!\top} \delta_t J_t \cdots
J_{i+1}$ with
$$\|R_t\|_F \le \gamma\,\|\delta_t\|\,M_t \sum_{k=K}^{t-1} q^k
  = \gamma\,\|\delta_t\|\,M_t\,\frac{q^K - q^t}{1 - q} \quad (q \ne 1),$$
$M_t = \max_{i \le t-K} \|h_{i-1}\|$, and likewise for $W_x$ and $b$ with $x_i$ and $1$ in place of
$h_{i-1}$. The part of $\partial L/\partial h_0$ that is dropped is $\sum_{t>K} \delta_t J_t \cdots
J_1$, with $\|\delta_t J_t \cdots J_1\| \le \|\delta_t\|\,q^t$.""",
    hypotheses=("γ ≥ sup |f'|", "q ≥ γ‖W_h‖₂"),
    proof="""By C-3 the gradient is the sum of the terms of all i ≤ t, and truncation omits those
with t − i ≥ K: what it drops is Σ R_t. By V-1, applied to the loss at step t alone, the term of lag
k = t − i has norm at most γ‖δ_t‖ ‖u_i‖ q^k; in R_t the lags run from K to t − 1. For h_0 the
product has t factors, ‖J_i‖ ≤ q.""",
    sources=("S3-1", "S4-4", "Williams & Peng 1990", "Miller & Hardt 2019"),
    cases=_truncated,
    systems=("rational", "ball"),
    necessity=(
        Necessity("γ ≥ sup |f'|", lambda: network(γ=np.array(0.25), q=np.array(1.0), K=1)),
        Necessity("q ≥ γ‖W_h‖₂", lambda: network(q=np.array(0.25), K=1)),
    ),
    sensitivity=(
        Mistake(
            "chunks of K steps: the loss of a chunk's first step sees one step",
            "tinygrad_rnn.proofs.vanishing_truncated.bptt",
            _by_chunks,
        ),
        Mistake(
            "a window of K + 1 steps on the tape",
            "tinygrad_rnn.recurrent._windows",
            lambda right: lambda problem, k: right(problem, k + 1),
        ),
        Mistake(
            "a window of K − 1 steps along the chain",
            "tinygrad_rnn.recurrent._backward",
            lambda right: lambda problem, k: right(problem, k and max(k - 1, 1)),
        ),
        NO_DIAGONAL,
        PRIME,
    ),
    witness=lambda: {**steady(), "K": 1},
)
def _truncation_drops_a_tail(
    cell: Any, params: Any, x: Array, state: Any, d_outputs: Array, γ: Any, q: Any, K: int
) -> Iterator[Comparison]:
    inputs = immediate_inputs(cell, params, x, state)
    steps = step_jacobians(cell, params, x[:, None], (state[0][None],))[:, 0]
    whole = bptt(cell, params, x, d_outputs, state)
    dropped: dict[str, Any] = dict.fromkeys(inputs, 0)
    dropped_start, kept = 0 * state[0], {}
    for t in range(K + 1, len(x) + 1):
        only_t = 0 * d_outputs
        only_t[t - 1] = δ = d_outputs[t - 1]
        terms = contributions(cell, params, x, only_t, state)
        tail = sum(q[()] ** k for k in range(K, t))
        for name, u in inputs.items():
            R = terms[name][: t - K].sum(axis=0)
            dropped[name] = dropped[name] + R
            M = largest((u[: t - K] * u[: t - K]).sum(axis=1))
            rhs = γ * γ * (δ @ δ) * M * tail * tail
            yield at_most(f"‖R_{t}‖² ≤ (γ ‖δ‖ M Σqᵏ)², {name}", frobenius_squared(R), rhs)
        start = δ @ product(steps[:t])
        dropped_start = dropped_start + start
        yield at_most(f"‖∂L_{t}/∂h_0‖² ≤ (‖δ‖ qᵗ)²", start @ start, (δ @ δ) * q ** (2 * t))
    for method in METHODS[: 3 if x.dtype.kind == "f" else 2]:
        kept[method] = bptt(cell, params, x, d_outputs, state, method=method, truncate=K)
    for method in METHODS:  # only floats have a kernel; its place is taken by the tape
        some = kept.get(method, kept["tape"])
        for name in inputs:
            label = f"truncated + ΣR = whole, {name}, {method}"
            yield equal(label, some[name] + dropped[name], whole[name])
        yield equal(f"and of h_0, {method}", some["state"][0] + dropped_start, whole["state"][0])
    late, δ = 0 * d_outputs, d_outputs[-1]
    late[-1] = δ
    for method in METHODS:  # what h_T gets besides is a loss of it
        road = method if method in kept else "tape"
        besides, same = (
            bptt(cell, params, x, d, state, method=road, truncate=K, d_state=(end,))
            for d, end in ((0 * late, δ), (late, 0 * δ))
        )
        for name in inputs:
            yield equal(f"∂L/∂h_T = a loss of h_T, {name}, {method}", besides[name], same[name])


# ---- V-4 ----------------------------------------------------------------------------------------


def _share(q: float, K: int, T: int) -> Case:
    """One linear unit: what lag k adds is qᵏ."""
    return _linear_case(np.full((1, 1), q), q, K, np.ones((T, 1)), np.ones(1))


def _linear_case(W: Array, q: float, K: int, x: Array, δ: Array, **changed: Any) -> Case:
    H = len(W)
    return {
        "cell": RNNCell(1, H, "identity"),
        "params": {"W_x": np.eye(H)[:1], "W_h": W, "b": np.zeros(H)},
        "x": x,
        "state": (np.ones(H),),
        "d_outputs": np.concatenate([np.zeros((len(x) - 1, H)), δ[None]]),
        "q": np.array(q),
        "K": K,
        **changed,
    }


@st.composite
def _shares(draw: Draw, system: str) -> Case:
    """W_h = qQ, Q a rotation by the 3-4-5 angle or a permutation with signs; ‖δ‖ is rational."""
    H, T = draw(st.integers(1, 3)), draw(st.sampled_from((1, 2, 4, 6)))
    scale = draw(st.sampled_from((0.25, 0.5, 1.0, 1.5, 2.0)))
    signs = draw(st.lists(st.sampled_from((-1.0, 1.0)), min_size=H, max_size=H))
    Q, q = np.eye(H)[draw(st.permutations(range(H)))] * signs, scale
    family = draw(st.sampled_from(("permutation", "rotation") if H == 2 else ("permutation",)))
    if family == "rotation":
        Q, q = np.array([[0.375, -0.5], [0.5, 0.375]]), scale * 0.625
    δ = draw(st.sampled_from((0.5, -3.0))) * np.array([3.0, 4.0, 0.0][:H])
    x = np.array(draw(st.lists(st.sampled_from((-1.0, 1.0)), min_size=T, max_size=T)))[:, None]
    K = draw(st.integers(0, T))
    return _linear_case(scale * Q, q, K, x, δ, family=family)


@theorem(
    "V-4",
    "The share of the long lags is a ratio of powers of the factor",
    statement=r"""Let $h_t = x_t W_x + h_{t-1} W_h + b$ with $W_h = qQ$, $Q$ orthogonal, $q > 0$,
all $\|x_t\|$ equal, and let the loss depend on $h_T$ alone. Of the norms of the terms of $\partial
L/\partial W_x$, and of those of $\partial L/\partial b$, the lags from $K$ on, $0 \le K \le T$,
have the share
$$s = \frac{\sum_{k=K}^{T-1} q^k}{\sum_{k=0}^{T-1} q^k} = \frac{q^K - q^T}{1 - q^T} \quad
  (q \ne 1).$$
If $q \le 1$ then $s \le q^K$: short lags dominate. If $q \ge 1$ then $1 - s \le q^{K-T}$: long
lags dominate.""",
    hypotheses=(
        "W_h = qQ: every step scales by the same factor",
        "All immediate terms have the same norm",
        "The loss depends on the last output alone",
    ),
    proof="""The term of lag k has rank one and the norm ‖u‖ ‖δ J_T ⋯ J_{T−k+1}‖ = ‖u‖ ‖δ‖ q^k: J_t
= (qQ)ᵀ scales every row by q. The factor ‖u‖ ‖δ‖ cancels; the sums are geometric. As
Σ_{k=K}^{T−1} q^k = q^K Σ_{k<T−K} q^k, s ≤ q^K. The share of the lags below K is (Σ_{k<K}
q^k)/(Σ_{k<T} q^k), and Σ_{k<T} q^k ≥ Σ_{k=T−K}^{T−1} q^k = q^{T−K} Σ_{k<K} q^k, so it is ≤ q^{K−T}.
Both hold for every q > 0, and say nothing where the power exceeds 1.""",
    sources=("S1-23", "S1-24", "S1-25", "S1-38", "S4-11"),
    cases=_shares,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "W_h = qQ",
            lambda: _linear_case(
                np.diag([2.0, 0.5]), 2.0, 1, np.ones((3, 1)), np.array([0.0, 1.0])
            ),
        ),
        Necessity(
            "equal immediate norms (S1-23: the whole gradient is one long lag)",
            lambda: _linear_case(
                np.full((1, 1), 0.5), 0.5, 2, np.array([[1.0], [0], [0]]), np.ones(1)
            ),
        ),
        Necessity(
            "the last output alone",
            lambda: {**_share(0.5, 1, 3), "d_outputs": np.ones((3, 1))},
        ),
    ),
    sensitivity=(
        Mistake(
            "total in place of immediate derivatives: lag k counted k + 1 times (S0-3)",
            "tinygrad_rnn.proofs.vanishing_truncated.contributions",
            lambda right: (
                lambda *args: {
                    name: terms * np.arange(len(terms), 0, -1).reshape(-1, *[1] * (terms.ndim - 1))
                    for name, terms in right(*args).items()
                }
            ),
        ),
        Mistake(
            "the adjoint goes back one step at most",
            "tinygrad_rnn.recurrent._backward",
            lambda right: lambda problem, k: right(problem, 1),
        ),
        Mistake(
            "the 1-norm for the norm",
            "tinygrad_rnn.clip._norm",
            lambda right: lambda leaves: (sum(np.abs(a).sum() for a in leaves), 0),
        ),
    ),
    witness=lambda: _share(0.25, 2, 6),
)
def _share_of_long_lags(
    cell: Any, params: Any, x: Array, state: Any, d_outputs: Array, q: Any, K: int
) -> Iterator[Comparison]:
    T, terms = len(x), contributions(cell, params, x, d_outputs, state)
    powers = [q[()] ** k for k in range(T)]
    for name in ("W_x", "b"):
        norms = np.array([global_norm(term) for term in terms[name]][::-1])  # by lag
        share = sum(norms[K:], 0 * q[()]) / sum(norms)
        yield equal(f"share of {name}", share, sum(powers[K:], 0 * q[()]) / sum(powers))
        if bool(q != 1):
            yield equal("closed form", share, (q**K - q**T) / (1 - q**T))
        yield at_most("s ≤ q^K", share, q**K)
        yield at_most("1 − s ≤ q^{K−T}", 1 - share, 1 / q ** (T - K))
