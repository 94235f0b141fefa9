"""File 1, "Backpropagation in RNN": the data, the network, its loss and the derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg

from ..examples import VOCABULARY
from .claim import Claim, Evaluation
from .networks import THREE, by_w_in, gradient, immediate_sum, outputs, terms, unit
from .s0 import IMMEDIATE, TOTAL

Array = Any


# ---- codes and words ----------------------------------------------------------------------------


def _codes(*sentences: str) -> Array:
    """One-hot codes of words, by the notes' vocabulary: cat 100, mat 010, rat 001."""
    words = [[VOCABULARY.index(word) for word in s.split()] for s in sentences]
    return np.eye(len(VOCABULARY), dtype=int)[words]


def _bits(*rows: str) -> Array:
    """Codes as they are printed: "100 010 001"."""
    return np.array([[[int(bit) for bit in code] for code in row.split()] for row in rows])


# ---- the network: one unit, many to one ---------------------------------------------------------

WEIGHTS = {"w_i": np.array(0.75), "w_h": np.array(0.5), "w_o": np.array(1.25)}
BITS = {**WEIGHTS, "x": np.array([1.0, 0.0, 1.0])}
LINEAR = {"w": np.array(0.5), "w_o": np.array(3.0), "x": np.ones(3)}


def _o_3(w_i: Array, w_h: Array, x: Array) -> Array:
    return outputs(unit(w_h, x, "tanh", w_i))[-1]


def _loss(w_i: Array, w_h: Array, w_o: Array, x: Array) -> Array:
    """The cross-entropy of ŷ = σ(o_3 w_o) for the label 1."""
    z = (_o_3(w_i, w_h, x) * w_o).reshape(1)
    return tg.binary_cross_entropy(z, np.array([1]))


def _by_w_o(w_i: Array, w_h: Array, w_o: Array, x: Array) -> Array:
    return tg.grad(lambda w: _loss(w_i, w_h, w, x))(w_o)


def _through_o_3(w_i: Array, w_h: Array, w_o: Array, x: Array) -> Array:
    """∂L/∂ŷ ∂ŷ/∂o_3 ∂o_3/∂w_o, the arrows of the notes: o_3 does not depend on w_o."""
    ŷ = tg.sigmoid(_o_3(w_i, w_h, x) * w_o)
    d_o_3 = tg.grad(lambda w: _o_3(w_i, w_h, x) + 0 * w)(w_o)
    return -1 / ŷ * (ŷ * (1 - ŷ) * w_o) * d_o_3


def _direct(w_i: Array, w_h: Array, w_o: Array, x: Array) -> Array:
    """∂L/∂ŷ ∂ŷ/∂w_o, with ∂ŷ/∂w_o = ŷ(1 − ŷ) o_3."""
    o_3 = _o_3(w_i, w_h, x)
    ŷ = tg.sigmoid(o_3 * w_o)
    return -1 / ŷ * (ŷ * (1 - ŷ) * o_3)


# ---- the loss -----------------------------------------------------------------------------------

LOGIT = {"z": np.array([0.0]), "y": np.array([1.0])}


def _derivative(z: Array, y: Array, sign: int) -> Array:
    """d/dz of ±y log ŷ − (1 − y) log(1 − ŷ), ŷ = σ(z), by the tape."""
    ŷ = tg.sigmoid
    return tg.grad(
        lambda z: np.sum(sign * y * np.log(ŷ(z)) - (1 - y) * np.log(1 - ŷ(z))),
    )(z)


# ---- the sum over steps -------------------------------------------------------------------------


def _third_by_w_in(w: Array, x: Array) -> Array:
    """The sum with ∂ŷ/∂w_in ∂w_in/∂w_i in place of ∂ŷ/∂o_1 ∂o_1/∂w_i; w_in is w_i."""
    return x[2] + w * x[1] + by_w_in(w, x)


CLAIMS = (
    Claim(
        "S1-1",
        "file 1, first table, row 1",
        "cat mat cat: [100] [010] [001], label 1",
        "false",
        "cat mat cat is [100] [010] [100]; or the sentence is cat mat rat.",
        counterexample=Evaluation(
            "By the notes' vocabulary cat mat cat is {truth}; they print {as_written}, which is "
            "cat mat rat.",
            truth=lambda: _codes("cat mat cat")[0],
            as_written=lambda: _bits("100 010 001")[0],
            corrected=lambda: _bits("100 010 100")[0],
        ),
    ),
    Claim(
        "S1-2",
        "file 1, first table, rows 2 and 3",
        "rat rat mat: [001] [001] [010], label 1; mat mat cat: [010] [010] [100], label 0",
        "true",
        "The words and the codes agree.",
        check=Evaluation(
            "By the vocabulary cat 100, mat 010, rat 001.",
            truth=lambda: _codes("rat rat mat", "mat mat cat"),
            as_written=lambda: _bits("001 001 010", "010 010 100"),
        ),
    ),
    Claim(
        "S1-3",
        "file 1, the network, first version",
        r"$o_1 = f(x_{11} w_i + o_0 w_o)$, $o_2 = f(x_{12} w_i + o_1 w_o)$, "
        r"$o_3 = f(x_{13} w_i + o_2 w_o)$, $\hat{y} = \sigma(o_3 w_o)$",
        "false",
        r"$o_t = f(x_{1t} w_i + o_{t-1} w_h)$: the recurrent weight is $w_h$, as the notes' own "
        r"list of weights says. With $w_o$ it fits only one unit, and then $\partial L/\partial "
        r"w_o$ has recurrent terms, too.",
        ("J-1",),
        Evaluation(
            "o_3 is {truth} for the linear unit with w_i = 1, w_h = 1/2, w_o = 3 and x = 1; as "
            "written it is {as_written}.",
            truth=lambda w, w_o, x: outputs(unit(w, x))[-1],
            as_written=lambda w, w_o, x: x[2] + w_o * (x[1] + w_o * x[0]),
            corrected=lambda w, w_o, x: x[2] + w * (x[1] + w * x[0]),
            case=LINEAR,
        ),
    ),
    Claim(
        "S1-4",
        "file 1, the loss",
        r"$Loss = -y_i \log \hat{y}_i - (1 - y_i) \log (1 - \hat{y}_i)$",
        "true",
        r"Binary cross-entropy, for $0 < \hat{y} < 1$. In the logit it is "
        r"$\mathrm{softplus}(z) - yz$, with derivative $\hat{y} - y$.",
        ("L-1", "L-3"),
    ),
    Claim(
        "S1-5",
        "file 1, after the loss",
        "Find the value of w_i w_h w_o where loss should be minimum.",
        "ambiguous",
        "Minimise the loss. A minimum need not exist: on data that can be separated the infimum 0 "
        "is approached as weights grow, and not attained.",
        ("L-1",),
    ),
    Claim(
        "S1-6",
        "file 1, the updates",
        r"$w_i = w_i - \eta [\partial L/\partial w_i]$, "
        r"$w_o = w_o - \eta [\partial L/\partial w_o]$, "
        r"$w_h = w_h - \eta [\partial L/\partial w_h]$",
        "true",
        "A step of gradient descent, if all three gradients are taken before any update.",
        ("K-6",),
    ),
    Claim(
        "S1-7",
        "file 1, Derivative, the arrows",
        r"$\frac{\partial L}{\partial w_0} \rightarrow \hat{y} \rightarrow O_3 \rightarrow w_0$",
        "false",
        r"$\hat{y} = \sigma(o_3 w_o)$ depends on $w_o$ directly and $o_3$ does not depend on it: "
        r"$\frac{\partial L}{\partial w_o} = \frac{\partial L}{\partial \hat{y}}\, "
        r"\hat{y}(1 - \hat{y})\, o_3$.",
        ("L-1",),
        Evaluation(
            "Along the arrows ∂L/∂w_o is {as_written}, since ∂O_3/∂w_o = 0; it is {truth}.",
            truth=_by_w_o,
            as_written=_through_o_3,
            corrected=_direct,
            case=BITS,
            system="ball",
        ),
    ),
    Claim(
        "S1-8",
        "file 1, Derivative, the network, second version",
        r"$O_1 = f(x_{11} w_1 + O_0 w_h)$, $O_2 = f(x_{12} w_1 + O_0 w_h)$, "
        r"$O_3 = f(x_{13} w_1 + O_0 w_h)$, $\hat{y} = \sigma(O_3 w_o)$",
        "false",
        r"$O_2$ depends on $O_1$ and $O_3$ on $O_2$. As written nothing is remembered, and with "
        r"$O_0 = 0$ the loss does not depend on $w_h$.",
        ("J-1", "C-3"),
        Evaluation(
            "∂O_3/∂w_h is {truth} for the linear unit with w_h = 1/2 and x = 1; as written it is "
            "O_0 = {as_written}.",
            truth=lambda w, w_o, x: gradient(*unit(w, x))["w"],
            as_written=lambda w, w_o, x: outputs(unit(w, x))[0],
            corrected=lambda w, w_o, x: (x[1] + w * x[0]) + w * x[0],
            case=LINEAR,
        ),
    ),
    Claim(
        "S1-9",
        "file 1, Derivative, (i)",
        r"$L = y_i \log \hat{y}_i - (1 - y_i) \log (1 - \hat{y}_i)$",
        "false",
        r"$L = -y_i \log \hat{y}_i - (1 - y_i) \log (1 - \hat{y}_i)$, as in S1-4. Without the "
        r"minus $L$ is unbounded below for $y = 1$, and falls as the prediction gets worse.",
        ("L-1",),
        Evaluation(
            "At ŷ = 1/2, y = 1 the derivative by the logit is {truth}; as written it is "
            "{as_written}.",
            truth=lambda z, y: tg.grad(tg.binary_cross_entropy)(z, y),
            as_written=lambda z, y: _derivative(z, y, +1),
            corrected=lambda z, y: _derivative(z, y, -1),
            case=LOGIT,
            system="ball",
        ),
    ),
    Claim(
        "S1-10",
        "file 1, Derivative, (i)",
        r"$\frac{\partial L}{\partial w_0} = \left[\frac{\partial L}{\partial \hat{y}} \right] "
        r"\left[\frac{\partial \hat{y}}{\partial w_0} \right]$",
        "true",
        r"With $w_0 = w_o$ and $\partial \hat{y}/\partial w_o = \hat{y}(1 - \hat{y})\, o_3$.",
        ("L-1",),
        check=Evaluation(
            "Beside the tape, on the bits 1 0 1.",
            truth=_by_w_o,
            as_written=_direct,
            case=BITS,
            system="ball",
        ),
    ),
    Claim(
        "S1-11",
        "file 1, Derivative, (ii), the tree",
        r"$\frac{\partial L}{\partial w_i} \rightarrow L \rightarrow \hat{y} \rightarrow "
        r"\{o_3 \rightarrow x_{i3} \rightarrow w_{i1};\; o_2 \rightarrow w_{i2};\; w_{in}\}$",
        "garbled",
        r"$L \to \hat{y} \to o_3 \to (w_i,\; o_2 \to (w_i,\; o_1 \to w_i))$. The inputs are data, "
        r"not nodes on the way to $w_i$.",
        ("C-3",),
    ),
    Claim(
        "S1-12",
        "file 1, Derivative, (ii)",
        r"$\frac{\partial L}{\partial w_i} = \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial w_i} + "
        r"\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_2} "
        r"\frac{\partial o_2}{\partial w_i} + \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial w_{in}} \frac{\partial w_{in}}{\partial w_i}$",
        "false",
        r"The third term is $\frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_1} \frac{\partial^+ o_1}{\partial w_i}$: true if "
        r"$w_{in}$ stands for $o_1$. The other derivatives by $w_i$ are immediate, too.",
        ("C-3",),
        Evaluation(
            "∂L/∂w_i is {truth} for L = ŷ = o_3 on the linear unit with w_h = 1/2 and x = 3, 1, 2. "
            "The third term as written, ∂ŷ/∂w_in with w_in = w_i, is already all of it, and the "
            "sum {as_written}.",
            truth=by_w_in,
            as_written=_third_by_w_in,
            corrected=immediate_sum,
            case=THREE,
        ),
    ),
    Claim(
        "S1-13",
        "file 1, Summarization",
        r"$\frac{\partial L}{\partial w_i} = \sum_{j=1}^3 \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_j} \frac{\partial o_j}{\partial w_i}$",
        "true under hypotheses",
        r"True if $\partial o_j/\partial w_i$ is the immediate derivative $\partial^+$ and "
        r"$\partial \hat{y}/\partial o_j$ the total one. With total derivatives by $w_i$ the term "
        r"of lag $k$ is counted $k + 1$ times.",
        ("C-3", "C-4"),
        TOTAL,
        IMMEDIATE,
    ),
    Claim(
        "S1-14",
        "file 1, Proof",
        r"$j=1$: $\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_3} "
        r"\frac{\partial o_3}{\partial o_2} \frac{\partial o_2}{\partial o_1} "
        r"\frac{\partial o_1}{\partial w_i}$; $j=2$: $\frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial o_2} "
        r"\frac{\partial o_2}{\partial w_i}$; $j=3$: $\frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial w_i}$",
        "true",
        r"$\partial \hat{y}/\partial o_j = \partial \hat{y}/\partial o_3\, P_{3,j}$, with "
        r"immediate derivatives by $w_i$.",
        ("C-1", "C-3"),
        check=Evaluation(
            "Term by term beside the library's contributions.",
            truth=terms,
            as_written=lambda w, x: np.array([w * w * x[0], w * x[1], x[2]]),
            case=THREE,
        ),
    ),
    Claim(
        "S1-15",
        "file 1, (iii)",
        r"(iii) $\frac{\partial L}{\partial w_{in}}$: $\frac{\partial L}{\partial \hat{f}} \quad "
        r"\frac{\partial \hat{f}}{\partial \sigma_3} \quad "
        r"\frac{\partial \sigma_3}{\partial \sigma_2} \quad "
        r"\frac{\partial \sigma_2}{\partial \sigma_1} \quad "
        r"\frac{\partial \sigma_1}{\partial w_u}$",
        "garbled",
        r"With $\hat{y}$ for $\hat{f}$ and $o_j$ for $\sigma_j$ it is the term $j = 1$ of a sum. "
        r"After (i) $w_o$ and (ii) $w_i$, (iii) must be $w_h$.",
        ("C-3",),
    ),
    Claim(
        "S1-16",
        "file 1, after (iii)",
        r"$\frac{\partial L}{\partial w_n} = \sum_{j=1}^n \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_j} \frac{\partial o_j}{\partial w_n}$, "
        r"$n = \text{timesteps}$",
        "true under hypotheses",
        r"True for $w_n = w_h$ and immediate derivatives. The letter $n$ is used twice; the term "
        r"$j = 1$ has the factor $o_0$ and is 0 if the initial state is.",
        ("C-3", "C-4"),
        check=Evaluation(
            "∂o_3/∂w_h of the linear unit that starts at o_0 = 0, where the term j = 1 is 0.",
            truth=lambda w, x: gradient(*unit(w, x))["w"],
            as_written=lambda w, x: sum(
                w ** (3 - j) * o for j, o in enumerate(outputs(unit(w, x))[:3], 1)
            ),
            case=THREE,
        ),
    ),
)
