"""What is more than one cell: two directions, two layers, sequences of unequal lengths, a mask.

A composite has ``run(inputs) -> (outputs, cache)`` and ``backward(d_outputs, cache) -> dict``, and
``reference(inputs) -> outputs``, its specification in plain NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .entry import Array, Gradients, kebab
from .rnn import RNN

Inputs = Mapping[str, Array]
T, N, D, H = 6, 5, 3, 2


@dataclass(frozen=True)
class Composite:
    """A composite layer and the truth about it; see `zoo.Entry`."""

    id: str
    layer: Any
    faulty: bool
    culprits: frozenset[str]
    mistake: str
    source: str


COMPOSITES: list[Composite] = []


def enter(mistake: str, source: str, culprits: str = "") -> Any:
    """Enter the decorated class; with culprits it is faulty."""

    def add(make: Any) -> Any:
        names = frozenset(culprits.split())
        entry = Composite(kebab(make.__name__), make, bool(names), names, mistake, source)
        COMPOSITES.append(entry)
        return make

    return add


def weights(rng: np.random.Generator, mark: str, d: int) -> dict[str, Array]:
    shapes = {"W_x": (d, H), "W_h": (H, H), "b": (H,)}
    found = {name + mark: rng.standard_normal(shape) for name, shape in shapes.items()}
    return found | {"h0" + mark: rng.uniform(-1, 1, (N, H))}


def of(inputs: Inputs, mark: str) -> tuple[dict[str, Array], Array]:
    """Return the parameters and the initial state of one part."""
    return {name: inputs[name + mark] for name in ("W_x", "W_h", "b")}, inputs["h0" + mark]


def named(g: Gradients, mark: str) -> Gradients:
    return {name + mark: d for name, d in g.items() if name != "x"}


def states(inputs: Inputs, mark: str, x: Any, lengths: Any = None) -> Array:
    """Run h_t = tanh(…) as the textbook has it; after its length a sequence keeps its state."""
    p, h = of(inputs, mark)
    hs = []
    for t in range(len(x)):
        new = np.tanh(x[t] @ p["W_x"] + h @ p["W_h"] + p["b"])
        h = new if lengths is None else np.where((t < lengths)[:, None], new, h)
        hs.append(h)
    return np.stack(hs)


@enter("nothing: two directions", "textbooks")
class Bidirectional:
    """hs = [h→_t, h←_t]."""

    def inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        return weights(rng, "_f", D) | weights(rng, "_b", D) | {"x": rng.standard_normal((T, N, D))}

    def reference(self, inputs: Inputs) -> tuple[Array, ...]:
        forth, back = states(inputs, "_f", inputs["x"]), states(inputs, "_b", inputs["x"][::-1])
        return (np.concatenate([forth, back[::-1]], axis=2),)

    def run(self, inputs: Inputs) -> tuple[Any, Any]:
        x = inputs["x"]
        forth, first = RNN().forward(of(inputs, "_f")[0], x, inputs["h0_f"])
        back, second = RNN().forward(of(inputs, "_b")[0], x[::-1], inputs["h0_b"])
        return (np.concatenate([forth[0], back[0][::-1]], axis=2),), (first, second)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        (d,) = d_outputs
        forth = RNN().backward((d[..., :H], None), cache[0])
        back = RNN().backward((d[::-1, :, H:], None), cache[1])
        return named(forth, "_f") | named(back, "_b") | {"x": self.both(forth["x"], back["x"])}

    def both(self, forth: Array, back: Array) -> Array:
        return forth + back[::-1]


@enter("∂L/∂x of one direction overwrites the other's", "a BRNN without accumulation (mlpack)", "x")
class BidirectionalOverwrites(Bidirectional):
    def both(self, forth: Array, back: Array) -> Array:
        return back[::-1]


@enter("∂L/∂x of the backward direction is not turned round", "flip in forward only", "x")
class BidirectionalNotFlipped(Bidirectional):
    def both(self, forth: Array, back: Array) -> Array:
        return forth + back


@enter("nothing: three layers", "textbooks")
class Stack:
    """The states of one layer are the inputs of the next; outputs are hs and each layer's h_T."""

    marks = "_1", "_2", "_3"

    def inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        found = {"x": rng.standard_normal((T, N, D))}
        for mark in self.marks:
            found |= weights(rng, mark, D if mark == "_1" else H)
        return found

    def reference(self, inputs: Inputs) -> tuple[Array, ...]:
        x, final = inputs["x"], []
        for mark in self.marks:
            x = states(inputs, mark, x)
            final.append(x[-1])
        return (x, *final)

    def run(self, inputs: Inputs) -> tuple[Any, Any]:
        x, final, caches = inputs["x"], [], []
        for mark in self.marks:
            (x, h), cache = RNN().forward(*self.chosen(inputs, mark, x))
            final.append(h)
            caches.append(cache)
        return (x, *final), caches

    def chosen(self, inputs: Inputs, mark: str, x: Array) -> tuple[Any, Array, Array]:
        params, h0 = of(inputs, mark)
        return params, x, h0

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        d, *final = d_outputs
        found: Gradients = {}
        for mark, part, d_last in reversed(list(zip(self.marks, cache, final, strict=True))):
            g = RNN().backward((d, self.last(mark, d_last)), part)
            found |= named(g, mark)
            d = self.down(mark, g["x"])
        return found | {"x": d}

    def last(self, mark: str, d_last: Array) -> Any:
        return d_last

    def down(self, mark: str, d_x: Array) -> Array:
        return d_x


@enter(
    "the lower layers' final states have no gradient",
    "stacks tested with a loss on the top only",
    "W_x_1 W_h_1 b_1 h0_1 W_x_2 W_h_2 b_2 h0_2 x",
)
class StackFinalStatesOfTop(Stack):
    def last(self, mark: str, d_last: Array) -> Any:
        return d_last if mark == "_3" else None


@enter(
    "wrong for more than two layers",
    "mxnet: right for one and two layers",
    "W_x_1 W_h_1 b_1 h0_1 x",
)
class StackDeeperThanTwo(Stack):
    def down(self, mark: str, d_x: Array) -> Array:
        return 0 * d_x if mark == "_2" else d_x


class WithLengths:
    """Sequences of unequal lengths: after its length a sequence keeps its state."""

    lengths = np.array([6, 4, 1, 5, 3])

    def inputs(self, rng: np.random.Generator) -> dict[str, Array]:
        return weights(rng, "", D) | {"x": rng.standard_normal((T, N, D))}

    def reference(self, inputs: Inputs) -> tuple[Array, ...]:
        hs = states(inputs, "", inputs["x"], self.lengths)
        return hs, hs[-1]

    def run(self, inputs: Inputs) -> tuple[Any, Any]:
        hs = states(inputs, "", inputs["x"], self.lengths)
        return (hs, hs[-1]), (inputs, hs)

    def backward(self, d_outputs: Any, cache: Any) -> Gradients:
        inputs, hs = cache
        d_hs, back = (np.zeros(()) if d is None else d for d in d_outputs)
        d_hs = np.broadcast_to(d_hs, hs.shape)
        (p, h0), x = of(inputs, ""), inputs["x"]
        g = {name: np.zeros_like(a) for name, a in (*p.items(), ("x", x))}
        for t in reversed(range(T)):
            on = (t < self.lengths)[:, None]
            d_h = d_hs[t] + back
            d_a = self.masked(d_h * (1 - hs[t] ** 2), on)
            before = hs[t - 1] if t else h0
            g["W_x"] += x[t].T @ d_a
            g["W_h"] += before.T @ d_a
            g["b"] += d_a.sum(axis=0)
            g["x"][t] = d_a @ p["W_x"].T
            back = d_a @ p["W_h"].T + d_h * ~on
        return g | {"h0": back}

    def masked(self, d_a: Array, on: Array) -> Array:
        return d_a * on


enter("nothing: unequal lengths", "textbooks")(WithLengths)


@enter("lengths are ignored in backward", "padding masked in forward only", "W_x W_h b x h0")
class LengthsIgnoredInBackward(WithLengths):
    def masked(self, d_a: Array, on: Array) -> Array:
        return d_a
