r"""The memory of an LSTM over time: products of its step Jacobians, and what the gates let through.

Products of the growth matrices of G-1 bound products of Jacobians, and tell when they contract
(G-5). The carousel of 1997 is the path that stays in the memory, the product of the forget gates;
all other paths together are bounded by what the growth matrices have beside it (G-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.bounds import contracts, growth
from tinygrad_rnn.cells import LSTMCell
from tinygrad_rnn.scalars import Ball, rational

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .free import floats, freed
from .gated_steps import (
    LSTMS,
    a_step,
    free,
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
from .gates_lstm import NO_PRIMES, SWAPPED, spectral_radius
from .norms import Array, frobenius_squared, largest, within
from .strategies import Draw
from .unrolled import product, tape_jacobian, trajectory

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0, 0.0625)
# f̄, ḡ, ē, ā: a tie, and where the row sums of M, its diagonal, or μ alone mislead.
TELLING = (
    (0.5, 0.5, 0.5, 0.5),
    (0.5, 0, 0.25, 1),
    (0.75, 0, 0.75, 1),
    (2, 2, 0, 0),
    (0, 0, 1, 1),
)
ORDER = Mistake(
    "the growth matrices in the order of time",
    "tinygrad_rnn.proofs.gates_memory.growths",
    lambda right: lambda *at: right(*at)[::-1],
)


def jacobians(cell: Any, params: Any, x: Array, state: Any) -> Array:
    """Return J_1, …, J_T of one sequence, (T, 2H, 2H)."""
    before = trajectory(cell, params, x, state)[:-1]
    return np.stack([cell.jacobian(params, x_t, s)[0] for x_t, s in zip(x, before, strict=True)])


def growths(
    cell: Any, params: Any, x: Array, state: Any, size: Callable[[Array], Any] | None
) -> Array:
    """Return M_1, …, M_T of one sequence, (T, 2, 2)."""
    before = trajectory(cell, params, x, state)[:-1]
    every = [
        largest_of(lstm_factors(cell, params, x_t, s)) for x_t, s in zip(x, before, strict=True)
    ]
    entries = (lstm_entries(cell, params, factors, size or norm_above) for factors in every)
    return np.stack([growth_matrix(*e) for e in entries])


def positive_steps() -> Case:
    """Three steps of one unit, all terms positive: J_t = M_t."""
    W = np.array([[1.0, 2, 1, 2]])
    return a_step(LSTMCell(1, 1), [0.5, 1, 0.5, 1], (0.5, 1), T=3, W_h=W)


def nilpotent_steps() -> Case:
    """Two steps, the candidate reading h through a nilpotent matrix of norm 4."""
    W = np.zeros((2, 8))
    W[:, 4:6] = [[0, 4], [0, 0]]
    return a_step(LSTMCell(1, 2), [3, 3, 0, 3], (0, 0), T=2, W_h=W)


# ---- G-5 ----------------------------------------------------------------------------------------


@st.composite
def _with_numbers(draw: Draw, system: str) -> Case:
    """Draw steps of an LSTM, and apart from them f̄, ḡ, ē, ā."""
    free_choice = st.tuples(*[st.sampled_from(LEVELS)] * 4)
    numbers = draw(st.one_of(st.sampled_from(TELLING), free_choice))
    return {**draw(steps(system, *LSTMS, T=2)), "numbers": np.array(numbers, float)}


def _numbers(*fgea: float) -> dict[str, Any]:
    return {"numbers": np.array(fgea)}


@theorem(
    "G-5",
    "Products of LSTM steps: the growth matrices multiply, and when they contract",
    statement=r"""With $M_t$ of G-1 for step $t$, the blocks of $P = J_T \cdots J_1$ have at most
the norms of the entries of $M_T \cdots M_1$, and $\lVert P\rVert_2 \le \lVert M_T \cdots
M_1\rVert_2$. If all $M_t \le M$, a growth matrix with the numbers $\bar f, \bar a, \bar e, \bar g
\ge 0$, put $\mu = (1-\bar f)(1-\bar g) - \bar e\bar a$. Then $M^n \to 0$ iff $\bar f < 1$, $\bar g
< 1$ and $\mu > 0$; in that case $v = (1 - \bar f + \bar e\bar f,\; 1 + \bar a - \bar e\bar a - \bar
g) > 0$ and, with $\theta = 1 - \mu/\max v < 1$, $$M^n v \le \theta^n v, \qquad \lVert P\rVert_2
\le \sqrt2\, \frac{\max v}{\min v}\, \theta^T.$$""",
    hypotheses=(
        "M_t bounds the blocks of J_t, as in G-1",
        "f̄ < 1 and ḡ < 1, which μ > 0 does not imply",
        "μ > 0",
    ),
    proof="""If the blocks of A and B are bounded by K and L, then ‖(AB)_kl‖ ≤ Σ_j ‖A_kj‖‖B_jl‖ ≤
(KL)_kl: so by induction for P, and ‖P‖ ≤ ‖M_T ⋯ M_1‖ as in the proof of G-1. Now M = [[ēā + ḡ,
ēf̄], [ā, f̄]] and (I − M) v = μ (1, 1), as v is the sum of the columns of the adjugate of I − M and
det(I − M) = μ. If f̄, ḡ < 1 and μ > 0 then v_1 ≥ 1 − f̄ > 0 and 1 − ḡ > ēā/(1 − f̄) ≥ ēā, so v_2 >
0. Hence Mv = v − μ(1, 1) ≤ θv, 0 ≤ θ < 1 and, M being nonnegative, M^n v ≤ θ^n v. The row sums of
M^n are at most those of M^n v/min v, so ‖M^n‖_∞ ≤ θ^n max v/min v, and ‖·‖₂ ≤ √2 ‖·‖_∞ for 2 × 2
matrices. Conversely let one condition fail. If f̄ ≥ 1 let u = (0, 1); else if ḡ ≥ 1 let u = (1, 0);
else μ ≤ 0, and let u = (1 − f̄, ā). In each case Mu ≥ u ≥ 0, u ≠ 0 — in the last (Mu)_1 = ḡ(1 − f̄)
+ ēā ≥ 1 − f̄ and (Mu)_2 = ā — so M^n u ≥ u does not tend to 0.""",
    sources=("S3-13", "S3-14", "derived here; compare Terzi et al. 2021"),
    cases=_with_numbers,
    systems=("ball", "rational"),
    witness=lambda: {**positive_steps(), **_numbers(0.5, 0.5, 0.5, 0.25)},
    necessity=(
        Necessity(
            "M_t bounds the blocks: the spectral radius of a nilpotent W_g",
            lambda: {
                **nilpotent_steps(), **_numbers(0.5, 0.5, 0.5, 0.25), "size": spectral_radius
            },
        ),
        Necessity(
            "f̄ < 1 and ḡ < 1: f̄ = ḡ = 2 and μ = 1",
            lambda: {**positive_steps(), **_numbers(2, 2, 0, 0), "decides": lambda M: True},
        ),
        Necessity(
            "μ > 0: f̄ = ḡ = 1/2, ē = ā = 1",
            lambda: {**positive_steps(), **_numbers(0.5, 0.5, 1, 1), "decides": lambda M: True},
        ),
    ),
    sensitivity=(
        ORDER,
        SWAPPED,
        Mistake(
            "contracting if the diagonal of M is below 1",
            "tinygrad_rnn.proofs.gates_memory.contracts",
            lambda _: lambda M: M[0, 0] < 1 and M[1, 1] < 1,
        ),
        Mistake(
            "contracting if all row sums of M are below 1: sufficient only",
            "tinygrad_rnn.proofs.gates_memory.contracts",
            lambda _: lambda M: M.sum(axis=1).max() < 1,
        ),
    ),
)  # fmt: skip
def products_of_growth(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    numbers: Array,
    size: Callable[[Array], Any] | None = None,
    decides: Callable[[Array], Any] | None = None,
) -> Iterator[Comparison]:
    """Bound products of closed forms, check the chain's global bound, and the library's verdict."""
    params, x, state = freed((params, x, state))
    P = product(jacobians(cell, params, x, state))
    M = product(growths(cell, params, x, state, size))
    yield from within_blocks("‖block of P‖ ≤ (M_T ⋯ M_1)_kl", P, M)
    yield from within_norm("‖M_T ⋯ M_1‖", P, rounded_up(norm_2x2(M)))
    if isinstance(x.flat[0], Ball):
        chain = tg.jacobian_chain(cell, *floats((params, x, state)), norm=2)
        s = Ball(float(chain.upper_global[-1, 0])).exp()
        yield at_most("‖P‖ ≤ the chain's bound for all inputs", *within("2", P, s))
        start, T = np.abs(floats(state[1])).max(), len(x)
        G = rational(growth(cell, floats(params), start + np.arange(T)))
        most = root_above(frobenius_squared(product(G)))
        yield at_most("and is no looser than the growth matrices", s, most * (1 + outwards(T)))
    yield from contraction(numbers, decides or contracts)


def contraction(numbers: Array, decides: Callable[[Array], Any]) -> Iterator[Comparison]:
    """Show by a vector that Mⁿ decays, or that it does not, whichever the verdict says."""
    f, g, e, a = numbers
    M = growth_matrix(f, a, e, g)
    if decides(floats(M)):
        μ = (1 - f) * (1 - g) - e * a
        v = np.array([1 - f + e * f, 1 + a - e * a - g])
        θ = 1 - μ / largest(v)
        yield at_most("0 ≤ μ", 0, μ)
        yield at_most("0 ≤ v", 0, v)
        spread = largest(v) / -largest(-v)
        for n in range(1, 4):
            power = product(np.stack([M] * n))
            yield at_most("Mⁿ v ≤ θⁿ v", power @ v, rounded_up(θ**n * v))
            yield at_most(
                "‖Mⁿ‖ ≤ √2 θⁿ max v/min v", *within("2", power, root_above(2) * spread * θ**n)
            )
    else:
        u = (0, 1) if f >= 1 else (1, 0) if g >= 1 else (1 - f, a)
        yield at_most("u ≤ M u", np.array(u), M @ np.array(u))


# ---- G-6 ----------------------------------------------------------------------------------------


def _plain(system: str) -> st.SearchStrategy[Case]:
    return steps(system, "LSTM", T=2 if system == "rational" else 3)


@theorem(
    "G-6",
    "The constant error carousel: the product of the forget gates, and what is beside it",
    statement=r"""Let the LSTM have no peepholes. If the gates are held fixed, or nothing reads $h$
($W_h = 0$), then $\partial c_T/\partial c_0 = \prod_t \mathrm{diag}(f_t)$. In general
$$\Big\lVert \frac{\partial c_T}{\partial c_0} - \prod_t \mathrm{diag}(f_t) \Big\rVert_2 \le (M_T
\cdots M_1)_{cc} - \prod_t \bar f_t,$$ with $M_t$ of G-1 and $\bar f_t = \max f_t$.""",
    hypotheses=(
        "no peepholes",
        "for the equation: the gates are fixed, or nothing reads h",
        "M_t bounds the blocks of J_t, as in G-1",
    ),
    proof="""The block (c, c) of J_T ⋯ J_1 is the sum over all paths c = k_0, k_1, …, k_T = c
through {h, c} of the products of the blocks (J_t)_{k_t k_{t−1}}. The path that stays in c
contributes Π diag(f_t), since (J_t)_cc = diag(f_t) without peepholes. Any other contributes a
product whose norm is at most that of the entries of the M_t along it, and these add up to (M_T ⋯
M_1)_cc minus the path that stays in c, Π f̄_t. Every other path goes through h and returns by a
factor A_t = ∂c_t/∂h_{t−1}: it is 0 if W_h = 0, and left out if the gates are held fixed.""",
    sources=("S3-14", "Hochreiter & Schmidhuber 1997", "Gers et al. 2000"),
    cases=_plain,
    systems=("ball", "rational"),
    witness=positive_steps,
    necessity=(
        Necessity(
            "no peepholes: the forget gate reads c_{t−1}",
            lambda: a_step(
                LSTMCell(1, 1, "diagonal"), [0, 0, 0, 0], (0, 1), T=2, w_c=np.ones((3, 1))
            ),
        ),
        Necessity(
            "nothing reads h: with W_h ≠ 0",
            lambda: {**positive_steps(), "moving": True},
        ),
        Necessity(
            "M_t bounds the blocks: the spectral radius of a nilpotent W_g",
            lambda: {**nilpotent_steps(), "size": spectral_radius},
        ),
    ),
    sensitivity=(
        SWAPPED,
        NO_PRIMES,
        Mistake(
            "the input gate in the place of the forget gate",
            "tinygrad_rnn.cells.lstm.LSTMCell._forward",
            lambda right: lambda *at: (lambda i, f, *rest: (f, i, *rest))(*right(*at)),
        ),
        Mistake(
            "1 for the path of the forget gates: gates without leak",
            "tinygrad_rnn.proofs.gates_memory.carousel",
            lambda right: lambda f: 0 * right(f) + 1,
        ),
    ),
)
def carousel_and_rest(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Callable[[Array], Any] | None = None,
    moving: bool = False,
) -> Iterator[Comparison]:
    """The carousel of a cell that reads no h, by closed forms and by the engine; and the rest."""
    params, x, state = freed((params, x, state))
    still = params if moving else {**params, "W_h": 0 * params["W_h"]}
    H, before = cell.H, trajectory(cell, still, x, state)[:-1]
    f = [lstm_factors(cell, still, x_t, s)[0] for x_t, s in zip(x, before, strict=True)]
    only = np.diag(carousel(f))
    P = product(jacobians(cell, still, x, state))
    yield equal("∂c_T/∂c_0 = Π diag(f), W_h = 0", P[H:, H:], only)
    if not free(x):
        yield equal("… by the engine", tape_jacobian(cell, still, x, state)[0][H:, H:], only)

    # All paths but one: of each prefix of the product the columns for c_0, and without that path.
    J, M = jacobians(cell, params, x, state), growths(cell, params, x, state, size)
    rest, to_h, to_c = 0 * J[0][H:, H:], 0 * J[0][:H, H:], np.eye(H, dtype=int)
    bound, by_h, by_c = 0 * M[0, 0, 0], 0 * M[0, 0, 0], 1
    for J_t, M_t in zip(J, M, strict=True):
        A, F = J_t[H:, :H], J_t[H:, H:]
        rest, bound = A @ to_h + F @ rest, M_t[1, 0] * by_h + M_t[1, 1] * bound
        to_h, to_c = J_t[:H, :H] @ to_h + J_t[:H, H:] @ to_c, A @ to_h + F @ to_c
        by_h, by_c = M_t[0] @ [by_h, by_c], M_t[1] @ [by_h, by_c]
    yield from within_norm("(M_T ⋯ M_1)_cc − Π f̄", rest, rounded_up(bound))


def carousel(f: list[Array]) -> Array:
    """Return Π f_t."""
    return np.prod(np.stack(f), axis=0)
