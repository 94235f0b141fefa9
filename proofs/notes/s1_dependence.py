"""File 1, "Problem of long term dependence": what is far away counts less."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..examples import BITS
from .claim import Claim, Evaluation
from .networks import CHAIN, gradient, step_jacobian, terms, unit
from .s0 import IMMEDIATE, TOTAL

Array = Any

THREE_TERMS = (
    r"$\frac{\partial L}{\partial w_{in}} = \frac{\partial L}{\partial \hat{y}} "
    r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial w_{in}} + "
    r"\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_3} "
    r"\frac{\partial o_3}{\partial o_2} \frac{\partial o_2}{\partial w_{in}} + "
    r"\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_3} "
    r"\frac{\partial o_3}{\partial o_2} \frac{\partial o_2}{\partial o_1} "
    r"\frac{\partial o_1}{\partial w_{in}} \rightarrow \text{long term dependency}$"
)


def _rules(rows: list[str]) -> list[list[int]]:
    """Three rules on rows of three bits: the first, the first and the third, the majority."""
    bits = [[int(bit) for bit in row] for row in rows]
    return [[x[0], x[0] * x[2], int(sum(x) >= 2)] for x in bits]


CLAIMS = (
    Claim(
        "S1-17",
        "file 1, Problem with RNN",
        "Suffer 2 major problems: problem of long term dependence; unstable gradients / stagnated "
        "training",
        "true",
        "Both occur, each under its own condition on the Jacobians; for orthogonal weights and "
        "identity activations neither does.",
        ("B-5", "B-10", "I-1"),
    ),
    Claim(
        "S1-18",
        "file 1, (i) Problem of long term dependence",
        "short term memory loss: Marathi is spoken in Maharashtra. / Maharashtra is a beautiful "
        "place – … I don't understand marathi",
        "ambiguous",
        "An illustration. It can be tested as a task: recall the first token of a sequence.",
        ("B-5",),
    ),
    Claim(
        "S1-19",
        "file 1, (i) Problem of long term dependence",
        "In Auto-suggestion (keypad) → Suggest short sentence but not long sentence",
        "ambiguous",
        "An anecdote about products, not a statement about networks.",
    ),
    Claim(
        "S1-20",
        "file 1, second table",
        "101 → 1, 001 → 0, 000 → 0, 111 → 1",
        "ambiguous",
        "Four of eight rows do not say which function is to be learnt: the first bit, the first "
        "and the third, and the majority all fit. All rows with the label x_1 would make it recall "
        "over two steps.",
        check=Evaluation(
            "All three rules give the labels of the four rows: {truth}.",
            truth=lambda: np.array(_rules(list(BITS))),
            as_written=lambda: np.array([[label] * 3 for label in BITS.values()]),
        ),
    ),
    Claim(
        "S1-21",
        "file 1, 3 time stamps",
        THREE_TERMS,
        "true under hypotheses",
        r"True if the derivatives $\partial o_j/\partial w_{in}$ are immediate ones.",
        ("C-3", "C-4"),
        TOTAL,
        IMMEDIATE,
    ),
    Claim(
        "S1-22",
        "file 1, 100 timesteps",
        r"$\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_{100}} "
        r"\frac{\partial o_{100}}{\partial o_{99}} \dots \frac{\partial o_2}{\partial o_1} "
        r"\frac{\partial o_1}{\partial w_{in}}$",
        "true",
        "It is the term of the longest lag in ∂L/∂w_in, one of a hundred.",
        ("C-1", "C-3"),
        check=Evaluation(
            "Beside the library's contribution of step 1, of a linear unit with w_h = 1/2.",
            truth=lambda w, x: terms(w, x)[0],
            as_written=lambda w, x: w**99 * x[0],
            case=CHAIN,
        ),
    ),
    Claim(
        "S1-23",
        "file 1, 100 timesteps",
        "value of long term dependency will be small, value of short term dependency will be large",
        "false",
        r"The term of lag $k$ has norm at most $\gamma\|\delta\|\|o_{T-k-1}\|q^k$ "
        r"(for $w_{in}$: $x_{T-k}$ in place of $o_{T-k-1}$) if $\gamma\|W_h\|_2 \le q$. It decays "
        r"for $q < 1$; a short lag outweighs a long one only if these factors allow it.",
        ("V-1", "V-4"),
        Evaluation(
            "If only the first of ten inputs is not 0, the term of the longest lag is {truth} with "
            "w_h = 1/2, and that of the shortest {as_written}.",
            truth=lambda w, x: terms(w, x)[0],
            as_written=lambda w, x: terms(w, x)[-1],
            corrected=lambda w, x: w**9 * x[0],
            case={"w": np.array(0.5), "x": np.eye(10)[0]},
            relation="≤",
        ),
    ),
    Claim(
        "S1-24",
        "file 1, 100 timesteps",
        "short term dependency contribute more as compare to long term memory to find gradient "
        "descent",
        "true under hypotheses",
        r"With a constant factor $q < 1$ and equal immediate norms, lags $k \ge K$ have the share "
        r"$(q^K - q^T)/(1 - q^T)$ of the sum of the norms of all $T$ terms.",
        ("V-4",),
        check=Evaluation(
            "With w_h = 1/2 and equal inputs the ninety longest of a hundred lags have the share "
            "{truth}.",
            truth=lambda w, x: terms(w, x)[:90].sum() / gradient(*unit(w, x))["w_in"],
            as_written=lambda w, x: (w**10 - w**100) / (1 - w**100),
            case=CHAIN,
        ),
    ),
    Claim(
        "S1-25",
        "file 1, 100 timesteps",
        "time steps ↑↑ ⇔ long term dependency ↓↓",
        "ambiguous",
        "⇒ holds under contraction, as a bound; ⇐ does not hold: dependency also falls with the "
        "weights or by saturation, at a fixed number of steps.",
        ("B-5", "V-1"),
        Evaluation(
            "Read as: for every RNN. With w_h = 2 the linear unit has ∂o_20/∂o_0 = {truth}, more "
            "than the {as_written} over half the steps.",
            truth=lambda w, x: gradient(*unit(w, x))["o_0"],
            as_written=lambda w, x: gradient(*unit(w, x[:10]))["o_0"],
            corrected=lambda w, x: w ** len(x),
            case={"w": np.array(2.0), "x": np.ones(20)},
            relation="≤",
        ),
    ),
    Claim(
        "S1-26",
        "file 1, 100 timesteps",
        r"$o_1 = \tanh(x_{11} w_{1n} + o_0 w_{h1})$, "
        r"$o_t = \tanh(x_{it} w_{in} + o_{t-1} w_{h1})$",
        "garbled",
        r"$w_{in}$ for $w_{1n}$: $o_t = \tanh(x_{it} w_{in} + o_{t-1} w_{h1})$ for sequence $i$.",
        ("J-1",),
    ),
    Claim(
        "S1-27",
        "file 1, 100 timesteps",
        r"$\left[\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_{100}} "
        r"\right] \left[\frac{\partial o_t}{\partial o_{t-1}} \right] "
        r"\frac{\partial o_1}{\partial w_{in}}$, with $t=2$ below",
        "garbled",
        r"The product sign and its upper limit are lost: "
        r"$\prod_{t=2}^{100} \partial o_t/\partial o_{t-1}$.",
        ("C-1",),
    ),
    Claim(
        "S1-28",
        "file 1, 100 timesteps",
        r"$\frac{\partial o_t}{\partial o_{t-1}} = "
        r"\tanh(x_{it} w_{in} + o_{t-1} w_{h1}) w_{h1}$",
        "false",
        r"$\frac{\partial o_t}{\partial o_{t-1}} = "
        r"\tanh'(x_{it} w_{in} + o_{t-1} w_{h1}) w_{h1}$: the prime is missing, as S0-9 and the "
        r"next line of the notes have it.",
        ("J-1", "A-1"),
        Evaluation(
            "At a preactivation of 1/2 with w_h = 3/4 it is {truth}, and {as_written} as written.",
            truth=lambda a, w: step_jacobian("tanh", a, w),
            as_written=lambda a, w: np.tanh(a[0]) * w,
            corrected=lambda a, w: (1 - np.tanh(a[0]) ** 2) * w,
            case={"a": np.array([0.5]), "w": np.array(0.75)},
            system="ball",
        ),
    ),
    Claim(
        "S1-29",
        "file 1, 100 timesteps",
        r"$\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_{100}} "
        r"\left[\frac{\partial o_t}{\partial o_{t-1}} \right] \left(\tanh'(\cdot) \right) "
        r"\left(\frac{w_{h1}}{2} \right) \frac{\partial o_1}{\partial w_{in}} \rightarrow$ "
        r"Very close to zero",
        "garbled",
        r"$\prod_{t=2}^{100} \tanh'(\cdot)\, w_{h1}$, without the $/2$, which seems to come from "
        r"“$t=2$” below. It is at most $|w_{h1}|^{99}$: close to 0 if $|w_{h1}|$ is well below 1.",
        ("B-2", "B-1", "V-1"),
    ),
)
