"""The gated recurrent unit in its three forms, forward and backward, and what goes wrong in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from .entry import Array, Gradients, Params, correct, faulty
from .rnn import sigmoid


@correct("gru", "nothing: the layer that the faulty ones are made from", "textbooks")
class GRU:
    """h_t = z ∘ c + (1 − z) ∘ h_{t−1}, c = tanh(x_t W_xc + (r ∘ h_{t−1}) W_hc + b_c).

    A step remembers x, h (before it), r, z, c; δ are gradients by preactivations.
    """

    order = "rzc"

    def forward(self, params: Params, x: Array, h0: Array) -> tuple[Any, Any]:
        h, steps, hs = h0, [], []
        for x_t in x:
            s = self.step(self.blocks(params), x_t, h)
            h = self.mixed(s)
            steps.append(s)
            hs.append(h)
        return (np.stack(hs), h), (params, steps)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        params, steps = cache
        p = self.blocks(params)
        d_hs, d_last = d_outputs
        back = np.zeros_like(steps[0].h) if d_last is None else d_last
        total = {name: np.zeros_like(a) for name, a in params.items()}
        d_x = []
        for t in reversed(range(len(steps))):
            s = steps[t]
            d_h = back if d_hs is None else d_hs[t] + back
            d = {"z": d_h * self.by_z(s), "c": self.to_candidate(s, d_h) * (1 - s.c * s.c)}
            back = self.direct(s, d_h) + self.through_reset(p, s, d)
            back = back + d["z"] @ p.W_hz.T
            wide = np.concatenate([d[gate] for gate in self.order], axis=1)
            total["W_x"] += s.x.T @ wide
            total["b"] += self.bias(wide)
            total["W_h"] += np.concatenate([self.W_h(s, d, gate) for gate in self.order], axis=1)
            if "b_h" in total:
                total["b_h"] += self.b_h(s, d)
            d_x.append(wide @ params["W_x"].T)
        return total | {"x": np.stack(d_x[::-1]), "h0": back}

    def blocks(self, params: Params) -> SimpleNamespace:
        """Cut the weights into W_xr, W_xz, …, b_c."""
        H = len(params["W_h"])
        return SimpleNamespace(
            b_h=params.get("b_h"),
            **{
                f"{name}{gate}": params[wide][..., k * H : (k + 1) * H]
                for name, wide in (("W_x", "W_x"), ("W_h", "W_h"), ("b_", "b"))
                for k, gate in enumerate(self.order)
            },
        )

    # ---- the hooks

    def step(self, p: Any, x: Array, h: Array) -> SimpleNamespace:
        r = sigmoid(x @ p.W_xr + h @ p.W_hr + p.b_r)
        z = sigmoid(x @ p.W_xz + h @ p.W_hz + p.b_z)
        return SimpleNamespace(x=x, h=h, r=r, z=z, c=self.candidate(p, x, h, r))

    def candidate(self, p: Any, x: Array, h: Array, r: Array) -> Array:
        return np.tanh(x @ p.W_xc + (r * h) @ p.W_hc + p.b_c)

    def mixed(self, s: Any) -> Array:
        return s.z * s.c + (1 - s.z) * s.h

    def by_z(self, s: Any) -> Array:
        return (s.c - s.h) * s.z * (1 - s.z)

    def to_candidate(self, s: Any, d_h: Array) -> Array:
        return d_h * s.z

    def direct(self, s: Any, d_h: Array) -> Array:
        return d_h * (1 - s.z)

    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        """Set δ_r, and return what flows to h_{t−1} through the candidate and the reset gate."""
        d_rh = d["c"] @ p.W_hc.T
        d["r"] = d_rh * s.h * s.r * (1 - s.r)
        return d_rh * s.r + d["r"] @ p.W_hr.T

    def W_h(self, s: Any, d: Gradients, gate: str) -> Array:
        return (s.r * s.h if gate == "c" else s.h).T @ d[gate]

    def bias(self, wide: Array) -> Array:
        return wide.sum(axis=0)

    def b_h(self, s: Any, d: Gradients) -> Array:
        raise NotImplementedError


@correct("gru reset_after", "nothing: the form of cuDNN", "textbooks")
class GRUResetAfter(GRU):
    """c = tanh(x_t W_xc + b_c + r ∘ u) with u = h_{t−1} W_hc + b_h."""

    def candidate(self, p: Any, x: Array, h: Array, r: Array) -> Array:
        return np.tanh(x @ p.W_xc + p.b_c + r * self.u(p, h))

    def u(self, p: Any, h: Array) -> Array:
        return h @ p.W_hc + (0 if p.b_h is None else p.b_h)

    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        d["r"] = d["c"] * self.u(p, s.h) * s.r * (1 - s.r)
        return (d["c"] * s.r) @ p.W_hc.T + d["r"] @ p.W_hr.T

    def W_h(self, s: Any, d: Gradients, gate: str) -> Array:
        return s.h.T @ (d["c"] * s.r if gate == "c" else d[gate])

    def b_h(self, s: Any, d: Gradients) -> Array:
        return (d["c"] * s.r).sum(axis=0)


@correct("gru minimal", "nothing: without a reset gate", "textbooks")
class GRUMinimal(GRU):
    """c = tanh(x_t W_xc + h_{t−1} W_hc + b_c): r = 1."""

    order = "zc"

    def step(self, p: Any, x: Array, h: Array) -> SimpleNamespace:
        z = sigmoid(x @ p.W_xz + h @ p.W_hz + p.b_z)
        return SimpleNamespace(x=x, h=h, r=1, z=z, c=self.candidate(p, x, h, np.ones_like(z)))

    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        return d["c"] @ p.W_hc.T


# ---- forward ----------------------------------------------------------------------------------


@faulty("gru", "outputs", "reset applied after the product", "the two published forms confused")
class GRUForwardResetAfter(GRUResetAfter):
    pass


@faulty(
    "gru reset_after", "outputs", "b_h outside the reset product", "one bias kept of cuDNN's two"
)
class GRUForwardRecurrentBiasOutside(GRUResetAfter):
    def candidate(self, p: Any, x: Array, h: Array, r: Array) -> Array:
        return np.tanh(x @ p.W_xc + p.b_c + r * (h @ p.W_hc) + p.b_h)

    def u(self, p: Any, h: Array) -> Array:
        return h @ p.W_hc

    def b_h(self, s: Any, d: Gradients) -> Array:
        return d["c"].sum(axis=0)


@faulty("gru", "outputs", "the update gate is mirrored", "z keeps the old state, as in PyTorch")
class GRUForwardMirrored(GRU):
    def mixed(self, s: Any) -> Array:
        return (1 - s.z) * s.c + s.z * s.h

    def by_z(self, s: Any) -> Array:
        return -super().by_z(s)

    def to_candidate(self, s: Any, d_h: Array) -> Array:
        return d_h * (1 - s.z)

    def direct(self, s: Any, d_h: Array) -> Array:
        return d_h * s.z


@faulty("gru", "outputs", "gates in the order z, r, c", "the order of Keras")
class GRUForwardGateOrder(GRU):
    order = "zrc"


# ---- backward ---------------------------------------------------------------------------------


@faulty("gru", "all", "backward of the other reset form", "backward ported from cuDNN's equations")
class GRUBackwardResetAfter(GRUResetAfter):
    def candidate(self, p: Any, x: Array, h: Array, r: Array) -> Array:
        return GRU.candidate(self, p, x, h, r)


@faulty("gru", "all", "sign of the update gate's gradient", "h − c for c − h")
class GRUUpdateSign(GRU):
    def by_z(self, s: Any) -> Array:
        return -super().by_z(s)


@faulty(
    "gru minimal", "all", "the update gate's gradient misses −h", "∂(z c)/∂z without the other term"
)
class GRUMinimalUpdateHalf(GRUMinimal):
    def by_z(self, s: Any) -> Array:
        return s.c * s.z * (1 - s.z)


@faulty("gru", "all", "σ' is missing on z", "one of many factors forgotten")
class GRUUpdatePrimeMissing(GRU):
    def by_z(self, s: Any) -> Array:
        return s.c - s.h


@faulty("gru", "all", "the path 1 − z is dropped", "only the candidate goes back in time")
class GRUDirectPathDropped(GRU):
    def direct(self, s: Any, d_h: Array) -> Any:
        return 0


@faulty("gru", "all", "z for 1 − z on the direct path", "the mirrored form's line")
class GRUDirectPathMirrored(GRU):
    def direct(self, s: Any, d_h: Array) -> Array:
        return d_h * s.z


@faulty("gru", "all", "σ' is missing on r", "one of many factors forgotten")
class GRUResetPrimeMissing(GRU):
    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        d_rh = d["c"] @ p.W_hc.T
        d["r"] = d_rh * s.h
        return d_rh * s.r + d["r"] @ p.W_hr.T


@faulty(
    "gru", "all", "r is missing on the way to h_{t−1}", "r ∘ h differentiated by r only", step=1
)
class GRUResetMissingOnCarry(GRU):
    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        super().through_reset(p, s, d)
        return d["c"] @ p.W_hc.T + d["r"] @ p.W_hr.T


@faulty("gru", "all", "the path through r to h_{t−1} is dropped", "r taken for a constant mask")
class GRUResetPathDropped(GRU):
    def through_reset(self, p: Any, s: Any, d: Gradients) -> Array:
        return super().through_reset(p, s, d) - d["r"] @ p.W_hr.T


@faulty("gru", "W_h", "h for r ∘ h in ∂L/∂W_hc", "all gates' weight gradients in one product")
class GRUCandidateWeightsWithoutReset(GRU):
    def W_h(self, s: Any, d: Gradients, gate: str) -> Array:
        return s.h.T @ d[gate]


@faulty("gru reset_after", "b_h", "∂L/∂b_h misses r", "db_h copied from db")
class GRURecurrentBiasWithoutReset(GRUResetAfter):
    def b_h(self, s: Any, d: Gradients) -> Array:
        return d["c"].sum(axis=0)


@faulty("gru", "b", "gates exchanged in the bias gradient", "biases kept in another order")
class GRUBiasOrder(GRU):
    def bias(self, wide: Array) -> Array:
        r, z, c = np.split(wide.sum(axis=0), 3)
        return np.concatenate([z, r, c])
