"""certify encloses values and gradients, and refuses what it cannot enclose."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import flint
import numpy as np
import pytest
from handmade import example
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.scalars import (
    Ball,
    Undecided,
    ball,
    encloses,
    errors,
    precision,
    rational,
    rounded,
    values,
)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 1.0, 3.0]))
def test_more_bits_stay_inside(seed: int, gain: float) -> None:
    layer, args = example(seed, gain=gain)
    coarse, fine = (tg.certify(layer.loss, args, bits=bits) for bits in (80, 400))
    assert coarse.value.item().arb.contains(fine.value.item().arb)
    for a, b in zip(coarse.gradient, fine.gradient, strict=True):
        assert all(x.arb.contains(y.arb) for x, y in zip(a.flat, b.flat, strict=True))


@given(st.integers(0, 2**32 - 1))
def test_every_entry_has_the_digits_of_a_float(seed: int) -> None:
    layer, args = example(seed, T=40)
    enclosure = tg.certify(layer.loss, args)
    for part in (enclosure.value, *enclosure.gradient):
        assert all(e.arb.rel_accuracy_bits() >= 53 for e in np.ravel(part))


def test_exact_results_are_contained_and_others_are_not() -> None:
    enclosure = tg.certify(lambda p, c: np.sum(p["w"] * p["w"] * c), [{"w": np.array([1.5])}, 2.0])
    assert enclosure.contains(4.5, ({"w": np.array([6.0])}, 2.25))
    assert not enclosure.contains(4.5, ({"w": np.array([np.nextafter(6.0, 7)])}, 2.25))
    assert not enclosure.contains(4.0, ({"w": np.array([6.0])}, 2.25))
    with pytest.raises(ValueError, match="shapes"):
        enclosure.contains(4.5, ({"w": np.array(6.0)}, 2.25))


def test_fractions_and_boxes_can_be_enclosed() -> None:
    third = tg.certify(lambda x: x * x, [Fraction(1, 3)])
    assert encloses(third.gradient[0], Fraction(2, 3)).item()
    box = tg.certify(np.tanh, [Ball(0, radius=1)], bits=64)
    assert all(encloses(box.gradient[0], 1 - np.tanh(x) ** 2).item() for x in (-0.5, 0.0, 0.9))


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda x: 2.0 * x, 2.0),
        (lambda x: x * 0.5 + 0.25, 0.5),
        (lambda x: np.tanh(x * 0.0) - x / 4.0, -0.25),
        (lambda x: np.where(x > 0, 3.0, x), 0.0),
    ],
)
def test_a_float_may_be_the_last_factor(f: Any, slope: float) -> None:
    assert tg.certify(f, [1.5]).contains(f(1.5), (slope,))


def test_last_factors_are_multiplied_without_rounding() -> None:
    (gradient,) = tg.certify(lambda x: 0.1 * (0.1 * x), [1.5], bits=128).gradient
    assert encloses(gradient, Fraction(0.1) ** 2)
    assert not encloses(gradient, 0.1 * 0.1)


def test_an_undecidable_branch_is_undecided() -> None:
    f = lambda x: np.sum(np.where(np.tanh(x) - np.tanh(x) > 0, x, -x))  # noqa: E731
    with pytest.raises(Undecided, match="cannot be decided"):
        tg.certify(f, [np.array([0.5])])


def test_no_derivative_is_undecided() -> None:
    with pytest.raises(Undecided, match="not finite"):
        tg.certify(np.sqrt, [0.0])


@pytest.mark.parametrize(
    ("f", "error"),
    [
        (lambda x: x * x, ValueError),
        (lambda x: np.sum(np.arctan(x)), TypeError),
        (lambda x: np.sum(x.astype(float) * x), TypeError),
    ],
    ids=["not scalar", "no ball function", "rounds"],
)
def test_what_cannot_be_enclosed_is_refused(f: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        tg.certify(f, [np.array([1.0, 2.0])])  # type: ignore[arg-type]


def test_an_enclosure_is_readable() -> None:
    text = str(tg.certify(lambda x: np.sum(np.exp(x)), [np.zeros(9)]))
    assert text.startswith("value = 9.0000")
    assert "gradient by x (9,): 1.0000" in text
    assert "…" in text


def test_arrays_are_named_as_by_check_gradients() -> None:
    p = {"W": np.ones((1, 2)), "b": np.ones(2)}
    f = lambda p, x: np.sum(np.tanh(x @ p["W"] + p["b"]))  # noqa: E731
    args = [p, np.array([0.5])]
    names = [e.name for e in tg.check_gradients(f, args).entries]
    assert tg.certify(f, args).names == names == ["W", "b", "x"]


@pytest.mark.parametrize("bits", [64, 200])
def test_what_is_printed_is_as_good_as_the_enclosure(bits: int) -> None:
    enclosure = tg.certify(np.tanh, [0.5], bits=bits)
    value, gradient, _ = str(enclosure).splitlines()
    for text, e in (value, enclosure.value.item()), (gradient, enclosure.gradient[0].item()):
        with precision(256):
            shown = flint.arb("[" + text.partition("[")[2])
        assert shown.contains(e.arb)
        assert shown.rel_accuracy_bits() >= 0.9 * bits


# ---- captured floats --------------------------------------------------------------------------

CELLS = [tg.RNNCell(2, 3), tg.GRUCell(2, 3), tg.LSTMCell(2, 3)]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_captured_floats_are_the_numbers_they_are(cell: Any) -> None:
    x, params = np.random.default_rng(0).normal(size=(4, 2)), cell.init(1)

    def loss(params: Any, x: Any) -> Any:
        return np.sum(tg.unroll(cell, params, x).outputs)

    given = tg.certify(loss, [params, x], bits=200)
    captured = tg.certify(lambda p: loss(p, x), [params], bits=200)
    for name in params:
        pairs = zip(given.gradient[0][name].flat, captured.gradient[0][name].flat, strict=True)
        assert all(a.arb.overlaps(b.arb) and b.arb.rel_accuracy_bits() > 150 for a, b in pairs)
    # x @ W_x are two captured arrays: their product must not round to a float.
    of_one = tg.certify(lambda W_h: loss({**params, "W_h": W_h}, x), [params["W_h"]], bits=200)
    pairs = zip(given.gradient[0]["W_h"].flat, of_one.gradient[0].flat, strict=True)
    assert all(a.arb.overlaps(b.arb) for a, b in pairs)


def test_a_captured_target_and_a_norm_are_the_numbers_they_are() -> None:
    third, target = np.array([1 / 3, 0.1]), np.array([0.7, 0.1])
    enclosure = tg.certify(lambda x: tg.squared_error(x, target), [third])
    exact = [(Fraction(a) - Fraction(b)) for a, b in zip(third, target, strict=True)]
    assert encloses(enclosure.value, sum(e * e for e in exact)).item()
    norm = tg.global_norm([ball(third), np.array([0.1, 0.2])])
    square = sum(Fraction(a) ** 2 for a in (*third, 0.1, 0.2))
    assert encloses(norm * norm, square).item()


@pytest.mark.parametrize("x", [np.ones((4, 2)), np.ones((4, 2), np.float32)], ids=["64", "32"])
def test_floats_beside_fractions_are_refused_with_the_remedy(x: Any) -> None:
    cell = tg.RNNCell(2, 3, activation="identity")
    params = {name: rational(p) for name, p in cell.init(0).items()}
    with pytest.raises(TypeError, match=r"Convert x: tinygrad_rnn\.scalars\.rational"):
        tg.unroll(cell, params, x)
    tg.unroll(cell, params, rational(x))


def test_floats_beside_rounded_numbers_are_rounded_numbers() -> None:
    cell, x = tg.RNNCell(2, 3), np.random.default_rng(0).normal(size=(4, 2))
    params = {name: rounded(p) for name, p in cell.init(0).items()}
    captured, given = (tg.unroll(cell, params, a).outputs for a in (x, rounded(x)))
    assert np.array_equal(values(captured), values(given))
    assert np.array_equal(errors(captured), errors(given))


def test_complex_numbers_beside_balls_are_refused() -> None:
    cell = tg.RNNCell(2, 3)
    params = {name: ball(p) for name, p in cell.init(0).items()}
    with pytest.raises(TypeError, match="x holds floats but W_x exact numbers"):
        tg.unroll(cell, params, np.ones((4, 2), complex))


# ---- sentences --------------------------------------------------------------------------------

KINKED = {
    "np.maximum": lambda x: np.maximum(x, 0),
    "np.minimum": lambda x: np.minimum(0, x),
    "np.absolute": np.abs,
    "relu": tg.relu,
    "leaky_relu": tg.leaky_relu,
}


@pytest.mark.parametrize("name", KINKED)
def test_an_exact_kink_has_no_gradient(name: str) -> None:
    f = lambda x: np.sum(KINKED[name](x))  # noqa: E731
    with pytest.raises(Undecided, match=rf"^{name} is exactly at its kink in 2 of 3 entries"):
        tg.certify(f, [np.array([0.0, 1.0, 0.0])])
    tg.certify(f, [np.array([5e-324, 1.0, -1.0])])


def test_an_undecided_branch_is_short() -> None:
    f = lambda x: np.sum(np.where(np.tanh(x) - np.tanh(x) > 0, x, -x))  # noqa: E731
    with pytest.raises(Undecided) as raised:
        tg.certify(f, [np.array([0.5])])
    assert len(str(raised.value)) < 200


def test_a_value_that_is_not_finite_is_said() -> None:
    with pytest.raises(Undecided, match="the value is not finite"):
        tg.certify(np.log, [-1.0])


@pytest.mark.parametrize(
    ("f", "args", "error", "sentence"),
    [
        (lambda x: None, [1.0], ValueError, "did you forget `return`"),
        (lambda x: (x, x), [1.0], ValueError, "got a tuple of results"),
        (lambda x: np.ones(2), [1.0], ValueError, "got shape"),
        (np.sum, np.ones(2), TypeError, r"Write \[x\] for x"),
        (np.sqrt, [2], TypeError, "A derivative needs floating-point numbers, got int64"),
        (np.sqrt, [float("nan")], ValueError, "NaN or infinite"),
    ],
    ids=["None", "tuple", "constant array", "no list", "integer", "nan"],
)
def test_misuse_is_answered_with_a_sentence(
    f: Any, args: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=f"(?i){sentence}"):
        tg.certify(f, args)
