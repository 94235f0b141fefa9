"""Products of Jacobians against exact products in balls, against the tape, and at the extremes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import ALL, Array, assert_within, cells, lift, seeds, total
from products import (
    U,
    assert_log,
    batches,
    exact_jacobians,
    frobenius,
    gains,
    gamma,
    inputs,
    norms,
    times,
)
from source_tree import ROOT

import tinygrad_rnn as tg
from tinygrad_rnn import chain as chain_module
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.chain import Chain, jacobian_chain
from tinygrad_rnn.kernels import chain as kernels
from tinygrad_rnn.recurrent import bptt
from tinygrad_rnn.scalars import Ball, ball, errors, precision, rounded

# ---- the product ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cells(ALL), st.integers(0, 6), batches, seeds, gains, norms, st.sampled_from([1, 2**16]))
def test_products_are_within_the_classical_bound(dtype, cell, T, N, seed, gain, norm, block):
    with pytest.MonkeyPatch.context() as patch, precision(400):
        patch.setattr(chain_module, "BLOCK", block)
        chain = jacobian_chain(*inputs(cell, T, N, seed, gain, dtype), norm=norm)
        J, S = exact_jacobians(chain), chain.mantissa.shape[-1]
        for n in range(N):
            P, growth = ball(np.eye(S)), Ball(1)
            for t in range(T):
                P, growth = J[t, n] @ P, growth * frobenius(J[t, n])
                # Higham 2002, §3.5; the RNN multiplies by f' after a sum of H products.
                allowed = ((1 + Ball(gamma(S + 1))) ** (t + 1) - 1) * growth
                if norm == "fro":
                    rounding = gamma(S * S + 2) * (growth + allowed)
                    assert_log(chain.log_norm[t, n], frobenius(P), allowed + rounding)
            got = ball(chain.mantissa[n]) * Ball(2) ** int(chain.exponent[n])
            assert np.all(abs(got - P) <= (allowed if T else Ball(0)))
    mantissa, log_scale = chain.product
    assert mantissa is chain.mantissa
    assert np.array_equal(log_scale, chain.exponent * math.log(2))
    size = np.linalg.norm(mantissa, axis=(1, 2))
    assert np.all((size == 0) | (np.abs(np.log2(size, where=size > 0, out=size)) <= 200))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cells(ALL), times, seeds, gains)
def test_the_tape_agrees(dtype, cell, T, seed, gain):
    cell, params, x, state = inputs(cell, T, 1, seed, gain, dtype)
    chain = jacobian_chain(cell, params, x, state)
    S = chain.mantissa.shape[-1]
    # S copies of the sequence, a unit vector each: the rows of ∂state_T/∂state_0.
    rows = np.split(np.eye(S, dtype=dtype), S // cell.H, axis=1)
    data = {
        "params": params,
        "x": np.repeat(x, S, axis=1),
        "d_outputs": np.zeros((T, S, cell.H), dtype),
        "state": tuple(np.repeat(s, S, axis=0) for s in state),
        "d_state": tuple(rows),
    }
    lifted = lift(lambda a: rounded(a, dtype), data)
    bounds = [
        np.concatenate(lift(errors, bptt(cell, **lifted, method=m)["state"]), axis=1)
        for m in ("tape", "chain")
    ]
    tape = np.concatenate(bptt(cell, **data, method="tape")["state"], axis=1)
    product = np.ldexp(chain.mantissa[0], chain.exponent[0])
    assert_within(product, tape, total(*bounds))


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "relu", "identity"])
def test_norms_far_below_the_range_of_floats_are_right(activation):
    # Weights and slopes ≥ 0: no cancellation, so every entry is right in relative terms.
    rng, T, H = np.random.default_rng(0), 3000, 2
    cell = RNNCell(1, H, activation=activation)
    params = {
        "W_x": rng.uniform(0, 1, (1, H)),
        "W_h": rng.uniform(1e-12, 1e-11, (H, H)),
        "b": np.zeros(H),
    }
    chain = jacobian_chain(cell, params, rng.uniform(0.5, 1, (T, 1)))
    assert chain.log_norm[-1] < -30000 * math.log(10)
    with precision(128):
        P, J = ball(np.eye(H)), exact_jacobians(chain)[:, 0]
        for t in range(T):
            P = J[t] @ P
            relative = gamma((t + 1) * (H + 1)) + gamma(H * H + 2)
            # Also where the norm is 10^(−250), and where floats have long underflowed.
            assert_log(chain.log_norm[t], frobenius(P), relative * frobenius(P))


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_a_million_steps(weight):
    T, cell = 10**6, RNNCell(1, 1, activation="identity")
    params = {"W_x": np.zeros((1, 1)), "W_h": np.full((1, 1), weight), "b": np.zeros(1)}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    sign = 1 if weight > 1 else -1
    assert math.log2(chain.mantissa.item()) + chain.exponent.item() == sign * T
    exact = sign * np.arange(1, T + 1) * math.log(2)
    assert np.all(np.abs(chain.log_norm - exact) <= 4 * U * np.abs(exact))
    assert np.all(np.isfinite(chain.upper_global))


@given(st.sampled_from([1e-300, 1e-160, 1e160, 1e300]), seeds, norms, st.integers(1, 3))
def test_steps_at_the_ends_of_the_range_of_floats(scale, seed, norm, H):
    rng = np.random.default_rng(seed)
    cell = RNNCell(1, H, activation="identity")
    W = rng.uniform(0.5, 1, (H, H))
    params = {"W_x": np.zeros((1, H)), "b": np.zeros(H)}
    x = np.zeros((50, 1))
    plain = jacobian_chain(cell, {**params, "W_h": W}, x, norm=norm)
    power = 2.0 ** round(math.log2(scale))
    scaled = jacobian_chain(cell, {**params, "W_h": W * power}, x, norm=norm)
    shift = scaled.exponent - plain.exponent - 50 * int(math.log2(power))
    assert np.array_equal(plain.mantissa, np.ldexp(scaled.mantissa, shift))
    shifted = plain.log_norm + np.arange(1, 51) * math.log(power)
    assert np.all(np.abs(scaled.log_norm - shifted) <= 16 * U * (np.abs(shifted) + 1))


def test_units_without_influence_do_not_hide_the_others():
    # The first 100 rows of W_h are zero, and the blocks of rows that the kernel divides them into;
    # the other units vanish but for what they send to those.
    rng, T, H, silent = np.random.default_rng(0), 100, 160, 100
    cell = RNNCell(1, H, activation="identity")
    W = rng.uniform(1e-8, 2e-8, (H, H))
    W[:silent], W[silent:, :silent] = 0, 1
    params = {"W_x": np.zeros((1, H)), "W_h": W, "b": np.zeros(H)}
    chain = jacobian_chain(cell, params, np.zeros((T, 1)))
    undivided, _, _ = chain_module._multiply(chain._steps._replace(slopes=None), "fro")
    # All is nonnegative: each norm is right in relative terms.
    allowed = 2 * gamma(T * (H + 1) + H * H + 2) + 16 * U * np.abs(chain.log_norm)
    assert np.all(np.abs(chain.log_norm - undivided[:, 0]) <= allowed)


@pytest.mark.parametrize("norm", ["fro", 2])
def test_a_dead_unit_makes_an_exact_zero(norm):
    cell = RNNCell(1, 2, activation="relu")
    params = {"W_x": np.zeros((1, 2)), "W_h": np.eye(2), "b": np.array([1.0, -1.0])}
    chain = jacobian_chain(cell, params, np.ones((3, 1)), norm=norm)
    assert np.array_equal(chain.log_norm, np.zeros(3))  # unit 2 is dead, unit 1 passes on
    assert chain.singular_values().tolist() == [0.0, -math.inf]
    assert chain.lyapunov().tolist() == [0.0, -math.inf]
    chain = jacobian_chain(
        cell, {**params, "b": np.array([-1.0, -1.0])}, np.ones((3, 1)), norm=norm
    )
    for logs in (chain.log_norm, chain.upper, chain.lower, chain.singular_values()):
        assert np.all(logs == -math.inf)
    assert np.all(chain.lyapunov() == -math.inf)
    assert np.all(chain.mantissa == 0)
    assert np.all(np.isfinite(chain.upper_global))


# ---- all pairs --------------------------------------------------------------------------------


@given(cells(ALL), st.integers(0, 5), batches, seeds, gains, norms)
def test_all_pairs_are_chains_that_start_later(cell, T, N, seed, gain, norm):
    chain = jacobian_chain(*inputs(cell, T, N, seed, gain), norm=norm)
    pairs, S = chain.all_pairs(), chain.mantissa.shape[-1]
    assert pairs.shape == (T + 1, T + 1, N)
    assert np.array_equal(pairs[1:, 0], chain.log_norm)
    assert np.all(pairs[np.triu_indices(T + 1, 1)] == -math.inf)
    assert np.all(pairs[np.arange(T + 1), np.arange(T + 1)] == (math.log(S) / 2) * (norm == "fro"))
    if norm == 2:
        return
    with precision(400):
        J = exact_jacobians(chain)
        for n in range(N):
            for i in range(T):
                P, growth = ball(np.eye(S)), Ball(1)
                for t in range(i, T):
                    P, growth = J[t, n] @ P, growth * frobenius(J[t, n])
                    relative = (1 + Ball(gamma(S * S + S + 3))) ** (t + 1 - i) - 1
                    assert_log(pairs[t + 1, i, n], frobenius(P), relative * growth)


# ---- shapes, layouts, threads -------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
def test_no_steps(make):
    cell = make(2, 3)
    chain = jacobian_chain(cell, cell.init(0), np.zeros((0, 2, 2)))
    S = chain.mantissa.shape[-1]
    for logs in (chain.log_norm, chain.upper, chain.lower, chain.upper_global):
        assert logs.shape == (0, 2)
    identity = np.ldexp(chain.mantissa, chain.exponent[:, None, None])
    assert np.array_equal(identity, np.broadcast_to(np.eye(S), (2, S, S)))
    assert np.array_equal(chain.singular_values(), np.zeros((2, S)))
    assert np.array_equal(chain.all_pairs(), np.full((1, 1, 2), math.log(S) / 2))
    with pytest.raises(ValueError, match="need T ≥ 1, got T = 0"):
        chain.lyapunov()


def outcomes(chain: Chain) -> dict[str, Array]:
    return {
        "log_norm": chain.log_norm,
        "mantissa": chain.product[0],
        "log_scale": chain.product[1],
        "exponent": chain.exponent,
        "singular_values": chain.singular_values(),
        "lyapunov": chain.lyapunov(),
        "upper": chain.upper,
        "lower": chain.lower,
        "upper_global": chain.upper_global,
    }


@given(cells(ALL), times, seeds, norms)
def test_one_sequence_is_a_batch_without_the_axis(cell, T, seed, norm):
    cell, params, x, state = inputs(cell, T, 1, seed, 1.0)
    batch = jacobian_chain(cell, params, x, state, norm)
    one = jacobian_chain(cell, params, x[:, 0], tuple(s[0] for s in state), norm)
    for name, a in outcomes(one).items():
        b = outcomes(batch)[name]
        axis = 1 if name in ("log_norm", "upper", "lower", "upper_global") else 0
        assert np.array_equal(a, b.squeeze(axis)), name
    assert np.array_equal(one.all_pairs(), batch.all_pairs()[..., 0])


def strided(a: Array) -> Array:
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = [np.asfortranarray, strided, read_only, lambda a: a.astype(a.dtype.newbyteorder())]


@pytest.mark.parametrize("layout", LAYOUTS, ids=["Fortran", "strided", "read-only", "big-endian"])
@pytest.mark.parametrize("make", [ALL[0], GRUCell, LSTMCell])
def test_the_layout_of_the_inputs_does_not_matter(make, layout):
    cell, params, x, state = inputs(make(3, 4), 5, 2, 0, 1.0)
    kept = lift(np.copy, (params, x, *state))
    chain = jacobian_chain(cell, lift(layout, params), layout(x), lift(layout, state))
    for name, a in outcomes(chain).items():
        assert np.array_equal(a, outcomes(jacobian_chain(cell, params, x, state))[name]), name
    for a, b in zip(lift(np.copy, (params, x, *state))[1:], kept[1:], strict=True):
        assert np.array_equal(a, b)  # the inputs are left alone


@pytest.mark.parametrize("N", [1, 3])
def test_the_bits_do_not_depend_on_the_number_of_threads(N, monkeypatch):
    cell, params, x, state = inputs(RNNCell(2, 150), 6, N, 0, 0.1)
    monkeypatch.setattr(kernels, "PARALLEL", 0)
    chains = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(kernels, "threads", lambda threads=threads: threads)
        chains.append(jacobian_chain(cell, params, x, state))
    for chain in chains[1:]:
        assert np.array_equal(chain.log_norm, chains[0].log_norm)
        assert np.array_equal(chain.mantissa, chains[0].mantissa)
    P = np.eye(150)
    for _, J in chains[0]._steps.jacobians():
        for J_t in J[:, 0]:
            P = J_t @ P
    scale = np.ldexp(1.0, -int(chains[0].exponent[0]))
    growth = math.prod(
        np.linalg.norm(J[:, 0], axis=(1, 2)).prod() for _, J in chains[0]._steps.jacobians()
    )
    allowed = 2 * ((1 + gamma(160)) ** 6 - 1) * growth * scale
    assert np.abs(P * scale - chains[0].mantissa[0]).max() <= allowed


# ---- refusals ---------------------------------------------------------------------------------


def refuse(error: type, match: str, cell: Cell | None = None, **changes: Any) -> None:
    cell = cell or RNNCell(2, 3)
    good = {"params": cell.init(0), "x": np.ones((4, 2)), "norm": "fro"}
    with pytest.raises(error, match=match):
        jacobian_chain(cell, **{**good, **changes})


def test_refusals():
    cell = RNNCell(2, 3)
    params = cell.init(0)
    refuse(ValueError, "norm must be 'fro' or 2, got 1", norm=1)
    refuse(ValueError, "W_h must have shape", params={**params, "W_h": np.ones((3, 2))})
    refuse(ValueError, "x must be finite, got nan", x=np.full((4, 2), np.nan))
    refuse(TypeError, "got a Tensor. To differentiate", x=tg.Tensor(np.ones((4, 2))))
    half = {name: p.astype(np.float16) for name, p in params.items()}
    refuse(TypeError, "got float16", params=half, x=np.ones((4, 2), np.float16))
    refuse(TypeError, "got complex128", x=np.ones((4, 2), complex))
    refuse(TypeError, "x is float32 but W_x is float64", x=np.ones((4, 2), np.float32))
    linear = RNNCell(1, 1, activation="identity")
    grow = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 2.0), "b": np.zeros(1)}
    refuse(ValueError, "the state overflows at step 10", linear, params=grow, x=np.ones((2000, 1)))


# ---- without compilation ----------------------------------------------------------------------


def test_everything_runs_as_plain_python():
    files = [__file__, str(ROOT / "tests/test_spectra.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    chosen = "classical or dead or nearby or all_pairs or threads"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    run = subprocess.run(
        [*command, "-k", f"({chosen}) and not plain"],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
