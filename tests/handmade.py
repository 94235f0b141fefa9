"""A recurrent layer as an engineer writes it, forward and backward, and mistakes made in it.

a_t = x_t W_x + h_{t−1} W_h + b, h_t = f(a_t), loss Σ_n h_T · weights, for a batch (T, N, D). Plain
NumPy; it runs on every number system that the arguments come in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import tinygrad_rnn as tg

Array = Any

# Value, and derivative as the textbooks write it: by the value.
TEXTBOOK: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, lambda y: 1 - y * y),
    "sigmoid": (tg.sigmoid, lambda y: y * (1 - y)),
    "relu": (lambda a: np.maximum(a, 0), lambda y: y > 0),
}


@dataclass(frozen=True)
class Layer:
    """The constants of a layer: inputs (T, N, D), and what weighs its last state (N, H)."""

    x: Array
    weights: Array
    activation: str = "tanh"

    def states(self, W_x: Array, W_h: Array, b: Array, h0: Array) -> list[Array]:
        f, _ = TEXTBOOK[self.activation]
        states = [h0]
        for x_t in self.x:
            states.append(f(x_t @ W_x + states[-1] @ W_h + b))
        return states

    def loss(self, W_x: Array, W_h: Array, b: Array, h0: Array) -> Array:
        return np.sum(self.states(W_x, W_h, b, h0)[-1] * self.weights)

    def backward(
        self, W_x: Array, W_h: Array, b: Array, h0: Array, mistake: str = ""
    ) -> tuple[Array, ...]:
        """Return the gradient by W_x, W_h, b, h0, with a mistake planted in it."""
        _, derivative = TEXTBOOK[self.activation]
        h = self.states(W_x, W_h, b, h0)
        T = len(self.x)
        d_W_x, d_W_h, d_b = 0 * W_x, 0 * W_h, 0 * b
        d_h = self.weights + 0 * h0
        if mistake == "wrong sign":
            d_h = -d_h
        for t in range(T, 0, -1):
            if mistake == "truncated" and T - t >= T // 2:
                return d_W_x, d_W_h, d_b, 0 * d_h
            d_a = d_h * derivative(h[t - 1] if mistake == "prime at t-1" else h[t])
            if mistake == "missing prime":
                d_a = d_h
            if mistake == "float32 cast":
                d_a = d_a.astype(np.float32).astype(np.float64)
            if not (mistake == "first step dropped" and t == 1):
                d_W_x = d_W_x + self.x[t - 1 if mistake != "input shifted" else t % T].T @ d_a
                d_W_h = d_W_h + h[t if mistake == "h_t for h_t-1" else t - 1].T @ d_a
                d_b = d_b + (d_a[0] if mistake == "bias not summed" else d_a.sum(axis=0))
            d_h = d_a @ (W_h if mistake == "not transposed" else W_h.T)
        if mistake == "one entry off":
            d_W_h[0, 0] = d_W_h[0, 0] * 1.0005
        if mistake == "state gradient zero":
            d_h = 0 * d_h
        if mistake == "state gradient doubled":
            d_h = 2 * d_h
        return d_W_x, d_W_h, d_b, d_h

    def wrong(self, mistake: str) -> Callable[..., tuple[Array, ...]]:
        return lambda *args: self.backward(*args, mistake=mistake)


Example = tuple[Layer, list[Array]]


def example(
    seed: int = 0,
    *,
    gain: float = 0.5,
    T: int = 5,
    N: int = 2,
    D: int = 2,
    H: int = 3,
    activation: str = "tanh",
    dtype: Any = np.float64,
) -> Example:
    """Draw a layer and its arguments W_x, W_h, b, h0: normal, of standard deviation ``gain``."""
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(T, N, D)), rng.normal(size=(N, H))
    args = [gain * rng.normal(size=s) for s in ((D, H), (H, H), (H,), (N, H))]
    layer = Layer(x.astype(dtype), weights.astype(dtype), activation)
    return layer, [a.astype(dtype) for a in args]
