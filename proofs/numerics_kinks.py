"""What the engine returns at a kink: for one function a Clarke element; for a network, if it can.

Automatic differentiation multiplies the derivatives that its rules choose at kinks. The product
need not be a derivative of anything: relu(x) − relu(−x) is x, and its derivative comes out as 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import grad, leaky_relu, relu
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt, unroll

from .activations import RULES
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .mistakes import RULES as TABLE
from .mistakes import of_rule
from .strategies import Draw, dyadics

Array = Any
EPSILON = 2.0**-6  # along v a preactivation moves by ε; those that are not 0 are 1/16 or more


@st.composite
def _at_kinks(draw: Draw, system: str) -> Case:
    """Draw a ReLU network with preactivations exactly 0, and a direction v that lowers them all.

    W_x is a signed permutation, so the inputs can be chosen for the preactivations a, and v for the
    rates −1 at which they change.
    """
    T, H = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    a, kinks = draw(dyadics((T, 1, H))), draw(st.integers(1, T * H))
    a.ravel()[draw(st.permutations(range(T * H)))[:kinks]] = 0
    signs = 1.0 - 2 * np.array(draw(st.lists(st.integers(0, 1), min_size=H, max_size=H)))
    W_x = np.eye(H)[draw(st.permutations(range(H)))] * signs
    W_h, b, state = draw(dyadics((H, H))), draw(dyadics(H)), draw(dyadics((1, H), 1.0))
    x, v = np.empty((T, 1, H)), np.empty((T, 1, H))
    h, rate = state, 0 * state
    for t in range(T):
        x[t] = (a[t] - h @ W_h - b) @ W_x.T
        v[t] = (-1 - rate @ W_h) @ W_x.T
        h, rate = np.maximum(a[t], 0), -1.0 * (a[t] > 0)
    return {
        "cell": RNNCell(H, H, "relu"),
        "params": {"W_x": W_x, "W_h": W_h, "b": b},
        "x": x,
        "state": (state,),
        "d_outputs": draw(dyadics((T, 1, H))),
        "v": v,
        "ε": np.array(EPSILON),
        "family": "one kink" if kinks == 1 else "several kinks",
    }


def _there_and_back() -> Case:
    """Return relu(x) − relu(−x) at x = 0: no direction lowers both preactivations."""
    zero = np.zeros((1, 2))
    return {
        "cell": RNNCell(1, 2, "relu"),
        "params": {"W_x": np.array([[1.0, -1.0]]), "W_h": np.zeros((2, 2)), "b": np.zeros(2)},
        "x": np.zeros((1, 1, 1)),
        "state": (zero,),
        "d_outputs": np.array([[[1.0, -1.0]]]),
        "v": -np.ones((1, 1, 1)),
        "ε": np.array(EPSILON),
    }


def _both_win(partials: Any) -> Any:
    return partials[0], lambda g, y, a, b: g * (b >= a)


@theorem(
    "N-6",
    "At kinks that one direction leaves the engine returns an element of Clarke's subdifferential",
    statement=r"""(a) At its kink the engine's derivative of relu, leaky relu (slope
$\alpha\in[0,1]$) and $|\cdot|$ is in $[0,1]$, $[\alpha,1]$ and $[-1,1]$; at a tie its partial
derivatives of maximum and minimum are nonnegative with sum 1: elements of Clarke's
subdifferential. (b) Let $L$ be a linear function of the outputs of a ReLU network at arguments
$\theta$ where some preactivations $a_i$ vanish, and let $v$ be a direction in which all of these
decrease: $a_i(\theta+\varepsilon v)<0$ for all small $\varepsilon>0$. Then the engine's gradient is
$\lim_{\varepsilon\to0+}\nabla L(\theta+\varepsilon v)$, an element of Clarke's subdifferential,
and its product with $v$ is the one-sided derivative of $L$ along $v$.""",
    hypotheses=("every vanishing preactivation decreases along v",),
    proof="""(a) Clarke's subdifferential is the hull of the limits of gradients: of the slopes on
both sides of 0; of (1, 0) and (0, 1) at a tie. (b) For small ε > 0 the preactivations that are
not 0 at θ keep their sign, and the others are negative; so L is differentiable at θ + εv, and its
gradient there is the chain rule with the masks [a_i(θ) > 0], for relu'(0) = 0. That is a
continuous function of the arguments, once the masks are fixed, and at θ it is what the engine
computes. As the points θ + εv are points of differentiability, the limit is in Clarke's
subdifferential. L(θ + εv) − L(θ) = ∫₀^ε ∇L(θ + sv)·v ds gives the one-sided derivative. If v
moves the inputs alone, h and the gradient are affine in ε as long as no sign changes, so 2∇L(θ +
εv) − ∇L(θ + 2εv) is the limit.""",
    sources=("Clarke 1975", "Lee, Park & Aiken 2023", "S1-31"),
    cases=_at_kinks,
    systems=("rational",),
    necessity=(Necessity("every vanishing preactivation decreases along v", _there_and_back),),
    sensitivity=(
        Mistake("relu' = 1 at 0", RULES + "step", lambda right: lambda a: 1 - right(-a)),
        Mistake("the prime missing: relu for relu'", RULES + "step", lambda _: relu),
        Mistake("both arguments win a tie", TABLE, of_rule(np.maximum, vjps=_both_win)),
    ),
)
def clarke(
    cell: Any, params: Any, x: Array, state: Any, d_outputs: Array, v: Array, ε: Array
) -> Iterator[Comparison]:
    """Single functions at their kinks; a network by two roads, and its limit along v."""
    zero = 0 * x.ravel()[:1]
    kinked: Any = (
        ("relu", relu, 0),
        ("leaky relu", lambda a: leaky_relu(a, slope=0.25), 0.25),
        ("|·|", abs, -1),
    )
    for name, f, least in kinked:
        slope = grad(lambda a, f=f: np.sum(f(a)))(zero)
        yield at_most(f"{name}: at least the smaller slope", least - slope, 0)
        yield at_most(f"{name}: at most the larger", slope - 1, 0)
    for select in (np.maximum, np.minimum):
        p, q = grad(lambda a, b, f=select: np.sum(f(a, b)), argnums=(0, 1))(zero, zero)
        yield at_most(f"{select.__name__}: nonnegative", -np.array([p, q]), 0)
        yield equal(f"{select.__name__}: with sum 1", p + q, 1 + zero)

    def loss(k: int) -> Any:
        return np.sum(d_outputs * unroll(cell, params, x + k * ε * v, state).outputs)

    def gradient(k: int, method: str = "tape") -> Any:
        found = bptt(cell, params, x + k * ε * v, d_outputs, state, method=method)
        return {**found, "state": found["state"][0]}

    h = unroll(cell, params, x + ε * v, state).states[0]
    for t in range(len(x)):
        a = cell._preactivation(params, x[t] + ε * v[t], h[t])
        yield at_most("no kink at θ + εv", ε - abs(a), 0)
    near, far = gradient(1), gradient(2)
    yield equal("∇L there is the slope of L", loss(2) - loss(1), ε * np.sum(v * near["x"]))
    for method in ("tape", "chain"):
        at_kink = gradient(0, method)
        for name, g in at_kink.items():
            yield equal(f"{method}: ∂L/∂{name} is the limit", g, 2 * near[name] - far[name])
        yield equal(f"{method}: along v", loss(1) - loss(0), ε * np.sum(v * at_kink["x"]))
