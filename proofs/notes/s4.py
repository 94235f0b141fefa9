"""File 4, "Shortcomings of RNN": nested gradients, vanishing, exploding, clipping."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.functions import step

from .claim import Claim, Evaluation
from .networks import gradient, outputs, unit

Array = Any

FLOW = (
    r"$\partial L/\partial W \rightarrow \partial H_n/\partial W \rightarrow "
    r"\partial H_{n-1}/\partial W \dots \partial H_0/\partial W$"
)


def _nested(w: Array, x: Array, inner: Array) -> Array:
    """g'(z_3)[inner_2 + W g'(z_2)[inner_1 + W g'(z_1)[inner_0]]] of relu units, from H_0 = 1."""
    H = outputs(unit(w, x, "relu", o_0=1))
    total = 0 * w
    for t in range(3):
        total = step(x[t] + w * H[t]) * (inner[t] + w * total)
    return total


MIXED = {"w": np.array(-0.5), "x": np.array([2.0, 3.0, 2.0])}
# Ten factors of 1/2, as in the notes' (0.5)^10.
HALVES = {"w": np.array(0.5), "x": np.ones(11)}


def _both(w: Array, x: Array) -> Array:
    """∂H_T/∂W and ∂H_T/∂U of the linear unit."""
    d = gradient(*unit(w, x))
    return np.array([d["w"], d["w_in"]])


def _closed_forms(w: Array, x: Array) -> Array:
    T = len(x)
    geometric = (1 - w**T) / (1 - w)
    return np.array([(geometric - T * w ** (T - 1)) / (1 - w), geometric])


# ---- W_before ≈ W_after -------------------------------------------------------------------------


def _updates(w: Array) -> Array:
    """Return w moved by half the gap to its neighbour, by a little more; down, then up."""
    down, up = (np.abs(np.nextafter(w, to) - w) / 2 for to in (0, 2))
    more = [np.nextafter(half, 1) for half in (down, up)]
    return np.array([w - down, w - more[0], w + up, w + more[1]])


CLAIMS = (
    Claim(
        "S4-1",
        "file 4, Backward Propagation, 1",
        r"$\frac{\partial L}{\partial W} = \left(\frac{\partial L}{\partial \hat{y}} \right) "
        r"\left(\frac{\partial \hat{y}}{\partial H_3} \right) "
        r"\left(\frac{\partial g(z_3)}{\partial z_3} \right) [H_2 + W ( "
        r"(\frac{\partial g(z_2)}{\partial z_2} ) [H_1 + W ( "
        r"(\frac{\partial g(z_1)}{\partial z_1} ) [H_0 + W (\frac{\partial H_0}{\partial W} ) ] "
        r"] ) ] ]$",
        "true under hypotheses",
        r"True for one unit, with the brackets matched; $\partial H_0/\partial W = 0$ as $H_0$ is "
        r"a constant. For matrices: $\lambda_{t-1} = \lambda_t J_t$ and $\partial L/\partial W = "
        r"\sum_t \lambda_t\, \partial^+ H_t/\partial W$.",
        ("C-5",),
        check=Evaluation(
            "∂H_3/∂W of a relu unit with W = −1/2, H_0 = 1 and x = 2, 3, 2.",
            truth=lambda w, x: gradient(*unit(w, x, "relu", o_0=1))["w"],
            as_written=lambda w, x: _nested(w, x, outputs(unit(w, x, "relu", o_0=1))),
            case=MIXED,
        ),
    ),
    Claim(
        "S4-2",
        "file 4, Backward Propagation, 2",
        r"$\frac{\partial L}{\partial U} = \left(\frac{\partial L}{\partial \hat{y}} \right) "
        r"\left(\frac{\partial \hat{y}}{\partial H_3} \right) "
        r"\left(\frac{\partial g(z_3)}{\partial z_3} \right) [x_3 + (W "
        r"(\frac{\partial g(z_2)}{\partial z_2} ) [x_2 + (W "
        r"(\frac{\partial g(z_1)}{\partial z_1} ) [x_1 + (\frac{\partial W H_0}{\partial U} ) ] "
        r"] ) ] ]$",
        "true under hypotheses",
        r"As S4-1; $\partial W H_0/\partial U = 0$.",
        ("C-5",),
        check=Evaluation(
            "∂H_3/∂U of a relu unit with W = −1/2, H_0 = 1 and x = 2, 3, 2.",
            truth=lambda w, x: gradient(*unit(w, x, "relu", o_0=1))["w_in"],
            as_written=lambda w, x: _nested(w, x, x),
            case=MIXED,
        ),
    ),
    Claim(
        "S4-3",
        "file 4, Shortcomings of RNN",
        FLOW,
        "true",
        "The order in which the total derivatives depend on one another; likewise for U.",
        ("C-5", "C-2"),
    ),
    Claim(
        "S4-4",
        "file 4, Vanishing Gradient",
        r"If gradients $< 1$ then $\partial L/\partial W$ and $\partial L/\partial U$ will be "
        r"infinitesimally small",
        "false",
        r"If $\gamma\|W\| \le q < 1$, the terms of lag $k$ are at most a multiple of $q^k$. Their "
        r"sum need not be small. And factors below 1 must be so uniformly: "
        r"$\prod_k (1 - 1/(k+1)^2)$ tends to $1/2$.",
        ("V-2", "V-1", "V-7"),
        Evaluation(
            "∂L/∂W and ∂L/∂U are {truth} for L = H_11 of the linear unit with W = 1/2 and x = 1, "
            "not at most (0.5)^10 = {as_written}.",
            truth=_both,
            as_written=lambda w, x: w**10,
            corrected=_closed_forms,
            case=HALVES,
            relation="≤",
        ),
    ),
    Claim(
        "S4-5",
        "file 4, Vanishing Gradient",
        r"$(0.5)^{10} = 0.00097$",
        "true",
        "0.0009765625, cut off after five decimals; rounded it is 0.00098.",
        check=Evaluation(
            "Cut off after five decimals: {truth}.",
            truth=lambda: Fraction(Fraction(1, 2) ** 10 * 10**5 // 1, 10**5),
            as_written=lambda: Fraction("0.00097"),
        ),
    ),
    Claim(
        "S4-6",
        "file 4, Vanishing Gradient",
        r"$\partial L/\partial W \approx \partial L/\partial U \approx 0$",
        "false",
        r"See S4-4: with contracting steps the gradient of the last loss is dominated by short "
        r"lags, not 0. It is ${\approx}\,0$ if those terms are, too.",
        ("V-2", "V-1"),
        Evaluation(
            "With all steps contracting by 1/2, ∂L/∂W and ∂L/∂U are {truth} after a hundred steps, "
            "not {as_written}.",
            truth=_both,
            as_written=lambda w, x: 0 * w,
            corrected=_closed_forms,
            case={"w": np.array(0.5), "x": np.ones(100)},
        ),
    ),
    Claim(
        "S4-7",
        "file 4, Vanishing Gradient",
        r"$W = W - \alpha (\partial L/\partial W)$, $U = U - \alpha (\partial L/\partial U)$",
        "true",
        "A step of gradient descent, if both gradients are taken before any update.",
        ("K-6",),
    ),
    Claim(
        "S4-8",
        "file 4, Vanishing Gradient",
        r"$W_{\text{before}} \approx W_{\text{after}}$, $U_{\text{before}} \approx "
        r"U_{\text{after}}$",
        "true under hypotheses",
        r"$\|\Delta W\|_F = \alpha\|\partial L/\partial W\|_F$. In floats an entry stays the same "
        r"bit for bit if it moves by less than half the gap to its neighbour on that side, and by "
        r"exactly half if its significand is even.",
        ("K-8",),
        check=Evaluation(
            "1 moved down or up by half a gap, 2⁻⁵⁴ or 2⁻⁵³, stays 1; by the next larger float it "
            "does not.",
            truth=lambda w: _updates(w) == w,
            as_written=lambda w: np.array([True, False, True, False]),
            case={"w": np.array(1.0)},
            system="float",
        ),
    ),
    Claim(
        "S4-9",
        "file 4, Exploding Gradient",
        r"If gradients $> 1$ then $\partial L/\partial W$ and $\partial L/\partial U$ are very "
        r"large",
        "false",
        r"False three times: terms can cancel; a product of matrices of large norm can be 0; and "
        r"$\prod_k (1 + 1/k^2)$ is bounded. They explode if $\sigma_{\min}(J_t) \ge s > 1$ for all "
        r"$t$ and the terms do not cancel.",
        ("B-7", "V-7", "B-10"),
        Evaluation(
            "∂H_3/∂W and ∂H_3/∂U are {truth} for the linear unit with W = 3/2 and x = 1, −3, 0: "
            "not large, not even {as_written}.",
            truth=_both,
            as_written=lambda w, x: w,
            corrected=lambda w, x: np.array(
                [(x[1] + w * x[0]) + w * x[0], x[2] + w * (x[1] + w * x[0])]
            ),
            case={"w": np.array(1.5), "x": np.array([1.0, -3.0, 0.0])},
            relation="≥",
        ),
    ),
    Claim(
        "S4-10",
        "file 4, Exploding Gradient",
        r"$(1.5)^{10} = 57.665$",
        "true",
        "57.6650390625, to three decimals.",
        check=Evaluation(
            "Rounded to three decimals: {truth}.",
            truth=lambda: round(Fraction(3, 2) ** 10, 3),
            as_written=lambda: Fraction("57.665"),
        ),
    ),
    Claim(
        "S4-11",
        "file 4, Issues with RNN",
        "RNN does not perform well for long sentences. Eg: The writer of the books is / The writer "
        "of the books are",
        "ambiguous",
        "An illustration: the subject is the long lag, the nearer plural the short one.",
        ("B-5", "V-4"),
    ),
    Claim(
        "S4-12",
        "file 4, Issues with RNN",
        "Exploding Gradient: Gradients are large; Poor predictions",
        "ambiguous",
        "Large gradients make training unstable; they say nothing about the predictions of a given "
        "network.",
        ("B-6", "K-6"),
    ),
    Claim(
        "S4-13",
        "file 4, Gradient Clipping",
        r"Threshold $= 0.1$; if gradient $>$ threshold, then gradient $=$ threshold; if gradient "
        r"$\le$ threshold, then gradient $=$ gradient",
        "false",
        r"$\max(-\theta, \min(g, \theta))$: as written nothing bounds negative gradients.",
        ("K-4", "K-3"),
        Evaluation(
            "A gradient of −1000 stays {as_written}; clipped to [−1/10, 1/10] it is {truth}.",
            truth=lambda g: tg.clip_by_value(g, Fraction(1, 10)),
            as_written=lambda g: tg.clip_one_sided(g, Fraction(1, 10)),
            corrected=lambda g: np.array([max(Fraction(-1, 10), min(g[0], Fraction(1, 10)))]),
            case={"g": np.array([-1000.0])},
        ),
    ),
    Claim(
        "S4-14",
        "file 4, the table",
        "Exploding Gradients: Gradient Clipping. Vanishing Gradients: LSTM or GRU",
        "true under hypotheses",
        "Clipping bounds steps, not gradients. The memory of an LSTM, and a GRU's state, fade as "
        "the products of their forget gates, or of 1 − z, while the gates are held fixed.",
        ("K-1", "G-6", "G-7", "G-12"),
    ),
)
