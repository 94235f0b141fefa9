"""Mistakes of the loop over time, of the gates' order, and of what is kept from call to call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, faulty
from .lstm import LSTM
from .rnn import RNN


class Loop(RNN):
    """The sweep written out, with its order, the steps it reads, and what it carries."""

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, a = cache
        d_hs, d_last = d_outputs
        g = {name: np.zeros_like(p) for name, p in params.items()} | {"x": np.zeros_like(x)}
        last = np.zeros_like(h[0]) if d_last is None else d_last
        came = last
        for t in self.order(len(x)):
            d_h = came if d_hs is None else d_hs[t] + came
            k = self.read(t, len(x))
            d_a = d_h * self.derivative(h, a, k)
            g["W_x"] += x[k].T @ d_a
            g["W_h"] += h[k].T @ d_a
            g["b"] += d_a.sum(axis=0)
            g["x"][t] = d_a @ params["W_x"].T
            new = d_a @ params["W_h"].T
            came = self.hand_on(came, new, last, t)
        return g | {"h0": came}

    def order(self, T: int) -> Iterable[int]:
        return reversed(range(T))

    def read(self, t: int, T: int) -> int:
        return t

    def hand_on(self, came: Array, new: Array, last: Array, t: int) -> Array:
        return new


@faulty("rnn", "all", "the sweep runs forward", "reversed() forgotten", condition="T ≥ 2")
class RNNSweepForward(Loop):
    def order(self, T: int) -> Iterable[int]:
        return range(T)


@faulty(
    "rnn", "all", "each step reads the cache of the next", "an index off by one", condition="T ≥ 2"
)
class RNNCacheOfNextStep(Loop):
    def read(self, t: int, T: int) -> int:
        return min(t + 1, T - 1)


@faulty("rnn", "all", "what goes back is added up", "+= for = on dh_next", step=2)
class RNNCarryAddedUp(Loop):
    def hand_on(self, came: Array, new: Array, last: Array, t: int) -> Array:
        return came + new


@faulty("rnn", "all", "what goes back is never handed on", "dh_next is never assigned")
class RNNCarryNeverHandedOn(Loop):
    def hand_on(self, came: Array, new: Array, last: Array, t: int) -> Array:
        return came


@faulty(
    "rnn",
    "all",
    "d_h_T is added at every step",
    "the decoder's gradient inside the encoder's loop",
    step=None,
    condition="a cotangent on h_T",
)
class RNNFinalCotangentAtEveryStep(Loop):
    def hand_on(self, came: Array, new: Array, last: Array, t: int) -> Array:
        return new + last if t > 0 else new


@faulty("lstm", "all", "δ in the order f, i, g, o", "concatenated in the order of the text")
class LSTMDeltaOrder(LSTM):
    def d_i(self, s: Any, d_c: Array) -> Array:
        return super().d_f(s, d_c)

    def d_f(self, s: Any, d_c: Array) -> Array:
        return super().d_i(s, d_c)


@faulty("lstm", "outputs", "the bias of o in i and f too", "bo copied to every gate")
class LSTMForwardOneBias(LSTM):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        *_, g, o = np.split(params["b"], 4)
        return super().forward({**params, "b": np.concatenate([o, o, g, o])}, x, h0, c0)


@faulty("lstm", "all", "the memory is updated in place", "c *= f; c += i * g, cached by reference")
class LSTMMemoryInPlace(LSTM):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        outputs, (params, steps) = super().forward(params, x, h0, c0)
        for s in steps:  # the array that all steps have kept
            s.c = steps[-1].m
        return outputs, (params, steps)
