"""Checkpointed backpropagation through time: the same bits, and memory that grows like √T."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import ALL, arrays, assert_same, cells, in_floats, in_rationals, problem, seeds
from problems import PIECEWISE_LINEAR as RATIONAL

from tinygrad_rnn.cells import LSTMCell, RNNCell
from tinygrad_rnn.kernels.compile import PLAIN
from tinygrad_rnn.recurrent import bptt
from tinygrad_rnn.recurrent.checkpointed import spacing

both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])
spacings = st.integers(1, 9) | st.just("sqrt")


def assert_same_bits(a: Any, b: Any) -> None:
    a, b = arrays(a), arrays(b)
    assert list(a) == list(b)
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
        assert a[name].tobytes() == b[name].tobytes(), name


def some_lengths(draw: st.DataObject, T: int, N: int) -> Any:
    drawn = draw.draw(st.none() | st.lists(st.integers(0, T), min_size=N, max_size=N))
    return None if drawn is None else np.array(drawn)


@both_precisions
@pytest.mark.parametrize("method", ["tape", "chain"])
@given(cells(ALL), st.integers(0, 12), st.integers(1, 3), seeds, spacings, st.data())
def test_segments_change_no_bit(method, dtype, cell, T, N, seed, k, draw) -> None:
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), 1.0, dtype))
    data["lengths"] = some_lengths(draw, T, N)
    whole = bptt(cell, **data, method=method)
    assert_same_bits(bptt(cell, **data, method=method, checkpoint=k), whole)


# (N, the most steps): one sequence; pieces that end within a step, with one, and beyond 256 rows.
BATCHES = [(1, 600), (3, 200), (100, 7), (128, 5), (256, 3), (300, 3)]


@pytest.mark.skipif(PLAIN, reason="BLAS sums in an order of its own")
@both_precisions
@given(cells(ALL), st.sampled_from(BATCHES), seeds, spacings, st.data())
def test_segments_of_the_kernels_change_no_bit(dtype, cell, batch, seed, k, draw) -> None:
    N, most = batch
    T = draw.draw(st.integers(0, most))
    rng = np.random.default_rng(seed)
    data = problem(cell, T, N, in_floats(rng, 1.0, dtype))
    data["lengths"] = rng.integers(0, T + 1, N) if draw.draw(st.booleans()) else None
    whole = bptt(cell, **data, method="kernel")
    assert_same_bits(bptt(cell, **data, method="kernel", checkpoint=k), whole)


@given(cells(RATIONAL), st.integers(0, 8), st.integers(1, 2), seeds, spacings)
def test_exact_numbers_are_checkpointed_too(cell, T, N, seed, k) -> None:
    data = problem(cell, T, N, in_rationals(np.random.default_rng(seed)))
    for method in "tape", "chain":
        whole = bptt(cell, **data, method=method)
        assert_same(bptt(cell, **data, method=method, checkpoint=k), whole)


def test_one_sequence_has_no_axis() -> None:
    cell = LSTMCell(2, 3)
    data = cell.init(0), np.ones((600, 2)), np.ones((600, 3))
    assert_same_bits(bptt(cell, *data, checkpoint="sqrt"), bptt(cell, *data))


@given(st.integers(0, 10**9))
def test_the_spacing_is_the_root_rounded_up(T) -> None:
    k = spacing("sqrt", T)
    assert k >= 1
    assert k == 1 or (k - 1) ** 2 < T <= k**2


# ---- memory -----------------------------------------------------------------------------------


def beyond(cell: Any, T: int, method: str, checkpoint: Any) -> int:
    """The peak of NumPy's memory over one call, less the result, in bytes."""
    rng = np.random.default_rng(0)
    params, x, d = cell.init(0), rng.normal(size=(T, cell.D)), rng.normal(size=(T, cell.H))
    tracemalloc.start()
    result = bptt(cell, params, x, d, method=method, checkpoint=checkpoint)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - sum(a.nbytes for a in arrays(result).values())


@pytest.mark.parametrize(("method", "T"), [("kernel", 4096), ("tape", 2048), ("chain", 2048)])
def test_memory_is_less_than_that_of_all_states(method, T) -> None:
    cell = RNNCell(8, 32)
    bptt(cell, cell.init(0), np.ones((2, 8)), np.ones((2, 32)), method=method)
    states = T * cell.H * 8
    plain, few = (beyond(cell, T, method, k) for k in (None, "sqrt"))
    assert few < states < plain


@pytest.mark.skipif(PLAIN, reason="slow")
def test_memory_grows_like_the_root() -> None:
    cell = RNNCell(8, 8)
    bptt(cell, cell.init(0), np.ones((2, 8)), np.ones((2, 8)))
    steps = 4**8, 4**9  # from 256² on, k is the root itself
    few = [beyond(cell, T, "kernel", "sqrt") for T in steps]
    assert math.log(few[1] / few[0], 4) <= 0.55


# ---- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "root", np.array([2])])
def test_a_wrong_spacing_is_refused(wrong) -> None:
    cell = RNNCell(2, 3)
    with pytest.raises(ValueError, match="checkpoint must be None, an integer ≥ 1 or 'sqrt', got"):
        bptt(cell, cell.init(0), np.ones((4, 2)), np.ones((4, 3)), checkpoint=wrong)


def test_windows_are_not_checkpointed() -> None:
    cell = RNNCell(2, 3)
    data = cell.init(0), np.ones((4, 2)), np.ones((4, 3))
    with pytest.raises(ValueError, match=r"checkpoint saves memory in one sweep.*give one of them"):
        bptt(cell, *data, checkpoint=2, truncate=2)


def test_where_there_is_no_kernel_none_runs() -> None:
    cell = RNNCell(2, 3)
    data = cell.init(0), np.ones((600, 2)) + 0j, np.ones((600, 3)) + 0j
    with pytest.raises(ValueError, match="Use method='tape'"):
        bptt(cell, *data, method="kernel", checkpoint=2)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_lengths_may_be_any_integers(kind) -> None:
    cell = RNNCell(2, 3)
    data = problem(cell, 4, 3, in_floats(np.random.default_rng(0), 1.0))
    lengths = np.array([0, 3, 2])
    for options in ({}, {"checkpoint": 1}):
        expected = bptt(cell, **data, lengths=lengths, method="tape")
        got = bptt(cell, **data, lengths=lengths.astype(kind), method="tape", **options)
        assert_same(got, expected)
        kernel = bptt(cell, **data, lengths=lengths.astype(kind), method="kernel", **options)
        assert_same(kernel, bptt(cell, **data, lengths=lengths, method="kernel"))
