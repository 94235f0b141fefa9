"""Each oracle tells the truth within the error it claims, and says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from handmade import Array, example
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.check import enclosures, estimates, identities
from tinygrad_rnn.check.dual import Dual
from tinygrad_rnn.check.oracles import Contradiction, Unavailable
from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.roundoff import neighbours, rounding_bounds
from tinygrad_rnn.check.tape import gradient
from tinygrad_rnn.scalars import GF, Ball, encloses, field, precision, rational

seeds = st.integers(0, 2**32 - 1)
gains = st.sampled_from([0.1, 0.5, 2.0])
MAX_BITS = 4096


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def problem(f: Callable[..., Any], *args: Any) -> Problem:
    return Problem(f, args, None, rng())


def layer(seed: int, gain: float = 0.5, T: int = 4) -> Problem:
    made, args = example(seed, gain=gain, T=T, N=1)
    return problem(made.loss, *args)


def overlap(a: Array, b: Array) -> bool:
    """Whether arrays of balls may hold the same numbers."""
    return all(bool(x.arb.overlaps(y.arb)) for x, y in zip(a.flat, b.flat, strict=True))


# ---- every road leads to the same numbers -----------------------------------------------------


@given(seeds, gains)
def test_tape_and_difference_quotients_enclose_the_same(seed: int, gain: float) -> None:
    p = layer(seed, gain)
    bounds = rounding_bounds(p, rng(seed))
    truth, _ = enclosures.balls(p, bounds, MAX_BITS)
    assert enclosures.confirm(p, truth, rng(seed), MAX_BITS) <= MAX_BITS
    quotients = enclosures.differences(p, bounds, MAX_BITS)
    assert all(map(overlap, truth, quotients))


@given(seeds, gains)
def test_the_complex_step_is_as_near_as_it_says(seed: int, gain: float) -> None:
    p = layer(seed, gain)
    bounds = rounding_bounds(p, rng(seed))
    truth, _ = enclosures.balls(p, bounds, MAX_BITS)
    assert all(map(overlap, truth, estimates.complex_step(p, bounds)))


@given(seeds, gains, st.sampled_from([np.float32, np.float64]))
def test_central_differences_are_as_near_as_they_say(seed: int, gain: float, dtype: Any) -> None:
    made, args = example(seed, gain=gain, T=3, N=1, dtype=dtype)
    p = problem(made.loss, *args)
    truth, _ = enclosures.balls(p, rounding_bounds(p, rng(seed)), MAX_BITS)
    assert all(map(overlap, truth, estimates.central_difference(p)))


@given(seeds, gains, st.sampled_from([np.float32, np.float64]))
def test_float_evaluations_stay_within_the_rounding_bound(
    seed: int, gain: float, dtype: Any
) -> None:
    made, args = example(seed, gain=gain, T=8, dtype=dtype)
    p = problem(made.loss, *args)
    bounds = rounding_bounds(p, rng(seed))
    truth, _ = enclosures.balls(p, bounds, MAX_BITS)
    for evaluation in (tg.grad(made.loss, (0, 1, 2, 3))(*args), made.backward(*args)):
        for g, t, bound in zip(evaluation, truth, bounds, strict=True):
            balls = [Ball(x, radius=r) for x, r in zip(map(float, g.flat), bound.flat, strict=True)]
            assert overlap(np.array(balls), t)


@given(seeds)
def test_the_rounding_bound_leaves_most_digits(seed: int) -> None:
    p = layer(seed, T=8)
    for g, bound in zip(gradient(p, p.variables), rounding_bounds(p, rng(seed)), strict=True):
        assert np.all(bound < 2.0**-30 * np.max(np.abs(g)))


# ---- what an oracle cannot say, it does not say -----------------------------------------------

X = np.array([0.5, -1.5])


def no_rule(x: Array) -> Array:
    return np.sum(np.arctan(x))


NOT_HOLOMORPHIC = [np.abs, np.max, np.linalg.norm, lambda x: np.maximum(x, 0), lambda x: x.clip(0)]


@pytest.mark.parametrize("f", NOT_HOLOMORPHIC)
def test_the_complex_step_refuses_what_is_not_holomorphic(f: Callable[..., Any]) -> None:
    p = problem(lambda x: np.sum(f(x)), X)
    with pytest.raises(Unavailable, match="holomorphic"):
        estimates.complex_step(p, rounding_bounds(p, rng()))


def test_balls_refuse_functions_they_do_not_have() -> None:
    p = problem(no_rule, X)
    with pytest.raises(Unavailable, match="arctan"):
        enclosures.balls(p, [np.zeros(2)], MAX_BITS)


def test_balls_refuse_to_be_rounded() -> None:
    p = problem(lambda x: np.sum(x.astype(np.float32) * x), X)
    with pytest.raises(Unavailable, match="astype rounded"):
        enclosures.balls(p, [np.zeros(2)], MAX_BITS)


def test_balls_decide_branches_that_floats_cannot() -> None:
    """tanh(40) < 1, by 4e-35."""
    f = lambda x: np.sum(np.where(np.tanh(x) < 1, x, 2 * x))  # noqa: E731
    report = tg.check_gradients(f, [np.array([40.0])], gradient=lambda _: np.array([1.0]))
    assert report.verdict == "PROVED"


def test_a_limit_of_precision_is_kept() -> None:
    p = problem(lambda x: np.sum(np.exp(-100 * x) * 1e-30 + x) - np.sum(x), X)
    with pytest.raises(Unavailable, match="too wide at 32 bits"):
        enclosures.balls(p, [np.zeros(2)], 32)


@pytest.mark.parametrize("f", [np.abs, tg.relu, lambda x: np.maximum(x, 0)])
def test_difference_quotients_see_a_kink(f: Callable[..., Any]) -> None:
    p = problem(lambda x: np.sum(f(x)), np.array([0.0, 1.0]))
    truth = [np.array([Ball(0), Ball(1)])]
    with pytest.raises(Unavailable, match="kink"):
        enclosures.confirm(p, truth, rng(), MAX_BITS)


@pytest.mark.parametrize("k", [1, 10, 40])
@pytest.mark.parametrize("size", [1.0, 1e-300])
def test_confirmation_sees_every_entry_however_small(k: int, size: float) -> None:
    p = problem(lambda x, y: np.sum(np.sin(x)) + size * y * y, X, 0.75)
    truth, _ = enclosures.balls(p, [np.zeros(2), np.zeros(())], MAX_BITS)
    enclosures.confirm(p, truth, rng(), MAX_BITS)
    with precision(256):
        truth[1] = np.asarray(truth[1] * (1 + Fraction(1, 2**k)))
    with pytest.raises(Contradiction):
        enclosures.confirm(p, truth, rng(), MAX_BITS)


def test_confirmation_sees_a_missing_entry() -> None:
    p = problem(lambda x: 1e-200 * (x[0] + x[1]), X)
    with pytest.raises(Contradiction):
        enclosures.confirm(p, [np.array([Ball(1e-200), Ball(0)])], rng(), MAX_BITS)


def test_a_wrong_rule_is_refuted_and_replaced() -> None:
    """The tape and the tape over balls agree in the mistake; difference quotients do not."""

    @tg.differentiable(partials=[lambda y, x: 3 * x])
    def square(x: Array) -> Array:
        return x * x

    report = tg.check_gradients(lambda x: np.sum(square(x)), [X])
    assert report.culprits == ["x"]
    assert report.entries[0].oracle == "difference"
    right = tg.check_gradients(lambda x: np.sum(square(x)), [X], gradient=lambda x: 2 * x)
    assert right.verdict == "CONSISTENT"


# ---- functions that balls do not have ---------------------------------------------------------


def test_the_complex_step_stands_in_for_balls() -> None:
    a = np.array([[2.0, 0.5], [0.25, 1.0]])
    f = lambda a, b: np.sum(np.linalg.solve(a, b))  # noqa: E731
    report = tg.check_gradients(f, [a, X])
    assert (report.verdict, report.entries[0].oracle) == ("CONSISTENT", "complex step")
    off = lambda a, b: (tg.grad(f)(a, b), tg.grad(f, 1)(a, b) * (1 + 2.0**-30))  # noqa: E731
    assert tg.check_gradients(f, [a, X], gradient=off).culprits == ["b"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_floats_alone_are_checked_by_differences(dtype: Any) -> None:
    x = X.astype(dtype)
    right = lambda x: 1 / (1 + x * x)  # noqa: E731
    report = tg.check_gradients(no_rule, [x], gradient=right)
    assert (report.verdict, report.entries[0].oracle) == ("CONSISTENT", "central difference")
    wrong = lambda x: right(x) * x.dtype.type(1.125)  # noqa: E731
    assert tg.check_gradients(no_rule, [x], gradient=wrong).verdict == "REFUTED"


def test_a_layer_that_writes_into_a_buffer_is_checked() -> None:
    made, args = example(T=6)

    def loss(W_x: Array, W_h: Array, b: Array, h0: Array) -> Array:
        h = np.zeros((7, *h0.shape))
        h[0] = h0
        for t, x_t in enumerate(made.x):
            h[t + 1] = np.tanh(x_t @ W_x + h[t] @ W_h + b)
        return np.sum(h[-1] * made.weights)

    assert tg.check_gradients(loss, args, gradient=made.backward).verdict == "CONSISTENT"
    wrong = made.wrong("state gradient doubled")
    assert tg.check_gradients(loss, args, gradient=wrong).culprits == ["h0"]


def test_without_an_oracle_the_verdict_is_open() -> None:
    report = tg.check_gradients(np.sum, [X], oracles=[])
    assert report.verdict == "INCONCLUSIVE"
    constant = lambda x: np.array([1.0, np.nan])  # noqa: E731
    assert tg.check_gradients(np.sum, [X], gradient=constant, oracles=[]).verdict == "REFUTED"


# ---- exact arithmetic -------------------------------------------------------------------------


@given(seeds)
def test_dual_numbers_and_the_tape_agree_exactly(seed: int) -> None:
    draw = rng(seed)
    x, w = (rational(draw.integers(-8, 9, size)) / 4 for size in ((3,), (3, 3)))
    f = lambda x, w: np.sum(tg.relu(x @ w) * x) / 3  # noqa: E731
    p = problem(f, x, w)
    (*sides,) = identities.exact(p, draw)
    if len(sides) == 1:
        for g, d in zip(sides[0], identities.partial_derivatives(p), strict=True):
            assert np.all(g == d)


def test_dual_numbers_take_the_side_they_lean_to() -> None:
    for b, slope in ((1, 1), (-1, 0)):
        x = Dual(Fraction(0), Fraction(b))
        assert x.relu().b == slope * b
        assert abs(x).b == 1
    assert (1 / Dual(Fraction(2), Fraction(1))).b == Fraction(-1, 4)


def test_dual_numbers_refuse_floats() -> None:
    with pytest.raises(TypeError):
        Dual(Fraction(1), Fraction(1)) + 0.5


def test_a_wrong_rule_is_refuted_exactly() -> None:
    @tg.differentiable(partials=[lambda y, x: 3 * x])
    def square(x: Array) -> Array:
        return x * x

    report = tg.check_gradients(lambda x: np.sum(square(x)), [rational([1, 2])])
    assert report.culprits == ["x"]


# ---- identities -------------------------------------------------------------------------------


def recurrent(W: Array, h: Array, x: Array) -> Array:
    for x_t in x:
        h = np.tanh(h @ W + x_t)
    return np.sum(h)


def test_an_identity_holds_for_all_arguments() -> None:
    args = [np.ones((2, 2)), np.ones(2), np.ones((3, 2))]
    p = Problem(recurrent, args, None, rng())
    degree = identities.identity(p, lambda v: list(gradient(p, v)), rng())
    # φ' is linear in the direction, and every step multiplies by 1 − y² and by W.
    assert degree == 3 * 3 + 1
    with pytest.raises(Contradiction):
        identities.identity(p, lambda v: [2 * g for g in gradient(p, v)], rng())


def test_an_identity_needs_a_polynomial() -> None:
    for f in (lambda x: np.sum(1 / x), lambda x: np.sum(tg.relu(x)), lambda x: np.sum(np.exp(x))):
        p = problem(f, X)
        with pytest.raises(Unavailable):
            identities.identity(p, lambda v, p=p: list(gradient(p, v)), rng())


def test_floats_in_a_formula_are_the_fractions_they_are() -> None:
    p = problem(lambda x: np.sum(0.1 * x * np.tanh(0.5 * x)), X)

    def by_hand(half: float, v: list[Array]) -> list[Array]:
        y = np.tanh(0.5 * v[0])
        return [0.1 * y + 0.1 * v[0] * half * (1 - y * y)]

    assert identities.identity(p, lambda v: by_hand(0.5, v), rng()) == 5
    with pytest.raises(Contradiction):
        identities.identity(p, lambda v: by_hand(0.5 + 2.0**-40, v), rng())


@pytest.mark.parametrize("cell", [tg.RNNCell(2, 3), tg.GRUCell(2, 3), tg.LSTMCell(2, 3)], ids=str)
def test_a_captured_input_keeps_every_oracle(cell: Any) -> None:
    x = rng().normal(size=(3, 2))
    report = tg.check_gradients(lambda p: np.sum(tg.unroll(cell, p, x).outputs), [cell.init(0)])
    assert report.verdict in ("PROVED", "CONSISTENT")
    assert not any("not available" in line for line in report.evidence)


def test_the_field_knows_no_demotion() -> None:
    """A float buffer would end the exactness without a word."""
    buffer = np.zeros(2)
    with pytest.raises(TypeError):
        buffer[:] = field((2,), rng())
    assert isinstance(GF(3) + 1, GF)


# ---- kinks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_look_at_both_sides(dtype: Any) -> None:
    p = problem(lambda x: np.sum(np.abs(x)), np.array([0.0, 1.0], dtype))
    found = np.array([g[0] for g in neighbours(p, rng())])
    assert set(found[:, 0]) == {-1.0, 1.0}
    assert set(found[:, 1]) == {1.0}


def test_enclosures_contain_what_they_enclose() -> None:
    p = problem(lambda x: np.sum(x * x), X)
    (truth,), _ = enclosures.balls(p, [np.zeros(2)], MAX_BITS)
    assert encloses(truth, 2 * X).all()
