"""The bounds of rounding errors over boxes, against errors that occur."""

from fractions import Fraction

import numpy as np
import pytest
from flint import arb
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.kernels import elementwise
from tinygrad_rnn.proofs import roundings
from tinygrad_rnn.proofs.roundings import Approx, half_ulp
from tinygrad_rnn.scalars import precision

U = 2.0**-24
both_precisions = pytest.mark.parametrize("number", [np.float32, np.float64])
singles = st.floats(0.5, 4, width=32)
FORMULAS = {
    "a b": lambda a, b: a * b,
    "a / b": lambda a, b: a / b,
    "1 / (1 + a)": lambda a, b: 1 / (1 + a),
    "a / (a + b)": lambda a, b: a / (a + b),
    "(1 − a/(1 + a)) b b": lambda a, b: (1 - a / (1 + a)) * b * b,
}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
@given(singles, singles)
def test_floats_err_by_no_more_than_the_bound(formula, a, b):
    exact = formula(Fraction(a), Fraction(b))
    computed = Fraction(float(formula(np.float32(a), np.float32(b))))
    with precision(128):
        point = formula(*(Approx(arb(v), {}, 0, U) for v in (a, b)))
        box = formula(*(Approx(arb(v, 2.0**-10), {}, 0, U) for v in (a, b)))
        error = abs(computed - exact) / abs(exact)
        for approx in (point, box):
            assert arb(error.numerator) / error.denominator <= approx.size
        assert point.size <= box.size * (1 + arb(2) ** -40)


def test_half_an_ulp_is_that_of_the_largest_number():
    assert half_ulp(arb(0.75), U) == U / 2 == np.spacing(np.float32(0.75)) / 2
    assert half_ulp(arb(1, 0.25), U) == U == np.spacing(np.float32(1.25)) / 2


def test_errors_that_cancel_cancel():
    e = Approx(arb(1), {"e": arb(100)}, 0, U)
    symmetric = e / (1 + e) * (1 / (1 + e))  # of which e = 1 is the maximum
    assert symmetric.size < 10 * U


@both_precisions
def test_the_bound_grows_with_the_error_of_the_constants(number, monkeypatch):
    right, exact = roundings.certified(number)
    assert all(least <= largest for least, largest in exact.values())
    format = elementwise.FORMATS[number]
    for change in ({"degree": format.degree - 2}, {"low": format.low * (1 + 2.0**-7)}):
        spoiled = {**elementwise.FORMATS, number: format._replace(**change)}
        monkeypatch.setattr(elementwise, "FORMATS", spoiled)
        wrong, _ = roundings.certified(number)
        assert all(wrong[name] > right[name] for name in right), change
    coarse = {**elementwise.FORMATS, number: format._replace(high=float(np.log(number(2))))}
    monkeypatch.setattr(elementwise, "FORMATS", coarse)
    _, exact = roundings.certified(number)
    least, largest = exact["n·HIGH is exact"]
    assert not least <= largest


@both_precisions
def test_the_boxes_cover_every_argument(number):
    # The reduced argument, as the kernels compute it, is within the boxes.
    format = elementwise.FORMATS[number]
    with precision(128):
        decay = roundings.Decay(number)
    z = np.random.default_rng(0).uniform(0, format.last, 10**5).astype(number)
    magic = number(1.5 * 2**format.mantissa)
    n = z * number(1 / np.log(2)) + magic - magic
    r = (n * number(format.high) - z) + n * number(format.low)
    assert n.max() <= decay.top
    assert np.abs(r).max() <= float(decay.reach)
    assert np.abs(r).max() >= 0.999 * float(decay.reach)
