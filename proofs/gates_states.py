r"""What an LSTM remembers, and how large its memory can grow.

The forget gate alone decides how long the carousel of G-6 remembers (G-7). The output is less than
1, the memory is not: it can grow by 1 a step, unless the gates share what they let through (G-8).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.cells import LSTMCell
from tinygrad_rnn.recurrent import unroll

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .free import floats, freed
from .gated_steps import LSTMS, a_step, free, rounded_up, steps
from .gates_memory import jacobians
from .norms import Array, larger, largest
from .strategies import Draw
from .unrolled import product, trajectory

# ---- G-7 ----------------------------------------------------------------------------------------


@st.composite
def _without_recurrence(draw: Draw, system: str) -> Case:
    """Draw an LSTM that reads no h, whose forget gate is opened by its inputs, and a time."""
    case = draw(steps(system, "LSTM", T=3))
    H, params = case["cell"].H, case["params"]
    b = draw(st.sampled_from((-3.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0)))
    forget = np.repeat([0.0, 1, 0, 0], H)
    params["W_h"] = 0 * params["W_h"]
    params["W_x"] = params["W_x"] * (1 - forget) + np.abs(params["W_x"]) * forget
    params["b"] = params["b"] * (1 - forget) + b * forget
    still = draw(st.booleans())
    x = 0 * case["x"] if still else np.abs(case["x"])
    T = draw(st.integers(2, 12))
    return {**case, "x": x, "forget_bias": np.array(b), "horizon": T}


TIMES = {"forget_bias": np.array(1.0), "horizon": 2}


def _leaky(b: float, T: int, horizon: int, **changed: Any) -> Case:
    """Return T steps of one unit without inputs, with the forget bias b."""
    times = {"forget_bias": np.array(float(b)), "horizon": horizon}
    return {**a_step(LSTMCell(1, 1), [0, b, 0, 0], (0, 1), T=T), **times, **changed}


def _with(case: Case, **params: Array) -> Case:
    return {**case, "params": {**case["params"], **params}}


def _closing() -> Case:
    """An input of −1 on the forget gate."""
    case = _leaky(1, 1, 2)
    return {**_with(case, W_x=np.array([[0.0, -1, 0, 0]])), "x": np.ones((1, 1, 1))}


def half_life(b: Any) -> Any:
    """Return ln 2/ln(1 + e^(−b)), the n with σ(b)ⁿ = 1/2."""
    return np.log1p(1 + 0 * b) / np.log1p(np.exp(-b))


@theorem(
    "G-7",
    "How long the carousel remembers: its half-life is about e^b ln 2 for a forget bias b",
    statement=r"""Let nothing read $h$ and no gate read $c$, so that $\partial c_T/\partial c_0 =
\prod_t \mathrm{diag}(f_t)$ (G-6), and let the forget gates' preactivations be at least $b$. Then
each entry of the diagonal is at least $\sigma(b)^T$, and equal to it without inputs. As a function
of $n$, $\sigma(b)^n = \frac12$ at the half-life
$$n = \frac{\ln 2}{\ln(1 + e^{-b})}, \qquad e^b \ln 2 \le n \le (e^b + \tfrac12) \ln 2.$$ For $b =
\ln(T - 1)$, $T \ge 2$, $\sigma(b) = 1 - 1/T$ and after $T$ steps $\frac14 \le (1 - 1/T)^T \le
\frac1e$ is left.""",
    hypotheses=(
        "nothing reads h",
        "no gate reads c",
        "the forget gates' preactivations are at least b",
        "T ≥ 2 for the initialisation b = ln(T − 1)",
    ),
    proof="""σ increases, so every factor is at least σ(b). σ(b)ⁿ = (1 + e^{−b})^{−n} gives the
half-life. For x = e^{−b} > 0, 2x/(2 + x) ≤ ln(1 + x) ≤ x, where the first holds since both sides
vanish at 0 and have the derivatives 4/(2 + x)² ≤ 1/(1 + x); so 1/x ≤ 1/ln(1 + x) ≤ 1/x + 1/2. If
e^{−b} = 1/(T − 1) then σ(b) = (T − 1)/T. ln(1 − 1/T)^T = −1 − 1/(2T) − 1/(3T²) − ⋯ increases with
T, from ln(1/4) at T = 2 to −1.""",
    sources=("S3-14", "Gers et al. 2000", "Tallec & Ollivier 2018"),
    cases=_without_recurrence,
    systems=("ball", "rational"),
    witness=lambda: _leaky(1, 3, 2),
    necessity=(
        Necessity(
            "nothing reads h: the candidate reads −4 h",
            lambda: _with(_leaky(1, 2, 2), W_h=np.array([[0.0, 0, -4, 0]])),
        ),
        Necessity(
            "no gate reads c: the input gate reads −4 c",
            lambda: {
                **a_step(
                    LSTMCell(1, 1, "diagonal"),
                    [0, 1, 1, 0],
                    (0, 0),
                    w_c=np.array([[-4.0], [0], [0]]),
                ),
                **TIMES,
            },
        ),
        Necessity("at least b: an input that closes the gate", _closing),
        Necessity("T ≥ 2: T = 1 forgets all", lambda: _leaky(1, 1, 1)),
    ),
    sensitivity=(
        Mistake(
            "the input gate in the place of the forget gate",
            "tinygrad_rnn.cells.lstm.LSTMCell._forward",
            lambda right: lambda *at: (lambda i, f, *rest: (f, i, *rest))(*right(*at)),
        ),
        Mistake(
            "the time constant for the half-life: ln 2 missing",
            "tinygrad_rnn.proofs.gates_states.half_life",
            lambda _: lambda b: 1 / np.log1p(np.exp(-b)),
        ),
        Mistake(
            "gates held open in J: 1 for f",
            "tinygrad_rnn.cells.lstm.diag",
            lambda right: lambda v: right(0 * v + 1),
        ),
    ),
)
def memory_of_the_gate(
    cell: Any, params: Any, x: Array, state: Any, reach: Any, forget_bias: Array, horizon: int
) -> Iterator[Comparison]:
    """Bound the closed form's carousel, enclose the half-life, and check the initialisation."""
    T, b = horizon, forget_bias[()]
    left = (1 - Fraction(1, T)) ** T
    yield at_most("1/4 ≤ (1 − 1/T)ᵀ", Fraction(1, 4), left)
    params, x, state, gate = freed((params, x, state, np.array([forget_bias[()]])))
    σ = sigmoid(gate)[0]
    kept = np.diagonal(product(jacobians(cell, params, x, state))[cell.H :, cell.H :])
    yield at_most("σ(b)ᵀ ≤ Π f", σ ** len(x), rounded_up(kept))
    if not np.any(floats(x)):
        yield equal("σ(b)ᵀ = Π f without inputs", kept, σ ** len(x))
    if not free(x):
        n, ln_2 = half_life(b), np.log1p(1 + 0 * b)
        yield at_most("e^b ln 2 ≤ n", np.exp(b) * ln_2, n)
        yield at_most("n ≤ (e^b + 1/2) ln 2", n, (np.exp(b) + Fraction(1, 2)) * ln_2)
        b = np.log(T - 1 + 0 * b)
        yield equal("σ(ln(T − 1)) = 1 − 1/T", sigmoid(np.array([b]))[0], 1 - Fraction(1, T))
        yield at_most("(1 − 1/T)ᵀ ≤ 1/e", left * np.exp(1 + 0 * b), 1)


# ---- G-8 ----------------------------------------------------------------------------------------


@st.composite
def _runs(draw: Draw, system: str) -> Case:
    """Draw steps of an LSTM, some of them with the input gate i = 1 − f."""
    case = draw(steps(system, *LSTMS, T=2 if system == "rational" else 3))
    if coupled := draw(st.booleans()):
        H, params = case["cell"].H, case["params"]
        for name in ("W_x", "W_h", "b"):
            params[name][..., :H] = -params[name][..., H : 2 * H]
        if "w_c" in params:
            params["w_c"][0] = -params["w_c"][1]
        if "W_c" in params:
            params["W_c"][:, :H] = -params["W_c"][:, H : 2 * H]
    return {**case, "coupled": coupled}


def _open_gates(T: int = 3, **changed: Any) -> Case:
    """All gates open, and the candidate 1."""
    return {**a_step(LSTMCell(1, 1), [40, 40, 40, 40], (0, 0), T=T), "coupled": False, **changed}


def _opening() -> Case:
    """The gates are half open at the first step, and open at the second."""
    case = _open_gates(2)
    params = {**case["params"], "W_x": np.full((1, 4), 40.0), "b": np.array([0.0, 0, 40, 40])}
    x = np.array([0.0, 1.0]).reshape(2, 1, 1)
    return {**case, "params": params, "x": x, "first_only": True}


def grown(c: Any, t: int) -> Any:
    """Return |c_0| + t."""
    return c + t


@theorem(
    "G-8",
    "The states of an LSTM: |h| < 1, and a memory that can grow by 1 a step",
    statement=r"""For all inputs and parameters $|h_t| < 1$ for $t \ge 1$, and by units $|c_t| \le
|c_0| + t$, which is approached. If $f_s \le \bar f$ and $i_s \le \bar\imath$ for all $s \le t$ then
$(1 - \bar f)\,|c_t| \le \max\big((1 - \bar f)\,|c_0|,\; \bar\imath\big)$. If the gates are coupled,
$i = 1 - f$, then $|c_t| \le \max(|c_0|, 1)$; without that $|c_t| \le 1$ is false. In floats with
$f, i, o, |g|, |\tanh| \le 1$ the first two hold exactly, as $|h_t| \le 1$ and as long as $|c_0| +
t$ is a float.""",
    hypotheses=(
        "f̄ and ī bound the gates at all steps",
        "coupled gates for |c| ≤ max(|c_0|, 1)",
    ),
    proof="""|h_t| = o|tanh c_t| < 1. |c_t| ≤ f|c_{t−1}| + i|g| < |c_{t−1}| + 1, and f, i, g → 1
gives c_t → c_0 + t. Let m satisfy |c_{t−1}| ≤ m and ī ≤ (1 − f̄)m; then |c_t| ≤ f̄m + ī ≤ m, so by
induction m = max(|c_0|, ī/(1 − f̄)) bounds all. If i = 1 − f, |c_t| ≤ f|c_{t−1}| + (1 − f)·1 is at
most the larger of |c_{t−1}| and 1. In floats rounding is monotone: |f c| rounds to at most |c|, |i
g| to at most 1, their sum to at most the float |c_0| + t, and o·tanh to at most 1.""",
    sources=("S3-14", "Hochreiter & Schmidhuber 1997", "Gers et al. 2000"),
    cases=_runs,
    systems=("rational", "ball"),
    witness=_open_gates,
    necessity=(
        Necessity("at all steps: the bounds of the first step", _opening),
        Necessity("coupled gates: both open", lambda: _open_gates(coupled=True)),
    ),
    sensitivity=(
        Mistake(
            "the memory bounded like h: |c_t| ≤ |c_0|",
            "tinygrad_rnn.proofs.gates_states.grown",
            lambda _: lambda c, t: c,
        ),
        Mistake(
            "the output without its nonlinearity: o ∘ c_t",
            "tinygrad_rnn.cells.lstm.LSTMCell.step",
            lambda right: (
                lambda cell, *at: (lambda h, c: (h * c / np.tanh(c), c))(*right(cell, *at))
            ),
        ),
        Mistake(
            "the candidate without its nonlinearity",
            "tinygrad_rnn.cells.lstm.LSTMCell._forward",
            lambda right: (
                lambda *at: (lambda i, f, g, o, c: (i, f, g, o, c + sigmoid(i) * (g - np.tanh(g))))(
                    *right(*at)
                )
            ),
        ),
    ),
)
def bounded_states(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    coupled: bool,
    first_only: bool = False,
) -> Iterator[Comparison]:
    """Bound the states of the cell, and in floats those of the compiled loops."""
    params, x, state = freed((params, x, state))
    run = trajectory(cell, params, x, state)
    start = np.abs(state[1][0])
    gates = [cell._forward(params, x_t, s)[:2] for x_t, s in zip(x, run, strict=False)]
    if first_only:
        gates = gates[:1]
    i, f = (largest(sigmoid(np.concatenate([a[k] for a in gates]))) for k in (0, 1))
    for t, (h, c) in enumerate(run[1:], 1):
        size = np.abs(c[0])
        yield at_most("|h_t| ≤ 1", np.abs(h), 1)
        yield at_most("|c_t| ≤ |c_0| + t", size, grown(start, t))
        limit = np.array([larger((1 - f) * c_0, i) for c_0 in start])
        yield at_most("(1 − f̄)|c_t| ≤ max((1 − f̄)|c_0|, ī)", (1 - f) * size, rounded_up(limit))
        if coupled:
            limit = np.array([larger(c_0, 1 + 0 * c_0) for c_0 in start])
            yield at_most("|c_t| ≤ max(|c_0|, 1) if i = 1 − f", size, rounded_up(limit))
    if not free(x):
        p, inputs, start = floats((params, x, state))
        h, c = unroll(cell, p, inputs, start, method="kernel").states
        yield at_most("|h_t| ≤ 1, by the kernel", np.abs(h[1:]), 1)
        times = np.arange(len(c)).reshape(-1, 1, 1)
        yield at_most("|c_t| ≤ |c_0| + t, by the kernel", np.abs(c), np.abs(c[0]) + times)
