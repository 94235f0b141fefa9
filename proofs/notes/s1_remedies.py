"""File 1, solutions of the first problem; the second problem, unstable training; the LSTM."""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import GRUCell, RNNCell
from tinygrad_rnn.functions import sigmoid

from ..norms import norm_inf
from .claim import Claim, Evaluation
from .networks import gradient, immediate_sum, step_jacobian, terms, unit

Array = Any


def _inside(f: str, a: Array) -> Array:
    """f'(1 − f'): positive iff 0 < f' < 1, zero iff f' is 0 or 1."""
    slope = ACTIVATIONS[f].derivative(a)
    return slope * (1 - slope)


# ---- S1-33: a GRU and a skipped update ----------------------------------------------------------


def _update(h: Array, b_c: Array) -> Array:
    """(h_t − h_{t−1})(h_t − c_t) of the minimal GRU with z = σ(0) = 1/2 and c_t = tanh(b_c)."""
    cell, nothing = GRUCell(1, 1, "minimal"), 0 * h.reshape(1, 1)
    wide = np.concatenate([nothing, nothing], axis=1)
    params = {"W_x": wide, "W_h": wide, "b": np.concatenate([nothing[0], b_c + nothing[0]])}
    (h_t,) = cell.step(params, nothing, (h + nothing,))
    return (h_t[0, 0] - h) * (h_t[0, 0] - np.tanh(b_c))


# ---- S1-35, 36: floats --------------------------------------------------------------------------


def _first_overflow() -> int:
    """The first n for which 1.5ⁿ rounds to infinity: ≥ 2^1024 − 2^970, half a gap above max."""
    beyond, n = 2**1024 - 2**970, 0
    while 3**n < beyond * 2**n:
        n += 1
    return n


def _diverged(largest: Array) -> Array:
    """Whether a weight updated by −η·∞ is infinite, and the next tanh(x w), at x = 0, NaN."""
    w = 1 - 2 * largest * 2
    return np.array([float(np.isinf(w)), float(np.isnan(np.tanh(0 * w)))])


# ---- S1-37: ones --------------------------------------------------------------------------------


def _all_ones(ones: Array) -> Array:
    """‖∂o_20/∂o_0‖_∞ of relu units that are all active."""
    cell = RNNCell(1, len(ones), "relu")
    params = {"W_x": ones[:1], "W_h": ones, "b": 0 * ones[0]}
    J = cell.jacobian(params, ones[:1, :1], (ones[:1],))[0]
    P = J
    for _ in range(19):
        P = J @ P
    return norm_inf(P)


CLAIMS = (
    Claim(
        "S1-30",
        "file 1, 100 timesteps, below tanh' and w_h1",
        "betⁿ 0–1, betⁿ 0–1",
        "false",
        r"$0 < \tanh' \le 1$, attained at 0; but nothing confines $w_{h1}$. The factor is below 1 "
        r"if $|w_{h1}| < 1$.",
        ("A-1", "B-1"),
        Evaluation(
            "tanh'(1) · 3, the factor of a step with w_h = 3 at a preactivation of 1, is {truth}: "
            "not at most {as_written}.",
            truth=lambda a, w: step_jacobian("tanh", a, w),
            as_written=lambda a, w: 1 + 0 * w,
            corrected=lambda a, w: (1 - np.tanh(a[0]) ** 2) * w,
            case={"a": np.array([1.0]), "w": np.array(3.0)},
            relation="≤",
            system="ball",
        ),
    ),
    Claim(
        "S1-31",
        "file 1, Sol, 1",
        "Different activation function → relu/leaky, not betⁿ 0–1",
        "false",
        r"The derivative of relu is 0 or 1, that of leaky relu $\alpha$ or 1: both lie between 0 "
        r"and 1. It is the values that do not.",
        ("A-5",),
        Evaluation(
            "f' lies outside (0, 1) iff f'(1 − f') ≤ 0. At −1 leaky relu has f'(1 − f') = {truth}, "
            "with its slope α = 1/100.",
            truth=lambda a: _inside("leaky_relu", a),
            as_written=lambda a: 0 * a,
            corrected=lambda a: Fraction(0.01) * (1 - Fraction(0.01)) + 0 * a,
            case={"a": np.array([-1.0])},
            relation="≤",
        ),
        Evaluation(
            "0 ≤ relu' ≤ 1, at −1 and 2.",
            truth=lambda a: _inside("relu", a),
            as_written=lambda a: 0 * a,
            case={"a": np.array([-1.0, 2.0])},
            relation="≥",
        ),
    ),
    Claim(
        "S1-32",
        "file 1, Sol, 2",
        "better weight initialization",
        "ambiguous",
        "See S0-12.",
        ("I-1", "I-2", "I-3", "I-4", "I-5"),
    ),
    Claim(
        "S1-33",
        "file 1, Sol, 3",
        "SKIP RNNs (GRU)",
        "false",
        r"A GRU is a gated leaky unit, $h_t = z \circ c_t + (1 - z) \circ h_{t-1}$ with $0 < z < "
        r"1$. A Skip RNN (Campos et al. 2018) either updates or copies the state, and a skip "
        r"connection reads $h_{t-d}$.",
        ("G-12", "G-15"),
        Evaluation(
            "A state that is updated or copied has (h_t − h_(t−1))(h_t − c_t) = {as_written}. With "
            "z = 1/2, h_(t−1) = 1 and c_t = tanh(1/2) a GRU has {truth}.",
            truth=_update,
            as_written=lambda h, b_c: 0 * h,
            corrected=lambda h, b_c: (
                -sigmoid(0 * h) * (1 - sigmoid(0 * h)) * (np.tanh(b_c) - h) ** 2
            ),
            case={"h": np.array(1.0), "b_c": np.array(0.5)},
            system="ball",
        ),
    ),
    Claim("S1-34", "file 1, Sol, 4", "LSTM", "ambiguous", "See S0-14.", ("G-6", "G-7", "G-5")),
    Claim(
        "S1-35",
        "file 1, #2 Problem",
        "long term dependency → very large ↪ ≈ infinite",
        "ambiguous",
        "Over the reals every product of finitely many steps is finite. In floats it can overflow.",
        ("B-6", "B-10"),
        check=Evaluation(
            "In float64 1.5ⁿ overflows first at n = {truth}.",
            truth=_first_overflow,
            as_written=lambda: int(np.isfinite(1.5 ** np.arange(2000.0)).sum()),
        ),
    ),
    Claim(
        "S1-36",
        "file 1, #2 Problem",
        "If long term dep. is ≈ infinite then gradient update will be infinite then weights also "
        "infinite And Model not train.",
        "true under hypotheses",
        "True of floats once a gradient has overflowed: the weight is ±∞, and 0 · ∞ and ∞ − ∞ are "
        "NaN from then on. Over the reals nothing is infinite.",
        ("K-9",),
        check=Evaluation(
            "A weight less four times the largest float is infinite, and with the input 0 the next "
            "output NaN.",
            truth=_diverged,
            as_written=lambda largest: np.ones(2),
            case={"largest": np.array(sys.float_info.max)},
            system="float",
        ),
    ),
    Claim(
        "S1-37",
        "file 1, #2 Problem, (i)",
        "Using ReLU and Weight Initialize is 1. So, weights multiply and get large number.",
        "false",
        "With one unit, or W_h = I, the product of any number of steps is 0 or 1. If all n × n "
        "entries are 1 and all units active, it has norm n to the number of steps.",
        ("I-2", "B-10"),
        Evaluation(
            "With w_h = 1 twenty steps of an active relu have ∂o_20/∂o_0 = {truth}; a large "
            "number would be {as_written} at least.",
            truth=lambda w, x: gradient(*unit(w, x, "relu"))["o_0"],
            as_written=lambda w, x: 2 + 0 * w,
            corrected=lambda w, x: w ** len(x),
            case={"w": np.array(1.0), "x": np.ones(20)},
            relation="≥",
        ),
        Evaluation(
            "Read as: all entries are 1. Then four units have ‖∂o_20/∂o_0‖ = 4²⁰ = {truth}.",
            truth=_all_ones,
            as_written=lambda ones: Fraction(4**20),
            case={"ones": np.ones((4, 4))},
        ),
    ),
    Claim(
        "S1-38",
        "file 1, #2 Problem, (i)",
        "Long Term dep → dominate and short term dep. not contribute in gradient update.",
        "true under hypotheses",
        r"True for a constant factor $q > 1$ and equal immediate norms: lags $k \ge K$ have the "
        r"share $(q^T - q^K)/(q^T - 1)$.",
        ("V-4",),
        check=Evaluation(
            "With w_h = 3/2 and equal inputs the ten shortest of thirty lags have the share "
            "{truth}.",
            truth=lambda w, x: terms(w, x)[20:].sum() / immediate_sum(w, x),
            as_written=lambda w, x: (w**10 - 1) / (w**30 - 1),
            case={"w": np.array(1.5), "x": np.ones(30)},
        ),
    ),
    Claim(
        "S1-39",
        "file 1, #2 Problem, (ii)",
        "If Learning Rate is ↑↑ (very higher).",
        "ambiguous",
        r"Another mechanism: gradient descent on $\lambda x^2/2$ diverges iff $\eta > "
        r"2/\lambda$, while the products of Jacobians may be harmless.",
        ("K-6",),
    ),
    Claim(
        "S1-40",
        "file 1, #2 Problem, Solution",
        "1) Gradient Clipping 2) Controlled Learning Rate 3) LSTM use.",
        "true under hypotheses",
        "See S0-16, S0-17, S0-18; the third is no remedy by itself.",
        ("K-1", "K-6", "G-5"),
    ),
    Claim(
        "S1-41",
        "file 1, LSTM",
        "LSTM core idea: Now we have to decide this story is good/Bad, decision depend on … Hero "
        "of the story.",
        "ambiguous",
        "An illustration.",
    ),
)
