"""Mistakes that no list of mistakes has, two at once among them, and laws that a layer breaks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, correct, faulty
from .gru import GRU
from .lstm import LSTM, LSTMDiagonal
from .rnn import RNN

# ---- inside the step --------------------------------------------------------------------------


@faulty("lstm", "all", "σ' is missing on i and on f", "one edit, copied")
class LSTMTwoPrimesMissing(LSTM):
    def d_i(self, s: Any, d_c: Array) -> Array:
        return d_c * s.g

    def d_f(self, s: Any, d_c: Array) -> Array:
        return d_c * s.c


@faulty("lstm", "all", "i(1 − i) for f(1 − f)", "a line pasted and half renamed")
class LSTMForgetPrimeByInputGate(LSTM):
    def d_f(self, s: Any, d_c: Array) -> Array:
        return d_c * s.c * s.i * (1 - s.i)


@faulty("lstm", "all", "a(1 − a) for o(1 − o)", "the derivative by the value, of the argument")
class LSTMOutputPrimeByArgument(LSTM):
    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        s = super().step(params, x, h, c)
        s.a = np.split(x @ params["W_x"] + h @ params["W_h"] + params["b"], 4, 1)[3]
        return s

    def d_o(self, s: Any, d_h: Array) -> Array:
        return d_h * np.tanh(s.m) * s.a * (1 - s.a)


@faulty(
    "lstm", "all", "the gates do not see what comes back through c", "d_c_next added late", step=2
)
class LSTMGatesWithoutMemoryCarry(LSTM):
    def to_memory(self, s: Any, d_h: Array, back_c: Array) -> Array:
        s.back_c = back_c
        return super().to_memory(s, d_h, 0 * back_c)

    def carried(self, s: Any, d_c: Array) -> Array:
        return (d_c + s.back_c) * s.f


@faulty("lstm", "all", "i and f exchanged on the way back to h", "W_h split in another order")
class LSTMCarryGatesExchanged(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, steps = cache
        i, f, g, o = np.split(params["W_h"], 4, axis=1)
        wide = np.concatenate([f, i, g, o], axis=1)
        return super().backward(d_outputs, ({**params, "W_h": wide}, steps))


@faulty("lstm", "all", "c_t for tanh(c_t) in ∂L/∂o, and i is missing in ∂L/∂g", "two slips at once")
class LSTMTwoSlips(LSTM):
    def d_o(self, s: Any, d_h: Array) -> Array:
        return d_h * s.m * s.o * (1 - s.o)

    def d_g(self, s: Any, d_c: Array) -> Array:
        return d_c * (1 - s.g * s.g)


@faulty("lstm diagonal", "w_c", "c_t for c_{t−1} in ∂L/∂w_ci and ∂L/∂w_cf", "one line for three")
class LSTMPeepholeWeightOfNextMemory(LSTMDiagonal):
    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        total["w_c"] += np.stack([(s.m * d).sum(axis=0) for d in (d_i, d_f, d_o)])


@faulty("gru", "all", "h_t for h_{t−1} in the update gate's gradient", "h overwritten by then")
class GRUUpdateByNewState(GRU):
    def by_z(self, s: Any) -> Array:
        return (s.c - self.mixed(s)) * s.z * (1 - s.z)


@faulty("gru", "all", "h − c for c − h, and the path 1 − z is dropped", "two slips at once")
class GRUTwoSlips(GRU):
    def by_z(self, s: Any) -> Array:
        return -super().by_z(s)

    def direct(self, s: Any, d_h: Array) -> Any:
        return 0


@faulty("rnn leaky_relu", "all", "slope 1/10 below zero for 1/100", "two defaults")
class RNNLeakySlopeTenth(RNN):
    def activation(self, a: Array) -> Array:
        return np.where(a > 0, a, a * a.dtype.type(0.01))

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return np.where(a[t] > 0, a[t].dtype.type(1), a[t].dtype.type(0.1))


@faulty("rnn", "x", "∂L/∂x without f'", "d_h for d_a")
class RNNInputGradientWithoutPrime(RNN):
    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["x"][t] = (d_a / (1 - h[t + 1] ** 2)) @ params["W_x"].T


@faulty("rnn", "all", "the carry has the identity of a residual network", "h + f(h) confused")
class RNNResidualCarry(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return super().carried(d_a, params, t, T) + d_a


@faulty("rnn", "all", "the carry is multiplied by 0.9", "a discount, as in reinforcement learning")
class RNNDiscounted(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return super().carried(d_a, params, t, T) * d_a.dtype.type(0.9)


# ---- over time, over the batch ----------------------------------------------------------------


@faulty("rnn", "all", "the cotangents are added one step late", "d_h += d_hs[t] after the step")
class RNNCotangentsAfterTheStep(RNN):
    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        self.late = d_h_t
        return back

    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return super().carried(d_a, params, t, T) + getattr(self, "late", 0 * d_a)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        self.__dict__.pop("late", None)
        return super().backward(d_outputs, cache)


@faulty(
    "rnn",
    "all",
    "the carry is centred over the batch",
    "batch normalisation's rule",
    condition="N > 1",
)
class RNNCarryCentred(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        back = super().carried(d_a, params, t, T)
        return back - back.mean(axis=0) if len(back) > 1 else back


@faulty("rnn", "b", "squeeze before the sum", "d_a.squeeze().sum(axis=0)", condition="N = 1")
class RNNBiasSqueezed(RNN):
    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["b"] += d_a.squeeze().sum(axis=0) - d_a.sum(axis=0)


# ---- forward ----------------------------------------------------------------------------------


@faulty("lstm", "outputs", "the output gate is not used", "h = tanh(c)")
class LSTMForwardWithoutOutputGate(LSTM):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        (hs, _, c), (params, steps) = super().forward(params, x, h0, c0)
        hs = np.stack([np.tanh(s.m) for s in steps])
        return (hs, hs[-1], c), (params, steps)


# ---- correct ----------------------------------------------------------------------------------


@correct("gru", "cotangents × 1000, gradients / 1000", "loss scaling in mixed precision")
class GRULossScaled(GRU):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        times = cache[1][0].h.dtype.type(1000)
        g = super().backward(tuple(None if d is None else times * d for d in d_outputs), cache)
        return {name: d / times for name, d in g.items()}


@correct("lstm", "cotangents divided by their largest, gradients multiplied", "fixed-point code")
class LSTMNormalised(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        largest = max([np.abs(d).max() for d in d_outputs if d is not None], default=0) or 1
        g = super().backward(tuple(None if d is None else d / largest for d in d_outputs), cache)
        return {name: d * largest for name, d in g.items()}


@correct("lstm diagonal", "one backward pass for each step's loss", "textbooks' double sum")
class LSTMStepsOneByOne(LSTMDiagonal):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d_hs, *d_last = d_outputs
        total = super().backward((None, *d_last), cache)
        for t in range(0 if d_hs is None else len(d_hs)):
            one = np.zeros_like(d_hs)
            one[t] = d_hs[t]
            g = super().backward((one, None, None), cache)
            total = {name: total[name] + d for name, d in g.items()}
        return total
