"""The worked examples hold, and each is refuted when a mistake is planted in any of its roads."""

from __future__ import annotations

import json
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest

from tinygrad_rnn.proofs import evidence, examples
from tinygrad_rnn.proofs.catalogue import Mistake
from tinygrad_rnn.proofs.evidence import Violated
from tinygrad_rnn.proofs.mistakes import NO_DIAGONAL, PRIME, RULES, UNTRANSPOSED, of_rule
from tinygrad_rnn.scalars import Ball

FOUND = {example.id: example for example in examples.run()}
GRADIENTS = ("E-1", "E-2", "E-3")


@pytest.mark.parametrize("id", examples.EXAMPLES)
def test_certified(id) -> None:
    assert FOUND[id].verdict == "CERTIFIED", FOUND[id].detail


def test_the_report_of_an_example_is_json() -> None:
    for id, example in FOUND.items():
        entry = example.to_json()
        assert json.loads(json.dumps(entry)) == entry
        assert entry["id"] == id
        assert entry["sources"]
        assert len(entry["roads"]) >= 3


def test_the_chain_is_far_below_every_absolute_tolerance() -> None:
    values = [FOUND["E-3"].roads[road]["o_1"][0][0] for road in ("tape", "the notes' product")]
    assert all(0 < v < Fraction(1, 10**30) for v in values)


def test_the_sentences_are_those_of_the_notes() -> None:
    words = examples._one_hot(examples.SENTENCES)
    rat_rat_mat = [[0, 0, 1], [0, 0, 1], [0, 1, 0]]
    mat_mat_cat = [[0, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert words[:, 1:].transpose(1, 0, 2).tolist() == [rat_rat_mat, mat_mat_cat]
    # As words the first is cat mat cat; the codes in the notes are 100 010 001.
    assert words[:, 0].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


# ---- planted mistakes ---------------------------------------------------------------------------


def _last_step_forgotten(right):
    def wrong(*args):
        return {name: d * (np.arange(len(d)) < len(d) - 1).reshape(-1, *[1] * (d.ndim - 1))
                for name, d in right(*args).items()}  # fmt: skip

    return wrong


def _single_precision(right):
    """Round floats to single precision on the way; exact numbers and balls pass unharmed."""

    def wrong(*args):
        return {
            name: d.astype(np.float32).astype(float) if d.dtype == float else d
            for name, d in right(*args).items()
        }

    return wrong


def _loss_of_the_notes(right):
    """S1-9: the leading minus is missing."""
    return lambda z, y: right(z, y) + 2 * np.sum(y * (z - np.log1p(np.exp(z))))


LOCAL = "tinygrad_rnn.cells.RNNCell.local"
LATE = Mistake(
    "h_t for h_{t−1}",
    LOCAL,
    lambda right: lambda self, p, x, s, d: right(self, p, x, self.step(p, x, s), d),
)
WRONG_TANH = Mistake(
    "tanh for tanh' in the rule",
    RULES,
    of_rule(np.tanh, vjps=lambda vjps: (lambda g, y, x: g * y,)),
)
WRONG_FORWARD = Mistake(
    "tanh for tanh' in the forward rule",
    RULES,
    of_rule(np.tanh, jvps=lambda jvps: (lambda t, y, x: t * y,)),
)
VANISHED = Mistake(
    "zero for a vanishing Jacobian",
    "tinygrad_rnn.cells.RNNCell.jacobian",
    lambda right: lambda *args: 0 * right(*args),
)
BROKEN = Mistake(
    "a road that raises",
    "tinygrad_rnn.cells.RNNCell.jacobian",
    lambda right: lambda *args: 1 / 0,
)


def _in(name, wrong):
    return Mistake(name, f"tinygrad_rnn.proofs.examples.{name}", wrong)


def _with(mistake, id):
    with evidence.planted(mistake):
        return examples.EXAMPLES[id]()


@pytest.mark.parametrize(
    ("mistake", "ids", "blamed"),
    [
        (PRIME, GRADIENTS, "closed-form"),
        (NO_DIAGONAL, GRADIENTS, "closed-form"),
        (VANISHED, GRADIENTS, "closed-form"),
        (BROKEN, GRADIENTS, "ZeroDivisionError"),
        (LATE, ("E-1", "E-2"), "closed-form"),
        (WRONG_TANH, GRADIENTS, "tape"),
        (WRONG_FORWARD, GRADIENTS, "forward"),
        (UNTRANSPOSED, ("E-1",), "tape"),
        (_in("tg.contributions", _last_step_forgotten), ("E-1", "E-2"), "contributions"),
        (_in("tg.contributions", _single_precision), ("E-1", "E-2"), "contributions"),
        (_in("tg.binary_cross_entropy", _loss_of_the_notes), ("E-1", "E-2"), "tape"),
        (_in("tg.grad", lambda right: lambda f: lambda p, *a: {n: 0 * v for n, v in p.items()}),
         GRADIENTS, "tape"),
        (VANISHED, ("E-4", "E-5", "E-6", "E-7"), "by chain"),
    ],
    ids=lambda p: p.name if isinstance(p, Mistake) else None,
)  # fmt: skip
def test_a_mistake_in_a_road_is_found_and_the_road_named(mistake, ids, blamed) -> None:
    for id in ids:
        found = _with(mistake, id)
        assert found.verdict == "REFUTED"
        assert blamed in found.detail


@pytest.mark.parametrize("id", ["E-4", "E-6"])
def test_a_mistake_in_the_tape_refutes_a_power(id) -> None:
    wrong = of_rule(np.matmul, vjps=lambda vjps: (lambda g, y, a, b: g, vjps[1]))
    found = _with(Mistake("g for g Wᵀ", RULES, wrong), id)
    assert found.verdict == "REFUTED"
    assert "by tape" in found.detail


@pytest.mark.parametrize("id", GRADIENTS)
def test_a_bound_that_would_pass_zero_is_no_bound(id) -> None:
    found = _with(_in("scalars.errors", lambda right: lambda a: right(a) + 1.0), id)
    assert found.verdict == "REFUTED"
    assert "rounding error" in found.detail


def test_numbers_known_too_vaguely_are_inconclusive() -> None:
    right = examples.lifted

    def vague(case, system):
        case = right(case, system)
        return {**case, "x": case["x"] + Ball(0, radius=2.0**-20)} if system == "ball" else case

    with mock.patch.object(examples, "lifted", vague):
        assert examples.EXAMPLES["E-2"]().verdict == "INCONCLUSIVE"


# ---- printed decimals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "printed", "judgement"),
    [
        (Fraction(1, 1024), "0.00097", "cut off; rounded it is 0.00098"),
        (Fraction(1, 1024), "0.00098", "rounded"),
        (Fraction(1, 1024), "0.0009765625", "rounded"),
        (Fraction("37.78"), "37.7", "cut off; rounded it is 37.8"),
        (Fraction(5, 2), "2", "rounded"),  # a tie may go either way
        (Fraction(5, 2), "3", "rounded"),
    ],
)
def test_decimals_rounded_or_cut_off(value, printed, judgement) -> None:
    assert examples.printed_as(value, printed) == judgement


@pytest.mark.parametrize("printed", ["0.00096", "0.00099", "0.001024"])
def test_decimals_that_are_neither(printed) -> None:
    with pytest.raises(Violated, match="is neither rounded nor cut off; rounded it is"):
        examples.printed_as(Fraction(1, 1024), printed)


@pytest.mark.parametrize("id", examples.POWERS)
def test_a_wrong_decimal_refutes_a_power(id) -> None:
    base, n, printed, _ = examples.POWERS[id]
    last_digit = "5" if printed[-1] != "5" else "3"
    with pytest.raises(Violated, match="neither rounded nor cut off"):
        examples._power(base, n, printed[:-1] + last_digit, {})
