r"""Bounds on products of step Jacobians from the sizes of their entries alone.

Row and column sums are easier to come by than singular values. Both together bound the 2-norm
(B-3). And the moduli of the weights decide by an eigenvalue, where the weights themselves do not
(B-8): the spectral radius of $|W|$ (B-9). Vectors are rows, so that $J_t = \mathrm{diag}(f'(a_t))
W_h^\top$, and $W$ below means $W_h^\top$.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import RNNCell

from .bounds import prefixes
from .cases import one_step
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, theorem
from .mistakes import COUNTED_TWICE, PRIME, SKIP, TRANSPOSE, UNTRANSPOSED
from .norms import largest, norm_inf, norm_one, principal_minors
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, matrices, rnns, scaled, states
from .unrolled import product, step_jacobians, tape_jacobian

Array = Any

# ---- B-3 ----------------------------------------------------------------------------------------


@st.composite
def _with_vector(draw: Draw, system: str) -> Case:
    """An RNN and a vector; in balls a margin of 2⁻⁶⁴, where a tie cannot be decided."""
    case = draw(rnns(system, T=3, N=1, D=1, H=3))
    margin = 2.0**-64 if system == "ball" else 0.0
    return {**case, "v": draw(dyadics(case["cell"].H)), "margin": np.array(margin)}


def _and_vector(v: Any, **case: Any) -> Case:
    return {**case, "v": np.array(v, float), "margin": np.array(0.0)}


@theorem(
    "B-3",
    "Row sums and column sums together bound the 2-norm",
    statement=r"""For every matrix $\lVert A \rVert_2^2 \le \lVert A \rVert_1 \lVert A
\rVert_\infty$, the largest column sum of $|A|$ times the largest row sum. So for products
$$\lVert P_{t,i} \rVert_2^2 \le \lVert P_{t,i} \rVert_1 \lVert P_{t,i} \rVert_\infty
  \le \prod_k \lVert J_k \rVert_1 \lVert J_k \rVert_\infty.$$""",
    hypotheses=("both norms: neither alone bounds the 2-norm",),
    proof="""By Cauchy and Schwarz |(Av)_i|² ≤ (Σ_j |A_ij|)(Σ_j |A_ij| v_j²) ≤ ‖A‖_∞ Σ_j |A_ij|
v_j². Summed over i: |Av|² ≤ ‖A‖_∞ Σ_j v_j² Σ_i |A_ij| ≤ ‖A‖_∞ ‖A‖₁ |v|². Both norms are
submultiplicative.""",
    sources=("S0-7", "Schur 1911", "Golub & Van Loan 2013"),
    cases=_with_vector,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "the column sums: ‖A‖_∞ = 1 but ‖A‖₂² = 2 with both rows (1, 0)",
            lambda: {**_and_vector([1, 0], **one_step([[1, 0], [1, 0]])), "column": norm_inf},
        ),
        Necessity(
            "the row sums: ‖A‖₁ = 1 but ‖A‖₂² = 2 with the row (1, 1)",
            lambda: {**_and_vector([1, 1], **one_step([[1, 1], [0, 0]])), "row": norm_one},
        ),
    ),
    sensitivity=(
        PRIME,
        UNTRANSPOSED,
        COUNTED_TWICE,
        Mistake(
            "sums without the modulus",
            "tinygrad_rnn.proofs.bounds_entrywise.norm_inf",
            lambda right: lambda A: abs(largest(A.sum(axis=-1))),
        ),
    ),
    witness=lambda: _and_vector([1, 1], **one_step([[1, 1], [1, 1]], T=2)),
)
def two_norm_by_sums(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    v: Array,
    margin: Any,
    row: Any = None,
    column: Any = None,
) -> Iterator[Comparison]:
    """Bound the engine's product by its sums, and these by the closed forms'."""
    row, column, allowed = row or norm_inf, column or norm_one, 1 + margin[()]
    P, J = tape_jacobian(cell, params, x, state)[0], step_jacobians(cell, params, x, state)[:, 0]
    both = row(P) * column(P)
    gap = both * allowed * np.eye(len(P), dtype=int) - P.T @ P
    yield at_most("‖P‖₂² ≤ ‖P‖₁ ‖P‖_∞", 0, np.array(principal_minors(gap)))
    yield at_most("|Pv|² ≤ ‖P‖₁ ‖P‖_∞ |v|²", (P @ v) @ (P @ v), both * allowed * (v @ v))
    steps = np.prod([row(J_k) * column(J_k) for J_k in J])
    yield at_most("‖P‖₁ ‖P‖_∞ ≤ Π ‖J_k‖₁ ‖J_k‖_∞", both, steps * allowed)


# ---- B-9 ----------------------------------------------------------------------------------------


@st.composite
def _comparable(draw: Draw, system: str) -> Case:
    """Draw v > 0 and W = diag(v) A diag(v)⁻¹ with ‖A‖_∞ ≤ r: then |W| v ≤ r v.

    v spans powers of two, so that ‖W‖ is mostly far larger. In balls ‖A‖ is less, against ties.
    """
    H, T = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    cell = RNNCell(1, H, draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    r = draw(st.sampled_from((0.5, 0.75, 1.5))) / float(ACTIVATIONS[cell.activation].lipschitz)
    family, A = draw(matrices(H))
    A = scaled(A, r * (15 / 16 if system == "ball" else 1.0))
    v = 2.0 ** draw(st.lists(st.integers(-3, 3), min_size=H, max_size=H).map(np.array))
    return {
        "cell": cell,
        "params": {
            "W_x": draw(dyadics((1, H))),
            "W_h": (v[:, None] * A / v).T,
            "b": draw(dyadics(H)),
        },
        "x": draw(dyadics((T, 1, 1))),
        "state": draw(states(cell, 1)),
        "v": v,
        "r": np.array(r),
        "family": family,
    }


def _compared(W: Any, v: Any, r: float, f: str = "identity", **at: Any) -> Case:
    return {**one_step(W, f, **at), "v": np.array(v, float), "r": np.array(r)}


@theorem(
    "B-9",
    "Gradients vanish if the spectral radius of |W| is below 1/γ, however large ‖W‖ is",
    statement=r"""Let $|W|$ have the entries $|W_{ij}|$. If $|f'| \le \gamma$ then $|P_{t,i}| \le
\gamma^n |W|^n$ entry by entry, $n = t - i$, for all inputs. If $|W| v \le r v$ for some $v > 0$
then $\lVert P_{t,i} \rVert_\infty \le \frac{\max v}{\min v} (\gamma r)^n$. Such a $v$ exists for
every $r > \rho(|W|)$, so gradients vanish if $\rho(|W|) < 1/\gamma$. (As $\rho(|W|) \le \lVert W
\rVert_1, \lVert W \rVert_\infty$ this is weaker a condition than B-5's in these norms; in the
2-norm neither implies the other.)""",
    hypotheses=("|f'| ≤ γ", "v > 0", "|W| v ≤ r v: the moduli, not W itself"),
    proof="""|J_k| = |D_k| |W| ≤ γ|W| entrywise, and |AB| ≤ |A| |B| with monotone products of
nonnegative matrices: the first claim. |W|ⁿ v ≤ rⁿ v by induction, as |W| ≥ 0. So for each row
min v Σ_j |P_ij| ≤ (|P| v)_i ≤ γⁿ rⁿ v_i ≤ (γr)ⁿ max v. If r > ρ(|W|), then v = Σ_k r^{−k} |W|ᵏ 1
converges (S-1), v ≥ 1, and |W| v = r(v − 1) ≤ r v. For the last remark: ρ is at most any induced
norm. In the 2-norm W = [[0, 8], [1/16, 0]] has ‖W‖ = 8 and ρ(|W|) = √½, but c[[1, 1], [1, −1]] has
‖W‖ = c√2 and ρ(|W|) = 2c.""",
    sources=("S0-15", "S4-9", "Pascanu, Mikolov & Bengio 2013", "Horn & Johnson 1991"),
    cases=_comparable,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "γ: 1/2 for the identity",
            lambda: {**_compared([[1]], [1], 1.0), "gamma": Fraction(1, 2)},
        ),
        Necessity(
            "v > 0: |W| v ≤ 0 for v = (1, −1)", lambda: _compared([[1, 1], [1, 2]], [1, -1], 0.0)
        ),
        Necessity(
            "the moduli: W v = 0 for v = (1, 1), and relu breaks the cancellation",
            lambda: _compared(
                [[2, -2], [2, -2]], [1, 1], 0.0, "relu", T=2, b=np.array([100.0, -100.0])
            ),
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        TRANSPOSE,
        UNTRANSPOSED,
        Mistake(
            "γ = 1/8 for σ",
            "tinygrad_rnn.proofs.bounds_entrywise.lipschitz",
            lambda right: lambda f: right(f) / 2 if f == "sigmoid" else right(f),
        ),
    ),
    witness=lambda: _compared([[0, 2], [0.125, 0]], [4, 1], 0.5),
)
def entrywise_bound(
    cell: Any, params: Any, x: Array, state: Any, v: Array, r: Any, gamma: Any = None
) -> Iterator[Comparison]:
    """Bound every entry of the closed-form and the engine's products, and their rows' sums."""
    gamma, W = gamma or lipschitz(cell.activation), np.abs(params["W_h"].T)
    products = prefixes(step_jacobians(cell, params, x, state))
    timed = [*enumerate(products, 1), (len(x), tape_jacobian(cell, params, x, state))]
    spread = largest(v) / -largest(-v)
    for n, (P,) in timed:
        yield at_most("|P| ≤ γⁿ |W|ⁿ", np.abs(P), gamma**n * product(np.stack([W] * n)))
        yield at_most("‖P‖_∞ ≤ (max v/min v) (γr)ⁿ", norm_inf(P), spread * (gamma * r[()]) ** n)


def lipschitz(f: str) -> Any:
    """Return γ = sup |f'|."""
    return ACTIVATIONS[f].lipschitz
