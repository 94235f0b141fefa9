r"""How much one step of an LSTM can stretch: its Jacobian is bounded by a 2 × 2 matrix.

The Jacobian is a product, first the memory, then the output (J-5, J-6), in the order $(h, c)$:
$$J = \begin{pmatrix} I & E \\ 0 & I \end{pmatrix} \begin{pmatrix} G & 0 \\ A & F \end{pmatrix},
\qquad M = \begin{pmatrix} 1 & \bar e \\ 0 & 1 \end{pmatrix}
\begin{pmatrix} \bar g & 0 \\ \bar a & \bar f \end{pmatrix}.$$
With numbers $\bar f \ge \lVert F\rVert_2$ and so on for $A$, $E$, $G$, the *growth matrix* $M$ says
all: G-1 at one step, G-3 for all inputs, and G-2 in one number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.bounds import growth, local_growth
from tinygrad_rnn.cells import LSTMCell
from tinygrad_rnn.scalars import rational

from .catalogue import Comparison, Mistake, Necessity, at_most, theorem
from .free import floats, freed
from .gated_steps import (
    LSTMS,
    a_step,
    free,
    golden,
    growth_matrix,
    largest_of,
    lstm_entries,
    lstm_factors,
    norm_2x2,
    norm_above,
    outwards,
    root_above,
    rounded_up,
    steps,
    within_blocks,
    within_norm,
)
from .norms import Array, within


def lstm_cases(system: str) -> Any:
    """Draw one step of an LSTM, with or without peepholes."""
    return steps(system, *LSTMS)


LSTM_JACOBIAN = "tinygrad_rnn.cells.lstm.LSTMCell.jacobian"
LIBRARY = "tinygrad_rnn.bounds._lstm_growth"
SWAPPED = Mistake(
    "the state in the order (c, h)",
    LSTM_JACOBIAN,
    lambda right: lambda cell, *at: np.roll(right(cell, *at), cell.H, axis=(1, 2)),
)
NO_PRIMES = Mistake("g for g' in J", "tinygrad_rnn.cells.lstm.d_tanh", lambda _: np.tanh)
ADDED = Mistake(
    "the state added to its update",
    LSTM_JACOBIAN,
    lambda right: lambda cell, *at: right(cell, *at) + np.eye(2 * cell.H, dtype=int),
)
FORGETS_OUTPUT = Mistake(
    "the library's growth matrix of the memory alone: ē = 0",
    LIBRARY,
    lambda right: lambda cell, params, factors: right(cell, params, (*factors[:5], 0 * factors[5])),
)
FORGETS_PEEPHOLES = Mistake(
    "the library's growth matrix without the peepholes",
    LIBRARY,
    lambda right: lambda cell, p, by: right(LSTMCell(cell.D, cell.H), p, by),
)
FREE_NORM = Mistake(
    "max |entry| for ‖W‖₂",
    "tinygrad_rnn.proofs.gates_lstm.norm_above",
    lambda _: lambda W: float(max(abs(float(w)) for w in W.flat)),
)


def spectral_radius(W: Array) -> float:
    """Return max |λ|, which is no norm."""
    return float(np.abs(np.linalg.eigvals(np.vectorize(float, otypes=[float])(W))).max())


# ---- G-1 ----------------------------------------------------------------------------------------


def positive_step() -> Any:
    """All terms positive and one unit: J = M."""
    return a_step(LSTMCell(1, 1), [0.5, 1, 0.5, 1], (0.5, 1), W_h=np.array([[1.0, 2, 1, 2]]))


def nilpotent_step() -> Any:
    """The candidate reads h through a nilpotent matrix of norm 4."""
    W = np.zeros((2, 8))
    W[:, 4:6] = [[0, 4], [0, 0]]
    return a_step(LSTMCell(1, 2), [3, 3, 0, 3], (0, 0), W_h=W)


SPECTRAL_NORM = Necessity(
    "the spectral norm: the spectral radius of a nilpotent W_g",
    lambda: {**nilpotent_step(), "size": spectral_radius},
)
ALL_MATRICES = Necessity(
    "all matrices: a peephole V_f left out",
    lambda: {
        **a_step(LSTMCell(1, 1, "diagonal"), [0, 0, 0, 0], (0, 8), w_c=np.ones((3, 1))),
        "blind": True,
    },
)


@theorem(
    "G-1",
    "A step of an LSTM stretches at most as much as its 2 × 2 growth matrix",
    statement=r"""Let $f', i', o'$ stand for $f(1-f)$ and so on, $g'$ for $1 - g^2$, $c_-$ for
$c_{t-1}$, and
$$\bar f = \max f_k + \max|c_- f'|\,\lVert V_f\rVert + \max|g i'|\,\lVert V_i\rVert, \quad
\bar a = \max|c_- f'|\,\lVert W_f\rVert + \max|g i'|\,\lVert W_i\rVert + \max|i g'|\,\lVert
W_g\rVert,$$ $$\bar e = \max o(1 - \tanh^2 c_t) + \max|\tanh(c_t) o'|\,\lVert V_o\rVert, \quad \bar
g = \max|\tanh(c_t) o'|\,\lVert W_o\rVert,$$ where the $V$ are the peepholes' matrices, 0 without
them, and $\lVert\cdot\rVert = \lVert\cdot\rVert_2$, or any number above it. Then each block of the
LSTM's $J$ has at most the norm of its entry in $M$, and
$$\lVert J \rVert_2 \le \lVert M \rVert_2 = \tfrac12 \Big(\sqrt{\Phi + 2\bar f\bar g} + \sqrt{\Phi -
2\bar f\bar g}\Big), \quad \Phi = \lVert M \rVert_F^2, \quad M = \begin{pmatrix} \bar e\bar a + \bar
g & \bar e\bar f \\ \bar a & \bar f \end{pmatrix}.$$ With one unit and positive terms $J = M$.""",
    hypotheses=(
        "‖·‖ is the spectral norm or above it: a spectral radius will not do",
        "the maxima are those of this step",
        "all matrices that a gate reads the state by are in M",
    ),
    proof="""By the triangle inequality and ‖diag(d) W‖ ≤ max|d| ‖W‖ the blocks of J-6 have ‖F‖ ≤
f̄, ‖A‖ ≤ ā, ‖E‖ ≤ ē, ‖G‖ ≤ ḡ. So the blocks J_kl of J = [[EA + G, EF], [A, F]] have ‖J_kl‖ ≤
M_kl. For v = (v_1, v_2) then |(Jv)_k| ≤ Σ_l M_kl |v_l|, hence |Jv|² ≤ |M (|v_1|, |v_2|)|² ≤ ‖M‖²
|v|². The singular values σ ≥ σ' ≥ 0 of M have σ² + σ'² = Φ and σσ' = |det M| = f̄ḡ, so (σ ± σ')² =
Φ ± 2f̄ḡ and σ is half the sum of their roots. With one unit ‖w‖ = |w|, and no sum of positive terms
loses anything by the triangle inequality.""",
    sources=("S3-12", "S3-13", "S3-14", "derived here"),
    cases=lstm_cases,
    systems=("ball", "rational"),
    witness=positive_step,
    necessity=(
        SPECTRAL_NORM,
        Necessity(
            "this step: the maxima of a state with c_- = 0",
            lambda: {
                **a_step(LSTMCell(1, 1), [0, 0, 0, 0], (0, 8), W_h=np.array([[0.0, 4, 0, 0]])),
                "elsewhere": (np.zeros((1, 1)), np.zeros((1, 1))),
            },
        ),
        ALL_MATRICES,
    ),
    sensitivity=(SWAPPED, NO_PRIMES, FORGETS_OUTPUT, FORGETS_PEEPHOLES, FREE_NORM),
)
def growth_of_a_step(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Callable[[Array], Any] | None = None,
    elsewhere: Any = None,
    blind: bool = False,
) -> Iterator[Comparison]:
    """Bound the closed form by M, and hold the library's M to its promise."""
    params, x_t, state = freed((params, x[0], state))
    J = cell.jacobian(params, x_t, state)[0]
    seen = LSTMCell(cell.D, cell.H) if blind else cell
    factors = largest_of(lstm_factors(cell, params, x_t, freed(elsewhere) or state))
    M = growth_matrix(*lstm_entries(seen, params, factors, size or norm_above))
    yield from within_blocks("‖block‖ ≤ M_kl", J, M)
    yield from within_norm("‖M‖", J, rounded_up(norm_2x2(M)))
    if not free(x_t):  # the library's M is for the Jacobian as it is computed
        at = floats((params, x_t, state))
        J, library = rational(cell.jacobian(*at)[0]), rational(local_growth(cell, *at)[0])
        yield from within_blocks("‖block‖ ≤ the library's M_kl", J, library)
        if elsewhere is None and not blind and size is None:
            yield at_most("the library's M is no looser", library, M * (1 + outwards(cell.H)))


# ---- G-2 ----------------------------------------------------------------------------------------


def golden_step() -> Any:
    """Let f → 0 and ā/ḡ ≈ p: the singular vectors of the two factors meet."""
    W = np.array([[0.0, 0, 1.28125, 32]])
    return a_step(LSTMCell(1, 1), [40, -40, 0.25, 2], (0, 0), W_h=W)


@theorem(
    "G-2",
    "The golden ratio bounds what the output gate adds to a step of the memory",
    statement=r"""With $\bar f, \bar a, \bar e, \bar g$ and $M$ of G-1,
$$\lVert J \rVert_2 \le \lVert M\rVert_2 \le \frac{\bar e + \sqrt{\bar e^2 + 4}}2 \,\Big\lVert
\begin{pmatrix} \bar g & 0 \\ \bar a & \bar f \end{pmatrix} \Big\rVert_2.$$ Without peepholes
$\bar e < 1$, and the factor is less than the golden ratio $\varphi = (1 + \sqrt5)/2$. It is
approached: one unit with $\bar f \to 0$ and $\bar a = p\bar g$, $p$ the factor.""",
    hypotheses=("the entries are those of G-1", "for φ: there are no peepholes"),
    proof="""M = T B with T = [[1, ē], [0, 1]] and B = [[ḡ, 0], [ā, f̄]], and ‖TB‖ ≤ ‖T‖‖B‖. The
singular values of T are p and 1/p, since det T = 1, with p² + 1/p² = ‖T‖_F² = 2 + ē², that is
p − 1/p = ē: p = (ē + √(ē² + 4))/2. It grows with ē, which without peepholes is max o(1 − tanh² c) <
1. If f̄ = 0 then B = (ḡ, ā)ᵀ(1, 0), and ‖TB‖ = |T(ḡ, ā)ᵀ| = p‖B‖ iff (ḡ, ā) is an eigenvector of
TᵀT = [[1, ē], [ē, 1 + ē²]] to p², such as (1, p): 1 + ēp = p² and ē + (1 + ē²)p = ē + p + ē(p² −
1) = p + ēp² = p³.""",
    sources=("S3-12", "S3-14", "derived here"),
    cases=lstm_cases,
    systems=("rational", "ball"),
    witness=golden_step,
    necessity=(
        Necessity(
            "the entries: the spectral radius of a nilpotent W_g",
            lambda: {**nilpotent_step(), "size": spectral_radius},
        ),
        Necessity(
            "no peepholes: o reads c_t",
            lambda: {
                **a_step(
                    LSTMCell(1, 1, "diagonal"), [40, 0, 1, -7], (0, 0), w_c=np.full((3, 1), 9.0)
                ),
                "phi": True,
            },
            "ball",
        ),
    ),
    sensitivity=(
        ADDED,
        NO_PRIMES,
        Mistake(
            "√(1 + ē²) for the norm of the triangular factor",
            "tinygrad_rnn.proofs.gates_lstm.golden",
            lambda right: lambda e: root_above(1 + e * e),
        ),
    ),
)
def golden_bound(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Callable[[Array], Any] | None = None,
    phi: bool = False,
) -> Iterator[Comparison]:
    """Bound the closed form and M by the product of the factors' norms."""
    params, x_t, state = freed((params, x[0], state))
    J = cell.jacobian(params, x_t, state)[0]
    factors = largest_of(lstm_factors(cell, params, x_t, state))
    f, a, e, g = lstm_entries(cell, params, factors, size or norm_above)
    memory = norm_2x2(np.array([[g, 0 * g], [a, f]], dtype=object))
    yield from within_norm("p ‖B‖", J, golden(e) * memory)
    yield at_most("‖M‖ ≤ p ‖B‖", *within("2", growth_matrix(f, a, e, g), golden(e) * memory))
    if phi or not cell.peephole:
        yield at_most("‖J‖ ≤ φ ‖B‖", *within("2", J, golden(1) * memory))


# ---- G-3 ----------------------------------------------------------------------------------------


def open_step() -> Any:
    """All gates are open, the memory is empty, and only the candidate reads h."""
    W = np.array([[0.0, 0, 2, 0]])
    return a_step(LSTMCell(1, 1), [40, 40, 0, 40], (0, 0), W_h=W)


@theorem(
    "G-3",
    "A bound of an LSTM's step for all inputs and states, attained in the limit",
    statement=r"""If $|c_{t-1}| \le C$, then for all inputs and all $h_{t-1}$ the blocks of $J$ have
at most the norms in $M$ of G-1 with $$\bar f = 1 + \tfrac C4 \lVert V_f\rVert + \tfrac14 \lVert
V_i\rVert, \quad \bar a = \tfrac C4 \lVert W_f\rVert + \tfrac14 \lVert W_i\rVert + \lVert
W_g\rVert, \quad \bar e = 1 + \tfrac14\tanh(C + 1) \lVert V_o\rVert, \quad \bar g =
\tfrac14\tanh(C + 1) \lVert W_o\rVert,$$ and $\lVert J\rVert_2 \le \lVert M\rVert_2$. It cannot be
improved in terms of these norms if only $W_g \ne 0$: then the supremum of $\lVert J\rVert_2$ is
$\lVert M\rVert_2 = \sqrt{2(1 + \lVert W_g\rVert^2)}$.""",
    hypotheses=(
        "|c_{t−1}| ≤ C",
        "‖·‖ is the spectral norm or above it",
        "all matrices that a gate reads the state by are in M",
    ),
    proof="""f, i, o < 1, |g| < 1, σ' ≤ 1/4 (A-2), tanh' ≤ 1 (A-1) and |c_t| ≤ f|c_{t−1}| + i|g| < C
+ 1 bound the maxima in G-1, and tanh increases. The norm of M ≥ 0 grows with its entries, since |M
v| ≤ |M' |v|| for 0 ≤ M ≤ M'. If only W_g ≠ 0, let f, i, o → 1 and g, c_{t−1}, c_t → 0 (by large
biases and a candidate of 0): F → I, E → I, A → W_gᵀ, G = 0 and J → [[W_gᵀ, I], [W_gᵀ, I]]. Its
norm is √2 times that of (W_gᵀ, I), which is √(1 + ‖W_g‖²), and M = [[ā, 1], [ā, 1]] has the
same.""",
    sources=("S3-12", "S3-14", "derived here"),
    cases=lstm_cases,
    systems=("ball", "rational"),
    witness=open_step,
    necessity=(
        Necessity(
            "|c_{t−1}| ≤ C: c = 8, C = 0",
            lambda: {
                **a_step(LSTMCell(1, 1), [0, 0, 0, 0], (0, 8), W_h=np.array([[0.0, 8, 0, 0]])),
                "reach": np.array(0.0),
            },
        ),
        SPECTRAL_NORM,
        ALL_MATRICES,
    ),
    sensitivity=(
        SWAPPED,
        FORGETS_OUTPUT,
        FORGETS_PEEPHOLES,
        Mistake(
            "γ = 1/8 for σ in the library's growth matrix",
            LIBRARY,
            lambda right: (
                lambda cell, params, by: right(
                    cell, params, (by[0], by[1] / 2, by[2] / 2, by[3], by[4] / 2, by[5])
                )
            ),
        ),
    ),
)
def uniform_bound(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Callable[[Array], Any] | None = None,
    blind: bool = False,
) -> Iterator[Comparison]:
    """Bound the closed form by M, and hold the library's M to its promise."""
    params, x_t, state, C = freed((params, x[0], state, reach))
    J = cell.jacobian(params, x_t, state)[0]
    C, y = C[()], np.tanh(C.reshape(1) + 1)[0]
    quarter = Fraction(1, 4)
    factors = (1, C * quarter, quarter, 1, y * quarter, 1)
    seen = LSTMCell(cell.D, cell.H) if blind else cell
    M = growth_matrix(*lstm_entries(seen, params, factors, size or norm_above))
    yield from within_blocks("‖block‖ ≤ M_kl", J, M)
    yield from within_norm("‖M‖", J, rounded_up(norm_2x2(M)))
    if not free(x_t):
        library = growth(cell, floats(params), floats(reach))
        yield from within_blocks("‖block‖ ≤ the library's M_kl", J, library)
