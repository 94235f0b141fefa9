"""Planted mistakes that theorems must catch: the ones people make in recurrent gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_rnn.cells import RNNCell

from .catalogue import Mistake
from .unrolled import slopes

Array = Any


def forgets_prime(right: Any) -> Any:
    """Use f in place of f'."""
    return lambda self, p, x_t, state: self.step(p, x_t, state)[0][:, :, None] * p["W_h"].T


def forgets_transpose(right: Any) -> Any:
    """Return the column convention's diag(f') W_h."""
    return lambda self, p, x_t, state: slopes(self, p, x_t, state[0])[:, :, None] * p["W_h"]


def sees_late_state(right: Any) -> Any:
    """Take h_t in place of h_{t−1} in ∂⁺h_t/∂W_h."""

    def wrong(self: RNNCell, p: Any, x_t: Array, state: Any, d_state: Any) -> dict[str, Array]:
        late = self.step(p, x_t, state)[0].T @ (d_state[0] * slopes(self, p, x_t, state[0]))
        return {**right(self, p, x_t, state, d_state), "W_h": late}

    return wrong


def of_rule(f: Any, **wrong: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Change the ``jvps`` or ``vjps`` of one of the engine's rules."""
    return lambda rules: {
        **rules,
        f: replace(rules[f], **{k: change(getattr(rules[f], k)) for k, change in wrong.items()}),
    }


def untransposed(vjps: Any) -> Any:
    """Pull back through h @ W by g @ W in place of g @ Wᵀ."""

    def left(g: Array, y: Array, a: Array, b: Array) -> Array:
        return g @ b if b.shape[0] == b.shape[1] else vjps[0](g, y, a, b)

    return left, vjps[1]


RULES = "tinygrad_rnn.autodiff.tensor.RULES"
PRIME = Mistake("f for f' (S1-28)", "tinygrad_rnn.cells.RNNCell.jacobian", forgets_prime)
TRANSPOSE = Mistake("W for Wᵀ in J", "tinygrad_rnn.cells.RNNCell.jacobian", forgets_transpose)
UNTRANSPOSED = Mistake("g W for g Wᵀ", RULES, of_rule(np.matmul, vjps=untransposed))
NO_DIAGONAL = Mistake(
    "W alone: f' forgotten",
    "tinygrad_rnn.cells.RNNCell.jacobian",
    lambda right: lambda self, p, x_t, state: p["W_h"].T + 0 * right(self, p, x_t, state),
)
SKIP = Mistake(
    "I + diag(f') W: the state added to its update",
    "tinygrad_rnn.cells.RNNCell.jacobian",
    lambda right: lambda self, *at: right(self, *at) + np.eye(self.H, dtype=int),
)
COUNTED_TWICE = Mistake(
    "the recurrent input counted twice",
    "tinygrad_rnn.cells.RNNCell._preactivation",
    lambda right: lambda self, p, x_t, h: right(self, p, x_t, h) + h @ p["W_h"],
)
PROJECTION = Mistake(
    "I − v vᵀ/(v·v): a projection for a reflection",
    "tinygrad_rnn.init.householder",
    lambda right: lambda v, A: (right(v, A) + A) / 2,
)
