"""The likely mistake where only inputs and outputs are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg

Array = Any
Gradients = dict[str, Array]
N, V, D = 4, 5, 3


def inputs() -> Gradients:
    rng = np.random.default_rng(0)
    return {
        "E": rng.standard_normal((V, D)),
        "A": rng.standard_normal((D, D)),
        "B": rng.standard_normal((D, D)),
        "words": np.array([1, 0, 3, 1]),
        "lengths": np.array([2, 3, 1, 3]),
    }


def reference(v: Any) -> Any:
    h = np.tanh(v["E"][v["words"]] @ v["A"])
    return h @ v["B"], h, np.sum(h * h) / 2


class Layer:
    """An embedding, a layer and a head; ``spoil`` may change cotangents, or the result."""

    def __init__(self, cotangents: Any = None, result: Any = None) -> None:
        self.cotangents, self.result = cotangents, result

    def run(self, v: Gradients) -> Any:
        x = v["E"][v["words"]]
        h = np.tanh(x @ v["A"])
        return (h @ v["B"], h, np.asarray(np.sum(h * h) / 2)), (v, x, h)

    def backward(self, d: Any, cache: Any) -> Gradients:
        v, x, h = cache
        shapes = (N, D), (N, D), ()
        d = [np.zeros(s, h.dtype) if k is None else k for s, k in zip(shapes, d, strict=True)]
        if self.cotangents:
            d = self.cotangents(v, *d)
        delta = (d[0] @ v["B"].T + d[1] + d[2] * h) * (1 - h * h)
        d_x = delta @ v["A"].T
        g = {"E": np.zeros_like(v["E"]), "A": x.T @ delta, "B": h.T @ d[0]}
        np.add.at(g["E"], v["words"], d_x)
        if self.result:
            self.result(g, v, d_x)
        return g


def overwrite(g: Gradients, v: Gradients, d_x: Array) -> None:
    g["E"][v["words"]] = d_x


def clip(g: Gradients, v: Gradients, d_x: Array) -> None:
    for a in g.values():
        np.clip(a, -0.1, 0.1, out=a)


def longest(v: Gradients, p: Array, h: Array, s: Array) -> Any:
    return p, h * (v["lengths"] == 3)[:, None], s


def last(v: Gradients, p: Array, h: Array, s: Array) -> Any:
    return p, h * (np.arange(N) == N - 1)[:, None], s


MISTAKES: dict[str, Layer] = {
    "∂L/∂A is zero": Layer(result=lambda g, v, x: g.update(A=0 * g["A"])),
    "∂L/∂E, ∂L/∂A, ∂L/∂B is 0.25 times what it must be": Layer(
        result=lambda g, v, x: g.update({n: a / 4 for n, a in g.items()})
    ),
    "∂L/∂B is ∂L/∂A": Layer(result=lambda g, v, x: g.update(B=g["A"])),
    "∂L/∂A is transposed": Layer(result=lambda g, v, x: g.update(A=g["A"].T)),
    "∂L/∂E is reversed along its axis 0": Layer(
        result=lambda g, v, x: g.update(E=g["E"][::-1].copy())
    ),
    "the cotangent of outputs[1] is ignored": Layer(lambda v, p, h, s: (p, 0 * h, s)),
    "the cotangent of outputs[2] is taken for 1": Layer(lambda v, p, h, s: (p, h, 0 * s + 1)),
    "the cotangents of outputs[0] and outputs[1] are exchanged": Layer(
        lambda v, p, h, s: (h, p, s)
    ),
    "the cotangent of outputs[1] is used only where lengths is greatest": Layer(longest),
    "of the cotangent of outputs[1] only the last slice along its axis 0 is used": Layer(last),
    "only rows of ∂L/∂E that words names more than once are wrong: "
    "their terms must be added up, as by np.add.at": Layer(result=overwrite),
    "∂L/∂E, ∂L/∂A, ∂L/∂B never exceeds ±0.1: something is clipped": Layer(result=clip),
    "∂L/∂A is not zero for cotangents of zero: something is added to it": Layer(
        result=lambda g, v, x: g.update(A=g["A"] + v["A"] / 8)
    ),
}


@pytest.mark.parametrize("given", [reference, None], ids=["reference", "alone"])
@pytest.mark.parametrize("expected", MISTAKES)
def test_the_mistake_is_named(expected: str, given: Callable[..., Any] | None) -> None:
    layer = MISTAKES[expected]
    found = tg.check_backward(layer.run, layer.backward, inputs(), reference=given)
    assert (found.verdict, found.mistakes) == ("REFUTED", [expected]), str(found)


def test_the_layer_itself_is_right() -> None:
    layer = Layer()
    assert tg.check_backward(layer.run, layer.backward, inputs()).verdict == "CONSISTENT"


def test_a_mistake_that_is_none_of_these_is_not_named() -> None:
    def spoil(g: Gradients, v: Gradients, d_x: Array) -> None:
        g["A"] *= 1 + np.tanh(v["A"])

    layer = Layer(result=spoil)
    found = tg.check_backward(layer.run, layer.backward, inputs(), reference=reference)
    assert (found.verdict, found.culprits, found.mistakes) == ("REFUTED", ["A"], [])


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_a_ratio_is_told_where_squares_leave_the_range(size: float) -> None:
    true = size * np.array([0.5, -2.0, 1.0])
    run = lambda v: ((v["x"] * true,), v)  # noqa: E731
    found = tg.check_backward(run, lambda d, v: {"x": 3 * d[0] * true}, {"x": np.ones(3)})
    assert found.mistakes == ["∂L/∂x is 3 times what it must be"], str(found)


def test_what_is_kept_from_earlier_calls_is_told() -> None:
    kept: Gradients = {}

    def keep(g: Gradients, v: Gradients, d_x: Array) -> None:
        kept["A"] = g["A"] = kept.get("A", np.zeros_like(g["A"])) + g["A"]

    layer = Layer(result=keep)
    found = tg.check_backward(layer.run, layer.backward, inputs(), reference=reference)
    assert found.culprits == ["A"]
    assert found.conditions == ["only on the second call: equal calls give different gradients"]
    assert found.mistakes == []


class Padded:
    """A tanh layer with lengths; ``h_T``, ``d_hs``, ``result`` may change what it gets and gives.

    ``masked`` says whether its backward pass has the mask of the forward pass.
    """

    padding = "state"

    def __init__(
        self, h_T: Any = None, result: Any = None, d_hs: Any = None, masked: bool = True
    ) -> None:
        self.h_T, self.result, self.d_hs, self.masked = h_T, result, d_hs, masked

    def forward(self, p: Gradients, x: Array, h: Array, lengths: Array) -> Any:
        steps, hs = [], []
        for t, x_t in enumerate(x):
            on = (t < lengths)[:, None]
            new = np.tanh(x_t @ p["W_x"] + h @ p["W_h"] + p["b"])
            steps.append((h, new, on))
            h = np.where(on, new, h)
            hs.append(h)
        return (np.stack(hs), h), (p, x, steps, lengths)

    def backward(self, d: Any, cache: Any) -> Gradients:
        p, x, steps, lengths = cache
        g = {k: np.zeros_like(v) for k, v in p.items()} | {"x": np.zeros_like(x)}
        back = np.zeros_like(steps[0][0]) if d[1] is None else d[1]
        if self.h_T:
            back = self.h_T(back, lengths, len(x))
        for t in reversed(range(len(x))):
            h, new, on = steps[t]
            given = 0 if d[0] is None else d[0][t]
            d_h = back + (self.d_hs(given, on) if self.d_hs else given)
            delta = d_h * (1 - new * new) * (on if self.masked else 1)
            g["W_x"] += x[t].T @ delta
            g["W_h"] += h.T @ delta
            g["b"] += delta.sum(axis=0)
            g["x"][t] = delta @ p["W_x"].T
            back = delta @ p["W_h"].T + d_h * ~on
        if self.result:
            self.result(g)
        return g | {"h0": back}


class Zeros(Padded):
    """The same, whose outputs are zero after a sequence's end."""

    padding = "zeros"

    def forward(self, p: Gradients, x: Array, h: Array, lengths: Array) -> Any:
        (hs, h), cache = super().forward(p, x, h, lengths)
        return (np.stack([y * on for y, (*_, on) in zip(hs, cache[2], strict=True)]), h), cache


def masked(d: Any, on: Array) -> Any:
    return d * on


WITH_LENGTHS = {
    "the cotangent of h_T is used only where lengths is greatest": Padded(
        lambda d, lengths, T: d * (lengths == T)[:, None]
    ),
    "∂L/∂b is 2 times what it must be": Padded(result=lambda g: g.update(b=2 * g["b"])),
    "the cotangents of hs after a sequence's end are ignored": Padded(d_hs=masked),
    "the cotangents of hs after a sequence's end are used, though hs is zero there": Zeros(),
    "∂L/∂x is not zero after a sequence's end: the backward pass needs the mask too": Zeros(
        d_hs=masked, masked=False
    ),
}


@pytest.mark.parametrize("expected", WITH_LENGTHS)
def test_a_layer_with_lengths(expected: str) -> None:
    layer, cell = WITH_LENGTHS[expected], tg.RNNCell(3, 4)
    layout = {"lengths": "lengths", "padding": layer.padding}
    found = tg.check_layer(layer, cell, map=layout, budget="quick")
    assert found.mistakes == [expected], str(found)


@pytest.mark.parametrize("layer", [Padded(), Zeros(d_hs=masked)], ids=["state", "zeros"])
def test_what_outputs_hold_after_a_sequences_end_is_told(layer: Padded) -> None:
    cell, other = tg.RNNCell(3, 4), {"state": "zeros", "zeros": "state"}[layer.padding]
    right = tg.check_layer(layer, cell, map=tg.LayerMap(lengths="lengths", padding=layer.padding))
    assert right.verdict == "CONSISTENT", str(right)
    found = tg.check_layer(layer, cell, map=tg.LayerMap(lengths="lengths", padding=other))
    assert (found.verdict, found.culprits) == ("REFUTED", ["outputs"])
    assert found.mistakes[1] == "backward: it is the gradient of that forward pass"
    assert found.notes == [
        f"if that is meant, declare it: map=tg.LayerMap(…, padding={layer.padding!r})"
    ]
