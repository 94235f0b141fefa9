r"""How large the powers of one Jacobian become before the spectral radius decides.

$J = \begin{pmatrix} 0 & c \\ 0 & 0 \end{pmatrix}$ has spectral radius 0 and norm $c$: eigenvalues
do not see transients. The resolvent near the unit circle does (Kreiss), and the numerical radius
excludes them (Berger).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .bounds import prefixes
from .cases import contracted
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .chains import chain_of, exact_product
from .mistakes import COUNTED_TWICE, PRIME, SKIP, TRANSPOSE, UNTRANSPOSED
from .norms import determinant, frobenius_squared, largest, norm_inf, within
from .spectra import linear
from .strategies import Draw, dyadics, matrices, scaled
from .unrolled import step_jacobians, tape_jacobian

Array = Any
POINTS = 4  # of the circle |z| = r: r, ir, −r and −ir


def inverse(A: Array) -> Array:
    """Return A⁻¹ by Cramer's rule."""
    each = range(len(A))
    cofactors = [
        [(-1) ** (i + j) * determinant(np.delete(np.delete(A, i, 0), j, 1)) for j in each]
        for i in each
    ]
    return np.array(cofactors).T / determinant(A) if len(A) > 1 else 1 / A


def resolvents(J: Array, r: Any) -> list[tuple[Array, Array]]:
    """Return X and Y with (zI − J)⁻¹ = X + iY for z = r, ir, −r, −ir."""
    I, zero = np.eye(len(J), dtype=int), 0 * J
    C = inverse(r * r * I + J @ J)  # (irI − J)(irI + J) = −(r²I + J²)
    return [
        (inverse(r * I - J), zero),
        (-J @ C, -r * C),
        (-inverse(r * I + J), zero),
        (-J @ C, r * C),
    ]


def real_part(k: int, X: Array, Y: Array) -> Array:
    """Return the real part of iᵏ (X + iY)."""
    return (X, -Y, -X, Y)[k % 4]


@st.composite
def _bounded(draw: Draw, system: str) -> Case:
    """Draw J with ‖Jᵏ‖_∞ ≤ M for all k, and J' of numerical radius at most 1.

    J = diag(v) A diag(v)⁻¹ with ‖A‖_∞ ≤ 1/2 and v between 1 and 16, so that ‖J⁴‖_∞ ≤ 1: the first
    powers tell M. Or ‖J‖_∞ ≤ 1 and M = 1.
    """
    H = draw(st.integers(1, 2))
    family, A = draw(matrices(H))
    v = 2.0 ** draw(st.lists(st.integers(0, 4), min_size=H, max_size=H).map(np.array))
    J = v[:, None] * scaled(A, 0.5) / v
    if draw(st.booleans()):
        J = scaled(A, 1.0)
    powers = [np.linalg.matrix_power(J, k) for k in range(POINTS)]
    C, E = contracted(draw(matrices(H))[1], 1.0), contracted(draw(dyadics((H, H))), 1.0)
    E[1:] = E[:, :1] = 0  # maps the other units to the first: of numerical radius ‖E‖/2
    a = draw(st.sampled_from((0.0, 0.25, 0.5, 1.0)))
    return {
        **linear(J, POINTS, draw(dyadics(H))),
        "r": np.array(draw(st.sampled_from((1.125, 1.25, 1.5, 2.0)))),
        "M": np.array(max(np.abs(B).sum(axis=1).max() for B in powers)),
        "narrow": a * C + (1 - a) * 2 * E,
        "v": draw(dyadics(H)),
        "family": family,
    }


def _case(J: Any, r: float = 2.0, M: float = 1.0, narrow: Any = None, **more: Any) -> Case:
    narrow = np.zeros_like(J) if narrow is None else narrow
    return {
        **linear(J, POINTS),
        "r": np.array(r),
        "M": np.array(M),
        "narrow": np.array(narrow, float),
        "v": np.eye(len(J))[-1],
        **more,
    }


@theorem(
    "S-2",
    "Transient growth is seen by the resolvent, and excluded by the numerical radius",
    statement=r"""Let $K = \sup_{|z|>1} (|z|-1) \lVert (zI-J)^{-1} \rVert$. (a) In every norm $K \le
\sup_k \lVert J^k \rVert$. (b) $\lVert J^n \rVert \le (n+1)\left(1+\frac{1}{n+1}\right)^{n+1} K \le
e(n+1)K$. For every $r > 1$ and $0 \le n < m$, with $r^m$ no eigenvalue of $J^m$, already $$J^n
\left(I - r^{-m} J^m\right)^{-1} = \frac1m \sum_{z^m=r^m} z^{n+1} (zI-J)^{-1},$$ so $K_m$, the
largest $(r-1) \lVert (zI-J)^{-1} \rVert$ of these $m$ points, gives in a submultiplicative norm
$\lVert J^n \rVert \le \frac{r^{n+1}}{r-1} K_m (1 + r^{-m} \lVert J^m \rVert)$. (c) If $|x^* J x|
\le 1$ for all complex unit vectors $x$ then $\lVert J^n \rVert_2 \le 2$ for all $n$. (The factor $e
H$ of the matrix theorem, for all $n$, is not claimed: its proof by Spijker's lemma is not
short.)""",
    hypotheses=(
        "(a) M bounds every power",
        "(b) n < m",
        "(c) numerical radius at most 1",
    ),
    proof="""(a) For |z| > 1 (zI − J)⁻¹ = Σ z^{−k−1} Jᵏ has norm at most Σ |z|^{−k−1} sup‖Jᵏ‖. (b)
(zI − J) Σ_{k<m} z^{m−1−k} Jᵏ = zᵐI − Jᵐ = rᵐI − Jᵐ, so the average of z^{n+1}(zI − J)⁻¹ is Σ_k
(average of z^{m+n−k}) Jᵏ (rᵐI − Jᵐ)⁻¹, and the average of z^{m+n−k} over the m-th roots is rᵐ for k
= n and else 0, as |n − k| < m. Its norm is at most r^{n+1} K_m/(r − 1), and Jⁿ is the average times
I − r^{−m}Jᵐ. If K is finite, no eigenvalue is outside the circle |z| = 1, so r^{−m}‖Jᵐ‖ → 0 as m →
∞ (S-1). Put r = 1 + 1/(n+1); (1 + 1/k)ᵏ ≤ e. (c) Let z_j be the n-th roots of unity and p_j(z) =
Σ_{l<n} (z_j z)ˡ. Then (1 − z_j z) p_j(z) = 1 − zⁿ, and the mean of the p_j is 1. For a unit vector
x and x_j = p_j(J) x: Σ_j ⟨(I − z_j J)x_j, x_j⟩/n = ⟨(I − Jⁿ)x, Σ x_j/n⟩ = 1 − ⟨Jⁿx, x⟩. Each term
on the left has a real part ≥ |x_j|² − |⟨Jx_j, x_j⟩| ≥ 0. So Re⟨Jⁿx, x⟩ ≤ 1, and likewise for
e^{iθ}J in place of J: |⟨Jⁿx, x⟩| ≤ 1 (Berger; this proof is Pearcy's). With A = Jⁿ, the Hermitian
matrices (A + A*)/2 and (A − A*)/2i have norms at most 1, their numerical radii, and A is the first
plus i times the second.""",
    sources=("Kreiss 1962", "Berger 1965", "Pearcy 1966", "Trefethen & Embree 2005"),
    cases=_bounded,
    systems=("rational",),
    necessity=(
        Necessity("(a) every power: M = 1 = ‖J⁰‖ and ‖J‖ = 64", lambda: _case([[0, 64], [0, 0]])),
        Necessity("(b) n < m: n = m = 4", lambda: _case([[0.5]], lags=(4,))),
        Necessity(
            "(c) numerical radius 2",
            lambda: _case(np.zeros((2, 2)), narrow=[[0, 4], [0, 0]]),
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        TRANSPOSE,
        UNTRANSPOSED,
        COUNTED_TWICE,
        Mistake(
            "cofactors not transposed",
            "tinygrad_rnn.proofs.spectra_kreiss.inverse",
            lambda right: lambda A: right(A.T),
        ),
        Mistake(
            "the library forgets the exponent of its product",
            "tinygrad_rnn.chain._multiply",
            lambda right: lambda *args: (*right(*args)[:2], right(*args)[2] - 1),
        ),
    ),
    witness=lambda: _case(np.eye(2), narrow=[[0, 2], [0, 0]]),
)
def transients(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    r: Any,
    M: Any,
    narrow: Array,
    v: Array,
    lags: tuple[int, ...] = tuple(range(POINTS)),
) -> Iterator[Comparison]:
    """Compare powers, by closed form, engine and library, with resolvents at four points."""
    J, r = params["W_h"].T, r[()]
    I, last = np.eye(len(J), dtype=int), J @ J @ J @ J
    P = [I, *(P for (P,) in prefixes(step_jacobians(cell, params, x, state)))]
    points = resolvents(J, r)
    for X, _ in points[::2]:
        yield at_most("(a) (|z| − 1) ‖(zI − J)⁻¹‖_∞ ≤ M", (r - 1) * norm_inf(X), M)
    # ‖A‖_F² is rational, its root is not: r^{−4} Σ |J⁴| bounds r^{−4} ‖J⁴‖_F.
    K = largest(np.array([frobenius_squared(X) + frobenius_squared(Y) for X, Y in points]))
    rest = 1 + np.abs(last).sum() / r**POINTS
    for n in lags:
        turned = sum(real_part(j * (n + 1), X, Y) for j, (X, Y) in enumerate(points))
        average = turned * r ** (n + 1) / POINTS
        yield equal("(b) the average times I − J⁴/r⁴ is Jⁿ", average @ (I - last / r**POINTS), P[n])
        bound = r ** (2 * n + 2) * K * rest * rest
        yield at_most("(b) ‖Jⁿ‖_F² ≤ r²ⁿ⁺² max ‖(zI − J)⁻¹‖_F²", frobenius_squared(P[n]), bound)
    yield equal("J⁴, by the engine", tape_jacobian(cell, params, x, state)[0], last)
    yield equal("J⁴, by the library", exact_product(chain_of(cell, params, x, state)[0])[0], last)
    for (B,) in prefixes(step_jacobians(cell, {**params, "W_h": narrow.T}, x, state)):
        yield at_most("(c) ‖Jⁿ‖₂ ≤ 2", *within("2", B, 2))
        yield at_most("(c) |Jⁿv|² ≤ 4|v|²", (B @ v) @ (B @ v), 4 * (v @ v))
