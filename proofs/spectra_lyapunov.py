r"""Singular values and Lyapunov exponents of products, by QR and without forming the product.

$Q_t R_t = J_t Q_{t-1}$, $Q_0 = I$: the diagonals of the triangular factors hold the determinant,
the growth of the first direction, and of the volumes spanned by the first k (S-3). Their averages
are the Lyapunov exponents, which the bounds on products bound for every T (S-4). Vectors are rows,
so that $J_t = \mathrm{diag}(f'(a_t)) W_h^\top$, and $W$ below means $W_h^\top$.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.kernels.chain import SWEEPS

from .cases import one_step, two_norm_bound
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .chains import BITS, chain_of, exp, gamma, qr_roundings, singular_value_roundings
from .mistakes import COUNTED_TWICE, PRIME, SKIP
from .norms import determinant, frobenius_squared, within
from .strategies import Draw, dyadics, matrices, states
from .unrolled import product, slopes, step_jacobians, tape_jacobian, trajectory

Array = Any
SMOOTH = {
    "float": ("tanh", "sigmoid", "leaky_relu", "identity"),
    "rational": ("identity",),
    "ball": ("tanh", "sigmoid", "identity"),
}  # activations whose slope is nowhere zero


def orthogonalised(A: Array) -> Array:
    """Return v_i = a_i − Σ_{j<i} (a_i·v_j)/(v_j·v_j) v_j for the columns: Q without its roots."""
    V: list[Array] = []
    for a in A.T:
        V.append(a - sum((a @ v) / (v @ v) * v for v in V))
    return np.array(V).T


def diagonals_squared(J: Array) -> Array:
    """Return Π_t (R_t)_ii² for each i: |v_i|² at the end, as (R_t)_ii = |v_{t,i}|/|v_{t−1,i}|."""
    V = np.eye(J.shape[-1], dtype=int)
    for J_t in J:
        V = orthogonalised(J_t @ V)
    return (V * V).sum(axis=0)


def log_of(q: Any) -> Any:
    """Return the logarithm of a positive rational as a ball."""
    return scalars.Ball(q).log()


def log_determinants(J: Array) -> tuple[Any, Any]:
    """Return Σ log |det J_t|, and how far the library's Σ_i T λ_i may be off from it.

    With R_t = Q_tᵀ (J_t Q_{t−1} + E_t), ‖E_t‖ ≤ 2√S γ_k ‖J_t‖_F, and |log |det (I + X)|| ≤ 2S ‖X‖
    for ‖X‖ ≤ 1/2, a step adds 6S² γ_k κ_t at most, κ_t = ‖J_t‖_F ‖J_t⁻¹‖ ≤ ‖J_t‖_F^S/|det J_t|.
    Each of its S logarithms is at most |log ‖J_t‖_F| + log κ_t + 1, rounded T + 16 times at most.
    """
    T, S = J.shape[:2]
    total = tolerance = scalars.Ball(0)
    for J_t in J:
        det, square = abs(determinant(J_t)), frobenius_squared(J_t)
        kappa = scalars.Ball(square).sqrt() ** S / det
        total = total + log_of(det)
        logs = abs(log_of(square)) / 2 + kappa.log() + 1
        tolerance = tolerance + 6 * S * S * gamma(qr_roundings(S)) * kappa
        tolerance = tolerance + S * 2 * gamma(T + 16) * logs
    return total, tolerance


# ---- the networks -------------------------------------------------------------------------------


@st.composite
def _invertible(draw: Draw, system: str) -> Case:
    """An RNN whose Jacobians are invertible: no slope is zero, and neither is det W_h.

    In balls there is a margin of 2⁻⁶⁴, where a tie cannot be decided.
    """
    n = {k: draw(st.integers(1, 2)) for k in "DH"}
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(SMOOTH[system])))
    family, W = draw(matrices(n["H"]))
    if determinant(scalars.rational(W)) == 0:
        W = W + 8 * np.eye(n["H"])  # its entries are at most 2: diagonally dominant
    return {
        "cell": cell,
        "params": {"W_x": draw(dyadics((n["D"], n["H"]))), "W_h": W, "b": draw(dyadics(n["H"]))},
        "x": draw(dyadics((draw(st.integers(1, 3)), 1, n["D"]), 1.0)),
        "state": draw(states(cell, 1)),
        "margin": np.array(2.0**-64 if system == "ball" else 0.0),
        "family": family,
    }


def _without_margin(W: Any, T: int = 1, **more: Any) -> Case:
    return {**one_step(W, T=T), "margin": np.array(0.0), **more}


# ---- S-3 ----------------------------------------------------------------------------------------


@theorem(
    "S-3",
    "The diagonals of the QR recursion hold the determinant, the first growth and the volumes",
    statement=r"""Let $J_1, \dots, J_T$ be invertible, $P = J_T \cdots J_1$, $Q_0 = I$ and $Q_t R_t
= J_t Q_{t-1}$ with $Q_t$ orthogonal and $R_t$ upper triangular with a positive diagonal; $\rho_i =
\prod_t (R_t)_{ii}$. Then $\prod_i \rho_i = |\det P| = \prod_t |\det J_t|$, $\rho_1 = \lVert P e_1
\rVert$, and with $P_k$ the first $k$ columns of $P$, $$\prod_{i \le k} \rho_i = \sqrt{\det P_k^\top
P_k} \le \prod_{i \le k} \sigma_i(P), \qquad \rho_i \le \lVert P e_i \rVert.$$""",
    hypotheses=(
        "Q is carried from step to step: Q_t R_t = J_t Q_{t−1}",
        "Q_0 = I, for ρ_1 and the columns",
        "the J_t are invertible, which only makes the R_t unique and their diagonals positive",
    ),
    proof="""R_T ⋯ R_1 = Q_Tᵀ P is upper triangular with the diagonal ρ. So P = Q_T R is the QR
decomposition of P: P_k = Q_T R_k, and P_kᵀP_k = R_kᵀR_k, whose determinant is that of the leading k
by k block squared, Π_{i≤k} ρ_i². k = 1 and k = H are the first claims; ρ_i is one entry of column i
of R, whose length is |Pe_i|. By Cauchy's interlacing for the leading block P_kᵀP_k of PᵀP its k
eigenvalues are at most σ_1², …, σ_k². The v_i of Gram and Schmidt, not normalised, have |v_{t,i}| =
(R_t)_ii |v_{t−1,i}|.""",
    sources=("Engelken, Wolf & Abbott 2023", "Horn & Johnson 2013"),
    cases=_invertible,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "Q is carried: the R_11 of the steps alone",
            lambda: _without_margin([[0, 1], [1, 1]], T=2, carried=False),
        ),
        Necessity(
            "Q_0 = I: with the columns of Q_0 exchanged",
            lambda: _without_margin([[1, 1], [0, 1]], Q_0=np.array([[0.0, 1], [1, 0]])),
        ),
    ),
    sensitivity=(
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "nothing is orthogonalised",
            "tinygrad_rnn.proofs.spectra_lyapunov.orthogonalised",
            lambda right: lambda A: A,
        ),
        Mistake(
            "the library leaves out the first step",
            "tinygrad_rnn.kernels.chain.qr_steps",
            lambda right: lambda J, *into: right(J[1:], *into),
        ),
        Mistake(
            "the library averages over T + 1 states",
            "tinygrad_rnn.chain.Chain.lyapunov",
            lambda right: lambda c: right(c) * len(c.log_norm) / (len(c.log_norm) + 1),
        ),
        Mistake(
            "the library's singular values are the Q_0 = I diagonals",
            "tinygrad_rnn.chain.Chain.singular_values",
            lambda right: lambda c: c.lyapunov() * len(c.log_norm),
        ),
    ),
    witness=lambda: _without_margin([[0, 2], [0.5, 0]], T=3),
)
def qr_recursion(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    margin: Any,
    carried: bool = True,
    Q_0: Array | None = None,
) -> Iterator[Comparison]:
    """Compare the recursion on the closed forms with the product, the engine's, and the library."""
    J, allowed = step_jacobians(cell, params, x, state)[:, 0], 1 + margin[()]
    if Q_0 is not None:
        J = np.concatenate([Q_0[None], J])
    if carried:
        rho_squared = diagonals_squared(J)
    else:
        rho_squared = np.prod([diagonals_squared(J_t[None]) for J_t in J], axis=0)
    dets = np.prod([determinant(J_t) ** 2 for J_t in J])
    yield equal("Π ρ_i = Π |det J_t|, squared", np.prod(rho_squared), dets)
    for P in (product(J[-len(x) :]), tape_jacobian(cell, params, x, state)[0]):
        yield equal("ρ_1 = ‖P e_1‖, squared", rho_squared[0], P[:, 0] @ P[:, 0])
        for k in range(1, len(P) + 1):
            volume = determinant(P[:, :k].T @ P[:, :k])
            yield equal("Π_{i≤k} ρ_i² = det P_kᵀP_k", np.prod(rho_squared[:k]), volume)
        yield at_most("ρ_i ≤ ‖P e_i‖, squared", rho_squared, (P * P).sum(axis=0) * allowed)
    yield from _library_spectra(*chain_of(cell, params, x, state))


def _library_spectra(chain: Any, J: Array) -> Iterator[Comparison]:
    """Compare the library's exponents and singular values with those of its exact Jacobians."""
    (T, _, S), P = J[:, 0].shape, product(J[:, 0])
    with scalars.precision(BITS):
        total, tolerance = log_determinants(J[:, 0])
        found = scalars.Ball(float(chain.lyapunov()[0].sum())) * T
        error = abs(found - total)
        # Weyl: each singular value is off by the norm of what the product is off by. Each Q that
        # comes before a step, ‖Q‖_F = √S, is orthogonal only to that rounding.
        step = 2 * S * gamma(singular_value_roundings(S, SWEEPS))
        off = (1 + step) ** (T + 2) - 1
        for J_t in J[:, 0]:
            off = off * scalars.Ball(frobenius_squared(J_t)).sqrt()
        high = low = np.array([])
        for log in chain.singular_values()[0]:
            relative = 32 * gamma(1) * (1 + abs(Fraction(log)))  # of the logarithm
            high = np.append(high, exp(log) * (1 + relative) + off)
            low = np.append(low, (exp(log) * (1 - relative) - off).relu())
        volumes = [scalars.Ball(determinant(P[:, :k].T @ P[:, :k])) for k in range(1, S + 1)]
        squares = scalars.Ball(frobenius_squared(P))
    if tolerance < 1:  # κ is so large that nothing follows, otherwise
        yield at_most("T Σ λ_i = Σ log |det J_t|, by the library", error, tolerance)
    for k, volume in enumerate(volumes, 1):
        above = np.prod(high[:k] * high[:k])
        yield at_most("det P_kᵀP_k ≤ Π_{i≤k} σ_i², by the library", volume, above)
    yield at_most("Π σ_i² ≤ (det P)², by the library", np.prod(low * low), volumes[-1])
    yield at_most("‖P‖_F² ≤ Σ σ_i², by the library", squares, (high * high).sum())
    yield at_most("Σ σ_i² ≤ ‖P‖_F², by the library", (low * low).sum(), squares)


# ---- S-4 ----------------------------------------------------------------------------------------


@st.composite
def _with_norm(draw: Draw, system: str) -> Case:
    """The same with ω ≥ ‖W‖₂."""
    case = draw(_invertible(system))
    return {**case, "omega": two_norm_bound(case["params"]["W_h"], strict=system == "ball")}


@theorem(
    "S-4",
    "Lyapunov exponents lie between the determinants' average and log(γ‖W‖)",
    statement=r"""Let $J_t = D_t W$, $D_t = \mathrm{diag}(f'(a_t))$, be invertible, $|f'| \le
\gamma$, and $\lambda_i(T) = \frac1T \sum_t \log (R_t)_{ii}$ with the $R_t$ of S-3; $\Lambda(T) =
\frac1T \log \lVert P_{T,0} \rVert_2$. For every $T$ $$\sum_i \lambda_i = \frac1T \sum_t \log |\det
J_t| = \log |\det W| + \frac1T \sum_{t,j} \log |f'(a_{t,j})| \le \log |\det W| + H \log \gamma,$$
$$\frac1H \sum_i \lambda_i \le \Lambda \le \log(\gamma \lVert W \rVert_2), \qquad \lambda_i \le
\log(\gamma \lVert W \rVert_2).$$ So it is with their limits as $T \to \infty$, where they exist,
and with their upper limits in the inequalities.""",
    hypotheses=(
        "|f'| ≤ γ",
        "ω ≥ ‖W‖₂: the norm, not an eigenvalue's modulus",
        "the J_t are invertible, which only keeps the exponents finite",
    ),
    proof="""The sum is S-3 with log |det J_t| = log |det W| + Σ_j log |f'(a_{t,j})|. |det P| = Π
σ_i ≤ σ_1^H gives the second line's first inequality, and even (det P)² ≤ (‖P‖_F²/H)^H ≤ σ_1^{2H},
since the geometric mean of the σ_i² is at most the arithmetic. B-1 gives the second. (R_t)_ii =
(Q_tᵀ J_t Q_{t−1})_ii is at most ‖J_t‖₂ ≤ γ‖W‖₂. Limits keep ≤.""",
    sources=("Oseledets 1968", "Engelken, Wolf & Abbott 2023"),
    cases=_with_norm,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "γ: 1/2 for the identity",
            lambda: _without_margin([[1]], omega=np.array(1.0), gamma_f=Fraction(1, 2)),
        ),
        Necessity(
            "ω: the eigenvalues of [[1, 1], [0, 1]] are 1",
            lambda: _without_margin([[1, 1], [0, 1]], omega=np.array(1.0)),
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "the library's exponents are sums, not averages",
            "tinygrad_rnn.chain.Chain.lyapunov",
            lambda right: lambda c: right(c) * len(c.log_norm),
        ),
        Mistake(
            "the library's log norm is that of the inverse",
            "tinygrad_rnn.chain._log_times",
            lambda right: lambda size, e: -right(size, e),
        ),
        Mistake(
            "the library's upper bound from σ_min",
            "tinygrad_rnn.chain.singular_value_bounds",
            lambda right: lambda A: (right(A)[0], right(A)[0]),
        ),
    ),
    witness=lambda: _without_margin([[0, 2], [-2, 0]], T=3, omega=np.array(2.0)),
)
def lyapunov_exponents(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    margin: Any,
    omega: Any,
    gamma_f: Any = None,
) -> Iterator[Comparison]:
    """Exponentiate the claims on T λ_i and compare; then those on the library's exponents."""
    W, (T, H) = params["W_h"].T, (len(x), cell.H)
    allowed = 1 + margin[()]
    gamma_f = gamma_f or ACTIVATIONS[cell.activation].lipschitz
    J, before = step_jacobians(cell, params, x, state)[:, 0], trajectory(cell, params, x, state)
    d = np.stack(
        [slopes(cell, params, x_t, h)[0] for x_t, (h,) in zip(x, before[:-1], strict=True)]
    )
    P, reach = tape_jacobian(cell, params, x, state)[0], (gamma_f * omega[()]) ** T * allowed
    rho_squared, det = diagonals_squared(J), determinant(W) ** T
    volume = np.prod(rho_squared)
    yield equal("Σ λ_i = log |det W| + mean Σ log |f'|", volume, (det * np.prod(d)) ** 2)
    yield at_most(
        "Σ λ_i ≤ log |det W| + H log γ", volume, (det * gamma_f ** (H * T) * allowed) ** 2
    )
    mean_square = frobenius_squared(P) / H
    yield at_most("Σ λ_i ≤ H log (‖P‖_F/√H)/T", determinant(P) ** 2, mean_square**H * allowed)
    yield at_most("Λ ≤ log (γω)", *within("2", P, reach))
    yield at_most("λ_i ≤ log (γω)", rho_squared, reach * reach)
    yield from _library_exponents(cell, params, x, state)


def _library_exponents(cell: Any, params: Any, x: Array, state: Any) -> Iterator[Comparison]:
    """Compare the library's exponents with its bounds, and its log ‖P_T‖_F with the product's."""
    chain, J = chain_of(cell, params, x, state)
    with scalars.precision(BITS):
        _, tolerance = log_determinants(J[:, 0])
        largest = scalars.Ball(float(chain.lyapunov()[0, 0])) * len(x)
        bounds = {k: getattr(chain, k)[-1, 0] + tolerance for k in ("upper", "upper_global")}
    for name, bound in bounds.items():
        if tolerance < 1:
            yield at_most(f"T λ_1 ≤ {name}, by the library", largest, bound)
    chain, J = chain_of(cell, params, x, state, "fro")
    with scalars.precision(BITS):
        (T, _, S), log = J[:, 0].shape, chain.log_norm[-1, 0]
        norm = scalars.Ball(frobenius_squared(product(J[:, 0]))).sqrt()
        steps = prod(scalars.Ball(frobenius_squared(J_t)).sqrt() for J_t in J[:, 0])
        # Higham 2002, §3.5: γ_{S+1} a step; then a sum of S² squares, its root and its logarithm.
        off = ((1 + gamma(S + 1)) ** T - 1) * steps
        relative = gamma(S * S + 2) + 32 * gamma(1) * (1 + abs(Fraction(log)))
        error = abs(exp(log) - norm)
        tolerance = off + 2 * relative * (norm + off)
    yield at_most("e^log_norm = ‖P‖_F, by the library", error, tolerance)
