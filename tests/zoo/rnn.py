"""The plain recurrent layer, forward and backward, and what goes wrong in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, correct, faulty


def sigmoid(a: Array) -> Array:
    """Without overflow: exp of a negative number only."""
    e = np.exp(-np.abs(a))
    return np.where(a >= 0, 1 / (1 + e), e / (1 + e))


@correct("rnn", "nothing: the layer that the faulty ones are made from", "textbooks")
class RNN:
    """h_t = tanh(x_t W_x + h_{t−1} W_h + b). Below, h[t] is the state before step t = 0…T−1."""

    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        h, a = [h0], []
        for x_t in x:
            a.append(self.preactivation(params, x_t, h[-1]))
            h.append(self.activation(a[-1]))
        return (np.stack(h[1:]), h[-1]), (params, x, h, a)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, a = cache
        d_hs, d_last = d_outputs
        g = {name: np.zeros_like(p) for name, p in params.items()} | {"x": np.zeros_like(x)}
        back = np.zeros_like(h[0]) if d_last is None else d_last
        for t in reversed(range(len(x))):
            d_h = back if d_hs is None else self.arriving(d_hs[t], back, t)
            d_a = d_h * self.derivative(h, a, t)
            self.accumulate(g, d_a, params, x, h, t)
            back = self.carried(d_a, params, t, len(x))
        return self.finished(g | {"h0": back}, x)

    # ---- the hooks: each mistake below replaces one of them

    def preactivation(self, params: Params, x_t: Array, h: Array) -> Array:
        return x_t @ params["W_x"] + h @ params["W_h"] + params["b"]

    def activation(self, a: Array) -> Array:
        return np.tanh(a)

    def derivative(self, h: list[Array], a: list[Array], t: int) -> Array:
        return 1 - h[t + 1] * h[t + 1]

    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        return d_h_t + back

    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        g["W_x"] += x[t].T @ d_a
        g["W_h"] += h[t].T @ d_a
        g["b"] += d_a.sum(axis=0)
        g["x"][t] = d_a @ params["W_x"].T

    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return d_a @ params["W_h"].T

    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g


# ---- the activation ---------------------------------------------------------------------------


@faulty("rnn", "all", "f' is missing", "student exercises; RNNs ported from a linear model")
class RNNMissingPrime(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Any:
        return 1


@faulty("rnn", "all", "tanh'(tanh(a)): the derivative by the value of the value", "helper dtanh(x)")
class RNNPrimeTwice(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return 1 - np.tanh(h[t + 1]) ** 2


@faulty("rnn", "all", "1 − h for 1 − h²", "forgotten square in from-scratch code")
class RNNPrimeWithoutSquare(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return 1 - h[t + 1]


@faulty("rnn", "all", "f' at h_{t−1}", "off-by-one in lists that begin with h0")
class RNNPrimeAtPreviousStep(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return 1 - h[t] * h[t]


class ReLURNN(RNN):
    def activation(self, a: Array) -> Array:
        return np.maximum(a, 0)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return (a[t] > 0).astype(a[t].dtype)


@faulty(
    "rnn relu",
    "all",
    "the mask of relu is the next step's",
    "masks kept in a list, popped late",
    condition="T ≥ 2",
)
class RNNReluMaskOfNextStep(ReLURNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return super().derivative(h, a, min(t + 1, len(a) - 1))


@faulty("rnn leaky_relu", "all", "slope 1 below zero", "leaky relu made by editing an identity")
class RNNLeakySlopeOne(RNN):
    def activation(self, a: Array) -> Array:
        return np.where(a > 0, a, a * a.dtype.type(0.01))

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return np.ones_like(a[t])


@faulty("rnn sigmoid", "all", "σ' is σ(1 + σ)", "a sign slip seen in answers on forums")
class RNNSigmoidPrimeSign(RNN):
    def activation(self, a: Array) -> Array:
        return sigmoid(a)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return h[t + 1] * (1 + h[t + 1])


# ---- the weight gradients ---------------------------------------------------------------------


@faulty("rnn", "W_h", "h_t for h_{t−1} in the weight gradient", "the commonest index slip of BPTT")
class RNNOwnStateInWeightGradient(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, [*h[1:], None], t)


@faulty(
    "rnn",
    "W_h",
    "h_{−1} taken as zero in the weight gradient",
    "hs = zeros((T+1, …)) indexed by −1",
    condition="h0 ≠ 0",
)
class RNNInitialStateForgottenInWeightGradient(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, [0 * h[0], *h[1:]], t)


@faulty(
    "rnn",
    "W_x",
    "the inputs in reversed time",
    "sequence reversed for the backward loop only",
    condition="T ≥ 2",
)
class RNNInputsReversedInWeightGradient(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["W_x"] += (x[-1 - t] - x[t]).T @ d_a


@faulty("rnn", "W_h", "outer product transposed", "np.outer with its arguments exchanged")
class RNNWeightGradientTransposed(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["W_h"] += d_a.T @ h[t] - h[t].T @ d_a


@faulty(
    "rnn", "b", "b: first sequence only", "batch added to a one-sequence layer", condition="N > 1"
)
class RNNBiasNotSummedOverBatch(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["b"] += d_a[0] - d_a.sum(axis=0)


@faulty("rnn", "b", "b: = for +=", "db = instead of db += in the loop", step=2, condition="T ≥ 2")
class RNNBiasNotSummedOverTime(RNN):
    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        g["b"] = d_a.sum(axis=0)


@faulty("rnn", "W_x W_h b", "divided by N", "the loss's mean taken twice", condition="N > 1")
class RNNMeanOverBatch(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {name: g[name] / x.shape[1] for name in ("W_x", "W_h", "b")}


@faulty("rnn", "W_x W_h b", "divided by T", "gradients averaged over time", condition="T ≥ 2")
class RNNMeanOverTime(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {name: g[name] / len(x) for name in ("W_x", "W_h", "b")}


@faulty("rnn", "W_h", "one entry × 1.0005", "mutation studies of gradient checkers")
class RNNOneEntryOff(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        g["W_h"][0, -1] *= 1.0005
        return g


@faulty(
    "rnn",
    "all",
    "clipped to ±1 inside",
    "np.clip at the end of tutorials' backward passes",
    condition="large cotangents",
)
class RNNClippedSilently(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return {name: np.clip(d, -1, 1) for name, d in g.items()}


# ---- time -------------------------------------------------------------------------------------


@faulty("rnn", "all", "W_h not transposed on the way back", "invisible where W_h is symmetric")
class RNNNotTransposed(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return d_a @ params["W_h"]


@faulty(
    "rnn",
    "all",
    "the state is detached at T/2",
    "hidden.detach() left in a training loop",
    step="T // 2 + 1",
    condition="T ≥ 2",
)
class RNNDetachedHalfWay(RNN):
    def carried(self, d_a: Array, params: Params, t: int, T: int) -> Array:
        return super().carried(d_a, params, t, T) * (t == 0 or t != T // 2)


@faulty(
    "rnn",
    "W_x W_h b x h0",
    "BPTT cut after 5 steps",
    "bptt_truncate=5 as a silent default",
    step=6,
    condition="T ≥ 6",
)
class RNNTruncatedWindow(RNN):
    """The loss of each step goes back through five steps at most."""

    window = 5

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, _ = cache
        T = len(x)
        d_hs, d_last = d_outputs
        losses = np.zeros_like(np.stack(h[1:])) if d_hs is None else d_hs.copy()
        if d_last is not None:
            losses[-1] += d_last
        g = {name: np.zeros_like(p) for name, p in params.items()}
        g |= {"x": np.zeros_like(x), "h0": np.zeros_like(h[0])}
        for t in range(T):
            d_h = losses[t]
            for s in range(t, max(-1, t - self.window), -1):
                d_a = d_h * (1 - h[s + 1] ** 2)
                g["W_x"] += x[s].T @ d_a
                g["W_h"] += h[s].T @ d_a
                g["b"] += d_a.sum(axis=0)
                g["x"][s] += d_a @ params["W_x"].T
                d_h = d_a @ params["W_h"].T
                if s == 0:
                    g["h0"] += d_h
        return g


@faulty(
    "rnn",
    "all",
    "BPTT cut after 20 steps",
    "a default that short tests never reach",
    step=21,
    condition="T ≥ 21",
)
class RNNTruncatedLongWindow(RNNTruncatedWindow):
    window = 20


@faulty(
    "rnn",
    "all",
    "nothing comes back from later steps",
    "d_h = d_hs[t] for d_hs[t] + d_h",
    step=2,
)
class RNNCarryLost(RNN):
    def arriving(self, d_h_t: Array, back: Array, t: int) -> Array:
        return d_h_t


@faulty(
    "rnn",
    "x",
    "∂L/∂x_t misses the later steps",
    "ML-From-Scratch: weights right, inputs wrong",
    step=2,
    condition="T ≥ 2",
)
class RNNInputGradientMissesFuture(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, _, h, _ = cache
        g, d_hs = super().backward(d_outputs, cache), d_outputs[0]
        if d_hs is not None:
            last = 0 if d_outputs[1] is None else d_outputs[1]
            d_hs = np.concatenate([d_hs[:-1], d_hs[-1:] + last])
            g["x"] = (d_hs * (1 - np.stack(h[1:]) ** 2)) @ params["W_x"].T
        return g


@faulty(
    "rnn",
    "x",
    "∂L/∂x shifted by one step",
    "dx[t + 1] where the loop counts from 1",
    condition="T ≥ 2",
)
class RNNInputGradientShifted(RNN):
    def finished(self, g: Gradients, x: Array) -> Gradients:
        return g | {"x": np.roll(g["x"], 1, axis=0)}


@faulty("rnn", "all", "the first step is left out", "for t in range(T - 1, 0, -1)")
class RNNFirstStepDropped(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, a = cache
        d_hs, d_last = d_outputs
        later = None if d_hs is None else d_hs[1:]
        g = super().backward((later, d_last), (params, x[1:], h[1:], a[1:]))
        return g | {"x": np.concatenate([np.zeros_like(x[:1]), g["x"]])}


@faulty(
    "rnn",
    "all",
    "d_h_T is ignored",
    "layers tested with losses on hs only",
    step=None,
    condition="a cotangent on h_T",
)
class RNNFinalCotangentIgnored(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward((d_outputs[0], None), cache)


@faulty(
    "rnn",
    "all",
    "d_h_T used twice",
    "h_T is hs[T]: its cotangent added to both",
    step=None,
    condition="a cotangent on h_T",
)
class RNNFinalCotangentTwice(RNN):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d_hs, d_last = d_outputs
        return super().backward((d_hs, None if d_last is None else 2 * d_last), cache)
