"""File 2, "The difficulty of training RNNs": gradients through time, Fig. 6, clipping."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.functions import sigmoid

from .claim import Claim, Evaluation
from .networks import THREE, by_w, gradient, outputs, step_jacobian, unit

Array = Any
JACOBIAN = r"\mathrm{diag}(f'(W_I x_i + W_R h_{i-1})) W_R"


# ---- the sum over i, of a linear unit ------------------------------------------------------------


def _sum(w: Array, x: Array) -> Array:
    """Σ_i ∂h_t/∂h_i ∂⁺h_i/∂w_R; the term i = 0 is 0."""
    h = outputs(unit(w, x))
    return sum(w ** (len(x) - i) * h[i - 1] for i in range(1, len(x) + 1))


def _sum_of_totals(w: Array, x: Array) -> Array:
    """Σ_i ∂h_t/∂h_i dh_i/dw_R, each total derivative by the library."""
    return sum(w ** (len(x) - i) * by_w(w, x[:i]) for i in range(1, len(x) + 1))


# ---- two relu units, of which one is active in turn ---------------------------------------------

# W_R swaps the units; the inputs make the preactivations (1, −1) and then (−1, 1).
SWAP = {
    "W": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "x": np.array([[1.0, -1.0], [-1.0, 0.0]]),
}


def _two_steps(W: Array, x: Array) -> Array:
    """∂h_2/∂h_0 by the tape."""
    cell, unity = RNNCell(2, 2, "relu"), W @ W
    params = {"W_x": unity, "W_h": W, "b": 0 * W[0]}
    return tg.jacobian(lambda h: tg.unroll(cell, params, x, (h,)).final[0])(0 * W[0])


def _masked(W: Array, x: Array) -> tuple[Array, Array]:
    """J_1 and J_2: W with the row of the inactive unit 0."""
    h_1 = np.maximum(x[0], 0)
    return (x[0] > 0)[:, None] * W, (x[1] + W @ h_1 > 0)[:, None] * W


# ---- two tanh steps -----------------------------------------------------------------------------

TANH = {"w": np.array(0.75), "x": np.array([1.0, -0.5])}


def _second_jacobian(w: Array, x: Array) -> Array:
    """∂h_2/∂h_1 by the tape."""
    return gradient(*unit(w, x[1:], "tanh", o_0=np.tanh(x[0])))["o_0"]


def _slope(a: Array, w: Array) -> Array:
    return (1 - np.tanh(a) ** 2) * w


# ---- Fig. 6: x_t = w σ(x_{t−1}) + b, x_0 = 1/2, E = (σ(x_50) − 7/10)² ----------------------------


def _error_gradient_squared(w: Array, b: Array) -> Array:
    """‖∂E/∂(w, b)‖² by back-propagation over 50 steps of h_t = σ(x_t)."""
    cell, params, x, _ = unit(w, 0 * w + np.zeros(50, dtype=int), "sigmoid")
    params["b"] = params["b"] + b
    start = (sigmoid(Fraction(1, 2) + 0 * params["b"]),)
    h = tg.unroll(cell, params, x, start, method="tape").final[0]
    d = tg.bptt(cell, params, x, 0 * x, start, "tape", d_state=(2 * (h - Fraction(7, 10)),))
    return d["W_h"][0, 0] ** 2 + d["b"][0] ** 2


# ---- clipping -----------------------------------------------------------------------------------


def _naively(gradients: Array, threshold: Array) -> Array:
    """Algorithm 1 line by line."""
    norm = np.sqrt((gradients * gradients).sum())
    return threshold / norm * gradients if norm >= threshold else gradients


CLAIMS = (
    Claim(
        "S2-1",
        "file 2, Why",
        r"$h_t = \tanh(W_I x_t + W_R h_{t-1})$, $y_t = W_O h_t$",
        "true",
        "The RNN with columns as vectors, no biases and a linear readout; in rows the weights are "
        "transposed.",
        ("J-1",),
    ),
    Claim(
        "S2-2",
        "file 2, Why",
        r"$\frac{\partial E_t}{\partial W_R} = \sum_{i=0}^t \frac{\partial E_t}{\partial y_t} "
        r"\frac{\partial y_t}{\partial h_t} \frac{\partial h_t}{\partial h_i} "
        r"\frac{\partial h_i}{\partial W_R}$",
        "true under hypotheses",
        r"True if $\partial h_i/\partial W_R$ is the immediate derivative $\partial^+$. The term "
        r"$i = 0$ is 0, since $h_0$ is a constant.",
        ("C-3", "C-4"),
        Evaluation(
            "Read with total derivatives dh_i/dw_R it is {as_written}, and not {truth}, on the "
            "linear unit with w_R = 1/2 and x = 3, 1, 2.",
            truth=by_w,
            as_written=_sum_of_totals,
            corrected=_sum,
            case=THREE,
        ),
        Evaluation(
            "Read with immediate derivatives it is ∂E/∂w_R, here of E = y = h_3.",
            truth=by_w,
            as_written=_sum,
            case=THREE,
        ),
    ),
    Claim(
        "S2-3",
        "file 2, Why",
        r"$\frac{\partial h_t}{\partial h_i} = \frac{\partial h_t}{\partial h_{t-1}} "
        r"\frac{\partial h_{t-1}}{\partial h_{t-2}} \cdots "
        r"\frac{\partial h_{i+1}}{\partial h_i}$",
        "true",
        "In this order, later steps on the left.",
        ("C-1",),
    ),
    Claim(
        "S2-4",
        "file 2, Why",
        r"$\frac{\partial h_t}{\partial h_i} = "
        r"\prod_{k=i}^{t-1} \frac{\partial h_{k+1}}{\partial h_k}$",
        "ambiguous",
        "True if the product is read with later factors on the left; matrices do not commute. The "
        "empty product is I.",
        ("C-1",),
        Evaluation(
            "Read from left to right it is J_1 J_2 = {as_written}; ∂h_2/∂h_0 = J_2 J_1 = {truth}. "
            "Two relu units, of which one is active at each step.",
            truth=_two_steps,
            as_written=lambda W, x: _masked(W, x)[0] @ _masked(W, x)[1],
            corrected=lambda W, x: _masked(W, x)[1] @ _masked(W, x)[0],
            case=SWAP,
        ),
    ),
    Claim(
        "S2-5",
        "file 2, Why",
        rf"$\frac{{\partial h_{{k+1}}}}{{\partial h_k}} = {JACOBIAN}$",
        "false",
        r"$\frac{\partial h_{k+1}}{\partial h_k} = \mathrm{diag}(f'(W_I x_{k+1} + W_R h_k)) W_R$: "
        r"true for $i = k + 1$ only, and $i$ is free.",
        ("J-1",),
        Evaluation(
            "With i = k: ∂h_2/∂h_1 is {truth}, and {as_written} as written, for a tanh unit with "
            "w_R = 3/4 and x = 1, −1/2.",
            truth=_second_jacobian,
            as_written=lambda w, x: step_jacobian("tanh", x[:1], w),
            corrected=lambda w, x: _slope(x[1] + w * np.tanh(x[0]), w),
            case=TANH,
            system="ball",
        ),
    ),
    Claim(
        "S2-6",
        "file 2, Why",
        rf"$\frac{{\partial h_k}}{{\partial h_1}} = \prod_i^k {JACOBIAN}$",
        "false",
        r"The product runs from $i = 2$, later factors on the left. From $i = 1$ it is "
        r"$\partial h_k/\partial h_0$.",
        ("C-1", "J-1"),
        Evaluation(
            "∂h_3/∂h_1 is {truth} for the linear unit with w_R = 1/2; the product from i = 1 to 3 "
            "is {as_written}.",
            truth=lambda w, x: gradient(*unit(w, x[1:], o_0=outputs(unit(w, x))[1]))["o_0"],
            as_written=lambda w, x: w * w * w,
            corrected=lambda w, x: w * w,
            case=THREE,
        ),
    ),
    Claim(
        "S2-7",
        "file 2, the poster",
        r"$1.01^{365} = 37.8$",
        "true",
        "To one decimal; 37.7834 to four.",
        check=Evaluation(
            "Rounded to one decimal: {truth}.",
            truth=lambda: round(Fraction("1.01") ** 365, 1),
            as_written=lambda: Fraction("37.8"),
        ),
    ),
    Claim(
        "S2-8",
        "file 2, the poster",
        r"$0.99^{365} = 0.03$",
        "true",
        "To two decimals; 0.0255 to four.",
        check=Evaluation(
            "Rounded to two decimals: {truth}.",
            truth=lambda: round(Fraction("0.99") ** 365, 2),
            as_written=lambda: Fraction("0.03"),
        ),
    ),
    Claim(
        "S2-9",
        "file 2, headings",
        "Step 1. Gradient Exploding 2013; Step 2. Gradient Vanishing: 1997",
        "true",
        "The years of the remedies: norm clipping by Pascanu, Mikolov & Bengio 2013, the LSTM by "
        "Hochreiter & Schmidhuber 1997. The problems were described by Hochreiter 1991 and Bengio, "
        "Simard & Frasconi 1994.",
        ("K-1", "G-6"),
    ),
    Claim(
        "S2-10",
        "file 2, Figure 6",
        "We plot the error surface of a single hidden unit recurrent network, highlighting the "
        "existence of high curvature walls.",
        "true",
        r"With $x_t = w\sigma(x_{t-1}) + b$, $x_0 = 1/2$ and $E = (\sigma(x_{50}) - 0.7)^2$, where "
        r"steps can expand only if $|w| > 4$.",
        ("V-8", "K-1"),
        check=Evaluation(
            "At w = 4.575 the squared gradient is {truth} at b = −2.35, over 100² times that at "
            "b = −2.3.",
            truth=lambda w, b: _error_gradient_squared(w, b[0]),
            as_written=lambda w, b: 100**2 * _error_gradient_squared(w, b[1]),
            case={"w": np.array(4.575), "b": np.array([-2.35, -2.3])},
            relation="≥",
            system="ball",
        ),
    ),
    Claim(
        "S2-11",
        "file 2, Algorithm 1",
        r"$\hat{g} \leftarrow \partial\mathcal{E}/\partial\theta$; if $\|\hat{g}\| \ge$ threshold "
        r"then $\hat{g} \leftarrow \frac{\text{threshold}}{\|\hat{g}\|} \hat{g}$",
        "true under hypotheses",
        r"For a threshold $> 0$ and finite $\hat{g}$ it is the projection onto a ball. In floats "
        r"the norm must not overflow on the way.",
        ("K-1", "K-9"),
        Evaluation(
            "Line by line in floats, ĝ = (3, 4) · 2⁶⁰⁰ with the threshold 5 gives {as_written}, "
            "since the norm overflows; the projection is {truth}.",
            truth=tg.clip_by_norm,
            as_written=_naively,
            corrected=lambda gradients, threshold: _naively(gradients / 2.0**599, threshold),
            case={"gradients": np.array([3.0, 4.0]) * 2.0**600, "threshold": np.array(5.0)},
            system="float",
        ),
    ),
    Claim(
        "S2-12",
        "file 2, Gradient Clipping, the code",
        "for p in model.parameters(): print(p.grad.norm()); then, behind the loop, "
        "torch.nn.utils.clip_grad_norm_(p, 10)",
        "false",
        "clip_grad_norm_(model.parameters(), 10). Behind the loop p is the last parameter, and it "
        "alone is clipped; within the loop each would be clipped by its own norm, which turns the "
        "direction.",
        ("K-5", "K-1"),
        Evaluation(
            "Two parameters with gradients 30 and 40: clipped together to norm 10 they are "
            "{truth}, by the code {as_written}.",
            truth=lambda g: np.concatenate(tg.clip_by_norm([g[:1], g[1:]], 10)),
            as_written=lambda g: np.concatenate([g[:1], tg.clip_by_norm(g[1:], 10)]),
            corrected=lambda g: g * Fraction(10, 50),
            case={"g": np.array([30.0, 40.0])},
        ),
    ),
    Claim(
        "S2-13",
        "file 2, Gradient Clipping: Algorithm 1 beside the code",
        "(implied) clip_grad_norm_ is Algorithm 1",
        "false",
        r"PyTorch multiplies by $\min(1, \theta/(\|g\| + 10^{-6}))$: the norm falls a little below "
        r"$\theta$ whenever it clips.",
        ("K-2", "K-1"),
        Evaluation(
            "A gradient of norm 20 with the threshold 10: clipped as by PyTorch it is {truth}, "
            "by Algorithm 1 {as_written}.",
            truth=lambda g: tg.clip_by_norm(g, 10, Fraction(1, 10**6)),
            as_written=lambda g: tg.clip_by_norm(g, 10),
            corrected=lambda g: 10 * g / (g + Fraction(1, 10**6)),
            case={"g": np.array([20.0])},
        ),
    ),
    Claim(
        "S2-14",
        "file 2, a figure",
        "— Goodfellow et al., Deep Learning; Nothing is straightforward.",
        "true",
        "An attribution.",
    ),
    Claim(
        "S2-15",
        "file 2, heading",
        "RNN V.S. LSTM Gradient Visualization",
        "true",
        r"The figure is lost. It can be drawn again: $\log\|\partial h_T/\partial h_t\|$ over $t$ "
        r"for both.",
        ("B-5", "G-7"),
    ),
)
