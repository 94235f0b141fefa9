"""Where no known mistake fits, the step is read, and the whole compared with its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from zoo import CELLS, ENTRIES
from zoo.rnn import RNN

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named

WAY = "on the way back to h_{t−1}"
READ = {
    "lstm-two-primes-missing": [
        "∂L/∂a_i misses the factor i (1 − i)",
        "∂L/∂a_f misses the factor f (1 − f)",
    ],
    "lstm-forget-prime-by-input-gate": ["∂L/∂a_f has i (1 − i) for f (1 − f)"],
    "lstm-output-prime-by-argument": ["∂L/∂a_o has a_o (1 − a_o) for o (1 − o)"],
    "lstm-gates-without-memory-carry": ["∂L/∂a_i, ∂L/∂a_f, ∂L/∂a_g is zero in what comes from c"],
    "lstm-two-slips": ["∂L/∂a_o has c_t for tanh(c_t)", "∂L/∂a_g misses the factor i"],
    "lstm-peephole-weight-of-next-memory": ["the block of i, f of ∂L/∂w_c has c_t for c_{t−1}"],
    "lstm-carry-gates-exchanged": [
        f"gate i is missing {WAY}",
        f"gate f is missing {WAY}",
        f"there is the δ of i through the weights of f {WAY}",
        f"there is the δ of f through the weights of i {WAY}",
    ],
    "gru-two-slips": ["∂L/∂a_z has the wrong sign", "the direct path to h_{t−1} is zero"],
    "gru-backward-reset-after": [
        "the reset gate is differentiated in its other form, before for after the product"
    ],
    "rnn-leaky-slope-tenth": ["∂L/∂a is 10 times what it must be where a < 0"],
    "rnn-input-gradient-without-prime": [
        "the δ misses the factor (1 − h_t²) on the way back to x_t"
    ],
    "rnn-residual-carry": [f"there is the δ of h itself {WAY}"],
    "rnn-discounted": [f"the term counts 0.9 times {WAY}"],
    "rnn-cotangents-after-the-step": ["the cotangents of hs are used one step too early"],
    "lstm-forward-without-output-gate": [
        "forward: h_t misses the factor o",
        "forward: c_T is right",
    ],
    "torch-lstm-forward-one-bias": ["forward: bias_hh is ignored"],
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_in_a_step(name: str) -> None:
    (entry,) = (e for e in ENTRIES if e.id == name)
    cell = CELLS[entry.cell](3, 4)
    assert tg.check_layer(entry.layer(), cell, map=entry.map, budget="quick").mistakes == READ[name]


class Random(RNN):
    def finished(self, g: Any, x: Any) -> Any:
        return g | {"W_h": g["W_h"] * np.random.default_rng().uniform(0.9, 1.1)}


class OfSigns(RNN):
    def arriving(self, d_h_t: Any, back: Any, t: int) -> Any:
        return np.abs(d_h_t + back)


class Added(RNN):
    def finished(self, g: Any, x: Any) -> Any:
        return g | {"b": g["b"] + g["b"].dtype.type(0.1)}


class Centred(RNN):
    def carried(self, d_a: Any, params: Any, t: int, T: int) -> Any:
        back = super().carried(d_a, params, t, T)
        return back - back.mean(axis=0)


class Summed(RNN):
    """δ is added up over the steps in the gradient of b."""

    def accumulate(self, g: Any, d_a: Any, params: Any, x: Any, h: Any, t: int) -> None:
        super().accumulate(g, d_a, params, x, h, t)
        self.sum = d_a if t == len(x) - 1 else self.sum + d_a
        g["b"] += self.sum.sum(axis=0) - d_a.sum(axis=0)


LAWS = {
    Random: "∂L/∂W_h differs between two equal calls",
    OfSigns: "backward is not linear in the cotangent: -1 times",
    Added: "∂L/∂b is not zero for cotangents of zero",
    Centred: "sequences are mixed: for a batch, ∂L/∂W_x",
    Summed: "the sweep over time: each step alone is right, but for T = 2 ∂L/∂b is not",
}


@pytest.mark.parametrize("layer", LAWS)
def test_which_law_is_broken(layer: Any) -> None:
    first, *_ = tg.check_layer(layer(), tg.RNNCell(3, 4), budget="quick").mistakes
    assert first.startswith(LAWS[layer])


def test_a_condition_that_a_failure_contradicts_is_not_said() -> None:
    """Large states are the condition; which of the inputs have some is chance."""

    class Saturating(RNN):
        def derivative(self, h: Any, a: Any, t: int) -> Any:
            return np.where(np.abs(h[t + 1]) > 0.97, 0 * h[t], super().derivative(h, a, t))

    report = tg.check_layer(Saturating(), tg.RNNCell(3, 4))
    assert report.conditions == ["only saturated: never with small weights"]


def test_a_layer_that_remembers_its_length_is_found() -> None:
    class Remembers(RNN):
        def forward(self, params: Any, x: Any, h0: Any) -> Any:
            self.length = len(x)
            return super().forward(params, x, h0)

        def finished(self, g: Any, x: Any) -> Any:
            return g | {"b": g["b"] * g["b"].dtype.type(self.length / len(x))}

    report = tg.check_layer(Remembers(), tg.RNNCell(3, 4), budget="quick")
    assert report.culprits == ["b"]
    assert report.conditions == [
        "only on the second call: when a forward call on longer sequences comes before backward"
    ]


def named(got: Any, true: Any, **values: Any) -> str | None:
    return ratio_named([got], [true], [values], DIGITS)


def test_names_of_factors() -> None:
    i, f, other = np.random.default_rng(0).uniform(0.1, 0.9, (3, 5))
    assert named(f, f, f=f) is None
    assert named(0 * f, f, f=f) == "is zero"
    assert named(-f, f, f=f) == "has the wrong sign"
    assert named(3 * f, f, f=f) == "is 3 times what it must be"
    assert named(f + 1, f, f=f, i=i) == "has (1 + f) for f"
    assert named(i * other, f * other, f=f, i=i) == "has i for f"
    assert named(-i * other, f * other, f=f, i=i) == "has i for f, with the wrong sign"
    assert named(other + i * f, other, f=f, i=i) == "has the term i f too much"
    assert named(f * (1 + 2.0**-12 * other), f, f=f) == (
        "is right but for rounding: a lower precision, or an approximation"
    )
    assert named(other, f, f=f, i=i) == ""
    assert ratio_named([f * [0, 1, 1, 1, 1]] * 2, [f, f], [{"f": f}] * 2, DIGITS) == (
        "is zero in the units 0"
    )
