"""certify encloses values and gradients, and refuses what it cannot enclose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from handmade import example
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.scalars import Ball, Undecided, encloses


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
    assert "gradient[0] (9,): 1.0000" in text
    assert "…" in text
