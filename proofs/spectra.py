r"""The powers of one Jacobian: what its eigenvalues say of them, and when.

In a linear network all steps have the same Jacobian, $J = W_h^\top$, and $P_{t,i} = J^{t-i}$. In
the long run the spectral radius decides, at once only where $J$ is normal (S-1).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell

from .bounds import prefixes
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .chains import chain_of, exact_product, exp_within
from .mistakes import COUNTED_TWICE, PRIME, SKIP, TRANSPOSE, UNTRANSPOSED
from .norms import ROW_AND_COLUMN, norm_inf, principal_minors
from .strategies import Draw, dyadics
from .unrolled import step_jacobians, tape_jacobian

Array = Any


def linear(J: Array, T: int, start: Array | None = None) -> Case:
    """Return linear units with the Jacobian J: h_t = h_{t−1} Jᵀ."""
    H = len(J)
    return {
        "cell": RNNCell(1, H, "identity"),
        "params": {"W_x": np.zeros((1, H)), "W_h": np.array(J, float).T, "b": np.zeros(H)},
        "x": np.zeros((T, 1, 1)),
        "state": (np.ones((1, H)) if start is None else start[None],),
    }


@st.composite
def _schur(draw: Draw) -> Case:
    """Draw J = S (Λ + N) S⁻¹: S unit lower triangular of integers, N strictly upper triangular."""
    H = draw(st.integers(1, 3))
    eigenvalues = draw(dyadics(H, 1.5))
    eigenvalues = eigenvalues[np.argsort(-np.abs(eigenvalues))]
    N = np.triu(draw(dyadics((H, H))), 1)
    S = np.eye(H) + np.tril(np.round(draw(dyadics((H, H)))), -1)
    if draw(st.booleans()):
        S = np.eye(H)
        eigenvalues[:] = eigenvalues[0]  # as in a Jordan block, where the bound is attained
    inverse = np.round(np.linalg.inv(S))  # of integers, since det S = 1
    T = draw(st.integers(1, 4))
    return {
        **linear(S @ (np.diag(eigenvalues) + N) @ inverse, T, draw(dyadics(H))),
        "rho_squared": np.array(eigenvalues[0] ** 2),
        "schur": {"S": S, "inverse": inverse, "eigenvalues": eigenvalues, "N": N},
        "family": "Schur",
    }


@st.composite
def _normal(draw: Draw) -> Case:
    """Draw a rotation times a number, or a symmetric matrix with axes at the 3-4-5 angle."""
    (a, b), T = draw(dyadics(2)), draw(st.integers(1, 4))
    J, rho_squared = np.array([[a, b], [-b, a]]), a * a + b * b
    if draw(st.booleans()):
        Q = np.array([[3.0, 4], [-4, 3]])
        J, rho_squared = Q @ np.diag([a, b]) @ Q.T, 625 * max(a * a, b * b)
    return {
        **linear(J, T, draw(dyadics(2))),
        "rho_squared": np.array(rho_squared),
        "family": "normal",
    }


def _triangular(
    J: Any, T: int = 2, rho: float | None = None, N: Any = None, normal: bool = False
) -> Case:
    J = np.array(J, float)
    eigenvalues, I = np.diag(J), np.eye(len(J))
    N = np.triu(J, 1) if N is None else np.array(N, float)
    schur = {"S": I, "inverse": I, "eigenvalues": eigenvalues, "N": N}
    rho = np.abs(eigenvalues).max() if rho is None else rho
    return {
        **linear(J, T),
        "rho_squared": np.array(rho**2),
        **({} if normal else {"schur": schur}),
    }


@theorem(
    "S-1",
    "The spectral radius decides in the long run, and at once if J is normal",
    statement=r"""Let $\rho$ be the largest modulus of an eigenvalue of $J$. In every induced norm
$\rho^n \le \lVert J^n \rVert$. Let $J = S(\Lambda + N)S^{-1}$ with $\Lambda$ the diagonal and $N$
the strict triangle of a triangular matrix; every $J$ has such a (complex) Schur form. Then
$$\lVert J^n \rVert_\infty \le \lVert S \rVert_\infty \lVert S^{-1} \rVert_\infty
  \sum_{k<H} \binom{n}{k} \rho^{n-k} \lVert N \rVert_\infty^k,$$
so that $\lVert J^n \rVert^{1/n} \to \rho$ (Gelfand). If $J$ is normal, $J J^\top = J^\top J$, then
$\lVert J^n \rVert_2 = \rho^n$.""",
    hypotheses=(
        "ρ is the modulus of an eigenvalue",
        "N is the whole strict triangle",
        "J is normal, for the equation in the 2-norm",
    ),
    proof="""‖v‖_c = max_θ ‖Re(e^{iθ} v)‖ is a norm of complex vectors v with ‖Av‖_c ≤ ‖A‖ ‖v‖_c for
real A. So Jv = λv gives |λ|ⁿ ‖v‖_c = ‖Jⁿv‖_c ≤ ‖Jⁿ‖ ‖v‖_c. Jⁿ = S(Λ + N)ⁿS⁻¹, and (Λ + N)ⁿ is the
sum of 2ⁿ words in Λ and N. One with k factors N has norm at most ρ^{n−k} ‖N‖ᵏ; there are C(n, k) of
them, and for k ≥ H they are zero, since each N moves every entry one diagonal further from the main
one. If ρ > 0 the sum is ρⁿ times a polynomial in n, whose n-th root tends to 1; if ρ = 0 it is zero
for n ≥ H. All norms are equivalent, so the limit is the same in each. A normal J is U Λ U* with a
unitary U, so Jⁿ = U Λⁿ U*, and ‖Jⁿ‖₂ = max |λ|ⁿ.""",
    sources=("S0-15", "Gelfand 1941", "Henaff, Szlam & LeCun 2016", "Horn & Johnson 2013"),
    cases=lambda system: st.one_of(_schur(), _normal()),
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "an eigenvalue: the norm of [[0, 4], [0, 0]] says nothing of its square",
            lambda: _triangular([[0, 4], [0, 0]], rho=4.0),
        ),
        Necessity(
            "the whole N: a Jordan block outgrows ρⁿ",
            lambda: _triangular([[1, 1], [0, 1]], N=[[0, 0], [0, 0]]),
        ),
        Necessity(
            "normal: a Jordan block again",
            lambda: _triangular([[1, 1], [0, 1]], normal=True),
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        TRANSPOSE,
        UNTRANSPOSED,
        COUNTED_TWICE,
        Mistake(
            "the words not counted",
            "tinygrad_rnn.proofs.spectra.comb",
            lambda right: lambda n, k: 1,
        ),
        Mistake(
            "the library's upper bound of one step for all",
            "tinygrad_rnn.chain.singular_value_bounds",
            lambda right: lambda A: (right(A)[0], right(A)[1] ** (np.arange(len(A))[:, None] == 0)),
        ),
    ),
    witness=lambda: _triangular([[2, 0], [0, 1]], T=3),
)
def powers(
    cell: Any, params: Any, x: Array, state: Any, rho_squared: Any, schur: Any = None
) -> Iterator[Comparison]:
    """Compare the powers, by closed form and engine, with ρⁿ; and the library's chain."""
    rho_squared = rho_squared[()]
    timed = [*enumerate(prefixes(step_jacobians(cell, params, x, state)), 1)]
    for n, (P,) in [*timed, (len(x), tape_jacobian(cell, params, x, state))]:
        for norm, of in ROW_AND_COLUMN.items():
            yield at_most(f"ρ²ⁿ ≤ ‖Jⁿ‖_{norm}²", rho_squared**n, of(P) * of(P))
        if schur is None:
            gap = rho_squared**n * np.eye(len(P), dtype=int) - P.T @ P
            yield at_most("‖Jⁿ‖₂ ≤ ρⁿ", 0, np.array(principal_minors(gap)))
        else:
            S, inverse, eigenvalues, N = (schur[k] for k in ("S", "inverse", "eigenvalues", "N"))
            rho, size = abs(eigenvalues[0]), norm_inf(N)
            words = sum(comb(n, k) * rho ** (n - k) * size**k for k in range(min(n + 1, len(N))))
            yield at_most(
                "‖Jⁿ‖_∞ ≤ κ Σ C(n, k) ρⁿ⁻ᵏ ‖N‖ᵏ",
                norm_inf(P),
                norm_inf(S) * norm_inf(inverse) * words,
            )
            yield equal("Jⁿ v = λⁿ v", P @ S[:, 0], eigenvalues[0] ** n * S[:, 0])
    chain, _ = chain_of(cell, params, x, state)
    yield equal("Jⁿ, by the library", exact_product(chain)[0], timed[-1][1][0])
    for n, (lower, upper) in enumerate(zip(chain.lower[:, 0], chain.upper[:, 0], strict=True), 1):
        yield at_most("σ_min(J)ⁿ ≤ ρⁿ, by the library", exp_within(2 * lower)[1], rho_squared**n)
        yield at_most("ρⁿ ≤ ‖J‖ⁿ, by the library", rho_squared**n, exp_within(2 * upper)[0])
