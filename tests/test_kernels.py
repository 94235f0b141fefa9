"""The compiled road against the tape, the closed-form Jacobians and balls, for every cell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    ALL,
    arrays,
    assert_same,
    assert_within,
    cells,
    fill_params,
    in_floats,
    lengths_of_time,
    lift,
    problem,
    seeds,
    total,
)

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import Tensor
from tinygrad_rnn.autodiff.sweeps import ancestors
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.recurrent import bptt, by_kernel, unroll
from tinygrad_rnn.scalars import ball, errors, precision, rounded

PRECISIONS = (np.float32, np.float64)
both_precisions = pytest.mark.parametrize("dtype", PRECISIONS)
every_cell = pytest.mark.parametrize("make", ALL, ids=lambda make: str(make(1, 1)))
batches = st.integers(1, 3)
gains = st.sampled_from([0.1, 1.0, 3.0])


def floats(cell: Any, T: int, N: int, seed: int, gain: float = 1.0, dtype: Any = np.float64) -> Any:
    return problem(cell, T, N, in_floats(np.random.default_rng(seed), gain, dtype))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    for make in ALL:
        for dtype in PRECISIONS:
            bptt(make(1, 1), **floats(make(1, 1), 1, 1, 0, dtype=dtype), method="kernel")


# ---- the same gradient ------------------------------------------------------------------------


def agree(cell: Any, data: Any, dtype: Any, **options: Any) -> None:
    """Demand kernel = tape = chain up to the running error bounds of the latter."""
    lifted = lift(lambda a: rounded(a, dtype), data)
    got = bptt(cell, **data, **options, method="kernel")
    assert list(got) == [*cell.layout, "x", "state"]
    assert all(a.dtype == dtype for a in arrays(got).values())
    bounds = [lift(errors, bptt(cell, **lifted, **options, method=m)) for m in ("tape", "chain")]
    for method in ("tape", "chain"):
        assert_within(got, bptt(cell, **data, **options, method=method), total(*bounds))


@both_precisions
@given(cells(ALL), lengths_of_time, batches, seeds, gains, st.data())
def test_the_kernel_is_the_tape_and_the_chain(dtype, cell, T, N, seed, gain, draw) -> None:
    lengths = draw.draw(st.none() | st.lists(st.integers(0, T), min_size=N, max_size=N))
    truncate = draw.draw(st.none() | st.integers(1, 7))
    data = floats(cell, T, N, seed, gain, dtype)
    lengths = None if lengths is None else np.array(lengths)
    agree(cell, data, dtype, lengths=lengths, truncate=truncate)


@every_cell
@both_precisions
@pytest.mark.parametrize(("D", "H", "N"), [(1, 1, 1), (5, 9, 9), (17, 16, 1)])
def test_sizes_beside_those_of_the_hardware(make, dtype, D, H, N) -> None:
    # One row, or one more than a tile is high; a panel exactly full, or one number more.
    cell = make(D, H)
    agree(cell, floats(cell, 2, N, 0, 0.5, dtype), dtype)


@given(cells(ALL), lengths_of_time, batches, seeds, gains)
def test_the_truth_is_within_the_error_bound(cell, T, N, seed, gain) -> None:
    data = floats(cell, T, N, seed, gain)
    got = arrays(bptt(cell, **data, method="kernel"))
    bound = arrays(lift(errors, bptt(cell, **lift(rounded, data), method="chain")))
    with precision(256):
        truth = arrays(bptt(cell, **lift(ball, data), method="chain"))
        for name in got:
            gap = np.abs(ball(got[name]) - truth[name])
            assert np.all(gap <= ball(bound[name])), name


@given(cells(ALL), st.integers(1, 6), batches, seeds, gains)
def test_the_states_are_the_tape_s(cell, T, N, seed, gain) -> None:
    data = floats(cell, T, N, seed, gain)
    args = data["params"], data["x"], data["state"]
    by_tape, fast = (unroll(cell, *args, method=method) for method in ("tape", "kernel"))
    bound = lift(errors, unroll(cell, *lift(rounded, args), method="tape").states)
    assert_within(fast.states, by_tape.states, total(bound, bound))
    assert_same(fast.outputs, fast.states[0][1:])
    assert_same(fast.final, tuple(s[-1] for s in fast.states))


@every_cell
@both_precisions
def test_many_sequences_of_unequal_lengths(make, dtype) -> None:
    cell = make(3, 4)
    data = floats(cell, 5, 20, 0, 1.0, dtype)
    agree(cell, data, dtype, lengths=np.arange(20) % 6)


@every_cell
def test_what_lies_beyond_a_sequence_is_never_looked_at(make) -> None:
    cell = make(2, 3)
    lengths = np.array([4, 0, 2])
    data = floats(cell, 4, 3, 0)
    got = bptt(cell, **data, lengths=lengths, method="kernel")
    for n, L in enumerate(lengths):
        data["x"][L:, n] = 1e300
        data["d_outputs"][L:, n] = 1e300
    assert_same(got, bptt(cell, **data, lengths=lengths, method="kernel"))


@pytest.mark.parametrize("memory", [1, 10**9])
def test_windows_may_come_in_batches_of_any_size(monkeypatch, memory) -> None:
    cell = LSTMCell(2, 3)
    data = floats(cell, 9, 2, 0)
    monkeypatch.setattr(by_kernel, "MEMORY", memory)
    agree(cell, data, np.float64, truncate=3)


TANH, SIGMOID = (RNNCell(3, 3, activation) for activation in ("tanh", "sigmoid"))
VANISHING = [  # over many steps of small weights, or over few steps far in saturation
    *((TANH, 190, 0.03, 0.0), (SIGMOID, 130, 0.03, 0.0)),
    *((TANH, 26, 1.0, 13.0), (SIGMOID, 24, 1.0, 26.0)),
    *((LSTMCell(3, 3), 16, 0.03, -37.0), (GRUCell(3, 3), 16, 0.03, 37.0)),
]


@pytest.mark.parametrize(("cell", "T", "gain", "bias"), VANISHING)
def test_a_vanishing_gradient_has_ten_digits(cell, T, gain, bias) -> None:
    data = floats(cell, T, 1, 0, gain)
    data["params"]["b"] = data["params"]["b"] + bias
    data["d_outputs"] = np.zeros_like(data["d_outputs"])
    data["d_state"] = tuple(map(np.ones_like, data["d_state"]))
    got = arrays(bptt(cell, **data, method="kernel")["state"])
    with precision(2048):
        truth = arrays(bptt(cell, **lift(ball, data), method="chain")["state"])
        for name in got:
            assert np.all(np.abs(got[name]) * 2.0**700 < 1), np.log10(np.abs(got[name]))
            gap = np.abs(ball(got[name]) - truth[name])
            assert np.all(gap * 10**10 <= np.abs(truth[name])), name


# ---- one operation of the engine --------------------------------------------------------------


def everything(cell: Any, method: str) -> Any:
    def run(params: Any, x: Any, state: Any) -> Any:
        result = unroll(cell, params, x, state, method=method)
        return result.states, result.final

    return run


@given(cells(ALL), lengths_of_time, batches, seeds)
def test_every_state_at_every_time_may_have_a_cotangent(cell, T, N, seed) -> None:
    data = floats(cell, T, N, seed)
    rng = np.random.default_rng(seed)
    args = data["params"], data["x"], data["state"]
    d = [
        tuple(rng.normal(size=(*time, N, cell.H)) for _ in data["state"]) for time in ((T + 1,), ())
    ]
    _, pullback = tg.vjp(everything(cell, "kernel"), *args)
    _, by_tape = tg.vjp(everything(cell, "tape"), *args)
    _, by_rounded = tg.vjp(everything(cell, "tape"), *lift(rounded, args))
    bound = lift(errors, by_rounded(tuple(lift(rounded, part) for part in d)))
    got = pullback(tuple(d))
    assert_within(got, by_tape(tuple(d)), total(bound, bound))
    pullback(lift(np.negative, tuple(d)))
    assert_same(got, pullback(tuple(d)))


@every_cell
def test_it_is_one_node(make) -> None:
    cell = make(2, 3)
    data = floats(cell, 4, 2, 0)
    params = lift(Tensor, data["params"])
    run = unroll(cell, params, data["x"])
    record = [node._origin[0].name for node in ancestors([run.final[0]]) if node._origin]
    assert record.count("unroll") == 1
    assert set(record) == {"unroll", "getitem"}
    np.sum(run.outputs).backward()
    d_outputs = np.ones_like(data["d_outputs"])
    g = bptt(cell, data["params"], data["x"], d_outputs, method="kernel")
    assert_same(lift(lambda t: t.grad, params), {name: g[name] for name in params})


def loss(cell: Any, method: str, x: Any) -> Any:
    return lambda params: np.sum(unroll(cell, params, x, method=method).outputs ** 2)


@every_cell
def test_higher_derivatives_and_forward_mode_are_the_tape_s(make) -> None:
    cell = make(2, 3)
    data = floats(cell, 3, 2, 0)
    params, x = data["params"], data["x"]
    v = fill_params(cell, in_floats(np.random.default_rng(1), 1.0))
    fast, slow = (loss(cell, method, x) for method in ("kernel", "tape"))
    assert_same(tg.hvp(fast, params, v), tg.hvp(slow, params, v))
    (_, moved), (_, moved_by_tape) = (
        tg.jvp(lambda p, m=m: unroll(cell, p, x, method=m).states, (params,), (v,))
        for m in ("kernel", "tape")
    )
    assert_same(moved, moved_by_tape)


@every_cell
def test_a_cotangent_may_be_differentiated(make) -> None:
    cell = make(2, 3)
    data = floats(cell, 3, 2, 0)
    args = data["params"], data["x"], data["state"]
    d_run = (tuple(np.zeros((4, 2, 3)) for _ in data["state"]), data["d_state"])

    def pulled(method: str) -> Any:
        _, pullback = tg.vjp(everything(cell, method), *args)
        return tg.grad(lambda d: np.sum(pullback(d)[1] ** 2))(d_run)

    assert_same(pulled("kernel"), pulled("tape"))


# ---- without the compiler ---------------------------------------------------------------------


def test_without_the_compiler_they_are_plain_python() -> None:
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1", "HYPOTHESIS_PROFILE": "default"}
    chosen = "test_many_sequences or test_windows or beside"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "-k", chosen, __file__], env=env, cwd=Path(__file__).parents[1],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
