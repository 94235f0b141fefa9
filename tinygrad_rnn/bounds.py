"""Analytic bounds on the step Jacobian, and rigorous bounds on the singular values of a matrix.

A state of k components, (h,) or (h, c), cuts J_t into k × k blocks. A *growth matrix* M of a step
is a k × k matrix with ‖block‖₂ ≤ M entry by entry. Then ‖J_t‖ ≤ ‖M_t‖ and ‖J_T ⋯ J_1‖ ≤
‖M_T ⋯ M_1‖, in the 2-norm: for the RNN and the GRU plain numbers, for the LSTM 2 × 2 matrices.

Floats are rounded outwards, by a factor that bounds the number of operations in the formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, Params, RNNCell, State
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.functions import Array

__all__ = ["contracts", "growth", "gru_contraction", "local_growth", "singular_value_bounds"]

U = 2.0**-53


def singular_value_bounds(A: Array) -> tuple[Array, Array]:
    """Return numbers certainly ≤ σ_min and ≥ σ_max of each real matrix A (…, S, S).

    Let U Σ Vᵀ be the computed decomposition, α = ‖UᵀU − I‖, β = ‖VᵀV − I‖ and ρ = ‖A − U Σ Vᵀ‖,
    in the Frobenius norm. By Weyl and Ostrowski

    (1 − α)^½ (1 − β)^½ Σ_min − ρ ≤ σ_min(A),  σ_max(A) ≤ (1 + α)^½ (1 + β)^½ Σ_max + ρ.

    Rounding errors of α, β and ρ are bounded as those of any sum of products; nothing is assumed of
    LAPACK.

    Raises
    ------
    ValueError
        For matrices that are not square.

    References
    ----------
    Rump 2011, *Verified bounds for singular values, in particular for the spectral norm of a matrix
    and its inverse*, BIT 51.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.bounds import singular_value_bounds
    >>> low, high = singular_value_bounds(np.array([[3.0, 0.0], [4.0, 5.0]]))  # √5 and √45
    >>> bool(low**2 <= 5 and 45 <= high**2), (low * high).round(9).item()
    (True, 15.0)
    """
    A = np.asarray(A, dtype=np.float64)
    if A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise ValueError(f"A must hold square matrices, shape (…, S, S), got {A.shape}.")
    S = A.shape[-1]
    _, shift = np.frexp(np.abs(A).max(axis=(-2, -1)))
    A = np.ldexp(A, -shift[..., None, None])  # exact, or off by less than 2⁻¹⁰⁷⁴
    left, sigma, right = np.linalg.svd(A)
    # An entry is a sum of S products and one term; doubled, for what is of second order.
    rounding = 2 * (S + 4) * U
    norms = _frobenius(left), _frobenius(right)
    alpha = _frobenius(_transposed(left) @ left - np.eye(S)) + rounding * norms[0] ** 2
    beta = _frobenius(right @ _transposed(right) - np.eye(S)) + rounding * norms[1] ** 2
    scaled = sigma[..., None] * right
    rho = _frobenius(A - left @ scaled)
    rho = rho + rounding * (_frobenius(A) + norms[0] * _frobenius(scaled)) + 2.0**-1000
    low = np.maximum((1 - alpha - beta) * sigma[..., -1] * (1 - 8 * U) - rho * (1 + 8 * U), 0)
    high = ((1 + alpha + beta) * sigma[..., 0] + rho) * (1 + 8 * U)
    # A matrix of zeros is known exactly.
    high = np.where(sigma[..., 0] > 0, high, 0.0)
    return np.nextafter(np.ldexp(low, shift), 0), np.ldexp(high, shift)


def _frobenius(A: Array) -> Array:
    """Return at least ‖A‖_F."""
    return np.sqrt((A * A).sum(axis=(-2, -1))) * (1 + 2 * A.shape[-1] ** 2 * U)


def _transposed(A: Array) -> Array:
    return np.swapaxes(A, -1, -2)


def growth(cell: Cell, params: Params, reach: Any = 1.0) -> Array:
    """Bound every step by a growth matrix that holds for all inputs: shape (…, k, k).

    - RNN: γ‖W_h‖ with γ = sup |f'|.
    - GRU: √(1 + κ²) + (1 + η)/4 · ‖W_hz‖ where |h_{t−1}| ≤ η and κ bounds ∂a_c/∂h_{t−1}: ‖W_hc‖ for
      ``minimal``, ‖W_hc‖ (1 + η/4 · ‖W_hr‖) for ``reset_before``, ‖W_hc‖ + u/4 · ‖W_hr‖ for
      ``reset_after`` with u = η‖W_hc‖_∞ + max |b_h|. Row i of diag(1 − z) + diag(z c')K has by
      Cauchy and Schwarz at most the length √((1 − z)² + z²) ≤ 1 times that of (1, K).
    - LSTM: [[ē ā + ḡ, ē f̄], [ā, f̄]] where |c_{t−1}| ≤ C, with f̄ = ē = 1,
      ā = C/4 · ‖W_f‖ + ¼‖W_i‖ + ‖W_g‖ and ḡ = tanh(C + 1)/4 · ‖W_o‖; peepholes V add
      C/4 · ‖V_f‖ + ¼‖V_i‖ to f̄ and tanh(C + 1)/4 · ‖V_o‖ to ē.

    Parameters
    ----------
    cell, params
        A cell and its parameters.
    reach
        η or C, of any shape (…); the RNN needs none. With |h_0| ≤ η ≥ 1 all states of a GRU stay
        within η; an LSTM has |c_t| ≤ |c_0| + t.

    Raises
    ------
    TypeError
        For a cell without such a bound.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.bounds import growth
    >>> cell = tg.RNNCell(D=1, H=2, activation="sigmoid")
    >>> params = {"W_x": np.ones((1, 2)), "W_h": np.diag([2.0, 3.0]), "b": np.zeros(2)}
    >>> growth(cell, params).round(12).tolist()
    [[0.75]]
    """
    cell.check(params)
    reach = np.asarray(reach, dtype=np.float64)
    blocks = [_norm(W) for W in split(params["W_h"], params["W_h"].shape[1] // cell.H)]
    if isinstance(cell, RNNCell):
        M = float(ACTIVATIONS[cell.activation].lipschitz) * blocks[0] + 0 * reach[..., None, None]
    elif isinstance(cell, GRUCell):
        *W_r, W_z, W_c = blocks
        kappa = W_c + 0 * reach
        if cell.variant == "reset_before":
            kappa = W_c * (1 + reach / 4 * W_r[0])
        if cell.variant == "reset_after":
            rows = np.abs(split(params["W_h"], 3)[2]).sum(axis=0).max()
            kappa = W_c + (reach * rows + np.abs(params["b_h"]).max()) / 4 * W_r[0]
        M = (np.sqrt(1 + kappa**2) + (1 + reach) / 4 * W_z)[..., None, None]
    elif isinstance(cell, LSTMCell):
        quarter = np.full_like(reach, 0.25)
        slopes = reach / 4, quarter, 1 + 0 * reach, np.tanh(reach + 1) / 4
        M = _lstm_growth(cell, params, (1 + 0 * reach, *slopes, 1 + 0 * reach))
    else:
        raise TypeError(f"no bound is known for {type(cell).__name__}.")
    return _outwards(M, params["W_h"])


def local_growth(cell: Cell, params: Params, x_t: Array, state: State) -> Array:
    """Bound the step from ``state`` by a growth matrix, (N, k, k): :func:`growth` with known gates.

    - RNN: max |f'(a_t)| · ‖W_h‖.
    - GRU: max(1 − z) + max|z c'| · κ + max|(c − h_{t−1}) z'| · ‖W_hz‖, κ with the r and h at hand.
    - LSTM: f̄ = max f, ā = max|c_{t−1} f'| ‖W_f‖ + max|g i'| ‖W_i‖ + max|i g'| ‖W_g‖,
      ē = max|o tanh'(c_t)|, ḡ = max|tanh(c_t) o'| ‖W_o‖, and the peepholes likewise.

    Parameters
    ----------
    cell, params, x_t, state
        As for ``cell.step``: x_t (N, D), each component of the state (N, H).

    Raises
    ------
    TypeError
        For a cell without such a bound.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.bounds import growth, local_growth
    >>> cell = tg.LSTMCell(D=2, H=3)
    >>> params, state = cell.init(0), cell.initial_state(5)
    >>> M = local_growth(cell, params, np.ones((5, 2)), state)
    >>> M.shape, bool((M <= growth(cell, params)).all())
    ((5, 2, 2), True)
    """
    cell.check(params)
    h = state[0]
    blocks = [_norm(W) for W in split(params["W_h"], params["W_h"].shape[1] // cell.H)]
    if isinstance(cell, RNNCell):
        slopes = ACTIVATIONS[cell.activation].derivative(cell._preactivation(params, x_t, h))
        M = (_largest(slopes) * blocks[0])[:, None, None]
    elif isinstance(cell, GRUCell):
        a_r, a_z, a_c, u = cell._gates(params, x_t, h)
        *W_r, W_z, W_c = blocks
        kappa = W_c
        if cell.variant == "reset_before":
            kappa = W_c * (_largest(sigmoid(a_r)) + _largest(h * d_sigmoid(a_r)) * W_r[0])
        if cell.variant == "reset_after":
            kappa = _largest(sigmoid(a_r)) * W_c + _largest(u * d_sigmoid(a_r)) * W_r[0]
        z, c = sigmoid(a_z), np.tanh(a_c)
        by_z = _largest((c - h) * d_sigmoid(a_z))
        M = _largest(1 - z) + _largest(z * d_tanh(a_c)) * kappa + by_z * W_z
        M = M[:, None, None]
    elif isinstance(cell, LSTMCell):
        a_i, a_f, a_g, a_o, c = cell._forward(params, x_t, state)
        factors = (
            sigmoid(a_f),
            state[1] * d_sigmoid(a_f),
            np.tanh(a_g) * d_sigmoid(a_i),
            sigmoid(a_i) * d_tanh(a_g),
            np.tanh(c) * d_sigmoid(a_o),
            sigmoid(a_o) * d_tanh(c),
        )
        M = _lstm_growth(cell, params, tuple(map(_largest, factors)))
    else:
        raise TypeError(f"no bound is known for {type(cell).__name__}.")
    return _outwards(M, params["W_h"])


def contracts(M: Array) -> Array:
    """Return whether the powers of the growth matrices M (…, k, k), k ≤ 2, certainly decay.

    For k = 1: M < 1. For k = 2, with M = [[ē ā + ḡ, ē f̄], [ā, f̄]], the spectral radius is below 1
    iff f̄ < 1, ḡ < 1 and (1 − f̄)(1 − ḡ) > ē ā.

    Raises
    ------
    ValueError
        For other shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.bounds import contracts
    >>> contracts(np.array([[[0.5, 0.25], [0.5, 0.5]], [[0.5, 1.0], [0.5, 0.5]]])).tolist()
    [True, False]
    """
    M = np.asarray(M, dtype=np.float64)
    if M.shape[-2:] == (1, 1):
        return M[..., 0, 0] < 1
    if M.shape[-2:] != (2, 2):
        raise ValueError(f"M must have shape (…, 1, 1) or (…, 2, 2), got {M.shape}.")
    # det(I − M) > 0 and both diagonal entries below 1, which is the same without dividing by f̄.
    p, q = M[..., 0, 0], M[..., 1, 1]
    off = M[..., 0, 1] * M[..., 1, 0] * (1 + 8 * U)
    return (p < 1) & (q < 1) & ((1 - p) * (1 - q) * (1 - 8 * U) > off)


def gru_contraction(cell: GRUCell, params: Params, z_min: float, reach: float = 1.0) -> float:
    """Bound ‖J_t‖_∞ of a GRU by 1 − z_min θ where θ > 0, for every step with z ≥ z_min.

    θ = 1 − κ − (1 + η)(1 − z_min)‖W_hz‖, all norms ‖·‖_∞ of the transposed blocks, |h_{t−1}| ≤ η
    and κ as in :func:`growth`. Row i of J_t sums up to at most
    1 − z_i (1 − κ − (1 + η)(1 − z_i)‖W_hz‖), as |(c − h) z'| ≤ (1 + η) z (1 − z).

    Returns
    -------
    float
        Below 1 if the steps contract; infinite where θ ≤ 0 leaves it open.

    Raises
    ------
    ValueError
        If z_min is not in (0, 1].

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.bounds import gru_contraction
    >>> cell = tg.GRUCell(D=1, H=1, variant="minimal")
    >>> params = {"W_x": np.ones((1, 2)), "W_h": np.array([[0.5, 0.25]]), "b": np.zeros(2)}
    >>> round(gru_contraction(cell, params, z_min=0.5), 12)
    0.875
    """
    cell.check(params)
    if not 0 < z_min <= 1:
        raise ValueError(f"z_min must be in (0, 1], got {z_min!r}.")
    blocks = split(params["W_h"], params["W_h"].shape[1] // cell.H)
    *W_r, W_z, W_c = (float(np.abs(W).sum(axis=0).max()) for W in blocks)
    kappa = W_c
    if cell.variant == "reset_before":
        kappa = W_c * (1 + reach / 4 * W_r[0])
    if cell.variant == "reset_after":
        kappa = W_c + (reach * W_c + float(np.abs(params["b_h"]).max())) / 4 * W_r[0]
    outwards = 1 + 4 * (cell.H + 16) * U
    theta = 1 - (kappa + (1 + reach) * (1 - z_min) * W_z) * outwards
    return 1 - z_min * theta * (1 - 4 * U) if theta > 0 else np.inf


# ---- parts ------------------------------------------------------------------------------------


def _lstm_growth(cell: LSTMCell, params: Params, factors: tuple[Array, ...]) -> Array:
    """Put M together from max f, |c_- f'|, |g i'|, |i g'|, |tanh(c) o'| and |o tanh'(c)|."""
    f, by_f, by_i, by_g, by_o, e = factors
    W_i, W_f, W_g, W_o = (_norm(W) for W in split(params["W_h"], 4))
    a, g = by_f * W_f + by_i * W_i + by_g * W_g, by_o * W_o
    if cell.peephole:
        V_i, V_f, V_o = (_norm(V) for V in cell._peep_matrices(params))
        f, e = f + by_f * V_f + by_i * V_i, e + by_o * V_o
    return np.stack([np.stack([e * a + g, e * f], axis=-1), np.stack([a, f], axis=-1)], axis=-2)


def _norm(W: Array) -> float:
    """Return a number ≥ ‖W‖₂."""
    return float(singular_value_bounds(W)[1])


def _largest(a: Array) -> Array:
    return np.abs(a).max(axis=1).astype(np.float64)


def _outwards(M: Array, W: Array) -> Array:
    """Repay the rounding of M and of the Jacobian's own entries, in the precision of W.

    An entry of J is a sum of at most 8 products of floats, each of a factor that M knows too and a
    weight: off by 16u Σ|terms|, and ‖|W|‖ ≤ √H ‖W‖.
    """
    u = float(np.finfo(W.dtype).eps) / 2
    return M * (1 + 64 * (np.sqrt(len(W)) + 1) * u)
