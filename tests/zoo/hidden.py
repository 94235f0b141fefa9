"""Mistakes that hide: behind the memory layout, a length, a sign, a scale, another cell."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, faulty
from .gru import GRU, GRUResetAfter
from .lstm import LSTM
from .rnn import RNN, sigmoid

# ---- backward ---------------------------------------------------------------------------------


@faulty("rnn", "all", "strides are ignored", "kernels given a view", condition="not contiguous")
class RNNIgnoresStrides(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d_hs, d_last = d_outputs
        if d_hs is not None and not d_hs.flags.c_contiguous and d_hs.base is not None:
            d_hs = d_hs.base.ravel()[: d_hs.size].reshape(d_hs.shape)
        return super().backward((d_hs, d_last), cache)


@faulty("rnn", "all", "negative gradients are dropped", "guided backpropagation, for pictures")
class RNNGuided(RNN):
    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        return np.maximum(d_h_t + back, 0)


@faulty("rnn", "W_x W_h", "weight decay inside the layer", "an optimiser's term in the layer")
class RNNWeightDecay(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        g, params = super().backward(d_outputs, cache), cache[0]
        decay = params["W_x"].dtype.type(1e-3)
        return g | {name: g[name] + decay * params[name] for name in ("W_x", "W_h")}


@faulty(
    "rnn",
    "all",
    "the sweep stops where gradients are below 1e-6",
    "an early exit to save time",
    condition="small cotangents",
)
class RNNEarlyExit(RNN):
    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        d_h = d_h_t + back
        return d_h if np.abs(d_h).max() > 1e-6 else 0 * d_h


@faulty("rnn", "W_h", "the first step is counted twice", "t = 0 handled before the loop and in it")
class RNNFirstStepTwice(RNN):
    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        if t == 0:
            g["W_h"] += h[0].T @ d_a


@faulty("rnn", "x", "∂L/∂x through W_h's shape", "the wrong weight, cut to size")
class RNNInputGradientByOtherWeight(RNN):
    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["x"][t] = d_a @ np.resize(params["W_h"], params["W_x"].shape).T


@faulty("lstm", "x", "∂L/∂x misses the output gate", "dx summed over i, f, g")
class LSTMInputGradientThreeGates(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, steps = cache
        g = super().backward(d_outputs, cache)
        wide = params["W_x"].copy()
        wide[:, -wide.shape[1] // 4 :] = 0
        return g | {"x": super().backward(d_outputs, ({**params, "W_x": wide}, steps))["x"]}


@faulty(
    "lstm",
    "all",
    "d_h_T is added to d_c_T",
    "one variable for both final cotangents",
    condition="a cotangent on h_T",
    step=None,
)
class LSTMFinalCotangentsConfused(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d_hs, d_last, d_c = d_outputs
        if d_last is not None:
            d_c = d_last if d_c is None else d_c + d_last
        return super().backward((d_hs, d_last, d_c), cache)


@faulty("gru", "all", "the reset gate's gradient by r ∘ h for h", "d_r = d_rh * rh")
class GRUResetByProduct(GRU):
    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        d_rh = d["c"] @ p.W_hc.T
        d["r"] = d_rh * s.r * s.h * s.r * (1 - s.r)
        return d_rh * s.r + d["r"] @ p.W_hr.T


@faulty(
    "gru reset_after",
    "all",
    "b_h is missing in the reset gate's gradient",
    "u recomputed without it",
)
class GRUResetWithoutRecurrentBias(GRUResetAfter):
    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        d["r"] = d["c"] * (s.h @ p.W_hc) * s.r * (1 - s.r)
        return (d["c"] * s.r) @ p.W_hc.T + d["r"] @ p.W_hr.T


@faulty("gru", "W_h", "∂L/∂W_h of the update gate sees r ∘ h", "one product for all three blocks")
class GRUAllWeightsSeeReset(GRU):
    def W_h(self, s: Any, d: Gradients, gate: str) -> Array:
        return (s.h if gate == "r" else s.r * s.h).T @ d[gate]


# ---- forward ----------------------------------------------------------------------------------


@faulty(
    "rnn",
    "outputs",
    "steps after the tenth repeat it",
    "a buffer of fixed length",
    step=11,
    condition="T ≥ 11",
)
class RNNForwardFixedLength(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        x = x.copy()
        (hs, h), cache = super().forward(params, x, h0)
        if len(x) > 10:
            hs[10:] = hs[9]
        return (hs, h), cache


@faulty("rnn", "outputs", "tanh by a rational approximation", "embedded code")
class RNNForwardRationalTanh(RNN):
    def activation(self, a: Array) -> Array:
        a = np.clip(a, -3, 3)
        return a * (27 + a * a) / (27 + 9 * a * a)


@faulty("lstm", "outputs", "tanh is missing at the output", "h = o ∘ c")
class LSTMForwardWithoutTanh(LSTM):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        (hs, _, c), (params, steps) = super().forward(params, x, h0, c0)
        hs = np.stack([s.o * s.m for s in steps])
        return (hs, hs[-1], c), (params, steps)


@faulty("lstm", "outputs", "coupled gates: 1 − f for i", "another published variant")
class LSTMForwardCoupled(LSTM):
    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        s = super().step(params, x, h, c)
        s.i = 1 - s.f
        s.m = s.f * c + s.i * s.g
        return s


@faulty("lstm", "outputs", "hard σ for σ", "the default of early Keras")
class LSTMForwardHardSigmoid(LSTM):
    def gate(self, a: Array) -> Array:
        return np.clip(a / 5 + a.dtype.type(0.5), 0, 1)


@faulty("gru", "outputs", "c from h_{t−1} without r, r used on h_t", "reset gate on the wrong line")
class GRUForwardResetOnOutput(GRU):
    def candidate(self, p: Any, x: Array, h: Array, r: Array) -> Array:
        return np.tanh(x @ p.W_xc + h @ p.W_hc + p.b_c)

    def mixed(self, s: Any) -> Array:
        return s.z * s.c + (1 - s.z) * s.r * s.h


@faulty("rnn sigmoid", "outputs", "dropout is left on", "no switch between training and testing")
class RNNForwardDropout(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        kept = np.random.default_rng(len(x)).random(x.shape) < 0.5
        return super().forward(params, x * kept * x.dtype.type(2), h0)

    def activation(self, a: Array) -> Array:
        return sigmoid(a)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return h[t + 1] * (1 - h[t + 1])
