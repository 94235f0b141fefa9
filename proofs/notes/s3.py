"""File 3, "Dealing with Vanishing Gradients in RNN": the GRU and the LSTM, from handwriting."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.functions import relu, sigmoid

from .claim import CITED, Claim, Evaluation

Array = Any


def _gate(W_x: Array, W_h: Array, b: Array, x: Array, h: Array, k: int) -> Array:
    """[x_t, h_{t−1}] W + b for the k-th block of width H."""
    H = h.shape[1]
    block = slice(k * H, (k + 1) * H)
    both = np.concatenate([x, h], axis=1)
    return both @ np.concatenate([W_x, W_h])[:, block] + b[block]


# ---- cells of small size, with weights that are all different -----------------------------------


def _weights(H: int, blocks: int) -> dict[str, Array]:
    """W_x (1, ·), W_h, b for so many blocks, an input and a state."""
    wide = H * blocks
    return {
        "W_x": (np.arange(wide)[None] - 2.0) / 4,
        "W_h": (3 * np.arange(H * wide).reshape(H, wide) ** 2 % 11 - 5.0) / 8,
        "b": (7.0 - np.arange(wide)) / 8,
        "x": np.array([[0.5]]),
        "h": (1.0 - 2 * np.arange(H)[None]) / 2,
    }


BASIC, FULL, LSTM = _weights(1, 2), _weights(2, 3), {**_weights(1, 4), "c": np.array([[0.75]])}
PEEPHOLE = {**LSTM, "W_c": np.array([[0.5, -0.25, 1.0]])}


def _basic(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    (c,) = GRUCell(1, 1, "minimal").step({"W_x": W_x, "W_h": W_h, "b": b}, x, (h,))
    return c


def _basic_parts(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> tuple[Array, Array]:
    """z_t and the candidate of the notes."""
    a = (W_x, W_h, b, x, h)
    return sigmoid(_gate(*a, 0)), np.tanh(_gate(*a, 1))


def _basic_written_out(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    z, candidate = _basic_parts(W_x, W_h, b, x, h)
    return z * candidate + (1 - z) * h


def _without_tilde(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    z, _ = _basic_parts(W_x, W_h, b, x, h)
    return z * _basic(W_x, W_h, b, x, h) + (1 - z) * h


def _full(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    (c,) = GRUCell(1, 2, "reset_before").step({"W_x": W_x, "W_h": W_h, "b": b}, x, (h,))
    return c


def _full_written_out(W_x: Array, W_h: Array, b: Array, x: Array, h: Array) -> Array:
    r, z = (sigmoid(_gate(W_x, W_h, b, x, h, k)) for k in (0, 1))
    return z * np.tanh(_gate(W_x, W_h, b, x, r * h, 2)) + (1 - z) * h


def _lstm(
    W_x: Array, W_h: Array, b: Array, x: Array, h: Array, c: Array, W_c: Array | None = None
) -> Array:
    """(h_t, c_t) of the library's LSTM, with full peepholes if there is a W_c."""
    params = {"W_x": W_x, "W_h": W_h, "b": b, **({} if W_c is None else {"W_c": W_c})}
    cell = LSTMCell(1, 1, peephole=W_c is not None)
    return np.concatenate(cell.step(params, x, (h, c)))


def _lstm_written_out(
    W_x: Array, W_h: Array, b: Array, x: Array, h: Array, c: Array, W_c: Array | None = None
) -> Array:
    """The notes' lines: Z_u is the gate i; Z_u and Z_f see c_{t−1}, Z_o sees C_t."""
    V = np.zeros((1, 3), dtype=int) if W_c is None else W_c
    i, f, g, o = (_gate(W_x, W_h, b, x, h, k) for k in range(4))
    new = sigmoid(i + c * V[:, 0]) * np.tanh(g) + sigmoid(f + c * V[:, 1]) * c
    return np.concatenate([sigmoid(o + new * V[:, 2]) * np.tanh(new), new])


def _lstm_without_tilde(W_x: Array, W_h: Array, b: Array, x: Array, h: Array, c: Array) -> Array:
    i, f = (sigmoid(_gate(W_x, W_h, b, x, h, k)) for k in (0, 1))
    return i * _lstm(W_x, W_h, b, x, h, c)[1:] + f * c


CLAIMS = (
    Claim(
        "S3-1",
        "file 3, Issues, (1)",
        "Exploding gradients → Easy. Truncated BPTT; gradient clipping by value, by norm",
        "true under hypotheses",
        "Clipping bounds the step. Truncation changes the gradient: under contraction by at most a "
        "multiple of the number of steps kept as a power of q. Clipping by value turns the "
        "direction.",
        ("V-3", "K-1", "K-3"),
    ),
    Claim(
        "S3-2",
        "file 3, Issues, (2)",
        "Vanishing gradient problem (hard) → Deal with it using architectural change to RNN",
        "ambiguous",
        "An opinion. Initialisation helps as well.",
        ("G-6", "I-1"),
    ),
    Claim(
        "S3-3",
        "file 3, RNN Cell",
        r"$h_t = f(W_h [x_t, h_{t-1}] + b_h)$",
        "true",
        r"$W_h$ has the blocks of $x_t$ and of $h_{t-1}$ side by side.",
        ("J-1",),
        check=Evaluation(
            "Concatenated, beside the library's step of two relu units.",
            truth=lambda W_x, W_h, b, x, h: RNNCell(1, 2, "relu").step(
                {"W_x": W_x, "W_h": W_h, "b": b}, x, (h,)
            )[0],
            as_written=lambda **a: relu(_gate(**a, k=0)),
            case=_weights(2, 1),
        ),
    ),
    Claim(
        "S3-4",
        "file 3, RNN Cell",
        r"$o_t = g(W_o h_t + b_o)$, $g$ softmax",
        "true",
        r"With cross-entropy its gradient by the logits is $p - y$.",
        ("L-2", "A-7"),
    ),
    Claim(
        "S3-5",
        "file 3, In RNN",
        "hidden state is updated [overwritten at every step]",
        "true",
        r"$h_t = f(\cdot)$ keeps nothing of $h_{t-1}$ but what $f$ takes in.",
        ("J-1",),
    ),
    Claim(
        "S3-6",
        "file 3, GRU (basic)",
        r"$\tilde{c}_t = \tanh(W_c [c_{t-1}, x_t] + b_c)$, "
        r"$Z_t = \sigma(\omega_u [c_{t-1}, x_t] + b_u)$, "
        r"$C_t = Z * \hat{C}_t + (1 - Z_t) C_{t-1}$, $h_t = C_t$",
        "true",
        r"With $\hat{C}_t = \tilde{c}_t$. Here $z = 1$ overwrites; in Cho et al. 2014 and PyTorch "
        r"$z = 1$ keeps.",
        ("J-3",),
        check=Evaluation(
            "Written out, beside the library's minimal GRU.",
            truth=_basic,
            as_written=_basic_written_out,
            case=BASIC,
            system="ball",
        ),
    ),
    Claim(
        "S3-7",
        "file 3, GRU cells",
        r"update $Z_t = \sigma(W_w [x_t, h_{t-1}] + b_u)$",
        "garbled",
        r"$W_u$ for $W_w$.",
        ("J-4",),
    ),
    Claim(
        "S3-8",
        "file 3, GRU cells",
        r"relevance $Z_r = \sigma(W_r [x_L, h_{t-1}] f b_r)$",
        "garbled",
        r"$Z_r = \sigma(W_r [x_t, h_{t-1}] + b_r)$. The line of the candidate is lost: "
        r"$\tilde{c}_t = \tanh(W_c [x_t, Z_r * h_{t-1}] + b_c)$.",
        ("J-4",),
        check=Evaluation(
            "So restored, beside the library's GRU of two units.",
            truth=_full,
            as_written=_full_written_out,
            case=FULL,
            system="ball",
        ),
    ),
    Claim(
        "S3-9",
        "file 3, GRU cells",
        r"$c_t = Z_t C_t + (1 - Z_t) C_{t-1}$",
        "false",
        r"$c_t = Z_t \tilde{c}_t + (1 - Z_t) c_{t-1}$: the tilde is lost (perhaps to the reading "
        r"of the handwriting). As written $c_t = c_{t-1}$ for ever.",
        ("J-4", "J-3"),
        Evaluation(
            "The right-hand side as written is {as_written} where c_t = {truth}.",
            truth=_basic,
            as_written=_without_tilde,
            corrected=_basic_written_out,
            case=BASIC,
            system="ball",
        ),
    ),
    Claim("S3-10", "file 3, GRU cells", r"$h_t = C_t$", "true", "The GRU's state is its output."),
    Claim(
        "S3-11",
        "file 3, LSTM",
        "LSTM: Long Short-Term Memory. (1991)",
        "false",
        "Hochreiter & Schmidhuber 1997 (Neural Computation 9); the forget gate is of Gers, "
        "Schmidhuber & Cummins 2000. Hochreiter's thesis of 1991 analyses the vanishing gradient.",
        ("G-6",),
        Evaluation(
            "The LSTM was published in {truth}; {as_written} is the year of Hochreiter's thesis.",
            truth=lambda: 1997,
            as_written=lambda: 1991,
            system=CITED,
        ),
    ),
    Claim(
        "S3-12",
        "file 3, LSTM",
        r"$\tilde{C}_t = \tanh(w_c [x_e, h_{t-1}] + b_c)$",
        "true",
        r"With $x_t$ for $x_e$.",
        ("J-5",),
        check=Evaluation(
            "With S3-14 and no peepholes, (h_t, c_t) beside the library's LSTM.",
            truth=_lstm,
            as_written=_lstm_written_out,
            case=LSTM,
            system="ball",
        ),
    ),
    Claim(
        "S3-13",
        "file 3, LSTM",
        "update Za = r (Wa [xe, her, cen) + ba); forget Zf = O(Wf [xt, ht, and thf); output "
        "Zo = or (Wo [xe, her, ct] + 6.)",
        "garbled",
        r"$Z_u = \sigma(W_u [x_t, h_{t-1}, c_{t-1}] + b_u)$, "
        r"$Z_f = \sigma(W_f [x_t, h_{t-1}, c_{t-1}] + b_f)$, "
        r"$Z_o = \sigma(W_o [x_t, h_{t-1}, c_t] + b_o)$: peepholes with full matrices (those of "
        r"Gers & Schmidhuber 2000 are diagonal).",
        ("J-6",),
        check=Evaluation(
            "So restored, (h_t, c_t) beside the library's LSTM with full peepholes.",
            truth=_lstm,
            as_written=_lstm_written_out,
            case=PEEPHOLE,
            system="ball",
        ),
    ),
    Claim(
        "S3-14",
        "file 3, LSTM",
        r"memory $C_t = Z_u * C_t + Z_f * C_{t-1}$, $h_t = Z_o * \tanh(C_t)$",
        "false",
        r"$C_t = Z_u * \tilde{C}_t + Z_f * C_{t-1}$: the tilde is lost as in S3-9. As written the "
        r"candidate is never used. The second formula is true.",
        ("J-5",),
        Evaluation(
            "The right-hand side as written is {as_written} where C_t = {truth}.",
            truth=lambda **a: _lstm(**a)[1:],
            as_written=_lstm_without_tilde,
            corrected=lambda **a: _lstm_written_out(**a)[1:],
            case=LSTM,
            system="ball",
        ),
    ),
    Claim(
        "S3-15",
        "file 3, end",
        "* CRU. Read about: Peephole connection.",
        "garbled",
        "GRU.",
        ("J-6",),
    ),
)
