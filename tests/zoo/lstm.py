"""The long short-term memory, without and with peepholes, and what goes wrong in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, correct, faulty
from .rnn import sigmoid


@correct("lstm", "nothing: the layer that the faulty ones are made from", "textbooks")
class LSTM:
    """c_t = f ∘ c_{t−1} + i ∘ g, h_t = o ∘ tanh(c_t).

    A step s remembers x, h and c (before it), the gates i, f, g, o and m = c_t; d_i, d_f, d_g, d_o
    are gradients by preactivations.
    """

    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        h, c, steps, hs = h0, c0, [], []
        for x_t in x:
            s = self.step(params, x_t, h, c)
            h, c = s.o * np.tanh(s.m), s.m
            steps.append(s)
            hs.append(h)
        return (np.stack(hs), h, c), (params, steps)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, steps = cache
        d_hs, d_last, d_c = d_outputs
        zero = np.zeros_like(steps[0].h)
        back_h, back_c = (zero if d is None else d for d in (d_last, d_c))
        total = {name: np.zeros_like(a) for name, a in params.items()}
        total["x"] = np.zeros_like(np.stack([s.x for s in steps]))
        for t in reversed(range(len(steps))):
            s = steps[t]
            d_h = back_h if d_hs is None else d_hs[t] + back_h
            d_o = self.d_o(s, d_h)
            d_c = self.to_memory(s, d_h, back_c) + self.peephole_o(params, d_o)
            d_i, d_f, d_g = self.d_i(s, d_c), self.d_f(s, d_c), self.d_g(s, d_c)
            d_a = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
            total["W_x"] += s.x.T @ d_a
            total["W_h"] += s.h.T @ d_a
            total["b"] += self.bias(d_a)
            self.peephole_weights(total, s, d_i, d_f, d_o)
            total["x"][t] = d_a @ params["W_x"].T
            back_h = d_a @ params["W_h"].T
            back_c = self.carried(s, d_c) + self.peephole_if(params, d_i, d_f)
        return total | {"h0": back_h, "c0": back_c}

    # ---- the hooks

    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        a_i, a_f, a_g, a_o = np.split(x @ params["W_x"] + h @ params["W_h"] + params["b"], 4, 1)
        i, f = self.gate(a_i + self.peep(params, 0, c)), self.gate(a_f + self.peep(params, 1, c))
        g = np.tanh(a_g)
        m = f * c + i * g
        o = self.gate(a_o + self.peep(params, 2, self.seen_by_o(c, m)))
        return SimpleNamespace(x=x, h=h, c=c, i=i, f=f, g=g, o=o, m=m)

    def gate(self, a: Array) -> Array:
        return sigmoid(a)

    def seen_by_o(self, c: Array, m: Array) -> Array:
        return m

    def d_o(self, s: Any, d_h: Array) -> Array:
        return d_h * np.tanh(s.m) * s.o * (1 - s.o)

    def to_memory(self, s: Any, d_h: Array, back_c: Array) -> Array:
        return back_c + d_h * s.o * (1 - np.tanh(s.m) ** 2)

    def d_i(self, s: Any, d_c: Array) -> Array:
        return d_c * s.g * s.i * (1 - s.i)

    def d_f(self, s: Any, d_c: Array) -> Array:
        return d_c * s.c * s.f * (1 - s.f)

    def d_g(self, s: Any, d_c: Array) -> Array:
        return d_c * s.i * (1 - s.g * s.g)

    def carried(self, s: Any, d_c: Array) -> Array:
        return d_c * s.f

    def bias(self, d_a: Array) -> Array:
        return d_a.sum(axis=0)

    def peep(self, params: Params, gate: int, c: Array) -> Any:
        return 0

    def peephole_o(self, params: Params, d_o: Array) -> Any:
        return 0

    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Any:
        return 0

    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        pass


@correct("lstm diagonal", "nothing: peepholes as Gers and Schmidhuber have them", "textbooks")
class LSTMDiagonal(LSTM):
    def peep(self, params: Params, gate: int, c: Array) -> Array:
        return c * params["w_c"][gate]

    def peephole_o(self, params: Params, d_o: Array) -> Array:
        return d_o * params["w_c"][2]

    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Array:
        return d_i * params["w_c"][0] + d_f * params["w_c"][1]

    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        seen = self.seen_by_o(s.c, s.m)
        parts = [s.c * d_i, s.c * d_f, seen * d_o]
        total["w_c"] += np.stack([part.sum(axis=0) for part in parts])


@correct("lstm full", "nothing: peepholes as matrices", "lecture notes")
class LSTMFull(LSTM):
    def peep(self, params: Params, gate: int, c: Array) -> Array:
        return c @ np.split(params["W_c"], 3, axis=1)[gate]

    def peephole_o(self, params: Params, d_o: Array) -> Array:
        return d_o @ np.split(params["W_c"], 3, axis=1)[2].T

    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Array:
        V_i, V_f, _ = np.split(params["W_c"], 3, axis=1)
        return d_i @ V_i.T + d_f @ V_f.T

    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        total["W_c"] += np.concatenate([s.c.T @ d_i, s.c.T @ d_f, s.m.T @ d_o], axis=1)


# ---- forward ----------------------------------------------------------------------------------


@faulty(
    "lstm", "outputs", "1 is added to the forget gate's preactivation", "TensorFlow 1's default"
)
class LSTMForwardForgetBias(LSTM):
    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        b = params["b"].copy()
        b[len(b) // 4 : len(b) // 2] += 1
        return super().step({**params, "b": b}, x, h, c)


@faulty("lstm", "outputs", "σ for tanh in the candidate", "one loop over four gates")
class LSTMForwardCandidateSigmoid(LSTM):
    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        s = super().step(params, x, h, c)
        s.g = sigmoid(np.split(x @ params["W_x"] + h @ params["W_h"] + params["b"], 4, 1)[2])
        s.m = s.f * c + s.i * s.g
        return s

    def d_g(self, s: Any, d_c: Array) -> Array:
        return d_c * s.i * s.g * (1 - s.g)


@faulty(
    "lstm",
    "outputs",
    "the bias's gates in the order i, g, f, o",
    "weights of one framework, bias of another",
)
class LSTMForwardBiasOrder(LSTM):
    def step(self, params: Params, x: Array, h: Array, c: Array) -> SimpleNamespace:
        return super().step({**params, "b": self.turned(params["b"])}, x, h, c)

    def bias(self, d_a: Array) -> Array:
        return self.turned(super().bias(d_a))

    def turned(self, b: Array) -> Array:
        i, f, g, o = np.split(b, 4)
        return np.concatenate([i, g, f, o])


@faulty("lstm diagonal", "outputs", "the output gate sees c_{t−1}", "one line for three peepholes")
class LSTMForwardPeepholeOfPreviousMemory(LSTMDiagonal):
    def seen_by_o(self, c: Array, m: Array) -> Array:
        return c

    def peephole_o(self, params: Params, d_o: Array) -> Any:
        self.d_o_now = d_o
        return 0

    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Array:
        return super().peephole_if(params, d_i, d_f) + self.d_o_now * params["w_c"][2]


@faulty(
    "lstm",
    "outputs",
    "σ is NaN for large arguments",
    "exp(a) / (1 + exp(a))",
    condition="saturated",
)
class LSTMSigmoidOverflows(LSTM):
    def gate(self, a: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.exp(a) / (1 + np.exp(a))


# ---- the gates --------------------------------------------------------------------------------


@faulty("lstm", "all", "σ' is missing on f", "three gates copied, one factor lost")
class LSTMForgetPrimeMissing(LSTM):
    def d_f(self, s: Any, d_c: Array) -> Array:
        return d_c * s.c


@faulty("lstm", "all", "σ' is missing on i", "three gates copied, one factor lost")
class LSTMInputPrimeMissing(LSTM):
    def d_i(self, s: Any, d_c: Array) -> Array:
        return d_c * s.g


@faulty("lstm", "all", "σ' is missing on o", "three gates copied, one factor lost")
class LSTMOutputPrimeMissing(LSTM):
    def d_o(self, s: Any, d_h: Array) -> Array:
        return d_h * np.tanh(s.m)


@faulty("lstm", "all", "1 − g for 1 − g²", "σ's rule for tanh")
class LSTMCandidateWithoutSquare(LSTM):
    def d_g(self, s: Any, d_c: Array) -> Array:
        return d_c * s.i * (1 - s.g)


@faulty("lstm", "all", "∂L/∂f by c_t", "c for c_prev in the loop over gates")
class LSTMForgetByOwnMemory(LSTM):
    def d_f(self, s: Any, d_c: Array) -> Array:
        return d_c * s.m * s.f * (1 - s.f)


@faulty("lstm", "all", "i for g in ∂L/∂i", "product rule applied to the wrong factor")
class LSTMInputByItself(LSTM):
    def d_i(self, s: Any, d_c: Array) -> Array:
        return d_c * s.i * s.i * (1 - s.i)


@faulty("lstm", "all", "c_t for tanh(c_t) in ∂L/∂o", "tanh forgotten in backward")
class LSTMOutputByMemory(LSTM):
    def d_o(self, s: Any, d_h: Array) -> Array:
        return d_h * s.m * s.o * (1 - s.o)


@faulty("lstm", "b", "gates exchanged in the bias gradient", "db in the order i, f, o, g")
class LSTMBiasGradientOrder(LSTM):
    def bias(self, d_a: Array) -> Array:
        i, f, g, o = np.split(super().bias(d_a), 4)
        return np.concatenate([i, f, o, g])


# ---- the memory -------------------------------------------------------------------------------


@faulty("lstm", "all", "tanh'(tanh(c_t))", "dtanh(tanh(c)) where dtanh takes c")
class LSTMPrimeTwice(LSTM):
    def to_memory(self, s: Any, d_h: Array, back_c: Array) -> Array:
        return back_c + d_h * s.o * (1 - np.tanh(np.tanh(s.m)) ** 2)


@faulty("lstm", "all", "1 − c_t² for tanh'(c_t)", "the value rule applied to the argument")
class LSTMPrimeByArgument(LSTM):
    def to_memory(self, s: Any, d_h: Array, back_c: Array) -> Array:
        return back_c + d_h * s.o * (1 - s.m**2)


@faulty("lstm", "all", "nothing comes back through c", "only d_h is carried", step=2)
class LSTMMemoryCarryLost(LSTM):
    def to_memory(self, s: Any, d_h: Array, back_c: Array) -> Array:
        return super().to_memory(s, d_h, 0 * back_c)


@faulty(
    "lstm",
    "all",
    "the state is detached every 8 steps",
    "truncated BPTT inside the layer",
    step=9,
    condition="T ≥ 9",
)
class LSTMDetachedInChunks(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, steps = cache
        d_hs, d_last, d_c = d_outputs
        chunks = []
        for first in range(0, len(steps), 8):
            part = steps[first : first + 8]
            final = first + 8 >= len(steps)
            d = None if d_hs is None else d_hs[first : first + 8]
            given = (d, d_last if final else None, d_c if final else None)
            chunks.append(super().backward(given, (params, part)))
        total = {name: sum(chunk[name] for chunk in chunks) for name in params}
        total["x"] = np.concatenate([chunk["x"] for chunk in chunks])
        return total | {"h0": chunks[0]["h0"], "c0": chunks[0]["c0"]}


@faulty("lstm", "all", "the carry of c misses f", "d_c_prev = d_c")
class LSTMMemoryCarryWithoutForget(LSTM):
    def carried(self, s: Any, d_c: Array) -> Array:
        return d_c


@faulty("lstm", "all", "the carry of c takes the wrong f", "f_{t+1} needed, i used after renaming")
class LSTMMemoryCarryByInputGate(LSTM):
    def carried(self, s: Any, d_c: Array) -> Array:
        return d_c * s.i


@faulty(
    "lstm",
    "all",
    "d_c_T is ignored",
    "only the cotangents of h are read",
    step=None,
    condition="a cotangent on c_T",
)
class LSTMFinalMemoryCotangentIgnored(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward((*d_outputs[:2], None), cache)


@faulty("lstm", "h0 c0", "∂L/∂h0 and ∂L/∂c0 exchanged", "return order (c, h) against (h, c)")
class LSTMInitialGradientsExchanged(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        g = super().backward(d_outputs, cache)
        return g | {"h0": g["c0"], "c0": g["h0"]}


@faulty("lstm", "c0", "∂L/∂c0 before the forget gate", "returned one line too early")
class LSTMInitialMemoryGradientTooEarly(LSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        g = super().backward(d_outputs, cache)
        with np.errstate(all="ignore"):
            return g | {"c0": g["c0"] / cache[1][0].f}


# ---- the peepholes ----------------------------------------------------------------------------


@faulty(
    "lstm diagonal",
    "all",
    "the peepholes of i and f do not carry",
    "peepholes added to a finished LSTM",
)
class LSTMPeepholeCarryMissing(LSTMDiagonal):
    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Any:
        return 0


@faulty(
    "lstm diagonal",
    "all",
    "the peephole of o does not reach c_t",
    "peepholes added to a finished LSTM",
)
class LSTMPeepholeOutputMissing(LSTMDiagonal):
    def peephole_o(self, params: Params, d_o: Array) -> Any:
        return 0


@faulty("lstm diagonal", "w_c", "∂L/∂w_co by c_{t−1}", "one line for three peepholes")
class LSTMPeepholeWeightOfPreviousMemory(LSTMDiagonal):
    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        total["w_c"] += np.stack([(s.c * d).sum(axis=0) for d in (d_i, d_f, d_o)])


@faulty(
    "lstm full", "all", "W_c not transposed on the way back", "invisible where W_c is symmetric"
)
class LSTMPeepholeNotTransposed(LSTMFull):
    def peephole_o(self, params: Params, d_o: Array) -> Array:
        return d_o @ np.split(params["W_c"], 3, axis=1)[2]

    def peephole_if(self, params: Params, d_i: Array, d_f: Array) -> Array:
        V_i, V_f, _ = np.split(params["W_c"], 3, axis=1)
        return d_i @ V_i + d_f @ V_f


@faulty("lstm full", "W_c", "∂L/∂W_c of the diagonal only", "rules of the diagonal form kept")
class LSTMPeepholeWeightDiagonal(LSTMFull):
    def peephole_weights(self, total: Any, s: Any, d_i: Array, d_f: Array, d_o: Array) -> None:
        fresh: Gradients = {"W_c": 0 * total["W_c"]}
        super().peephole_weights(fresh, s, d_i, d_f, d_o)
        total["W_c"] += fresh["W_c"] * np.tile(np.eye(len(fresh["W_c"])), 3)
