"""Singular values, Lyapunov exponents and bounds of products, against exact ones in balls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import ALL, Array, cells, seeds
from products import (
    HOUSEHOLDER,
    U,
    assert_log,
    batches,
    exact_jacobians,
    exact_spectrum,
    frobenius,
    gains,
    gamma,
    inputs,
    log_det,
    norms,
    times,
)

from tinygrad_rnn.bounds import singular_value_bounds
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.chain import jacobian_chain
from tinygrad_rnn.kernels import chain as kernels
from tinygrad_rnn.scalars import Ball, ball, precision

# ---- singular values and Lyapunov exponents ------------------------------------------------------


@given(cells(ALL), times, seeds, st.sampled_from([1.0, 3.0]))
def test_singular_values_are_those_of_a_nearby_product(cell, T, seed, gain):
    args = inputs(cell, T, 1, seed, gain)
    chain = jacobian_chain(*args, norm=2)
    with precision(2000):
        J, S = exact_jacobians(chain)[:, 0], chain.mantissa.shape[-1]
        P, growth = ball(np.eye(S)), Ball(1)
        for J_t in J:
            P, growth = J_t @ P, growth * frobenius(J_t)
        # Each factor of the QR recursion, and each of at most SWEEPS rotations of a pair, is off by
        # γ̃ of its norm; Weyl carries that over to the singular values.
        factor = gamma(HOUSEHOLDER * S * (S + kernels.SWEEPS))
        allowed = ((1 + Ball(factor)) ** (T + 1) - 1) * growth
        logs = chain.singular_values()[0]
        assert np.all(logs[:-1] >= logs[1:])
        for log, exact in zip(logs, exact_spectrum(P), strict=True):
            assert_log(log, exact, allowed)
        # ‖P‖₂ comes from the formed product, whose largest singular value is safe.
        assert_log(chain.log_norm[-1, 0], exact_spectrum(P)[0], allowed)


def symmetric(H: int, seed: int) -> Array:
    """An exactly symmetric matrix with eigenvalues 1, −1/2, 1/4, … to rounding."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(H, H)))
    W = Q * (-0.5) ** np.arange(H) @ Q.T
    return (W + W.T) / 2


@given(st.integers(1, 5), st.sampled_from([1, 10, 1000]), seeds)
def test_small_singular_values_of_long_products(H, T, seed):
    # J_t = W symmetric: the singular values of the product are |λ|^T, down to 2^(−4000).
    W = symmetric(H, seed)
    cell = RNNCell(1, H, activation="identity")
    params = {"W_x": np.zeros((1, H)), "W_h": W, "b": np.zeros(H)}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    with precision(200):
        sizes = [float(s.log()) for s in exact_spectrum(ball(W))]
    exact = T * np.array(sizes)
    # To first order log σ_i moves by Σ_t u_iᵀ E_t v_i/|λ_i| ≤ T γ̃ κ; the rest is of second order.
    allowed = T * gamma(HOUSEHOLDER * H * (H + kernels.SWEEPS)) * math.exp(sizes[0] - sizes[-1])
    assert np.all(np.abs(chain.singular_values() - exact) <= allowed + 4 * U * np.abs(exact))
    if T == 1000 and H > 2:  # the formed product has lost them
        formed = np.log(np.linalg.svd(np.linalg.matrix_power(W, T), compute_uv=False)[-1])
        assert abs(formed - exact[-1]) > allowed


@pytest.mark.parametrize("T", [1, 10, 200])
def test_singular_values_that_grow_down_the_diagonal(T):
    # Triangular J with the small eigenvalue first: from Q_0 = I the recursion never sorts them.
    W = np.array([[0.5, 0.0], [1.0, 2.0]])
    cell = RNNCell(1, 2, activation="identity")
    params = {"W_x": np.zeros((1, 2)), "W_h": W, "b": np.zeros(2)}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    with precision(3000):
        P = ball(np.eye(2))
        for J in exact_jacobians(chain)[:, 0]:
            P = J @ P
        exact = np.array([float(s.log()) for s in exact_spectrum(P)])
    # To first order Σ_t |u_iᵀ P_{T,t} E_t P_{t−1,0} v_i|/σ_i ≤ T γ̃ κ(J) κ(V)², V the eigenvectors.
    kappa = np.linalg.cond(W) * np.linalg.cond(np.linalg.eig(W)[1]) ** 2
    allowed = T * gamma(HOUSEHOLDER * 2 * (2 + kernels.SWEEPS)) * kappa
    assert np.all(np.abs(chain.singular_values() - exact) <= allowed + 4 * U * np.abs(exact))


@given(cells(ALL), times, batches, seeds)
def test_exponents_add_up_to_the_determinants(cell, T, N, seed):
    chain = jacobian_chain(*inputs(cell, T, N, seed, 1.0), norm=2)
    S = chain.mantissa.shape[-1]
    with precision(600):
        J = exact_jacobians(chain)
        for n in range(N):
            exact, allowed = Ball(0), Ball(gamma(HOUSEHOLDER * S * S * T))
            for J_t in J[:, n]:
                low, high = singular_value_bounds(J_t.astype(float))
                if low == 0:
                    return
                exact = exact + log_det(J_t)
                # |log det (J + E) − log det J| ≤ −S log(1 − ‖J⁻¹E‖) ≤ 2S κ γ̃
                allowed = allowed + 2 * S * gamma(HOUSEHOLDER * S * S) * S * Ball(high) / Ball(low)
            for logs in (chain.lyapunov()[n] * T, chain.singular_values()[n]):
                got = float(np.sum(logs))
                assert abs(Ball(got) - exact) <= allowed + 8 * S * T * U * np.abs(logs).sum()


def test_a_saturated_unit_keeps_its_exponent():
    # Unit 1 has slopes near 10^(−34): below the rounding errors of J_t Q, if its row came first.
    H, T = 3, 5
    cell, W = RNNCell(1, H), np.array([[0.6, 0.8, 0.5], [-0.8, 0.6, 0.25], [0.5, -0.5, 1.0]])
    params = {"W_x": np.zeros((1, H)), "W_h": W, "b": np.array([40.0, 0.0, 0.5])}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    with precision(200):
        exact = float(sum((log_det(J) for J in exact_jacobians(chain)[:, 0]), Ball(0)))
    # Row by row the error is γ̃ of the row (Cox and Higham 1998), so that κ is that of W alone.
    low, high = singular_value_bounds(W)
    allowed = T * 2 * H * gamma(HOUSEHOLDER * H * H) * H * 2**H * high / low
    assert exact < -T * 60
    assert abs(chain.lyapunov().sum() * T - exact) <= allowed + 8 * H * T * U * abs(exact)
    assert abs(chain.singular_values().sum() - exact) <= allowed + 8 * H * T * U * abs(exact)


def test_the_determinant_of_the_formed_product_is_lost():
    # A chaotic tanh network: Σ log |det J_t| by QR is right where slogdet(P_T) has no digit.
    rng, T, H = np.random.default_rng(0), 60, 4
    cell = RNNCell(H, H)
    params = {"W_x": np.eye(H), "W_h": 1.3 * rng.normal(size=(H, H)), "b": np.zeros(H)}
    chain = jacobian_chain(cell, params, rng.normal(size=(T, H)))
    with precision(200):
        exact = float(sum((log_det(J) for J in exact_jacobians(chain)[:, 0]), Ball(0)))
    formed = np.linalg.slogdet(chain.mantissa)[1] + H * chain.exponent * math.log(2)
    assert abs(chain.lyapunov().sum() * T - exact) < 1
    assert abs(chain.singular_values().sum() - exact) < 1
    assert abs(formed - exact) > 10


# ---- bounds -----------------------------------------------------------------------------------


@given(cells(ALL), times, batches, seeds, gains, norms)
def test_the_bounds_hold_without_a_tolerance(cell, T, N, seed, gain, norm):
    chain = jacobian_chain(*inputs(cell, T, N, seed, gain), norm=norm)
    with precision(400):
        blocks = [J for _, J in chain._steps.jacobians()]
        J, S = ball(np.concatenate(blocks)), chain.mantissa.shape[-1]
        for n in range(N):
            P = ball(np.eye(S))
            for t in range(T):
                P = J[t, n] @ P
                exact = frobenius(P) if norm == "fro" else exact_spectrum(P)[0]
                assert Ball(chain.lower[t, n]).exp() <= exact or chain.lower[t, n] == -math.inf
                for upper in (chain.upper, chain.upper_global):
                    assert exact <= Ball(upper[t, n]).exp() or exact == 0


@pytest.mark.parametrize("weight", [1e-250, 0.7, 1e250])
def test_the_bounds_hold_after_many_sums(weight):
    # One unit: both bounds are the norm itself, and only their rounding outwards separates them.
    cell, T = RNNCell(1, 1, activation="identity"), 1000
    params = {"W_x": np.zeros((1, 1)), "W_h": np.full((1, 1), weight), "b": np.zeros(1)}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    with precision(200):
        exact = ball(np.arange(1, T + 1)) * Ball(weight).log()
        assert np.all(ball(chain.lower) <= exact)
        assert np.all(exact <= ball(chain.upper))
        assert np.all(exact <= ball(chain.upper_global))


def test_the_bounds_are_attained_by_a_rotation():
    cell = RNNCell(1, 2, activation="identity")
    params = {"W_x": np.zeros((1, 2)), "W_h": 2 * np.array([[0.6, 0.8], [-0.8, 0.6]])}
    params["b"] = np.zeros(2)
    chain = jacobian_chain(cell, params, np.zeros((10, 1)), norm=2)
    slack = 10 * 4 * 64 * 4 * U  # the outward rounding of ten steps
    assert np.all(chain.upper_global - chain.lower <= slack)
