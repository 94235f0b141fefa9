r"""Initial weights that neither stretch nor shrink: orthogonal ones, and the identity with relu.

With an orthogonal $W_h$ the step Jacobians change lengths by the slopes alone (I-1); with a
multiple of the identity and relu they switch whole units on and off (I-2). Vectors are rows, $J_t =
\mathrm{diag}(f'(a_t)) W_h^\top$, and the transpose of an orthogonal matrix is orthogonal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import init, scalars
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt

from .cases import one_step
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME, PROJECTION, SKIP
from .norms import largest, principal_minors, within
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, sizes, states
from .unrolled import product, slopes, step_jacobians, tape_jacobian, trajectory

Array = Any


# ---- I-1 -----------------------------------------------------------------------------------------


@st.composite
def _reflections(draw: Draw, H: int) -> tuple[Array, ...]:
    """Draw up to H + 1 vectors that are not zero."""
    count = draw(st.integers(0, H + 1))
    return tuple(np.where(v.any(), v, 1.0) for v in draw(st.tuples(*[dyadics(H)] * count)))


@st.composite
def _orthogonal(draw: Draw, system: str) -> Case:
    """An RNN, the mirrors whose product is its W_h, and slopes d_k of any sign beside its own.

    In balls a margin keeps a bound from being an equation, and no d is 0, where det P would be.
    """
    n = draw(sizes(T=3, N=1, D=2))
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    v = draw(_reflections(n["H"]))
    d = draw(dyadics((n["T"], n["H"])))
    return {
        "cell": cell,
        "params": {"W_x": draw(dyadics((n["D"], n["H"]))), "b": draw(dyadics(n["H"]))},
        "x": draw(dyadics((n["T"], 1, n["D"]))),
        "state": draw(states(cell, 1)),
        "mirrors": v,
        "d": np.where(d == 0, 1.0, d) if system == "ball" else d,
        "delta": draw(dyadics((1, n["H"]))),
        "margin": np.array(2.0**-64 if system == "ball" else 0.0),
        "family": f"{len(v)} reflections",
    }


def _plain(W: Any, d: Any = 1.0, f: str = "identity", T: int = 2) -> Case:
    """Two units with the matrix W and no inputs; W is put in place of an orthogonal one."""
    case = one_step(W, f, T=T)
    return {
        **case,
        "W": case["params"].pop("W_h"),
        "mirrors": (),
        "d": np.ones((T, len(W))) * d,
        "delta": np.ones((1, len(W))),
        "margin": np.array(0.0),
    }


def _smallest(values: Array) -> Any:
    return -largest(-values)


def _between(P: Array, delta: Array, low: Any, high: Any, margin: Any) -> Iterator[Comparison]:
    """Claim low ≤ σ_min(P) and σ_max(P) ≤ high, and the same of ‖δP‖/‖δ‖, which may be tight."""
    above, below = 1 + margin, 1 - margin
    yield at_most("σ_max ≤ Π max|d_k|", *within("2", P, high * above))
    gap = P.T @ P - low * low * below * np.eye(len(P), dtype=P.dtype)
    yield at_most("Π min|d_k| ≤ σ_min", 0, np.array(principal_minors(gap)))
    length, pulled = (delta * delta).sum(), ((delta @ P) ** 2).sum()
    yield at_most("‖δP‖² ≤ (Π max|d_k| ‖δ‖)²", pulled, high * high * length * above)
    yield at_most("(Π min|d_k| ‖δ‖)² ≤ ‖δP‖²", low * low * length * below, pulled)


@theorem(
    "I-1",
    "An orthogonal W leaves all lengths to the slopes",
    statement=r"""Let $Q^\top Q = I$. Then $\|Q^n v\| = \|v\|$ for all $v$ and $n$. For diagonal
matrices $D_k = \mathrm{diag}(d_k)$ and $P = D_T Q^\top \cdots D_1 Q^\top$
$$\prod_k \min_j |d_{k,j}| \le \sigma_{\min}(P), \qquad
  \sigma_{\max}(P) \le \prod_k \max_j |d_{k,j}|,$$
so for every row $\delta$ the length of $\delta P$ is between the two times $\|\delta\|$. For an RNN
with $W_h = Q$ this is $P = \partial h_T/\partial h_0$ with $d_k = f'(a_k)$; with linear units
gradients keep their length exactly.""",
    hypotheses=(
        "QᵀQ = I (eigenvalues of modulus 1 will not do)",
        "min and max are over the units of step k itself",
    ),
    proof="""‖Qv‖² = vᵀQᵀQv = ‖v‖², and induction gives Qⁿ. Q is square, so QQᵀ = I as well, and
‖Qᵀv‖ = ‖v‖. Hence min_j|d_{k,j}| ‖v‖ ≤ ‖D_k Qᵀv‖ ≤ max_j|d_{k,j}| ‖v‖ for every column v, and by
induction ‖Pv‖ lies between the products times ‖v‖: σ_max and σ_min are the extremes of ‖Pv‖/‖v‖. P
is square, so the singular values of Pᵀ are those of P, and ‖δP‖ = ‖Pᵀδᵀ‖.""",
    sources=(
        "S0-10",
        "Saxe, McClelland & Ganguli 2014",
        "Arjovsky, Shah & Bengio 2016",
        "Henaff, Szlam & LeCun 2016",
    ),
    cases=_orthogonal,
    systems=("rational", "ball"),
    necessity=(
        Necessity("QᵀQ = I: both eigenvalues are 1", lambda: _plain([[1, 1], [0, 1]])),
        Necessity(
            "step k itself: units that are alive at step 2 and dead at step 1",
            lambda: {
                **_plain([[1, 0], [0, 1]], f="relu", d=[[1.0], [0.0]], T=2),
                "x": np.array([[[-1.0]], [[1.0]]]),
                "last": 1,
            },
        ),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        SKIP,
        COUNTED_TWICE,
        PROJECTION,
        Mistake(
            "a mirror that is not divided by v·v",
            "tinygrad_rnn.init.householder",
            lambda right: lambda v, A: A - 2 * np.outer(v, v @ A),
        ),
    ),
    witness=lambda: {**_plain([[0, 1], [1, 0]]), "d": np.array([[0.5, 0.5], [-2.0, 2.0]])},
)
def _isometry(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    mirrors: Any,
    d: Array,
    delta: Array,
    margin: Any,
    W: Any = None,
    last: int | None = None,
) -> Iterator[Comparison]:
    H, T = cell.H, len(x)
    Q = np.eye(H, dtype=x.dtype) if W is None else W
    for v in mirrors:
        Q = init.householder(v, Q)
    if W is None:  # 1 is added because balls cannot confirm that something is 0
        yield equal("QᵀQ = I", 1 + Q.T @ Q, 1 + np.eye(H, dtype=int))
    params = {**params, "W_h": Q}
    d_outputs = np.stack([0 * delta] * (T - 1) + [delta])
    linear = RNNCell(cell.D, H, "identity")
    (pulled,) = bptt(linear, params, x, d_outputs, state)["state"]
    yield equal("linear units: ‖∂L/∂h_0‖ = ‖δ‖", (pulled * pulled).sum(), (delta * delta).sum())

    before = trajectory(cell, params, x, state)[:-1]
    own = np.abs([slopes(cell, params, x_t, h)[0] for x_t, (h,) in zip(x, before, strict=True)])
    free = [np.diag(d_k) @ Q.T for d_k in d]
    chains = (own, step_jacobians(cell, params, x, state)[:, 0]), (np.abs(d), np.stack(free))
    for size, jacobians in chains:
        counted = size[-last:].repeat(T // last, axis=0) if last else size
        low = np.prod([_smallest(d_k) for d_k in counted])
        high = np.prod([largest(d_k) for d_k in counted])
        yield from _between(product(jacobians), delta, low, high, margin)


# ---- I-2 -----------------------------------------------------------------------------------------


@st.composite
def _irnns(draw: Draw, system: str) -> Case:
    """Relu units, of which some stay active, some are never, and some come and go."""
    n = draw(sizes(D=2))
    cell = RNNCell(n["D"], n["H"], "relu")
    return {
        "cell": cell,
        "params": {"W_x": draw(dyadics((n["D"], n["H"]))), "b": draw(dyadics(n["H"]))},
        "x": draw(dyadics((n["T"], n["N"], n["D"]))),
        "state": draw(states(cell, n["N"])),
        "delta": draw(dyadics((n["N"], n["H"]))),
        "gain": draw(st.sampled_from((0.25, 1.0, 1.0, 2.0))),
    }


def _swap(rng: Any, shape: Any, gain: Any) -> Array:
    return gain * np.eye(2)[::-1]


def _two_units(f: str = "relu", rule: Any = None) -> Case:
    """Two active units over two steps."""
    case = one_step([[0, 0], [0, 0]], f, b=1.0, T=2)
    del case["params"]["W_h"]
    return {**case, "delta": np.array([[1.0, 2.0]]), "gain": 1.0, "rule": rule}


@theorem(
    "I-2",
    "The IRNN multiplies gradients by 0 or 1: a unit's gradient passes whole or not at all",
    statement=r"""Let $h_t = \mathrm{relu}(x_t W_x + g\,h_{t-1} + b)$, that is $W_h = gI$, with any
inputs, bias and $h_0$, and let $m_t \in \{0, 1\}^H$ say which units are active at step $t$, $a_t >
0$. Then $\partial h_T/\partial h_0 = g^T \mathrm{diag}(m_1 \cdots m_T)$. For $g = 1$, the IRNN:
each entry is 0 or 1; once 0, it stays 0 for all later $T$; for a unit that is active all the time
it is exactly 1, and there $h_T = h_0 + \sum_t (x_t W_x + b)$.""",
    hypotheses=("W_h = gI", "f = relu"),
    proof="""J_t = diag(relu'(a_t)) (gI)ᵀ = g diag(m_t), where relu'(a) is 1 for a > 0 and 0 for a ≤
0 (at a = 0 by choice). A product of diagonal matrices is the diagonal matrix of the products, and a
product of zeros and ones is 1 iff all are 1; a further factor cannot make a 0 a 1. An active unit
has h_t = a_t, so h_t = g h_{t−1} + (x_t W_x + b): add these up.""",
    sources=("S0-10", "S1-31", "Le, Jaitly & Hinton 2015"),
    cases=_irnns,
    systems=("rational",),
    necessity=(
        Necessity("W_h = gI: a permutation", lambda: _two_units(rule=_swap)),
        Necessity("f = relu: with tanh the gradient shrinks", lambda: _two_units("tanh"), "ball"),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "all entries 1 in place of the diagonal",
            "tinygrad_rnn.init.identity",
            lambda right: lambda rng, shape, gain: gain * np.ones(shape),
        ),
        Mistake(
            "the gain squared",
            "tinygrad_rnn.init.identity",
            lambda right: lambda rng, shape, gain: right(rng, shape, gain * gain),
        ),
    ),
)
def _masks(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    delta: Array,
    gain: float,
    rule: Callable[..., Array] | None = None,
) -> Iterator[Comparison]:
    T, zeros = len(x), {name: np.zeros(shape) for name, shape in cell.shapes.items()}
    W_h = init.redraw(cell, zeros, 0, W_h=partial(rule or init.identity, gain=gain))["W_h"]
    params = {**params, "W_h": W_h if x.dtype != object else scalars.rational(W_h)}
    g = gain if x.dtype != object else Fraction(gain)
    states = trajectory(cell, params, x, state)
    active = np.array([(h > 0).astype(int) for (h,) in states[1:]])
    jacobians = step_jacobians(cell, params, x, state)
    for t in range(1, T + 1):
        kept = active[:t].prod(axis=0)
        closed = g**t * kept[:, :, None] * np.eye(cell.H, dtype=int)
        yield equal("P = gᵗ diag(m_1 ⋯ m_t)", product(jacobians[:t]), closed)
        yield equal("by the engine", tape_jacobian(cell, params, x[:t], state), closed)
        yield at_most("0 stays 0", kept, active[: t - 1].prod(axis=0))
    d_outputs = np.stack([0 * delta] * (T - 1) + [delta])
    (pulled,) = bptt(cell, params, x, d_outputs, state)["state"]
    yield equal("∂L/∂h_0 = gᵀ m_1 ⋯ m_T δ", pulled, g**T * kept * delta)
    added = sum(g ** (T - t) * (x_t @ params["W_x"] + params["b"]) for t, x_t in enumerate(x, 1))
    yield equal("active units add up", kept * states[-1][0], kept * (g**T * state[0] + added))
