"""Balls contain what they should, decide only what is certain, and keep their digits."""

from __future__ import annotations

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tinygrad_rnn import functions
from tinygrad_rnn.scalars import (
    Ball,
    Undecided,
    ball,
    contains_zero,
    encloses,
    ladder,
    precision,
)

NUMPY = "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "sinh", "cosh", "tanh"
OURS = "d_tanh", "sigmoid", "d_sigmoid", "softplus", "relu"
FUNCTIONS = {n: getattr(np, n) for n in NUMPY} | {n: getattr(functions, n) for n in OURS}
rationals = st.fractions(min_value=-9, max_value=9, max_denominator=9)

boxes = st.tuples(st.integers(-512, 512), st.integers(0, 512), st.integers(0, 10)).map(
    lambda box: (Fraction(box[0], 2 ** box[2]), Fraction(box[1], 2 ** box[2]))
)


def _exactly(x: Ball) -> Fraction:
    mantissa, exponent = x.arb.man_exp()
    return int(mantissa) * Fraction(2) ** int(exponent)


@given(boxes, boxes)
@example((Fraction(1), Fraction(0)), (Fraction(1), Fraction(0)))
def test_comparisons_are_true_false_or_undecided_and_never_wrong(one, two):
    x, y = (Ball(mid, radius=rad) for mid, rad in (one, two))
    (a, r), (b, s) = ((_exactly(z.mid), _exactly(z.rad)) for z in (x, y))
    assert r >= one[1]
    assert s >= two[1]
    same, apart = a == b and r == s == 0, abs(a - b) > r + s
    for compare, yes, no in (
        (x.__lt__, a + r < b - s, a - r >= b + s),
        (x.__le__, a + r <= b - s, a - r > b + s),
        (x.__gt__, a - r > b + s, a + r <= b - s),
        (x.__ge__, a - r >= b + s, a + r < b - s),
        (x.__eq__, same, apart),
        (x.__ne__, apart, same),
    ):
        if yes or no:
            assert compare(y) is yes
        else:
            with pytest.raises(Undecided):
                compare(y)


@pytest.mark.parametrize(
    "unsound",
    [
        lambda x: np.maximum(x, 0),
        lambda x: np.where(x > 0, x, 0),
        lambda x: np.where(x, 1, 0),
        lambda x: np.clip(x, 0, 1),
        lambda x: np.sign(x),
        lambda x: np.array_equal(x, x),
        lambda x: x.max(),
        lambda x: np.any(x),
    ],
)
def test_trap_a_branch_on_an_undecided_ball_raises(unsound):
    for x in (Ball(0, radius=0.1), Ball(1, radius=2), Ball(-1).log(), Ball(math.inf)):
        with pytest.raises(Undecided, match="cannot be decided"):
            unsound(np.array([x, x]))


def test_trap_relu_and_step_take_the_hull():
    x = ball([Fraction(-1, 3), 0, Fraction(1, 3)])
    assert functions.step(x).tolist() == [0, 0, 1]
    assert encloses(functions.relu(x), 0).tolist() == [True, True, False]
    straddling = np.array([Ball(1, radius=2)])
    assert encloses(functions.relu(straddling), [[0], [1.5], [3]]).all()
    assert encloses(functions.step(straddling), [[0], [0.5], [1]]).all()
    assert not encloses(functions.step(straddling), [[-(2**-29)], [1 + 2**-29]]).any()


def test_trap_floats_predicates_refuse_object_arrays():
    for predicate in (np.isnan, np.isfinite, np.signbit):
        with pytest.raises(TypeError):
            predicate(ball([1]))


def test_trap_nothing_is_enclosed_by_a_ball_that_knows_nothing():
    nothing = [Ball(-1).sqrt(), 1 / Ball(0), Ball(math.nan), Ball(0, radius=1).log()]
    assert not encloses(nothing, 1.0).any()
    assert contains_zero(nothing).all()
    assert not encloses(ball([1]), math.nan).any()
    assert not contains_zero([Ball(1)])[0]


@pytest.mark.parametrize("name", FUNCTIONS)
@given(box=boxes, where=st.integers(-16, 16), bits=st.sampled_from([30, 64, 200]))
def test_ball_functions_enclose(name, box, where, bits):
    mid, rad = box
    if name in ("log", "sqrt", "log1p"):  # built inside the domain
        mid = abs(mid) + rad + Fraction(1, 1024) - (name == "log1p")
    with precision(bits):
        enclosure = FUNCTIONS[name](np.array([Ball(mid, radius=rad)]))[0]
    with precision(4000):  # |x| ≤ 1025, and e^(−1025) has 1479 leading zeros
        x = Ball(mid + where * rad / 16)
        independent = {
            "sigmoid": lambda: (1 + (x / 2).tanh()) / 2,
            "d_sigmoid": lambda: 1 / (2 + 2 * x.cosh()),
            "d_tanh": lambda: 1 - x.tanh() ** 2,
            "softplus": lambda: (1 + x.exp()).log(),
            "relu": lambda: (x + abs(x)) / 2,
        }
        truth = independent.get(name, lambda: getattr(x, name)())()
    assert enclosure.is_finite
    assert enclosure.arb.contains(truth.arb)


@pytest.mark.parametrize("name", ["sigmoid", "d_sigmoid", "d_tanh", "softplus", "exp"])
@given(x=st.floats(-1e6, 0))
def test_saturated_functions_keep_their_relative_accuracy(name, x):
    with precision(64):
        y = FUNCTIONS[name](ball([x]))[0]
        assert y.rad < y.mid * Fraction(1, 2**56)


@given(st.floats(allow_nan=False, allow_infinity=False), rationals, st.integers(-9, 9))
def test_floats_are_exact_numbers_to_a_ball(x, p, n):
    b = Ball(x)
    assert b.rad == 0
    assert b == x == float(b) == b.lower == b.upper
    assert encloses(np.array([p + np.float64(x) * b - n]), p + Fraction(x) ** 2 - n).all()
    assert encloses(np.array([np.float32(0.1) * Ball(p)]), Fraction(float(np.float32(0.1))) * p)


@given(rationals, st.sampled_from([-330, -320, 0, 300, 330]))
def test_lower_and_upper_are_the_nearest_floats_outside(p, exponent):
    b = Ball(p) * Ball(10) ** exponent
    assert flint.arb(b.lower) <= b.arb.lower()
    assert flint.arb(b.upper) >= b.arb.upper()
    assert b.lower == math.inf or flint.arb(math.nextafter(b.lower, math.inf)) > b.arb.lower()
    assert b.upper == -math.inf or flint.arb(math.nextafter(b.upper, -math.inf)) < b.arb.upper()


def test_precision_is_restored():
    before = flint.ctx.prec
    with precision(200):
        with pytest.raises(ZeroDivisionError), precision(300):
            _ = flint.ctx.prec == 300 and 1 / 0
        assert flint.ctx.prec == 200
    assert flint.ctx.prec == before


def test_ladder_climbs_until_decided_and_no_further():
    seen = []

    def compute(gap):
        seen.append(flint.ctx.prec)
        return Ball(1) / 3 * 3 + Ball(2) ** -gap > 1

    before = flint.ctx.prec
    assert ladder(lambda: compute(100), start=53) is True
    assert seen == [53, 106]
    with pytest.raises(Undecided):
        ladder(lambda: compute(10**6), start=64, limit=300)
    assert seen[2:] == [64, 128, 256]
    with pytest.raises(ValueError, match="start"):
        ladder(lambda: True, start=128, limit=64)
    with pytest.raises(KeyError):
        ladder(lambda: {}[0])
    assert flint.ctx.prec == before
