"""File 0, "Problem with RNN": the two problems and their remedies."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.cells import LSTMCell, RNNCell
from tinygrad_rnn.functions import sigmoid
from tinygrad_rnn.recurrent import bptt

from .claim import Claim, Evaluation
from .networks import (
    CHAIN,
    THREE,
    by_w_in,
    gradient,
    immediate_sum,
    outputs,
    total_sum,
    unit,
)

Array = Any

TOTAL = Evaluation(
    "Read with total derivatives do_j/dw_in, the term of lag k is counted k + 1 times: it is "
    "{as_written} for {truth} on the linear unit with w_h = 1/2 and x = 3, 1, 2.",
    truth=by_w_in,
    as_written=total_sum,
    corrected=immediate_sum,
    case=THREE,
)
IMMEDIATE = Evaluation(
    "Read with immediate derivatives it is ∂L/∂w_in, here of L = ŷ = o_3 on the linear unit.",
    truth=by_w_in,
    as_written=immediate_sum,
    case=THREE,
)


# ---- a loss of a linear unit --------------------------------------------------------------------


def _states_received(w: Array, x: Array) -> Array:
    """∂L/∂o_t for t = 1, 2, 3, of L = o_3, by running the rest of the sequence from o_t."""
    o = outputs(unit(w, x))
    return np.array([gradient(*unit(w, x[t:], o_0=o[t]))["o_0"] for t in range(1, len(x) + 1)])


def _longest_path(w: Array, x: Array) -> Array:
    return w * w * x[0]


def _active(W_h: Array) -> Array:
    """∂o_1/∂o_0 of relu units at o_0 = (1, 1), where W_h > 0 keeps them active."""
    params = {"W_x": 0 * W_h[:1], "W_h": W_h, "b": 0 * W_h[0]}
    return RNNCell(1, len(W_h), "relu").jacobian(params, 0 * W_h[:1, :1], (1 + 0 * W_h[:1],))[0]


# ---- an LSTM ------------------------------------------------------------------------------------

# All gates at σ(0) = 1/2; only the candidate sees the state, g_t = tanh(w_g h_{t−1}).
STEPS = 10


def _lstm(w_g: Array, of: int) -> Array:
    """∂h_10/∂h_0 (of = 0) or ∂c_10/∂c_0 (of = 1) of the LSTM of one unit, at rest."""
    nothing = 0 * w_g.reshape(1)
    W_h = np.array([[0 * w_g[()], 0 * w_g[()], w_g[()], 0 * w_g[()]]])
    params = {"W_x": 0 * W_h, "W_h": W_h, "b": 0 * W_h[0]}
    zeros = np.stack([nothing] * STEPS)
    seeds = tuple(nothing + (k == of) for k in range(2))
    d = bptt(LSTMCell(1, 1), params, zeros, zeros, (nothing, nothing), "tape", d_state=seeds)
    return d["state"][of][0]


def _half(w_g: Array) -> Array:
    return sigmoid(0 * w_g)


def _lstm_closed_form(w_g: Array) -> Array:
    """∂h_T/∂h_0 = o i w_g (o i w_g + f)^{T−1} at rest, where tanh' = 1."""
    through = _half(w_g) * _half(w_g) * w_g
    return through * (through + _half(w_g)) ** (STEPS - 1)


# ---- the claims ---------------------------------------------------------------------------------

CLAIMS = (
    Claim(
        "S0-1",
        "file 0, Problem #1",
        "Problem of long term dependency → Vanishing",
        "true under hypotheses",
        r"If $\gamma\|W_h\|_2 \le q < 1$ with $\gamma = \sup|f'|$, then "
        r"$\|\partial o_t/\partial o_i\|_2 \le q^{t-i}$. Without such a $q$ nothing need vanish.",
        ("B-5", "V-1"),
    ),
    Claim(
        "S0-2",
        "file 0, caption of the figure",
        "the “inf” (infinity) issue due to the product of many small numbers",
        "false",
        r"A product of factors of modulus at most $q < 1$ tends to 0. It can only exceed every "
        r"bound if factors are larger than 1. (Perhaps an error of the automatic caption.)",
        ("B-5", "V-1"),
        Evaluation(
            "The product of a hundred factors 1/2, ∂o_100/∂o_0 of a linear unit, is {truth}: not "
            "infinite, not even {as_written}.",
            truth=lambda w, x: gradient(*unit(w, x))["o_0"],
            as_written=lambda w, x: 1 + 0 * w,
            corrected=lambda w, x: w ** len(x),
            case=CHAIN,
            relation="≥",
        ),
    ),
    Claim(
        "S0-3",
        "file 0, key equations, 1",
        r"$\frac{\partial L}{\partial w_{in}} = \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial w_{in}} + "
        r"\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_3} "
        r"\frac{\partial o_3}{\partial o_2} \frac{\partial o_2}{\partial w_{in}} + \dots$",
        "true under hypotheses",
        r"True iff every $\partial o_j/\partial w_{in}$ is the immediate derivative $\partial^+$, "
        r"with $o_{j-1}$ held fixed. With total derivatives the term of lag $k$ is counted "
        r"$k + 1$ times.",
        ("C-3", "C-4"),
        TOTAL,
        IMMEDIATE,
    ),
    Claim(
        "S0-4",
        "file 0, key equations, 2",
        r"$\frac{\partial L}{\partial o_t} = \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial o_2} "
        r"\frac{\partial o_2}{\partial o_1} \frac{\partial o_1}{\partial w_{in}}$",
        "false",
        r"$\frac{\partial L}{\partial o_t} = \frac{\partial L}{\partial \hat{y}} "
        r"\frac{\partial \hat{y}}{\partial o_3} \frac{\partial o_3}{\partial o_2} \cdots "
        r"\frac{\partial o_{t+1}}{\partial o_t}$. What is written is the term of the longest path "
        r"in $\partial L/\partial w_{in}$.",
        ("C-2", "C-1"),
        Evaluation(
            "∂L/∂o_t, t = 1, 2, 3, is {truth} for L = ŷ = o_3 on the linear unit with w_h = 1/2, "
            "w_in = 1, x = 3, 1, 2; the formula gives {as_written} for each t.",
            truth=_states_received,
            as_written=_longest_path,
            corrected=lambda w, x: np.array([w * w, w, 1 + 0 * w]),
            case=THREE,
        ),
    ),
    Claim(
        "S0-5",
        "file 0, key equations, 3",
        r"$w_h = w_h - \eta \frac{\partial L}{\partial w_h}$",
        "true",
        r"The step of gradient descent. All parameters take their gradients at the same old point; "
        r"$L$ decreases if it is $\ell$-smooth, $0 < \eta < 2/\ell$ and the gradient is not 0.",
        ("K-6",),
    ),
    Claim(
        "S0-6",
        "file 0, key equations, 4",
        r"$\# \rightarrow 3$ (number of time steps)",
        "true",
        "Notation: T = 3 steps.",
    ),
    Claim(
        "S0-7",
        "file 0, key equations, 5",
        r"$\frac{\partial L}{\partial w_{in}} = \frac{\partial L}{\partial \hat{y}} "
        r"\prod_{t=2}^{100} \left(\frac{\partial o_t}{\partial o_{t-1}} \right) "
        r"\frac{\partial o_1}{\partial w_{in}}$",
        "false",
        r"$\frac{\partial L}{\partial w_{in}} = \sum_{j=1}^{100} "
        r"\frac{\partial L}{\partial \hat{y}} \frac{\partial \hat{y}}{\partial o_{100}} "
        r"\frac{\partial o_{100}}{\partial o_{99}} \cdots \frac{\partial o_{j+1}}{\partial o_j} "
        r"\frac{\partial^+ o_j}{\partial w_{in}}$. Written is the term $j = 1$ alone, and without "
        r"$\partial \hat{y}/\partial o_{100}$; matrices multiply in this order.",
        ("C-3", "V-2"),
        Evaluation(
            "∂L/∂w_in is {truth} for L = ŷ = 3 o_100 on the linear unit with w_h = 1/2 and x = 1; "
            "the formula gives {as_written}.",
            truth=lambda w, x: 3 * by_w_in(w, x),
            as_written=lambda w, x: w**99 * x[0],
            corrected=lambda w, x: 3 * immediate_sum(w, x),
            case=CHAIN,
        ),
    ),
    Claim(
        "S0-8",
        "file 0, key equations, 6",
        r"$o_t = \tanh(x_i w_{in} + o_{t-1} w_h)$",
        "ambiguous",
        r"$o_t = \tanh(x_t w_{in} + o_{t-1} w_h + b)$ for one sequence, rows as vectors; the notes "
        r"leave out $b$. $x_i$ is $x_t$, or $x_{it}$ as in S1-26, step $t$ of sequence $i$.",
        ("J-1",),
        check=Evaluation(
            "In the reading x_t it is the library's step with b = 0.",
            truth=lambda w, x: outputs(unit(w, x, "tanh", w_in=2))[-1],
            as_written=lambda w, x: np.tanh(x[1] * 2 + np.tanh(x[0] * 2) * w),
            case={"w": np.array(0.5), "x": np.array([0.25, -0.5])},
            system="ball",
        ),
    ),
    Claim(
        "S0-9",
        "file 0, key equations, 7",
        r"$\frac{\partial o_t}{\partial o_{t-1}} = \tanh'(x_i w_{in} + o_{t-1} w_h) w_h$",
        "true under hypotheses",
        r"True for one unit. For a row $o_t$ of $n$ units the Jacobian (out, in) is "
        r"$\mathrm{diag}(\tanh'(a_t))\, W_h^\top$ with $a_t = x_t W_{in} + o_{t-1} W_h$.",
        ("J-1", "J-2", "A-1"),
        Evaluation(
            "Read for rows of two units, diag(f'(a)) W_h is the wrong layout: {as_written} for "
            "{truth}, of relu units that are all active.",
            truth=_active,
            as_written=lambda W_h: W_h,
            corrected=lambda W_h: W_h.T,
            case={"W_h": np.array([[1.0, 2.0], [3.0, 4.0]])},
        ),
        Evaluation(
            "True for one unit, here beside the tape.",
            truth=lambda w, x: gradient(*unit(w, x, "tanh", o_0=2 * x[0]))["o_0"],
            as_written=lambda w, x: (1 - np.tanh(x[0] + 2 * x[0] * w) ** 2) * w,
            case={"w": np.array(0.5), "x": np.array([0.25])},
            system="ball",
        ),
    ),
    Claim(
        "S0-10",
        "file 0, key equations, 8 and 9",
        "Vanishing gradient; Identity matrix",
        "ambiguous",
        r"As a remedy: initialise $W_h = I$, with relu units. Then $\partial o_t/\partial o_i$ is "
        r"a product of masks, 1 for a unit that stays active, 0 once it was not.",
        ("I-2",),
    ),
    Claim(
        "S0-11",
        "file 0, solutions, 1",
        "Diff activation → ReLU / Leaky ReLU",
        "ambiguous",
        r"It removes saturation: $f' \in \{0, 1\}$, or $\{\alpha, 1\}$. But $\sup|f'| = 1$ as for "
        r"tanh, and with $\|W_h\|_2 < 1$ products of Jacobians vanish all the same.",
        ("A-5", "B-5"),
        Evaluation(
            "Read as: relu' = 1, so nothing vanishes. Ten steps of an active relu with w_h = 1/2 "
            "have ∂o_10/∂o_0 = {truth}, not {as_written}.",
            truth=lambda w, x: gradient(*unit(w, x, "relu"))["o_0"],
            as_written=lambda w, x: 1 + 0 * w,
            corrected=lambda w, x: w ** len(x),
            case={"w": np.array(0.5), "x": np.ones(10)},
        ),
    ),
    Claim(
        "S0-12",
        "file 0, solutions, 2",
        "Better weight init",
        "ambiguous",
        "Orthogonal matrices keep norms exactly, the identity with relu keeps active units, "
        "variances 1/n or 2/n keep them on average. After initialisation none of it is promised.",
        ("I-1", "I-2", "I-3", "I-4", "I-5"),
    ),
    Claim(
        "S0-13",
        "file 0, solutions, 3",
        "Skip layers",
        "ambiguous",
        r"A residual step $h_t = h_{t-1} + \epsilon F(h_{t-1})$ with $\|F'\| \le m$ has singular "
        r"values within $1 \pm \epsilon m$; a connection over $d$ steps has paths of only "
        r"$\lceil T/d \rceil$ factors.",
        ("G-14", "G-15"),
    ),
    Claim(
        "S0-14",
        "file 0, solutions, 4",
        "LSTM",
        "ambiguous",
        r"With gates frozen $\partial c_T/\partial c_0 = \prod_t f_t \ge (\min f)^T$: it helps as "
        r"far as the forget gates stay near 1.",
        ("G-6", "G-7", "G-5"),
        Evaluation(
            "Read as: an LSTM does not vanish. With forget gates at 1/2, ∂c_10/∂c_0 = {truth}, and "
            "not {as_written}.",
            truth=lambda w_g: _lstm(w_g, of=1),
            as_written=lambda w_g: 1 + 0 * w_g,
            corrected=lambda w_g: _half(w_g) ** STEPS,
            case={"w_g": np.array(0.0)},
            system="ball",
        ),
    ),
    Claim(
        "S0-15",
        "file 0, Problem #2",
        "Unstable Training (Exploding gradients)",
        "true under hypotheses",
        r"Products of Jacobians are unbounded only if $\gamma\|W_h\|_2 > 1$, and they are if "
        r"$\sigma_{\min}(J_t) \ge s > 1$ for all $t$. In between either may happen.",
        ("B-6", "B-10", "B-7"),
    ),
    Claim(
        "S0-16",
        "file 0, Problem #2, 1",
        "Gradient Clipping",
        "true under hypotheses",
        "By norm, with a threshold θ > 0 and finite gradients, it bounds the step and keeps its "
        "direction. It brings back nothing that has vanished.",
        ("K-1", "K-3", "K-6"),
    ),
    Claim(
        "S0-17",
        "file 0, Problem #2, 2",
        "Controlled learning rate",
        "true under hypotheses",
        r"For an $\ell$-smooth loss every step with $0 < \eta < 2/\ell$ decreases it, unless the "
        r"gradient is 0.",
        ("K-6",),
    ),
    Claim(
        "S0-18",
        "file 0, Problem #2, 3",
        "LSTM",
        "ambiguous",
        r"No LSTM is safe from explosion: uniformly its step Jacobian is bounded by a matrix with "
        r"$\|W_g\|$ in it, which is attained. It contracts if $\bar f, \bar g < 1$ and "
        r"$(1 - \bar f)(1 - \bar g) > \bar e \bar a$, bounds on the blocks of the Jacobian.",
        ("G-3", "G-5"),
        Evaluation(
            "Read as: an LSTM does not explode. With all gates at 1/2 and g_t = tanh(8 h_(t−1)), "
            "∂h_10/∂h_0 = {truth} at rest, not at most {as_written}.",
            truth=lambda w_g: _lstm(w_g, of=0),
            as_written=lambda w_g: 1 + 0 * w_g,
            corrected=_lstm_closed_form,
            case={"w_g": np.array(8.0)},
            relation="≤",
            system="ball",
        ),
    ),
)
