"""Mistakes of the plain layer that one honest call does not show: forward, state, memory, dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, faulty
from .rnn import RNN, sigmoid

# ---- the forward pass -------------------------------------------------------------------------


@faulty(
    "rnn", "outputs", "the bias is missing", "Equinox GRUCell, 2022: use_bias branches exchanged"
)
class RNNForwardWithoutBias(RNN):
    def preactivation(self, params: Params, x_t: Array, h: Array) -> Array:
        return x_t @ params["W_x"] + h @ params["W_h"]

    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"b": 0 * g["b"]}


@faulty("rnn", "outputs", "the bias is added twice", "once for x, once for h")
class RNNForwardBiasTwice(RNN):
    def preactivation(self, params: Params, x_t: Array, h: Array) -> Array:
        return super().preactivation(params, x_t, h) + params["b"]

    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"b": 2 * g["b"]}


@faulty("rnn", "outputs", "σ for tanh", "the gates' activation pasted into the plain cell")
class RNNForwardSigmoid(RNN):
    def activation(self, a: Array) -> Array:
        return sigmoid(a)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return h[t + 1] * (1 - h[t + 1])


@faulty("rnn", "outputs", "h0 is ignored", "h = zeros inside forward", condition="h0 ≠ 0")
class RNNForwardIgnoresInitialState(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        return super().forward(params, x, np.zeros_like(h0))


@faulty(
    "rnn",
    "outputs",
    "h_T is the first state",
    "hs[0] for hs[-1] after a reversal",
    condition="T ≥ 2",
    step=None,
)
class RNNForwardFinalStateIsFirst(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        (hs, _), cache = super().forward(params, x, h0)
        return (hs, hs[0]), cache

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d_hs, d_last = d_outputs
        both = np.zeros_like(np.stack(cache[2][1:])) if d_hs is None else d_hs.copy()
        if d_last is not None:
            both[0] += d_last
        return super().backward((both, None), cache)


# ---- the initial state ------------------------------------------------------------------------


@faulty("rnn", "h0", "∂L/∂h0 is zero", "h0 treated as a constant")
class RNNInitialGradientZero(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"h0": 0 * g["h0"]}


@faulty("rnn", "h0", "∂L/∂h0 is doubled", "added inside the loop and once more after it")
class RNNInitialGradientDoubled(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"h0": 2 * g["h0"]}


@faulty("rnn", "h0", "∂L/∂h0 is not returned", "most from-scratch layers")
class RNNInitialGradientMissing(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return {name: d for name, d in g.items() if name != "h0"}


@faulty(
    "rnn",
    "h0",
    "∂L/∂h0 summed over the batch",
    "a learned h0 (H,) repeated for each sequence",
    condition="N > 1",
)
class RNNInitialGradientSummedOverBatch(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"h0": g["h0"].sum(axis=0) + 0 * g["h0"]}


# ---- calls that follow one another ------------------------------------------------------------


@faulty(
    "rnn",
    "all",
    "the cache of the last forward call is used",
    "self.cache in layer classes",
    condition="on the second call",
    step=1,
)
class RNNCacheOverwritten(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        outputs, self.cache = super().forward(params, x, h0)
        return outputs, None

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward(d_outputs, self.cache)


@faulty(
    "rnn",
    "W_x W_h b",
    "gradients accumulate over calls",
    "self.dW += without zero_grad",
    condition="on the second call",
    step=1,
)
class RNNAccumulatesOverCalls(RNN):
    def __init__(self) -> None:
        self.total: Gradients = {}

    def finished(self, g: Gradients, x: Array) -> Gradients:
        for name in ("W_x", "W_h", "b"):
            if np.shape(self.total.get(name)) == g[name].shape:
                g[name] = g[name] + self.total[name]
            self.total[name] = g[name]
        return g


@faulty(
    "rnn",
    "all",
    "the states are popped off the cache",
    "while cache: s = cache.pop()",
    condition="on the second call",
    step=1,
)
class RNNCacheConsumed(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, a = cache
        steps = min(len(x), len(h) - 1)
        d_hs = None if d_outputs[0] is None else d_outputs[0][:steps]
        g = super().backward((d_hs, d_outputs[1]), (params, x[:steps], h, a))
        del h[1:]
        return g | {"x": np.concatenate([g["x"], np.zeros_like(x[steps:])])}


@faulty(
    "rnn",
    "outputs",
    "the state survives from call to call",
    "self.h for stateful generation",
    condition="on the second call",
    step=1,
)
class RNNStateSurvives(RNN):
    last: Array = None

    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        if np.shape(self.last) == h0.shape:
            h0 = self.last
        outputs, cache = super().forward(params, x, h0)
        self.last = outputs[1]
        return outputs, cache


@faulty(
    "rnn",
    "all",
    "the cotangents are changed in place",
    "d_hs[t] += d_h as the carry",
    step=None,
    condition="changed in place",
)
class RNNCotangentsMutated(RNN):
    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        d_h_t += back
        return d_h_t


@faulty(
    "rnn",
    "W_h",
    "h0 is overwritten",
    "h[...] = tanh(...) in place, the first h being h0",
    condition="changed in place",
    step=1,
)
class RNNInitialStateMutated(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        outputs, cache = super().forward(params, x, h0)
        h0[...] = outputs[1]
        return outputs, cache


# ---- numbers ----------------------------------------------------------------------------------


@faulty(
    "rnn",
    "all",
    "the backward pass keeps f' in float32",
    "caches in half the memory",
    condition="float64",
)
class RNNBackwardInFloat32(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return super().derivative(h, a, t).astype(np.float32)


@faulty(
    "rnn",
    "all",
    "gradients below 1e-8 become zero",
    "noise suppression; sparse updates",
    condition="small cotangents",
)
class RNNTinyGradientsFlushed(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return {name: np.where(np.abs(d) < 1e-8, 0 * d, d) for name, d in g.items()}


@faulty(
    "rnn",
    "all",
    "the carried gradient is rescaled to norm 1",
    "clipping inside the time loop",
    condition="large cotangents",
)
class RNNCarryClipped(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        back = super().carried(d_a, params, t, T)
        return back / max(1, np.sqrt(np.sum(back * back)))


@faulty(
    "rnn", "all", "1e-8 is added to the derivative", "an ε against dead units", condition="float64"
)
class RNNEpsilonInDerivative(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return super().derivative(h, a, t) + h[t].dtype.type(1e-8)


@faulty(
    "rnn sigmoid",
    "all",
    "σ' is NaN for large negative arguments",
    "exp(−a) / (1 + exp(−a))²",
    condition="saturated",
)
class RNNSigmoidPrimeOverflows(RNN):
    def activation(self, a: Array) -> Array:
        return sigmoid(a)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(-a[t])
            return e / (1 + e) ** 2
