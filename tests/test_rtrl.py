"""Real-time recurrent learning gives the gradient of backpropagation through time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    ALL,
    PIECEWISE_LINEAR,
    POLYNOMIAL,
    arrays,
    assert_same,
    assert_within,
    cells,
    in_field,
    in_floats,
    in_rationals,
    lift,
    problem,
    seeds,
    total,
)

import tinygrad_rnn as tg
from tinygrad_rnn.cells import LSTMCell, RNNCell
from tinygrad_rnn.scalars import assert_exact, ball, errors, rounded

times, batches = st.integers(0, 4), st.integers(1, 3)


@given(cells(POLYNOMIAL), times, batches, seeds, st.data())
def test_it_is_bptt_over_a_field(cell, T, N, seed, draw) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    lengths = draw.draw(st.none() | st.lists(st.integers(0, T), min_size=N, max_size=N))
    gradients = tg.rtrl(cell, **data, lengths=lengths)
    assert list(gradients) == [*cell.layout, "x", "state"]
    assert_same(gradients, tg.bptt(cell, **data, lengths=lengths, method="tape"))


@given(cells(PIECEWISE_LINEAR), times, batches, seeds)
def test_it_is_bptt_over_the_rationals(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_rationals(np.random.default_rng(seed)))
    gradients = tg.rtrl(cell, **data)
    for a in arrays(gradients).values():
        assert_exact(a)
    assert_same(gradients, tg.bptt(cell, **data, method="tape"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cells(ALL), times, batches, seeds, st.sampled_from([0.1, 1.0, 3.0]))
def test_it_is_bptt_in_floats(dtype, cell, T, N, seed, gain) -> None:
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), gain, dtype))
    lifted = lift(lambda a: rounded(a, dtype), data)
    forward, backward = tg.rtrl(cell, **data), tg.bptt(cell, **data, method="tape")
    assert all(a.dtype == dtype for a in arrays(forward).values())
    bounds = tg.rtrl(cell, **lifted), tg.bptt(cell, **lifted, method="tape")
    assert_within(forward, backward, total(*(lift(errors, g) for g in bounds)))


@given(cells(ALL), st.integers(1, 3), batches, seeds)
def test_it_overlaps_bptt_in_balls(cell, T, N, seed) -> None:
    data = lift(ball, problem(cell, T, N, in_floats(np.random.default_rng(seed), 1.0)))
    forward, backward = arrays(tg.rtrl(cell, **data)), arrays(tg.bptt(cell, **data))
    for name in backward:
        pairs = zip(forward[name].flat, backward[name].flat, strict=True)
        assert all(a.arb.overlaps(b.arb) for a, b in pairs), name


def test_one_sequence_has_no_axis() -> None:
    cell = LSTMCell(2, 3)
    x, d_outputs = np.random.default_rng(0).normal(size=(2, 4, 1, 3))
    whole = tg.rtrl(cell, cell.init(0), x[:, :, :2], d_outputs, lengths=np.array([3]))
    one = tg.rtrl(cell, cell.init(0), x[:, 0, :2], d_outputs[:, 0], lengths=3)
    squeezed = {"x": whole["x"][:, 0], "state": lift(lambda s: s[0], whole["state"])}
    assert_same(one, {**whole, **squeezed})


def test_a_second_call_gives_the_same_and_changes_nothing() -> None:
    cell = LSTMCell(2, 3, peephole=True)
    data = problem(cell, 3, 2, in_floats(np.random.default_rng(0), 1.0))
    copy, first = lift(np.copy, data), tg.rtrl(cell, **data)
    assert_same(first, tg.rtrl(cell, **data))
    for a in arrays(first).values():
        a += 1  # the results are the caller's own
    assert_same(data, copy)


def test_complex_numbers_pass_through() -> None:
    # ∂h_2/∂h_0 = w² for the linear cell, without a conjugate.
    cell = RNNCell(1, 1, "identity")
    params = {"W_x": np.ones((1, 1)), "W_h": np.array([[2 + 1j]]), "b": np.zeros(1)}
    g = tg.rtrl(cell, params, np.zeros((2, 1)), np.array([[0.0], [1.0]]))
    assert g["state"][0].item() == (2 + 1j) ** 2


def test_misuse_is_refused_as_by_bptt() -> None:
    cell = RNNCell(2, 3)
    with pytest.raises(ValueError, match=r"d_outputs must have shape \(T, N, H\) = \(4, 5, 3\)"):
        tg.rtrl(cell, cell.init(0), np.ones((4, 5, 2)), np.ones((4, 5, 2)))
    with pytest.raises(ValueError, match="lengths must be integers from 0 to T = 4"):
        tg.rtrl(cell, cell.init(0), np.ones((4, 5, 2)), np.ones((4, 5, 3)), lengths=[5] * 5)
