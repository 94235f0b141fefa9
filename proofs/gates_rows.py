r"""Row sums: how much one step of a gated cell can stretch in the maximum norm, unit by unit.

$\lVert J\rVert_\infty$ is the largest sum of $|J_{ij}|$ over $j$. It can be bounded row by row with
each unit's own gates, which loses less than norms of blocks do (G-4), and for the GRU it tells when
steps contract (G-11).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.cells import LSTMCell
from tinygrad_rnn.cells.cell import split

from .catalogue import Comparison, Mistake, Necessity, at_most, theorem
from .free import freed
from .gated_steps import a_step, lstm_factors, rounded_up
from .gates_lstm import NO_PRIMES, SWAPPED, lstm_cases, positive_step
from .norms import Array

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
    necessity=(
        Necessity(
            "all matrices: a peephole V_f left out",
            lambda: {
                **a_step(LSTMCell(1, 1, "diagonal"), [0, 0, 0, 0], (0, 8), w_c=np.ones((3, 1))),
                "blind": True,
            },
        ),
    ),
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
