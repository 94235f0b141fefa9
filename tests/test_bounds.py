"""The analytic bounds hold for the step Jacobians, and are attained where they should be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import ALL, Array, cells, fill_params, fill_state, in_floats, seeds

from tinygrad_rnn.bounds import (
    contracts,
    growth,
    gru_contraction,
    local_growth,
    singular_value_bounds,
)
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.proofs.norms import principal_minors, within
from tinygrad_rnn.scalars import Ball, ball, precision

U = 2.0**-53
gains = st.sampled_from([0.1, 1.0, 5.0])
variants = st.sampled_from(["minimal", "reset_before", "reset_after"])


def certainly_at_most(A: Array, s: float) -> bool:
    """Whether ‖A‖₂ ≤ s, decided by the principal minors of s²I − AᵀA in balls."""
    with precision(400):
        low, high = within("2", ball(A), Ball(s))
        return bool(np.all(low <= high))


def certainly_at_least(A: Array, s: float) -> bool:
    """Whether σ_min(A) ≥ s > 0: AᵀA − s²I is positive semidefinite."""
    with precision(1000):
        exact = ball(A)
        minors = principal_minors(exact.T @ exact - Ball(s) ** 2 * np.eye(len(A)))
        return all(minor >= 0 for minor in minors)


# ---- singular values --------------------------------------------------------------------------


@given(st.integers(1, 4), seeds, st.sampled_from([0, -1000, -300, 300, 1000]), st.integers(0, 60))
def test_singular_values_are_enclosed(S, seed, shift, grade):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(S, S)) * 2.0 ** -(grade * np.arange(S))[:, None]
    low, high = singular_value_bounds(np.ldexp(A, shift))
    low, high = np.ldexp(low, -shift), np.ldexp(high, -shift)
    assert certainly_at_most(A, float(high))
    assert low == 0 or certainly_at_least(A, float(low))
    # Not by luck: the enclosures are as sharp as the arithmetic allows.
    sigma = np.linalg.svd(A, compute_uv=False)
    assert not certainly_at_most(A, float(high) * (1 - 64 * S * S * U))
    assert low >= sigma[-1] - 64 * S * S * U * sigma[0]


def test_special_matrices():
    low, high = singular_value_bounds(np.stack([np.zeros((2, 2)), np.eye(2), np.ones((2, 2))]))
    assert (low[0], high[0]) == (0, 0)
    assert 1 - 256 * U <= low[1] <= 1 <= high[1] <= 1 + 256 * U
    assert low[2] == 0
    assert 2 <= high[2] <= 2 + 512 * U
    with pytest.raises(ValueError, match="must hold square matrices"):
        singular_value_bounds(np.zeros((2, 3)))


# ---- growth -----------------------------------------------------------------------------------


def random_step(cell: Cell, seed: int, gain: float, N: int = 3) -> tuple:
    """Parameters, input and a state with |h| ≤ 1 and |c| ≤ 3."""
    rng = np.random.default_rng(seed)
    fill = in_floats(rng, gain)
    state = fill_state(cell, N, in_floats(rng, 1.0))
    state = (state[0], *(3 * s for s in state[1:]))
    return fill_params(cell, fill), fill((N, cell.D)), state


def blocks(J: Array, k: int) -> list[list[Array]]:
    """Cut (N, S, S) into k × k blocks (N, H, H)."""
    return [np.split(row, k, axis=2) for row in np.split(J, k, axis=1)]


@given(cells(ALL), seeds, gains)
def test_no_block_exceeds_the_growth_matrix(cell, seed, gain):
    params, x_t, state = random_step(cell, seed, gain)
    J = cell.jacobian(params, x_t, state)
    for_all = growth(cell, params, reach=3.0 if isinstance(cell, LSTMCell) else 1.0)
    here = local_growth(cell, params, x_t, state)
    k = len(state)
    assert for_all.shape == (k, k)
    assert here.shape == (len(x_t), k, k)
    for i, row in enumerate(blocks(J, k)):
        for j, block in enumerate(row):
            for n, B in enumerate(block):
                assert certainly_at_most(B, float(here[n, i, j]))
                assert certainly_at_most(B, float(for_all[i, j]))


@given(seeds, gains, st.sampled_from([0.5, 1.0, 4.0]), variants)
def test_the_reach_of_the_state_counts(seed, gain, reach, variant):
    cell = GRUCell(2, 3, variant)
    params, x_t, (h,) = random_step(cell, seed, gain)
    J = cell.jacobian(params, x_t, (reach * h,))
    assert all(certainly_at_most(B, growth(cell, params, reach).item()) for B in J)
    several = growth(cell, params, np.array([reach, 2 * reach]))
    assert several.shape == (2, 1, 1)
    assert several[0] == growth(cell, params, reach)


def attained(cell: Cell, params: dict[str, Array], state: tuple[Array, ...], M: Array) -> None:
    """Demand that the bound is the norm of this step, up to its outward rounding."""
    J = cell.jacobian(params, np.zeros((1, cell.D)), state)[0]
    norm = np.linalg.norm(M, 2)
    assert certainly_at_most(J, float(norm))
    assert not certainly_at_most(J, float(norm * (1 - 256 * (math.sqrt(cell.H) + 1) * U)))


def test_the_bounds_are_attained():
    # RNN: f' = 1 at a = 0.
    cell, W = RNNCell(1, 2), np.array([[1.0, -1.0], [1.0, -1.0]])
    params = {"W_x": np.zeros((1, 2)), "W_h": W, "b": np.zeros(2)}
    state = cell.initial_state(1)
    attained(cell, params, state, growth(cell, params))
    attained(cell, params, state, local_growth(cell, params, np.zeros((1, 1)), state)[0])
    # GRU: z = (0, 1), and the candidate of unit 2 reads unit 1.
    cell = GRUCell(1, 2, variant="minimal")
    W = np.concatenate([np.zeros((2, 2)), np.array([[0.0, 3.0], [0.0, 0.0]])], axis=1)
    params = {"W_x": np.zeros((1, 4)), "W_h": W, "b": np.array([-50.0, 50.0, 0.0, 0.0])}
    attained(cell, params, cell.initial_state(1), growth(cell, params))
    # GRU: z = 1, r = 1/2 and its weight adds to the candidate's.
    W = np.array([[1.0, 0.0, 1.0]])
    for variant, h, b, more in (
        ("reset_before", 2.0, [-2.0, 50.0, -1.0], {}),
        ("reset_after", 0.0, [0.0, 50.0, -4.0], {"b_h": np.array([8.0])}),
    ):
        cell, state = GRUCell(1, 1, variant=variant), (np.array([[h]]),)
        params = {"W_x": np.zeros((1, 3)), "W_h": W, "b": np.array(b), **more}
        attained(cell, params, state, local_growth(cell, params, np.zeros((1, 1)), state)[0])
    # LSTM: all gates open, nothing but the candidate reads h.
    cell = LSTMCell(1, 2)
    W = np.zeros((2, 8))
    W[:, 4:6] = 2 * np.array([[0.6, 0.8], [-0.8, 0.6]])
    b = np.repeat([50.0, 50.0, 0.0, 50.0], 2)
    params = {"W_x": np.zeros((1, 8)), "W_h": W, "b": b}
    attained(cell, params, cell.initial_state(1), growth(cell, params))


def test_an_unknown_cell_is_refused():
    class Other(RNNCell):
        pass

    class Foreign(Cell):
        layout = RNNCell.layout
        step = jacobian = local = RNNCell.step

    cell = Foreign(1, 2)
    params = RNNCell(1, 2).init(0)
    assert growth(Other(1, 2), params) == growth(RNNCell(1, 2), params)
    with pytest.raises(TypeError, match="no bound is known for Foreign"):
        growth(cell, params)
    with pytest.raises(TypeError, match="no bound is known for Foreign"):
        local_growth(cell, params, np.zeros((1, 1)), cell.initial_state(1))


# ---- contraction ------------------------------------------------------------------------------


@given(*[st.floats(0, 1.25)] * 4)
def test_contraction_is_a_spectral_radius_below_one(f, g, e, a):
    M = np.array([[e * a + g, e * f], [a, f]])
    trace, det = M[0, 0] + M[1, 1], M[0, 0] * M[1, 1] - M[0, 1] * M[1, 0]
    radius = (trace + math.sqrt(max(trace**2 - 4 * det, 0))) / 2
    # M ≥ 0: its largest eigenvalue. Where rounding could decide, the root is off by √u at most.
    if abs(radius - 1) > 16 * math.sqrt(U):
        assert contracts(M) == (radius < 1)
    if contracts(M):
        assert f < 1
        assert g < 1
        assert (1 - f) * (1 - g) * (1 + 16 * U) > e * a


def test_contraction_of_numbers_and_of_other_shapes():
    assert contracts(np.array([[[0.5]], [[1.0]]])).tolist() == [True, False]
    with pytest.raises(ValueError, match="M must have shape"):
        contracts(np.eye(3))


@given(variants, seeds, st.sampled_from([0.1, 0.3]))
def test_a_gru_contracts_where_the_update_gate_is_open(variant, seed, gain):
    cell = GRUCell(2, 3, variant)
    params, x_t, state = random_step(cell, seed, gain, N=8)
    J = cell.jacobian(params, x_t, state)
    _, a_z, _, _ = cell._gates(params, x_t, state[0])
    z_min = float(1 / (1 + math.exp(-a_z.min()))) * (1 - 16 * U)
    factor = gru_contraction(cell, params, z_min)
    if gain < 0.2:  # κ ≤ 3/10 (1 + …) and ‖W_hz‖_∞ ≤ 3/10 leave θ > 0
        assert factor < 1
    if factor < math.inf:
        with precision(200):
            assert np.all(np.abs(ball(J)).sum(axis=2) <= Ball(factor))


def test_gru_contraction_by_hand():
    cell = GRUCell(1, 1, variant="minimal")
    params = {"W_x": np.ones((1, 2)), "W_h": np.array([[0.5, 2.0]]), "b": np.zeros(2)}
    assert gru_contraction(cell, params, z_min=0.5) == math.inf  # κ = 2 > 1
    for wrong in (0.0, -1.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"z_min must be in \(0, 1\]"):
            gru_contraction(cell, params, wrong)
