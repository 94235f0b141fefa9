"""Correct layers that look or compute differently: a checker must not refute them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, correct
from .gru import GRU, GRUMinimal, GRUResetAfter
from .lstm import LSTM, LSTMDiagonal, LSTMFull
from .rnn import RNN, ReLURNN, sigmoid

# ---- other formulas for the same numbers ------------------------------------------------------


@correct("rnn", "1 / cosh² for 1 − tanh², which overflows harmlessly", "HIPS autograd")
class RNNByCosh(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        with np.errstate(over="ignore"):
            return 1 / np.cosh(a[t]) ** 2


@correct("rnn", "4 e / (1 + e)² for 1 − tanh², accurate where tanh is 1", "this library")
class RNNByExponential(RNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        e = np.exp(-2 * np.abs(a[t]))
        return 4 * e / (1 + e) ** 2


@correct("lstm", "σ(a) = (1 + tanh(a/2)) / 2: an absolute error where σ is small", "HIPS autograd")
class LSTMSigmoidByTanh(LSTM):
    def gate(self, a: Array) -> Array:
        return (1 + np.tanh(a / 2)) / 2


@correct("lstm diagonal", "1 / (1 + exp(−a)), which overflows harmlessly", "everywhere")
class LSTMSigmoidPlain(LSTMDiagonal):
    def gate(self, a: Array) -> Array:
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-a))


@correct("gru", "h + z ∘ (c − h)", "published rearrangement")
class GRUByDifference(GRU):
    def mixed(self, s: Any) -> Array:
        return s.h + s.z * (s.c - s.h)


@correct("rnn relu", "(a + |a|) / 2", "branch-free code")
class RNNReluByAbsolute(ReLURNN):
    def activation(self, a: Array) -> Array:
        return (a + np.abs(a)) / 2


@correct("rnn relu", "relu' = 1 at 0: the other one-sided derivative", "mask = a >= 0")
class RNNReluOneAtZero(ReLURNN):
    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return (a[t] >= 0).astype(a[t].dtype)


@correct("rnn leaky_relu", "max(a, a/100)", "branch-free code")
class RNNLeakyByMaximum(RNN):
    def activation(self, a: Array) -> Array:
        return np.maximum(a, a * a.dtype.type(0.01))

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return np.where(a[t] > 0, a[t].dtype.type(1), a[t].dtype.type(0.01))


# ---- other precisions and memory layouts ------------------------------------------------------


@correct("gru reset_after", "float32 inside, whatever comes in", "code meant for a GPU")
class GRUInFloat32(GRUResetAfter):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        narrow = {name: p.astype(np.float32) for name, p in params.items()}
        return super().forward(narrow, x.astype(np.float32), h0.astype(np.float32))

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        narrow = tuple(None if d is None else d.astype(np.float32) for d in d_outputs)
        return super().backward(narrow, cache)


@correct("lstm full", "extended precision inside", "reference implementations")
class LSTMInExtendedPrecision(LSTMFull):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        wide = {name: p.astype(np.longdouble) for name, p in params.items()}
        outputs, cache = super().forward(wide, *(a.astype(np.longdouble) for a in (x, h0, c0)))
        return tuple(y.astype(x.dtype) for y in outputs), (cache, x.dtype)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        g = super().backward(d_outputs, cache[0])
        return {name: d.astype(cache[1]) for name, d in g.items()}


@correct("rnn", "Fortran order", "weights from MATLAB or R")
class RNNFortranOrder(RNN):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        turned = {name: np.asfortranarray(p) for name, p in params.items()}
        (hs, h), cache = super().forward(turned, np.asfortranarray(x), np.asfortranarray(h0))
        return (np.asfortranarray(hs), h), cache

    def finished(self, g: Gradients, x: Array) -> Gradients:
        return {name: np.asfortranarray(d) for name, d in g.items()}


@correct("rnn", "gradients are written into the same arrays at every call", "allocation-free loops")
class RNNReusedBuffers(RNN):
    def __init__(self) -> None:
        self.buffers: Gradients = {}

    def finished(self, g: Gradients, x: Array) -> Gradients:
        for name, d in g.items():
            if np.shape(self.buffers.get(name)) != d.shape or self.buffers[name].dtype != d.dtype:
                self.buffers[name] = np.empty_like(d)
            self.buffers[name][...] = d
        return self.buffers


# ---- other orders of computation --------------------------------------------------------------


@correct("gru", "nothing is cached: backward runs forward again", "gradient checkpointing")
class GRURecomputes(GRU):
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        return super().forward(params, x, h0)[0], (params, x.copy(), h0.copy())

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward(d_outputs, super().forward(*cache)[1])


@correct("rnn", "sums of single products by math.fsum", "compensated summation")
class RNNExactSums(RNN):
    def accumulate(
        self, g: Gradients, d_a: Array, params: Params, x: Array, h: Any, t: int
    ) -> None:
        for name, left in (("W_x", x[t]), ("W_h", h[t])):
            for j, k in np.ndindex(g[name].shape):
                g[name][j, k] += math.fsum(left[:, j] * d_a[:, k])
        g["b"] += [math.fsum(column) for column in d_a.T]
        g["x"][t] = d_a @ params["W_x"].T


@correct("rnn", "time runs backwards through flipped arrays, sums by einsum", "array languages")
class RNNFlipped:
    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        hs = h0[None]
        for x_t in x:
            a = np.einsum("nd,dh->nh", x_t, params["W_x"]) + params["b"]
            hs = np.concatenate(
                [np.tanh(a + np.einsum("nk,kh->nh", hs[0], params["W_h"]))[None], hs]
            )
        return (hs[-2::-1], hs[0]), (params, np.flip(x, axis=0), hs)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, hs = cache  # hs[0] is h_T, x[0] is x_T
        d_hs, d_last = d_outputs
        d = np.zeros_like(hs[:-1]) if d_hs is None else np.flip(d_hs, axis=0).copy()
        if d_last is not None:
            d[0] += d_last
        back = np.zeros_like(hs[0])
        for k in range(len(x)):
            d[k] = (d[k] + back) * (1 + hs[k]) * (1 - hs[k])
            back = np.einsum("nh,kh->nk", d[k], params["W_h"])
        return {
            "W_x": np.einsum("tnd,tnh->dh", x, d),
            "W_h": np.einsum("tnk,tnh->kh", hs[1:], d),
            "b": np.einsum("tnh->h", d),
            "x": np.flip(np.einsum("tnh,dh->tnd", d, params["W_x"]), axis=0),
            "h0": back,
        }


@correct("rnn", "gradients by forward accumulation", "real-time recurrent learning")
class RNNForwardAccumulation(RNN):
    """Carries S = ∂h_t/∂θ, shape (N, H, P), forward in time; x and h0 are part of θ."""

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, x, h, _ = cache
        d_hs, d_last = d_outputs
        T, N, D = x.shape
        H = h[0].shape[1]
        eye = np.eye(H, dtype=x.dtype)
        S = {"W_x": np.zeros((N, H, D, H)), "W_h": np.zeros((N, H, H, H)), "b": np.zeros((N, H, H))}
        S |= {"x": np.zeros((N, H, T, D)), "h0": np.tile(eye, (N, 1, 1))}
        S = {name: s.astype(x.dtype) for name, s in S.items()}
        total: Gradients = {name: np.zeros_like(s[:, 0]) for name, s in S.items()}
        for t in range(T):
            S = {name: np.einsum("kh,nk...->nh...", params["W_h"], s) for name, s in S.items()}
            S["W_x"] += np.einsum("nd,hj->nhdj", x[t], eye)
            S["W_h"] += np.einsum("nk,hj->nhkj", h[t], eye)
            S["b"] += eye
            S["x"][:, :, t] += params["W_x"].T
            prime = 1 - h[t + 1] ** 2
            S = {name: np.einsum("nh,nh...->nh...", prime, s) for name, s in S.items()}
            for d in (None if d_hs is None else d_hs[t], d_last if t == T - 1 else None):
                if d is not None:
                    for name, s in S.items():
                        total[name] += np.einsum("nh,nh...->n...", d, s)
        own = {"x": total.pop("x").swapaxes(0, 1), "h0": total.pop("h0")}
        return {name: s.sum(axis=0) for name, s in total.items()} | own


# ---- other conventions ------------------------------------------------------------------------


@correct("gru minimal", "the update gate keeps the old state", "PyTorch", map={"mirrored": True})
class GRUMinimalMirrored(GRUMinimal):
    def mixed(self, s: Any) -> Array:
        return (1 - s.z) * s.c + s.z * s.h

    def by_z(self, s: Any) -> Array:
        return (s.h - s.c) * s.z * (1 - s.z)

    def to_candidate(self, s: Any, d_h: Array) -> Array:
        return d_h * (1 - s.z)

    def direct(self, s: Any, d_h: Array) -> Array:
        return d_h * s.z


@correct("gru reset_after", "gates in the order z, r, c", "Keras", map={"gates": "zrc"})
class GRUGateOrder(GRUResetAfter):
    order = "zrc"


@correct("rnn identity", "outputs is one array, without the final state", "minimal layers")
class RNNOutputsOnly(RNN):
    def activation(self, a: Array) -> Array:
        return a

    def derivative(self, h: Any, a: Any, t: int) -> Any:
        return a[t].dtype.type(1)

    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        (hs, _), cache = super().forward(params, x, h0)
        return hs, cache

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        return super().backward((d_outputs, None), cache)


@correct("rnn sigmoid", "read-only views, and more entries than asked for", "cautious libraries")
class RNNReadOnly(RNN):
    def activation(self, a: Array) -> Array:
        return sigmoid(a)

    def derivative(self, h: Any, a: Any, t: int) -> Array:
        return h[t + 1] * (1 - h[t + 1])

    def finished(self, g: Gradients, x: Array) -> Gradients:
        for d in g.values():
            d.flags.writeable = False
        return g | {"norm": math.sqrt(sum(float(np.sum(d * d)) for d in g.values()))}


@correct("lstm", "cached steps are objects in a linked list", "object-oriented code")
class LSTMLinked(LSTM):
    def forward(self, params: Params, x: Array, h0: Array, c0: Array) -> tuple[Any, Any]:
        outputs, (params, steps) = super().forward(params, x, h0, c0)
        node = None
        for s in steps:
            node = SimpleNamespace(step=s, before=node)
        return outputs, (params, node)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, node = cache
        steps = []
        while node is not None:
            steps.append(node.step)
            node = node.before
        return super().backward(d_outputs, (params, steps[::-1]))
