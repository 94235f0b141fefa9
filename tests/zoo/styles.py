"""Faulty layers in other hands: columns, closures, dictionaries of gates, lists on self."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .entry import Array, Gradients, correct, faulty
from .rnn import sigmoid

COLUMNS = {"names": {"W_x": "Wxh", "W_h": "Whh", "b": "bh"}, "transposed": True}


@correct("rnn", "columns, as mathematicians write", "min-char-rnn", map=COLUMNS)
class ColumnRNN:
    """h_t = tanh(W x_t + U h_{t−1} + b) with columns for the sequences of a batch."""

    def forward(self, model: Any, inputs: Array, h0: Array) -> tuple[Any, Any]:
        hs = {-1: h0.T}
        for t, x in enumerate(inputs):
            a = model["Wxh"] @ x.T + model["Whh"] @ hs[t - 1] + model["bh"][:, None]
            hs[t] = np.tanh(a)
        outputs = np.array([hs[t].T for t in range(len(inputs))])
        return (outputs, outputs[-1]), (model, inputs, hs)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        model, inputs, hs = cache
        dhs, dhnext = d_outputs
        dhnext = np.zeros_like(hs[0]) if dhnext is None else dhnext.T
        dWxh, dWhh = np.zeros_like(model["Wxh"]), np.zeros_like(model["Whh"])
        dbh, dx = np.zeros_like(model["bh"]), np.zeros_like(inputs)
        for t in reversed(range(len(inputs))):
            dh = dhnext if dhs is None else dhs[t].T + dhnext
            dhraw = (1 - hs[t] * hs[t]) * dh
            dbh += dhraw.sum(axis=1)
            dWxh += dhraw @ inputs[t]
            dWhh += dhraw @ hs[t - 1].T
            dx[t] = dhraw.T @ model["Wxh"]
            dhnext = model["Whh"].T @ dhraw
        return self.finished({"Wxh": dWxh, "Whh": dWhh, "bh": dbh, "x": dx, "h0": dhnext.T})

    def finished(self, grads: Gradients) -> Gradients:
        return grads


@faulty(
    "rnn",
    "Wxh Whh bh",
    "clipped to ±5 inside",
    "min-char-rnn, copied into layers",
    condition="large cotangents",
    map=COLUMNS,
)
class ColumnRNNClipped(ColumnRNN):
    def finished(self, grads: Gradients) -> Gradients:
        for name in ("Wxh", "Whh", "bh"):
            np.clip(grads[name], -5, 5, out=grads[name])
        return grads


@faulty(
    "rnn",
    "Whh",
    "hs[−1] is the last state, not h0",
    "min-char-rnn's dict turned into a list",
    map=COLUMNS,
)
class ColumnRNNListOfStates(ColumnRNN):
    def forward(self, model: Any, inputs: Array, h0: Array) -> tuple[Any, Any]:
        hs: list[Array] = []
        for x in inputs:
            h = hs[-1] if hs else h0.T
            hs.append(np.tanh(model["Wxh"] @ x.T + model["Whh"] @ h + model["bh"][:, None]))
        outputs = np.array([h.T for h in hs])
        return (outputs, outputs[-1]), (model, inputs, hs)


# ---- gates in dictionaries, [h, x] side by side -----------------------------------------------

GATES = "figo"
CONCATENATED = {
    "names": {"W_x": [f"W_{k}" for k in GATES], "b": [f"b_{k}" for k in GATES]},
    "gates": GATES,
    "stacked": "hx",
}
WEIGHTS_AND_BIASES = " ".join([f"W_{k} b_{k}" for k in GATES])


@correct("lstm", "one matrix a gate for [h, x]", "blog posts", map=CONCATENATED)
class ConcatenatedLSTM:
    """Every gate has its own W (H + D, H), for the row [h_{t−1}, x_t]."""

    def forward(self, p: Any, x: Array, h: Array, c: Array) -> tuple[Any, Any]:
        self.p, self.cache = p, []
        outputs = []
        for t in range(x.shape[0]):
            z = np.hstack((h, x[t]))
            f, i, o = (sigmoid(z @ p["W_" + k] + p["b_" + k]) for k in "fio")
            g = np.tanh(z @ p["W_g"] + p["b_g"])
            c_prev, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.cache.append((z, f, i, g, o, c_prev, c))
            outputs.append(h)
        return (np.array(outputs), h, c), (p, self.cache)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        p, steps = cache
        dhs, dh_next, dc_next = d_outputs
        H = steps[0][1].shape[1]
        if dh_next is None:
            dh_next = np.zeros_like(steps[0][1])
        if dc_next is None:
            dc_next = np.zeros_like(steps[0][1])
        grads = {k: np.zeros_like(v) for k, v in p.items()}
        dx = []
        for t in range(len(steps) - 1, -1, -1):
            z, f, i, g, o, c_prev, c = steps[t]
            dh = dh_next if dhs is None else dh_next + dhs[t]
            dc = dc_next + dh * o * self.tanh_prime(c)
            d = {
                "f": dc * c_prev * f * (1 - f),
                "i": dc * g * i * (1 - i),
                "g": dc * i * (1 - g**2),
                "o": dh * np.tanh(c) * o * (1 - o),
            }
            for k in GATES:
                grads["W_" + k] += z.T @ d[k]
                grads["b_" + k] += d[k].sum(0)
            dz = sum(d[k] @ p["W_" + k].T for k in self.gates_that_flow_back())
            dh_next, dc_next = dz[:, :H], f * dc
            dx.insert(0, dz[:, H:])
        return {**grads, "x": np.array(dx), "h0": dh_next, "c0": dc_next}

    def tanh_prime(self, c: Array) -> Array:
        return 1 - np.tanh(c) ** 2

    def gates_that_flow_back(self) -> str:
        return GATES


@faulty(
    "lstm",
    WEIGHTS_AND_BIASES + " x h0 c0",
    "tanh'(tanh(c))",
    "dtanh() applied to tanh(c)",
    map=CONCATENATED,
)
class ConcatenatedLSTMPrimeTwice(ConcatenatedLSTM):
    def tanh_prime(self, c: Array) -> Array:
        return 1 - np.tanh(np.tanh(c)) ** 2


@faulty(
    "lstm",
    WEIGHTS_AND_BIASES + " x h0 c0",
    "three of four gates flow back",
    "dz without the output gate",
    map=CONCATENATED,
)
class ConcatenatedLSTMThreeGates(ConcatenatedLSTM):
    def gates_that_flow_back(self) -> str:
        return "fig"


@faulty(
    "lstm",
    WEIGHTS_AND_BIASES + " x h0 c0",
    "self.cache is kept between forward and backward",
    "layer classes with lists on self",
    condition="on the second call",
    map=CONCATENATED,
    step=1,
)
class ConcatenatedLSTMOnSelf(ConcatenatedLSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward(d_outputs, (self.p, self.cache))


# ---- closures ---------------------------------------------------------------------------------


class Closures:
    """A layer of two functions; the cache is a list of pullbacks."""

    def __init__(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        self.forward, self.backward = forward, backward


@faulty(
    "rnn",
    "W_x W_h b x h0",
    "closures made in a loop see its last step",
    "late binding in Python",
    condition="T ≥ 2",
)
def late_binding_rnn() -> Closures:
    def forward(p: Any, x: Array, h: Array) -> Any:
        pullbacks, outputs, zero = [], [], 0 * h
        for x_t in x:
            before, h = h, np.tanh(x_t @ p["W_x"] + h @ p["W_h"] + p["b"])

            def pullback(d_h: Array) -> Any:
                d_a = d_h * (1 - h * h)  # noqa: B023  # the mistake
                terms = x_t.T @ d_a, before.T @ d_a, d_a.sum(axis=0)  # noqa: B023
                return terms, d_a @ p["W_x"].T, d_a @ p["W_h"].T

            pullbacks.append(pullback)
            outputs.append(h)
        return (np.stack(outputs), h), (pullbacks, zero)

    def backward(d_outputs: Any, cache: Any) -> Gradients:
        pullbacks, zero = cache
        d_hs, d_h = d_outputs
        d_h = zero if d_h is None else d_h
        total, d_x = None, []
        for t in reversed(range(len(pullbacks))):
            terms, d_x_t, d_h = pullbacks[t](d_h if d_hs is None else d_h + d_hs[t])
            total = terms if total is None else [a + b for a, b in zip(total, terms, strict=True)]
            d_x.append(d_x_t)
        return dict(zip(("W_x", "W_h", "b"), total, strict=True)) | {
            "x": np.stack(d_x[::-1]),
            "h0": d_h,
        }

    return Closures(forward, backward)


# ---- batch first ------------------------------------------------------------------------------


BATCH_FIRST = {
    "names": {
        name: [letter + gate for gate in "rzc"]
        for name, letter in (("W_x", "W"), ("W_h", "U"), ("b", "b"))
    },
    "batch_first": True,
}


@correct("gru", "batch first, nine parameters", "Keras", map=BATCH_FIRST)
class BatchFirstGRU:
    def forward(self, p: Any, x: Array, h0: Array) -> tuple[Any, Any]:
        states, saved = [h0], []
        for t in range(x.shape[1]):
            h = states[-1]
            r = sigmoid(x[:, t] @ p["Wr"] + h @ p["Ur"] + p["br"])
            z = sigmoid(x[:, t] @ p["Wz"] + h @ p["Uz"] + p["bz"])
            c = np.tanh(x[:, t] @ p["Wc"] + (r * h) @ p["Uc"] + p["bc"])
            saved.append((r, z, c))
            states.append((1 - z) * h + z * c)
        return (np.stack(states[1:], axis=1), states[-1]), (p, x, states, saved)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        p, x, states, saved = cache
        d_hs, d_h = d_outputs
        d_h = np.zeros_like(states[0]) if d_h is None else d_h
        grads = {k: np.zeros_like(v) for k, v in p.items()}
        d_x = []
        for t in range(x.shape[1] - 1, -1, -1):
            d_h = d_h if d_hs is None else d_h + d_hs[:, t]
            h, (r, z, c) = states[t], saved[t]
            d_c = d_h * z * (1 - c * c)
            d_z = d_h * (c - h) * z * (1 - z)
            d_rh = d_c @ p["Uc"].T
            d_r = d_rh * h * r * (1 - r)
            for gate, d, seen in (("r", d_r, h), ("z", d_z, h), ("c", d_c, r * h)):
                grads["W" + gate] += x[:, t].T @ d
                grads["U" + gate] += seen.T @ d
                grads["b" + gate] += d.sum(axis=0)
            d_x.append(d_r @ p["Wr"].T + d_z @ p["Wz"].T + d_c @ p["Wc"].T)
            d_h = d_h * (1 - z) + d_rh * r + d_r @ p["Ur"].T + d_z @ p["Uz"].T
        return grads | {"x": self.batch_first(np.stack(d_x[::-1])), "h0": d_h}

    def batch_first(self, a: Array) -> Array:
        return a.swapaxes(0, 1)


@faulty(
    "gru",
    "x",
    "reshape for transpose",
    "(T, N, D) reshaped to (N, T, D)",
    condition="T ≥ 2",
    map=BATCH_FIRST,
)
class BatchFirstGRUReshaped(BatchFirstGRU):
    def batch_first(self, a: Array) -> Array:
        T, N, D = a.shape
        return a.reshape(N, T, D)
