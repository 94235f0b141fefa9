r"""How much steps of a GRU can stretch, at one step (G-9, G-10) and over time (G-12).

In all its forms the step Jacobian is $J = D_1 + D_2 K + D_3 W_z^\top$ with the diagonal matrices of
$1 - z$, $z\tilde c'$ and $(\tilde c - h_-) z'$ and $K = \partial a_c/\partial h_-$ (J-3, J-4). The
first two gates add up to 1 before the slope, so that their squares add up to at most 1: what
Cauchy's inequality makes of that is better than the triangle inequality.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.bounds import growth, local_growth
from tinygrad_rnn.cells import GRUCell
from tinygrad_rnn.scalars import rational

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .free import floats, freed
from .gated_steps import (
    GRUS,
    Size,
    Terms,
    a_step,
    blocks_of,
    direction,
    free,
    norm_above,
    root_above,
    rounded_up,
    steps,
    terms,
    within_norm,
)
from .gates_lstm import spectral_radius
from .norms import Array, largest, principal_minors, within
from .strategies import Draw
from .unrolled import trajectory


def gru_cases(system: str) -> st.SearchStrategy[Case]:
    """Draw one step of a GRU of any form."""
    return steps(system, *GRUS)


def _gru(b: Any, state: Any = (0,), T: int = 1, H: int = 1, **W: Any) -> Case:
    """Return steps of a ``minimal`` GRU with the matrices W_z, W_c and biases of z, c."""
    W_h = np.concatenate([np.array(W.get(k, np.zeros((H, H))), float) for k in ("z", "c")], axis=1)
    case = a_step(GRUCell(1, H, "minimal"), [0, 0], state, T, W_h=W_h)
    return {**case, "params": {**case["params"], "b": np.array(b, float)}}


def _nilpotent() -> Case:
    """One unit is open and reads the other, which is shut."""
    return _gru([-40, 40, 0, 0], H=2, c=[[0, 3], [0, 0]])


def _reset_unseen() -> Case:
    """The candidate reads h = 8 mostly through the reset gate."""
    W = np.array([[4.0, 0, 1]])
    return {**a_step(GRUCell(1, 1), [-32, 40, -4], (8,), W_h=W), "blind": True}


def _constant_z(right: Any) -> Any:
    """Let the library's bound not know the update gate's matrix."""

    def bound(cell: GRUCell, params: Any, *at: Any) -> Any:
        W_h = params["W_h"].copy()
        W_h[:, -2 * cell.H : -cell.H] = 0
        return right(cell, {**params, "W_h": W_h}, *at)

    return bound


SPECTRAL_NORM = Necessity(
    "the spectral norm: the spectral radius of a nilpotent W_c",
    lambda: {**_nilpotent(), "size": spectral_radius},
)
GRU_JACOBIAN = "tinygrad_rnn.cells.gru.GRUCell.jacobian"
ADDED = Mistake(
    "the state added to its update",
    GRU_JACOBIAN,
    lambda right: lambda cell, *at: right(cell, *at) + np.eye(cell.H, dtype=int),
)
NO_LEAK = Mistake(
    "h_{t−1} for (1 − z) h_{t−1}",
    "tinygrad_rnn.cells.gru.diag",
    lambda right: lambda v: right(0 * v + 1),
)


# ---- G-9 ----------------------------------------------------------------------------------------


def bound_of_K(cell: GRUCell, params: Any, reach: Any, size: Size) -> Any:
    """Return κ ≥ ‖K‖₂ for all |h_{t−1}| ≤ reach."""
    W_r, _, W_c = blocks_of(cell, params)
    if cell.variant == "minimal":
        return size(W_c)
    if cell.variant == "reset_before":
        return size(W_c) * (1 + reach * Fraction(1, 4) * size(W_r))
    u = reach * largest(np.abs(W_c).sum(axis=0)) + largest(np.abs(params["b_h"]))
    return size(W_c) + u * Fraction(1, 4) * size(W_r)


@theorem(
    "G-9",
    "A bound of a GRU's step for all inputs, attained in the limit if z reads no state",
    statement=r"""Let $|h_{t-1}| \le \eta$ and $\lVert K\rVert_2 \le \kappa$. Then $$\lVert J
\rVert_2 \le \sqrt{1 + \kappa^2} + \tfrac{1 + \eta}4 \lVert W_z\rVert_2,$$ where one may take
$\kappa = \lVert W_c\rVert$ without reset gate, $\lVert W_c\rVert(1 + \frac\eta4\lVert W_r\rVert)$
with one before the product, and $\lVert W_c\rVert + \frac u4\lVert W_r\rVert$ with one after it,
$u = \eta\lVert W_c^\top\rVert_\infty + \max|b_h| \ge |h_{t-1}W_c + b_h|$. The part of $J$ without
$W_z$ satisfies $J_0^\top J_0 \preceq I + K^\top K$. For $W_z = 0$ and $H \ge 2$ no smaller function
of $\kappa$ will do.""",
    hypotheses=(
        "|h_{t−1}| ≤ η",
        "‖·‖ is the spectral norm or above it",
        "κ bounds all of K, the path through the reset gate too",
        "for JᵀJ ⪯ I + KᵀK: z does not read h",
    ),
    proof="""Row i of J_0 = diag(1 − z) + diag(z c')K gives (J_0 v)_i = (1 − z_i) v_i + z_i c'_i
(Kv)_i, with a square of at most ((1 − z_i)² + z_i²)(v_i² + (Kv)_i²) ≤ v_i² + (Kv)_i² by Cauchy, 0 <
c' ≤ 1 and 0 < z < 1. The sum over i is vᵀ(I + KᵀK)v ≤ (1 + κ²)|v|². The rest has the norm at most
max|(c − h) z'| ‖W_z‖ with |c| < 1, |h| ≤ η, z' ≤ 1/4. K is W_cᵀ, W_cᵀ(diag(r) + diag(h r')W_rᵀ) or
diag(r)W_cᵀ + diag(u r')W_rᵀ (J-4), r < 1, r' ≤ 1/4. Sharp: let only W_c ≠ 0, with the single entry
κ by which unit 2 reads unit 1; z_1 → 0, z_2 → 1, r → 1, c → 0. Then J → [[1, 0], [κ, 0]] with
the norm √(1 + κ²).""",
    sources=("S3-6", "S3-8", "S3-9", "derived here"),
    cases=gru_cases,
    systems=("ball", "rational"),
    witness=_nilpotent,
    necessity=(
        Necessity(
            "|h_{t−1}| ≤ η: h = 8, η = 0",
            lambda: {**_gru([-64, 0], (8,), z=[[8]]), "reach": np.array(0.0)},
        ),
        SPECTRAL_NORM,
        Necessity("all of K: the reset gate left out", _reset_unseen),
        Necessity(
            "z does not read h",
            lambda: {**_gru([0, 40], (-8,), z=[[8]]), "moving": True},
        ),
    ),
    sensitivity=(
        ADDED,
        NO_LEAK,
        Mistake(
            "the leak forgotten in the library's bound",
            "tinygrad_rnn.proofs.gates_gru.growth",
            lambda right: lambda *at: right(*at) - 1,
        ),
        Mistake(
            "κ for √(1 + κ²): the leak forgotten",
            "tinygrad_rnn.proofs.gates_gru.root_above",
            lambda right: lambda q: right(q - 1),
        ),
    ),
)
def uniform_bound(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Size | None = None,
    blind: bool = False,
    moving: bool = False,
) -> Iterator[Comparison]:
    """Bound the closed form, order its part without W_z, and hold the library to its promise."""
    params, x_t, state, η = freed((params, x[0], state, reach))
    size, η = size or norm_above, η[()]
    J = cell.jacobian(params, x_t, state)[0]
    part = terms(cell, params, x_t, state, size)
    kappa = size(blocks_of(cell, params)[2]) if blind else bound_of_K(cell, params, η, size)
    s = root_above(1 + kappa * kappa) + (1 + η) * Fraction(1, 4) * size(part.W_z)
    yield from within_norm("√(1 + κ²) + (1 + η)/4 ‖W_z‖", J, rounded_up(s))

    J_0 = J if moving else np.diag(part.leak) + part.by_c[:, None] * part.K
    identity = rounded_up(1 + 0 * η) * np.eye(cell.H, dtype=int)
    above = principal_minors(identity + part.K.T @ part.K - J_0.T @ J_0)
    yield at_most("J_0ᵀJ_0 ⪯ I + KᵀK", 0, np.array(above))
    v = direction(J_0)
    of_v, of_Kv = (rounded_up(1 + 0 * η) * int(v @ v)), ((part.K @ v) ** 2).sum()
    yield at_most("|J_0 v|² ≤ |v|² + |Kv|²", ((J_0 @ v) ** 2).sum(), of_v + of_Kv)
    if not free(x_t):
        library = growth(cell, floats(params), floats(reach)).item()
        yield at_most("‖J‖ ≤ the library's bound", *within("2", J, library))


# ---- G-10 ---------------------------------------------------------------------------------------


@st.composite
def _weighted(draw: Draw, system: str) -> Case:
    """Draw a step of a GRU and positive weights."""
    α = draw(st.tuples(*[st.sampled_from((0.0625, 0.5, 1.0, 2.0, 16.0))] * 3))
    return {**draw(gru_cases(system)), "alpha": np.array(α)}


ONES = {"alpha": np.ones(3)}


@theorem(
    "G-10",
    "A sum of matrices with diagonal factors: Cauchy's inequality beats the triangle inequality",
    statement=r"""Let $S = \sum_k \mathrm{diag}(d_k) M_k$ and $\alpha_k > 0$. Then $$S^\top S
\preceq m \sum_k \alpha_k M_k^\top M_k, \qquad m = \max_i \sum_k d_{k,i}^2/\alpha_k.$$ With
$\alpha_k = \max|d_k| / \omega_k$, $\omega_k \ge \lVert M_k\rVert_2$, over the $k$ with $d_k, M_k
\ne 0$, this gives at most the square of the triangle inequality's bound: $$\lVert S\rVert_2^2 \le
m\, \Big\lVert\sum_k \alpha_k M_k^\top M_k\Big\rVert_2 \le \tau^2, \qquad \tau = \sum_k \max|d_k|\,
\omega_k.$$ A GRU's Jacobian is such a sum, with $d = (1 - z,\, z\tilde c',\, (\tilde c - h_-)z')$
and $M = (I, K, W_z^\top)$.""",
    hypotheses=("α_k > 0", "ω_k ≥ ‖M_k‖₂"),
    proof="""(Sv)_i = Σ_k (d_ki/√α_k)(√α_k (M_k v)_i), so by Cauchy (Sv)_i² ≤ (Σ_k d_ki²/α_k) Σ_k
α_k (M_k v)_i² ≤ m Σ_k α_k (M_k v)_i²; add over i. With the α_k given, d_ki²/α_k ≤ max|d_k| ω_k, so
m ≤ τ, and ‖Σ α_k M_kᵀM_k‖ ≤ Σ α_k ω_k² = τ. The sum is J-3 and J-4.""",
    sources=("S3-6", "S3-8", "S3-9", "derived here"),
    cases=_weighted,
    systems=("ball", "rational"),
    witness=lambda: {**_nilpotent(), **ONES},
    necessity=(
        Necessity(
            "α_k > 0: −1",
            lambda: {**_gru([0, 0], (0.5,), z=[[1]], c=[[1]]), "alpha": np.array([1, 1, -1.0])},
        ),
        Necessity(
            "ω_k ≥ ‖M_k‖₂: the spectral radius of a W_c that is not normal",
            lambda: {
                **_gru([40, 40, 0, 0], H=2, c=[[0.0625, 3], [0, 0.0625]]),
                **ONES,
                "size": spectral_radius,
            },
        ),
    ),
    sensitivity=(
        ADDED,
        NO_LEAK,
        Mistake(
            "the update gate held constant in the library's local bound",
            "tinygrad_rnn.proofs.gates_gru.local_growth",
            _constant_z,
        ),
        Mistake(
            "the mean over the units for the maximum",
            "tinygrad_rnn.proofs.gates_gru.largest",
            lambda _: lambda a: np.abs(a).sum() / a.size,
        ),
    ),
)
def stacked(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    alpha: Array,
    size: Size | None = None,
) -> Iterator[Comparison]:
    """Order the closed form with the weights given and with the best ones of the theorem."""
    params, x_t, state, alpha = freed((params, x[0], state, alpha))
    J = cell.jacobian(params, x_t, state)[0]
    part = terms(cell, params, x_t, state, size or norm_above)
    sizes = (1, part.kappa, (size or norm_above)(part.W_z))
    matrices = (np.eye(cell.H, dtype=int), part.K, part.W_z)
    every = list(zip((part.leak, part.by_c, part.by_z), matrices, sizes, strict=True))
    m = largest(sum(d * d / α for (d, _, _), α in zip(every, alpha, strict=True)))
    total = sum(α * (M.T @ M) for (_, M, _), α in zip(every, alpha, strict=True))
    yield from ordered("any α", J, rounded_up(m) * total)

    seen = [(d, M, ω, largest(np.abs(d))) for d, M, ω in every]
    seen = [(d, M, ω, top) for d, M, ω, top in seen if float(ω) and float(top)]
    τ = sum(top * ω for _, _, ω, top in seen)
    m = largest(0 * part.leak + sum(d * d / (top / ω) for d, _, ω, top in seen))
    total = 0 * J + sum((top / ω) * (M.T @ M) for _, M, ω, top in seen)
    yield from ordered("the α of the theorem", J, rounded_up(m) * total)
    yield at_most("m ≤ τ", m, rounded_up(τ))
    yield at_most("‖Σ α MᵀM‖ ≤ τ", *within("2", total, rounded_up(τ)))
    if not free(x_t):  # the library's bound is for the Jacobian as it is computed
        at = floats((params, x_t, state))
        J, library = rational(cell.jacobian(*at)[0]), Fraction(local_growth(cell, *at).item())
        yield at_most("‖J‖ ≤ the library's triangle bound", *within("2", J, library))


def ordered(label: str, S: Array, B: Array) -> Iterator[Comparison]:
    """Claim SᵀS ⪯ B by the minors, and for the vector that S stretches most."""
    yield at_most(f"SᵀS ⪯ B, {label}", 0, np.array(principal_minors(B - S.T @ S)))
    v = direction(S)
    yield at_most(f"|Sv|² ≤ vᵀBv, {label}", ((S @ v) ** 2).sum(), v @ (B @ v))


# ---- G-12 ---------------------------------------------------------------------------------------


def _runs(system: str) -> st.SearchStrategy[Case]:
    return steps(system, *GRUS, T=2 if system == "rational" else 3)


@theorem(
    "G-12",
    "The GRU's carousel: the product of its leaks, and what is beside it",
    statement=r"""With $\zeta_t = \max(1 - z_t)$ and $\rho_t = \max|z\tilde c'|\,\kappa_t + \max|
(\tilde c - h_-)z'|\,\lVert W_z\rVert$, $\kappa_t \ge \lVert K_t\rVert_2$, $$\Big\lVert
\frac{\partial h_T}{\partial h_0} - \prod_t \mathrm{diag}(1 - z_t)\Big\rVert_2 \le \prod_t (\zeta_t
+ \rho_t) - \prod_t \zeta_t.$$ $\kappa_t$ may be $\lVert W_c\rVert$ without reset gate, $\lVert
W_c\rVert(\max r + \max|h_-r'|\,\lVert W_r\rVert)$ with one before the product and $\max
r\,\lVert W_c\rVert + \max|ur'|\,\lVert W_r\rVert$ with one after it.""",
    hypotheses=("‖·‖ is the spectral norm or above it", "ρ_t knows every matrix that reads h"),
    proof="""J_t = D_t + R_t with D_t = diag(1 − z_t), ‖D_t‖ = ζ_t and ‖R_t‖ ≤ ρ_t (J-3, J-4 and the
triangle inequality). Multiplied out, J_T ⋯ J_1 − D_T ⋯ D_1 is the sum over all other words in the D
and R, and their norms are at most the words in ζ and ρ, which add up to the right-hand side. One
unit with positive terms attains it.""",
    sources=("S3-6", "S3-9", "Cho et al. 2014"),
    cases=_runs,
    systems=("ball", "rational"),
    witness=lambda: _gru([0, 1], (0.25,), T=3, z=[[1]], c=[[1]]),
    necessity=(
        SPECTRAL_NORM,
        Necessity("every matrix: the reset gate's left out", _reset_unseen),
    ),
    sensitivity=(
        ADDED,
        NO_LEAK,
        Mistake(
            "the leak z, as in PyTorch's convention",
            "tinygrad_rnn.proofs.gates_gru.leak_of",
            lambda _: lambda part: 1 - part.leak,
        ),
        Mistake(
            "tanh for tanh' in J",
            "tinygrad_rnn.cells.gru.d_tanh",
            lambda _: np.tanh,
        ),
    ),
)
def leak_and_rest(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    reach: Any,
    size: Size | None = None,
    blind: bool = False,
) -> Iterator[Comparison]:
    """Bound what the closed forms' product has beside the product of the leaks."""
    params, x, state = freed((params, x, state))
    size = size or norm_above
    rest, P, bound, whole, alone = 0, np.eye(cell.H, dtype=int), 0, 1, 1
    for x_t, s in zip(x, trajectory(cell, params, x, state), strict=False):
        J, part = cell.jacobian(params, x_t, s)[0], terms(cell, params, x_t, s, size)
        kappa = size(blocks_of(cell, params)[2]) if blind else part.kappa
        D = np.diag(leak_of(part))
        R = part.by_c[:, None] * part.K + part.by_z[:, None] * part.W_z
        if free(x):
            yield equal("J = D + R", J, D + R)
        ζ, top = largest(leak_of(part)), largest(np.abs(part.by_z))
        ρ = largest(np.abs(part.by_c)) * kappa + top * size(part.W_z)
        rest, P = R @ P + D @ rest if np.ndim(rest) else R @ P, J @ P
        bound, whole, alone = ρ * whole + ζ * bound, (ζ + ρ) * whole, ζ * alone
    yield from within_norm("Π(ζ + ρ) − Πζ", rest, rounded_up(bound))


def leak_of(part: Terms) -> Array:
    """Return 1 − z."""
    return part.leak
