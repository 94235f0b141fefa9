"""Mistakes in the loop over time, in the order of gates, and in what limits a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg

Array = Any


class Loop:
    """An LSTM of [h, x] with a sweep that can be spoilt."""

    order: Callable[[int], Any] = staticmethod(lambda T: reversed(range(T)))

    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        steps, hs = [], []
        for x_t in x:
            z = np.concatenate([h, x_t], axis=1)
            a = np.split(z @ p["W"] + p["b"], 4, axis=1)
            i, f, o = (0.5 * (1 + np.tanh(0.5 * a[k])) for k in (0, 1, 3))
            before, c = c, f * c + i * np.tanh(a[2])
            h = o * np.tanh(c)
            steps.append((z, i, f, np.tanh(a[2]), o, before, c))
            hs.append(h)
        return (np.stack(hs), h, c), (p, x, steps)

    def backward(self, d: Any, cache: Any) -> Any:
        p, x, steps = cache
        H = steps[0][1].shape[1]
        g, d_x = {k: np.zeros_like(v) for k, v in p.items()}, np.zeros_like(x)
        zero = np.zeros_like(steps[0][1])
        last = tuple(zero if v is None else v for v in d[1:])
        back = last
        for t in self.order(len(x)):
            z, i, f, a, o, before, c = steps[self.at(t, len(x))]
            y = np.tanh(c)
            d_h = back[0] + (0 if d[0] is None else d[0][t])
            d_c = back[1] + d_h * o * (1 - y * y)
            delta = self.together(
                d_c * a * i * (1 - i),
                d_c * before * f * (1 - f),
                d_c * i * (1 - a * a),
                d_h * y * o * (1 - o),
            )
            g["W"] += z.T @ delta
            g["b"] += delta.sum(axis=0)
            d_h, d_x[t] = self.parts(delta @ p["W"].T, H)
            back = self.carried(back, (d_h, d_c * f), last)
        return {**g, "x": d_x, "h0": back[0], "c0": back[1]}

    # ---- each mistake below replaces one of these

    def at(self, t: int, T: int) -> int:
        return t

    def together(self, *delta: Array) -> Array:
        return np.concatenate(delta, axis=1)

    def parts(self, d_z: Array, H: int) -> Any:
        return d_z[:, :H], d_z[:, H:]

    def carried(self, came: Any, new: Any, last: Any) -> Any:
        return new


class Forward(Loop):
    order = staticmethod(range)


class StepAfter(Loop):
    def at(self, t: int, T: int) -> int:
        return min(t + 1, T - 1)


class OtherOrder(Loop):
    def together(self, *delta: Array) -> Array:
        i, f, a, o = delta
        return np.concatenate([f, i, a, o], axis=1)


class OtherCut(Loop):
    def parts(self, d_z: Array, H: int) -> Any:
        return d_z[:, -H:], d_z[:, :-H]


class Added(Loop):
    def carried(self, came: Any, new: Any, last: Any) -> Any:
        return new[0], came[1] + new[1]


class Exchanged(Loop):
    def carried(self, came: Any, new: Any, last: Any) -> Any:
        return new[::-1]


class NeverHandedOn(Loop):
    def carried(self, came: Any, new: Any, last: Any) -> Any:
        return came


class BothFinal(Loop):
    def backward(self, d: Any, cache: Any) -> Any:
        hs, h, c = d
        return super().backward((hs, h, c if h is None else h + (0 if c is None else c)), cache)


class Clipped(Loop):
    def backward(self, d: Any, cache: Any) -> Any:
        return {k: np.clip(v, -5, 5) for k, v in super().backward(d, cache).items()}


class Decayed(Loop):
    def backward(self, d: Any, cache: Any) -> Any:
        found = super().backward(d, cache)
        return found | {"W": found["W"] + 0.5 * cache[0]["W"]}


class Rounded(Loop):
    def backward(self, d: Any, cache: Any) -> Any:
        found = super().backward(d, cache)
        return found | {"x": found["x"].astype(np.float32)}


EXPECTED = {
    Forward: "the sweep over time runs forward: it must begin at the last step",
    StepAfter: "every step uses what was kept of the step after it",
    OtherOrder: "the δ of the gates are put together in the order f i g o",
    OtherCut: "what goes back to [h, x] is cut into its two parts in the other order",
    Added: "what goes back through c is added to what came, not put in its place",
    Exchanged: "what goes back through h and through c is exchanged",
    NeverHandedOn: "what goes back through h and c is never handed on: "
    "every step gets what the first one of the sweep got",
    BothFinal: "the cotangent of h_T is also added to that of c_T",
    Clipped: "∂L/∂W, ∂L/∂b, ∂L/∂x, ∂L/∂h0, ∂L/∂c0 never exceeds ±5: something is clipped",
    Decayed: "∂L/∂W has 0.5 times W added to it: weight decay",
    Rounded: "∂L/∂x is rounded to float32",
}
STACKED = {"names": {"W_x": "W"}, "stacked": "hx"}


def report(layer: Any) -> Any:
    return tg.check_layer(layer(), tg.LSTMCell(3, 4), map=STACKED)


def test_the_loop_is_right() -> None:
    assert report(Loop).verdict == "CONSISTENT"


@pytest.mark.parametrize("layer", EXPECTED)
def test_what_is_wrong_with_the_sweep(layer: Any) -> None:
    found = report(layer)
    assert found.verdict == "REFUTED"
    assert found.mistakes[0].startswith(EXPECTED[layer]), str(found)


class InPlace(Loop):
    """It adds to the cotangents what goes back: a second call gets what the first one left."""

    def backward(self, d: Any, cache: Any) -> Any:
        found = super().backward(d, cache)
        if d[0] is not None:
            d[0][:-1] += 1
        return found


def test_a_change_in_place_is_told_and_so_is_when_it_makes_numbers_wrong() -> None:
    found = report(InPlace)
    assert found.culprits == ["W", "b", "x", "h0", "c0"]
    assert found.conditions[:2] == [
        "its inputs are changed in place: d_hs",
        "only on the second call: when backward is called twice on one cache",
    ]
    assert found.first_wrong_step is None  # a single call is right


class Thresholds(Loop):
    """Small entries of what goes back are dropped."""

    def carried(self, came: Any, new: Any, last: Any) -> Any:
        return np.where(np.abs(new[0]) < 1e-3, 0, new[0]), new[1]


def test_beside_a_threshold_nothing_is_left_to_chance() -> None:
    found = report(Thresholds)
    assert found.conditions == ["only for small cotangents"]
    assert found.first_wrong_step == 1


class Overflows(Loop):
    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        outputs, cache = super().forward(p, x, h, c)
        a = p["b"][0]
        return tuple(y * (np.exp(a) / np.exp(a)) for y in outputs), cache


def test_an_overflow_is_called_so() -> None:
    found = report(Overflows)
    assert found.culprits == ["outputs"]
    assert found.mistakes == [
        "forward: hs, h_T, c_T is not finite: an overflow, or a division by zero"
    ]


class Undefined(Loop):
    def backward(self, d: Any, cache: Any) -> Any:
        a = cache[0]["b"][0]
        return {k: v * (np.exp(a) / np.exp(a)) for k, v in super().backward(d, cache).items()}


def test_a_gradient_that_is_not_finite_is_called_so() -> None:
    found = report(Undefined)
    assert found.conditions == ["only saturated: with logits of ±800"]
    assert found.mistakes == [
        "∂L/∂W, ∂L/∂b, ∂L/∂x, ∂L/∂h0, ∂L/∂c0 is not finite: an overflow, or a division by zero"
    ]


class FromInitial(Loop):
    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        steps = [super(FromInitial, self).forward(p, x_t[None], h, c) for x_t in x]
        outputs = np.concatenate([o[0] for o, _ in steps]), *steps[-1][0][1:]
        return outputs, (p, x, [s for _, (_, _, own) in steps for s in own])


class OneBias(Loop):
    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        *_, a, o = np.split(p["b"], 4)
        return super().forward({**p, "b": np.concatenate([o, o, a, o])}, x, h, c)


class NoForgetGate(Loop):
    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        H = h.shape[1]
        own = {k: np.array(v) for k, v in p.items()}
        own["W"][:, H : 2 * H], own["b"][H : 2 * H] = 0, 100
        return super().forward(own, x, h, c)


class OneState(Loop):
    def forward(self, p: Mapping[str, Array], x: Array, h: Array, c: Array) -> Any:
        (hs, h_T, _), cache = super().forward(p, x, h, c)
        return (hs, h_T, h_T), cache


FORWARD = {
    FromInitial: "forward: every step starts from the initial state",
    OneBias: "forward: b of gate o is used for i, f too",
    NoForgetGate: "forward: gate f is always 1",
    OneState: "forward: the c_T that is returned is h_T",
}


@pytest.mark.parametrize("layer", FORWARD)
def test_what_is_wrong_with_the_forward_pass(layer: Any) -> None:
    assert report(layer).mistakes[0] == FORWARD[layer]


class Reset:
    """A GRU whose derivative by the reset gate can be spoilt."""

    def forward(self, p: Mapping[str, Array], x: Array, h: Array) -> Any:
        H, steps, hs = h.shape[1], [], []
        for x_t in x:
            a = x_t @ p["W_x"] + p["b"]
            u = h @ p["W_h"][:, : 2 * H]
            r = 0.5 * (1 + np.tanh(0.5 * (a[:, :H] + u[:, :H])))
            z = 0.5 * (1 + np.tanh(0.5 * (a[:, H : 2 * H] + u[:, H:])))
            c = np.tanh(a[:, 2 * H :] + (r * h) @ p["W_h"][:, 2 * H :])
            steps.append((x_t, h, r, z, c))
            h = z * c + (1 - z) * h
            hs.append(h)
        return np.stack(hs), (p, x, steps)

    def backward(self, d: Any, cache: Any) -> Any:
        p, x, steps = cache
        H = steps[0][1].shape[1]
        U = p["W_h"][:, 2 * H :]
        g, d_x, back = {k: np.zeros_like(v) for k, v in p.items()}, np.zeros_like(x), 0
        for t in reversed(range(len(x))):
            x_t, h, r, z, c = steps[t]
            d_h = d[t] + back
            d_c = d_h * z * (1 - c * c)
            d_z, d_r = d_h * (c - h) * z * (1 - z), self.reset(d_h * z, d_c, h, U) * r * (1 - r)
            delta = np.concatenate([d_r, d_z, d_c], axis=1)
            g["W_x"] += x_t.T @ delta
            g["W_h"] += np.concatenate([h.T @ d_r, h.T @ d_z, (r * h).T @ d_c], axis=1)
            g["b"] += delta.sum(axis=0)
            d_x[t] = delta @ p["W_x"].T
            back = d_h * (1 - z) + (d_c @ U.T) * r + delta[:, : 2 * H] @ p["W_h"][:, : 2 * H].T
        return {**g, "x": d_x, "h0": back}

    def reset(self, by_c: Array, d_c: Array, h: Array, U: Array) -> Array:
        return (d_c @ U.T) * h


class ResetOfOtherForm(Reset):
    def reset(self, by_c: Array, d_c: Array, h: Array, U: Array) -> Array:
        return d_c * (h @ U)


class ResetTooEarly(Reset):
    def reset(self, by_c: Array, d_c: Array, h: Array, U: Array) -> Array:
        return (by_c @ U.T) * h


RESET = {
    ResetOfOtherForm: "∂L/∂a_r comes from the δ of c itself, and has (h_{t−1} W_h) for h_{t−1}",
    ResetTooEarly: "∂L/∂a_r comes from the derivative by c, without its tanh', through W_h",
}


@pytest.mark.parametrize("layer", RESET)
def test_where_the_derivative_by_the_reset_gate_comes_from(layer: Any) -> None:
    cell = tg.GRUCell(3, 4)
    assert tg.check_layer(Reset(), cell, budget="quick").verdict == "CONSISTENT"
    assert tg.check_layer(layer(), cell, budget="quick").mistakes == [RESET[layer]]
