"""Traps of the literature: false statements near the notes' subject, each with a counterexample."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.functions import sigmoid

from ..norms import norm_inf
from .claim import Claim, Evaluation
from .s3 import FULL, _full, _gate

Array = Any


# ---- P-1: W has no eigenvalue but 0 -------------------------------------------------------------

NILPOTENT = {"W": np.array([[2.0, -2.0], [2.0, -2.0]]), "a": np.array([0.0, 20.0])}
STEPS = 20


def _pinned(W: Array, a: Array) -> Array:
    """‖∂h_20/∂h_0‖_∞ of tanh units whose inputs keep the preactivations at a, by the tape."""
    cell, unity = RNNCell(2, 2), np.eye(2, dtype=int)
    params = {"W_x": 0 * W + unity, "W_h": W.T, "b": 0 * a}
    x = np.stack([a, *[a - W @ np.tanh(a)] * (STEPS - 1)])
    return norm_inf(tg.jacobian(lambda h: tg.unroll(cell, params, x, (h,)).final[0])(0 * a))


def _pinned_closed_form(W: Array, a: Array) -> Array:
    """2ⁿ (d_1 − d_2)^{n−1} ‖d (1, −1)‖_∞ with d = tanh'(a)."""
    d = 1 - np.tanh(a) ** 2
    return 2**STEPS * (d[0] - d[1]) ** (STEPS - 1) * 2 * d[0]


# ---- P-2: x_t = W_rec relu(x_{t−1}) -------------------------------------------------------------

MASKED = {"W": np.array([[1.0, 2.0], [3.0, 4.0]]), "x": np.array([1.0, -1.0])}


def _by_tape(W: Array, x: Array) -> Array:
    return tg.jacobian(lambda x: W @ tg.relu(x))(x)


def _mask(x: Array) -> Array:
    return np.diag((x > 0).astype(int))


# ---- P-3: an LSTM that adds up ------------------------------------------------------------------


def _memory(b: Array) -> Array:
    """c_3 of an LSTM from c_0 = 0, with i = f = σ(b) and g = tanh(b)."""
    nothing = 0 * b.reshape(1)
    wide = np.array([[0 * b[()]] * 4])
    params = {"W_x": wide, "W_h": wide, "b": wide[0] + b[()]}
    run = tg.unroll(LSTMCell(1, 1), params, np.stack([nothing] * 3), (nothing, nothing))
    return run.final[1][0]


# ---- P-4: r before or after the matrix ----------------------------------------------------------


def _after(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    """The GRU of PyTorch, with its recurrent bias b_hn = 0."""
    params = {"W_x": W_x, "W_h": W_h, "b": b, "b_h": 0 * b[:2]}
    (h_t,) = GRUCell(1, 2, "reset_after").step(params, x, (h,))
    return h_t


def _after_written_out(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    r, z = (sigmoid(_gate(W_x, W_h, b, x, h, k)) for k in (0, 1))
    candidate = np.tanh(x @ W_x[:, 4:] + b[4:] + r * (h @ W_h[:, 4:]))
    return z * candidate + (1 - z) * h


TRAPS = (
    Claim(
        "P-1",
        "Pascanu, Mikolov & Bengio, the preprint arXiv 1211.5063, 2012",
        r"If the largest absolute eigenvalue of $W_{rec}$ is less than $1/\gamma$, long term "
        r"components vanish; they can only explode if it is greater.",
        "false",
        r"With the largest singular value, as in the version of ICML 2013. Or with the spectral "
        r"radius of $|W_{rec}|$, entry by entry.",
        ("B-8", "B-5", "B-9"),
        Evaluation(
            "W = [[2, −2], [2, −2]] has no eigenvalue but 0. With inputs that keep two tanh units "
            "at a = (0, 20), ‖∂h_20/∂h_0‖ = {truth}: not at most {as_written}.",
            truth=_pinned,
            as_written=lambda W, a: 1 + 0 * a[0],
            corrected=_pinned_closed_form,
            case=NILPOTENT,
            relation="≤",
            system="ball",
        ),
    ),
    Claim(
        "P-2",
        "Pascanu, Mikolov & Bengio 2013, eq. (5)",
        r"$\frac{\partial x_i}{\partial x_{i-1}} = W_{rec}^\top \mathrm{diag}(\sigma'(x_{i-1}))$",
        "false",
        r"$W_{rec}\, \mathrm{diag}(\sigma'(x_{i-1}))$ for their $x_t = W_{rec} \sigma(x_{t-1}) + "
        r"W_{in} u_t + b$, columns as vectors. Transposed it would be "
        r"$\mathrm{diag}(\sigma'(x_{i-1}))\, W_{rec}^\top$. The bounds on norms stand.",
        ("J-2", "J-1"),
        Evaluation(
            "With W_rec = [[1, 2], [3, 4]], relu and x = (1, −1) the Jacobian is {truth}; by the "
            "formula it is {as_written}.",
            truth=_by_tape,
            as_written=lambda W, x: W.T @ _mask(x),
            corrected=lambda W, x: W @ _mask(x),
            case=MASKED,
        ),
    ),
    Claim(
        "P-3",
        "folklore",
        r"The memory of an LSTM is bounded: $|c_t| \le 1$.",
        "false",
        r"$|c_t| \le |c_0| + t$, and $|c_t| \le \max(|c_0|, \bar i/(1 - \bar f))$. It is $|h_t| < "
        r"1$; $|c_t| \le 1$ needs coupled gates $i = 1 - f$ and $|c_0| \le 1$.",
        ("G-8",),
        Evaluation(
            "With i = f = σ(4), g = tanh(4) and c_0 = 0, c_3 = {truth}: not at most {as_written}.",
            truth=_memory,
            as_written=lambda b: 1 + 0 * b,
            corrected=lambda b: (
                sigmoid(b) * np.tanh(b) * (1 + sigmoid(b) + sigmoid(b) * sigmoid(b))
            ),
            case={"b": np.array(4.0)},
            relation="≤",
            system="ball",
        ),
    ),
    Claim(
        "P-4",
        "users of PyTorch's GRU",
        r"torch.nn.GRU computes the candidate of the notes, $\tanh(W_c [x_t, r * h_{t-1}] + b_c)$.",
        "false",
        r"It computes $\tanh(W_{xc} x_t + b_c + r * (W_{hc} h_{t-1} + b_h))$, $r$ behind the "
        r"matrix: another function unless $H = 1$ and $b_h = 0$. Its $z$ is the notes' $1 - z$.",
        ("J-4",),
        Evaluation(
            "Of the same weights, two units: {truth} with r behind the matrix, {as_written} with r "
            "before it.",
            truth=_after,
            as_written=_full,
            corrected=_after_written_out,
            case=FULL,
            system="ball",
        ),
    ),
)
