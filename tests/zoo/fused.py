"""LSTMs with all steps in one product, in the layout of kernels and of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from .entry import Array, Gradients, correct, faulty
from .rnn import sigmoid


@correct("lstm", "all inputs in one product", "kernels")
class FusedLSTM:
    """One product for all inputs before the loop, one for each weight gradient after it."""

    names = "W_x", "W_h", "b", ""

    def forward(self, p: Any, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        W_x, W_h, *biases = (self.weights(p, name) for name in self.names if name)
        hs, cs, gates = [h0], [c0], []
        for a in x @ W_x + sum(biases):
            i, f, g, o = np.split(a + hs[-1] @ W_h, 4, axis=-1)
            i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
            cs.append(f * cs[-1] + i * g)
            hs.append(o * np.tanh(cs[-1]))
            gates.append((i, f, g, o))
        return (np.stack(hs[1:]), hs[-1], cs[-1]), (p, x, hs, cs, gates)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        p, x, hs, cs, gates = cache
        W_x, W_h = (self.weights(p, name) for name in self.names[:2])
        d_hs, d_h, d_c = d_outputs
        d_h, d_c = (np.zeros_like(hs[0]) if d is None else d for d in (d_h, d_c))
        deltas = []
        for t, (i, f, g, o) in reversed(list(enumerate(gates))):
            if d_hs is not None:
                d_h = d_h + d_hs[t]
            s = np.tanh(cs[t + 1])
            d_c = d_c + d_h * o * (1 - s * s)
            parts = (d_c * g * i * (1 - i), d_c * cs[t] * f * (1 - f), d_c * i * (1 - g * g))
            deltas.append(np.concatenate([*parts, d_h * s * o * (1 - o)], axis=1))
            d_c, d_h = d_c * f, deltas[-1] @ W_h.T
        d_a = self.in_order(deltas)
        found = np.einsum("tnd,tna->da", x, d_a), np.einsum("tnh,tna->ha", np.stack(hs[:-1]), d_a)
        return self.named(*found, d_a.sum(axis=(0, 1))) | {"x": d_a @ W_x.T, "h0": d_h, "c0": d_c}

    def weights(self, p: Any, name: str) -> Array:
        return p[name]

    def in_order(self, deltas: list[Array]) -> Array:
        return np.stack(deltas[::-1])

    def named(self, W_x: Array, W_h: Array, b: Array) -> Gradients:
        return dict(zip(self.names[:3], (W_x, W_h, b), strict=True))


@faulty(
    "lstm",
    "W_x W_h x",
    "the δ are left in backward order",
    "lists appended to from T to 1",
    condition="T ≥ 2",
)
class FusedLSTMBackwardOrder(FusedLSTM):
    def in_order(self, deltas: list[Array]) -> Array:
        return np.stack(deltas)


TORCH = {
    "names": {"W_x": "weight_ih", "W_h": "weight_hh", "b": "bias_ih"},
    "transposed": True,
    "second_bias": "bias_hh",
}


@correct("lstm", "transposed weights, two biases", "PyTorch", map=TORCH)
class TorchLSTM(FusedLSTM):
    """The parameters of torch.nn.LSTM: (4H, D), (4H, H), and two biases."""

    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"

    def weights(self, p: Any, name: str) -> Array:
        return p[name].T

    def named(self, W_x: Array, W_h: Array, b: Array) -> Gradients:
        return dict(zip(self.names, (W_x.T, W_h.T, b, b.copy()), strict=True))


@faulty(
    "lstm",
    "bias_hh",
    "the second bias has no gradient",
    "one of PyTorch's two biases forgotten",
    map=TORCH,
)
class TorchLSTMOneBiasGradient(TorchLSTM):
    def named(self, W_x: Array, W_h: Array, b: Array) -> Gradients:
        return super().named(W_x, W_h, b) | {"bias_hh": 0 * b}


@faulty(
    "lstm",
    "bias_ih bias_hh",
    "the biases share the gradient, half each",
    "one tied bias split in two",
    map=TORCH,
)
class TorchLSTMHalfBiasGradients(TorchLSTM):
    def named(self, W_x: Array, W_h: Array, b: Array) -> Gradients:
        return super().named(W_x, W_h, b / 2)


@faulty(
    "lstm",
    "weight_ih",
    "sequences are mixed in ∂L/∂W_x",
    'einsum("tnd,tma->da")',
    condition="N > 1",
    map=TORCH,
)
class TorchLSTMSequencesMixed(TorchLSTM):
    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        p, x, *rest = cache
        g = super().backward(d_outputs, (p, np.zeros_like(x) + x.sum(axis=1, keepdims=True), *rest))
        return g


@faulty(
    "lstm",
    "outputs",
    "the second bias is not added",
    "bias_hh read from the file and ignored",
    map=TORCH,
)
class TorchLSTMForwardOneBias(TorchLSTM):
    def forward(self, p: Any, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        return super().forward({**p, "bias_hh": 0 * p["bias_hh"]}, x, h0, c0)
