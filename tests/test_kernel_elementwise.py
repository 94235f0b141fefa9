"""The kernels' tanh, σ and their derivatives against balls, over the whole range of floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.kernels import elementwise as fast
from tinygrad_rnn.kernels.compile import kernel
from tinygrad_rnn.scalars import ULPS
from tinygrad_rnn.scalars.balls import precision

Array = Any
BITS = 2400  # 1 − tanh and e^(−z) − 1 of a subnormal z cancel almost all of them


@kernel
def _decay(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.decay(abs(x[j]))[0]


@kernel
def _decay_less_one(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.decay(abs(x[j]))[1]


@kernel
def _sigmoid(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.unfold(fast.fold(x[j]))


@kernel
def _complement(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.unfold(-fast.fold(x[j]))


@kernel
def _d_sigmoid(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.slope(fast.fold(x[j]))


@kernel
def _tanh(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.tanh(x[j])


@kernel
def _tanh_too(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.tanh_and_slope(x[j])[0]


@kernel
def _d_tanh(x: Array, y: Array) -> None:
    for j in range(x.size):
        y[j] = fast.tanh_and_slope(x[j])[1]


class Case(NamedTuple):
    loop: Callable[[Array, Array], None]
    truth: Callable[[flint.arb], flint.arb]
    ulps: int
    limits: tuple[float, float, float]  # at −∞, 0, ∞


def d_sigmoid(x: flint.arb) -> flint.arb:
    return 1 / ((-x).exp() + 2 + x.exp())


CASES = {
    "e^(−|x|)": Case(_decay, lambda x: (-abs(x)).exp(), 2, (0, 1, 0)),
    "e^(−|x|) − 1": Case(_decay_less_one, lambda x: (-abs(x)).expm1(), 2, (-1, 0, -1)),
    "σ": Case(_sigmoid, lambda x: 1 / (1 + (-x).exp()), 3, (0, 0.5, 1)),
    "1 − σ": Case(_complement, lambda x: 1 / (1 + x.exp()), 3, (1, 0.5, 0)),
    "σ'": Case(_d_sigmoid, d_sigmoid, 4, (0, 0.25, 0)),
    "tanh": Case(_tanh, flint.arb.tanh, 3, (-1, 0, 1)),
    "tanh, with its derivative": Case(_tanh_too, flint.arb.tanh, 3, (-1, 0, 1)),
    "tanh'": Case(_d_tanh, lambda x: x.sech() ** 2, 5, (0, 1, 0)),
}
every_function = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def evaluate(case: Case, x: Array) -> Array:
    y = np.empty_like(x)
    case.loop(x, y)
    return y


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    for case in CASES.values():
        for dtype in (np.float32, np.float64):
            evaluate(case, np.ones(1, dtype))


def assert_accurate(case: Case, x: Array) -> None:
    """Certify |y − f(x)| ≤ ulps · ulp(y): an undecided comparison of balls is False."""
    y = evaluate(case, x)
    with precision(BITS):
        for a, b in zip(x, y, strict=True):
            ulp = flint.arb(float(np.spacing(np.abs(b))))
            gap = abs(flint.arb(float(b)) - case.truth(flint.arb(float(a))))
            assert gap <= case.ulps * ulp, (a, b)


def test_the_error_analysis_covers_them() -> None:
    assert max(case.ulps for case in CASES.values()) <= ULPS


@every_function
@both_precisions
@given(st.data())
def test_any_float(case, dtype, data) -> None:
    width = 8 * np.dtype(dtype).itemsize
    floats = st.floats(width=width, allow_nan=False, allow_infinity=False)
    # e^1000 is beyond float64: there the functions have long been 0 or 1.
    near = st.floats(-1000, 1000, width=width)
    x = data.draw(st.lists(floats | near, min_size=1, max_size=40))
    assert_accurate(case, np.clip(np.array(x, dtype), -1e6, 1e6))


@every_function
@both_precisions
def test_every_scale(case, dtype) -> None:
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    largest = -np.log(float(info.smallest_subnormal))  # beyond it e^(−x) is 0
    scales = np.exp2(rng.uniform(np.log2(float(info.smallest_subnormal)), 7, 300))
    parts = (rng.uniform(-3, 3, 600), rng.uniform(-1, 1, 300) * 1.1 * largest, scales, -scales)
    assert_accurate(case, np.concatenate(parts).astype(dtype))


@every_function
@both_precisions
def test_the_ends_of_the_range(case, dtype) -> None:
    info = np.finfo(dtype)
    for x, limit in zip((-np.inf, 0.0, np.inf), case.limits, strict=True):
        at = np.array([x, np.copysign(float(info.max), x) if x else -0.0], dtype)
        if x:  # a result that vanishes may be the smallest positive numbers instead of 0
            slack = case.ulps * float(np.spacing(np.abs(dtype(limit))))
            assert np.all(np.abs(evaluate(case, at).astype(float) - limit) <= slack)
        else:
            assert evaluate(case, at).tolist() == [limit, limit]
    assert np.isnan(evaluate(case, np.full(3, np.nan, dtype))).all()


@every_function
@both_precisions
def test_a_result_does_not_depend_on_its_place(case, dtype) -> None:
    # What the vectorised body of the loop computes, and what its remainder does.
    x = np.random.default_rng(0).uniform(-5, 5, 67).astype(dtype)
    together = evaluate(case, x)
    assert np.array_equal(together, [evaluate(case, x[i : i + 1])[0] for i in range(len(x))])
