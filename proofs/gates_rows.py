r"""Row sums: how much one step of a gated cell can stretch in the maximum norm, unit by unit.

$\lVert J\rVert_\infty$ is the largest sum of $|J_{ij}|$ over $j$. It can be bounded row by row with
each unit's own gates, which loses less than norms of blocks do (G-4), and for the GRU it tells when
steps contract (G-11).
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.bounds import gru_contraction
from tinygrad_rnn.cells import GRUCell
from tinygrad_rnn.cells.cell import split

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, theorem
from .free import floats, freed
from .gated_steps import GRUS, a_step, blocks_of, free, lstm_factors, rounded_up, steps
from .gates_gru import ADDED, NO_LEAK
from .gates_lstm import ALL_MATRICES, NO_PRIMES, SWAPPED, lstm_cases, positive_step
from .norms import Array, largest, norm_inf
from .strategies import Draw

# ---- G-4 ----------------------------------------------------------------------------------------


def row_sums(W: Array) -> Array:
    """Return the row sums of |Wᵀ|: of each unit, how much it reads."""
    return np.abs(W).sum(axis=0)


@theorem(
    "G-4",
    "The largest row sum of an LSTM's Jacobian, unit by unit",
    statement=r"""Let $w_i(W)$ be the sum of $|W_{ki}|$ over $k$. With $f', i', o', g', c_-$ of G-1
put $$r = f + |c_- f'| \big(w(W_f) + w(V_f)\big) + |g i'| \big(w(W_i) + w(V_i)\big) + |i g'|\,
w(W_g),$$ $$s = o\,(1 - \tanh^2 c_t)\, r + |\tanh(c_t) o'| \big(w(W_o) + r |V_o|\big),$$ all
products by units but the last, a row vector times a matrix. Then the rows of $\partial
c_t/\partial(h,c)_{t-1}$ have absolute sums of at most $r$, those of $\partial
h_t/\partial(h,c)_{t-1}$ of at most $s$, and $\lVert J\rVert_\infty \le \max(r, s)$. If all terms
are nonnegative, all of these are equations.""",
    hypotheses=("all matrices that a gate reads the state by are in r and s",),
    proof="""Row i of (A, F) is f_i e_i + c_- f'_i (W_f, V_f)ᵀ_i + g i'_i (W_i, V_i)ᵀ_i + i g'_i
(W_g, 0)ᵀ_i: its absolute sum is at most r_i. Row i of (EA + G, EF) = E (A, F) + (G, 0), as E =
diag(o(1 − tanh² c_t)) + diag(tanh(c_t) o') V_oᵀ, is a combination of the rows k of (A, F) with the
coefficients o_i(1 − tanh² c_i)δ_ik + tanh(c_i) o'_i V_o[k, i], plus tanh(c_i) o'_i (W_oᵀ)_i: its
absolute sum is at most s_i. The triangle inequality loses nothing where no terms cancel.""",
    sources=("S3-12", "S3-13", "S3-14", "derived here"),
    cases=lstm_cases,
    systems=("ball", "rational"),
    witness=positive_step,
    necessity=(ALL_MATRICES,),
    sensitivity=(
        SWAPPED,
        NO_PRIMES,
        Mistake(
            "column sums: of each unit, how much is read from it",
            "tinygrad_rnn.proofs.gates_rows.row_sums",
            lambda _: lambda W: np.abs(W).sum(axis=1),
        ),
        Mistake(
            "the transposes missing in J",
            "tinygrad_rnn.cells.lstm.rows",
            lambda right: lambda v, W: right(v, np.swapaxes(W, -1, -2)),
        ),
    ),
)
def row_bound(
    cell: Any, params: Any, x: Array, state: Any, reach: Any, blind: bool = False
) -> Iterator[Comparison]:
    """Bound every row of the closed form, and so its ∞-norm."""
    params, x_t, state = freed((params, x[0], state))
    J = np.abs(cell.jacobian(params, x_t, state)[0])
    f, by_f, by_i, by_g, by_o, e = map(np.abs, lstm_factors(cell, params, x_t, state))
    W_i, W_f, W_g, W_o = map(row_sums, split(params["W_h"], 4))
    r = f + by_f * W_f + by_i * W_i + by_g * W_g
    if cell.peephole and not blind:
        V_i, V_f, V_o = cell._peep_matrices(params)
        r = r + by_f * row_sums(V_f) + by_i * row_sums(V_i)
        W_o = W_o + r @ np.abs(V_o)
    s = e * r + by_o * W_o
    of_h, of_c = np.split(J.sum(axis=1), 2)
    yield at_most("the rows of ∂c_t", of_c, rounded_up(r))
    yield at_most("the rows of ∂h_t", of_h, rounded_up(s))


# ---- G-11 ---------------------------------------------------------------------------------------


@st.composite
def _open_updates(draw: Draw, system: str) -> Case:
    """Draw a step of a GRU with small weights, in most cases, and z ≥ σ(b) for the b drawn."""
    case = draw(steps(system, *GRUS))
    H, params = case["cell"].H, case["params"]
    gain = draw(st.sampled_from((0.03125, 0.125, 1.0)))
    b = draw(st.sampled_from((-3.0, -1.0, 0.0, 1.0, 3.0)))
    update = slice(-2 * H, -H)
    params["W_h"] = params["W_h"] * gain
    params["W_x"] = params["W_x"] * 0.0
    pull = np.abs(case["state"][0]) @ np.abs(params["W_h"][:, update])
    above = draw(st.sampled_from((0.0, 1.0)))
    params["b"][update] = b + pull[0] * above
    if not above:  # z is σ(b) for every unit: nothing else moves it
        params["W_h"][:, update] = 0
    return {**case, "gate": np.array([b])}


def _plain_gru(b: Any, h: float, W: Any, gate: float, reach: float) -> Case:
    """Return a step of one unit of the ``minimal`` GRU."""
    case = a_step(GRUCell(1, 1, "minimal"), b, (h,), W_h=np.array([W], float))
    return {**case, "gate": np.array([gate]), "reach": np.array(float(reach))}


def kappa_inf(cell: GRUCell, params: Any, reach: Any) -> Any:
    """Return κ ≥ ‖K‖_∞ for all |h_{t−1}| ≤ reach."""
    W_r, _, W_c = blocks_of(cell, params)
    c = largest(row_sums(W_c))
    if cell.variant == "minimal":
        return c
    r, quarter = largest(row_sums(W_r)), Fraction(1, 4)
    if cell.variant == "reset_before":
        return c * (1 + reach * quarter * r)
    return c + (reach * c + largest(np.abs(params["b_h"]))) * quarter * r


def slack(kappa: Any, reach: Any, z: Any, W_z: Any) -> Any:
    """θ = 1 − κ − (1 + η)(1 − z_min)‖W_z‖_∞."""
    return 1 - kappa - (1 + reach) * (1 - z) * W_z


@theorem(
    "G-11",
    "When the steps of a GRU contract in the maximum norm",
    statement=r"""Let $|h_{t-1}| \le \eta$, $z \ge z_{\min} > 0$, and $\kappa \ge \lVert
K\rVert_\infty$: $\lVert W_c^\top\rVert$ without reset gate, $\lVert W_c^\top\rVert (1 +
\frac\eta4 \lVert W_r^\top\rVert)$ with one before the product, $\lVert W_c^\top\rVert + \frac u4
\lVert W_r^\top\rVert$ with one after it, $u = \eta\lVert W_c^\top\rVert + \max|b_h|$, all norms
$\lVert\cdot\rVert_\infty$. If $$\theta = 1 - \kappa - (1 + \eta)(1 - z_{\min}) \lVert
W_z^\top\rVert_\infty > 0$$ then $\lVert J\rVert_\infty \le 1 - z_{\min}\theta < 1$, approached if
$W_z = 0$, for some $W_c$. The condition is never stronger than the one with
$1/(4 z_{\min})$ for $1 - z_{\min}$, which follows from $z' \le \frac14$ alone.""",
    hypotheses=("|h_{t−1}| ≤ η", "z ≥ z_min", "θ > 0"),
    proof="""The absolute sum of row i of J is at most 1 − z_i + z_i c'_i Σ_j|K_ij| + |c_i − h_i|
z_i(1 − z_i) Σ_j|W_z[j, i]| ≤ 1 − z_i (1 − κ − (1 + η)(1 − z_i)‖W_zᵀ‖_∞), as |c_i − h_i| < 1 + η and
c' ≤ 1. The bracket is at least θ > 0, and z_i ≥ z_min. ‖K‖_∞ ≤ κ is J-4 with r < 1, r' ≤ 1/4, |h| ≤
η and |u_i| ≤ u. If W_z = 0, W_c ≥ 0 has equal row sums, c = 0 and z = z_min (and r → 1), all are
equations. With z' ≤ 1/4 alone the sum is at most 1 − z_i(1 − κ − (1 + η)‖W_zᵀ‖/(4z_i)); and 1 − z ≤
1/(4z) as (2z − 1)² ≥ 0.""",
    sources=("S3-6", "S3-8", "S3-9", "derived here; compare Bonassi, Farina & Scattolini 2021"),
    cases=_open_updates,
    systems=("ball", "rational"),
    witness=lambda: _plain_gru([0, 0], 0, [0, 0.5], 0, 0),
    necessity=(
        Necessity("|h_{t−1}| ≤ η: h = 8, η = 0", lambda: _plain_gru([-6, 0], 8, [0.75, 0], 0, 0)),
        Necessity("z ≥ z_min: z = 1/2, z_min = 3/4", lambda: _plain_gru([0, 0], 0, [0, 0], 1, 0)),
        Necessity(
            "θ > 0: W_c = 2, and z rises above z_min",
            lambda: {**_plain_gru([8, 0], 0, [0, 2], 0, 0), "assumed": True},
        ),
    ),
    sensitivity=(
        ADDED,
        NO_LEAK,
        Mistake(
            "z_min κ in place of κ in the library's θ",
            "tinygrad_rnn.proofs.gates_rows.gru_contraction",
            lambda right: (
                lambda cell, params, z, reach: right(
                    cell, {**params, "W_h": params["W_h"] * z}, z, reach
                )
            ),
        ),
        Mistake(
            "θ of the row sum not divided by z",
            "tinygrad_rnn.proofs.gates_rows.slack",
            lambda _: lambda kappa, reach, z, W_z: 1 - z * kappa - (1 + reach) * z * (1 - z) * W_z,
        ),
    ),
)
def contracting_update(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    gate: Array,
    assumed: bool = False,
) -> Iterator[Comparison]:
    """Bound the closed form, compare with the cruder condition, and with the library's number."""
    params, x_t, state, η, gate = freed((params, x[0], state, reach, gate))
    J, η, z = cell.jacobian(params, x_t, state)[0], η[()], sigmoid(gate)[0]
    W_z, kappa = largest(row_sums(blocks_of(cell, params)[1])), kappa_inf(cell, params, η)
    θ = slack(kappa, η, z, W_z)
    if assumed or float(θ) > 0:
        yield at_most("‖J‖_∞ ≤ 1 − z_min θ", norm_inf(J), rounded_up(1 - z * θ))
    crude = 1 - kappa - (1 + η) * W_z / (4 * z)
    yield at_most("the condition with 1/(4 z_min) is stronger", crude, θ + (rounded_up(z) - z))
    if not free(x_t):
        z_min = np.nextafter(float(z) * (1 - 2.0**-50), 0)
        factor = gru_contraction(cell, floats(params), z_min, float(floats(reach)))
        if factor < np.inf:
            yield at_most("‖J‖_∞ ≤ the library's number", norm_inf(J), factor)
