"""The tester, tested: what is false is refuted, what is unknown does not pass."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.proofs import evidence, strategies
from tinygrad_rnn.proofs.catalogue import Mistake, Necessity, Theorem, at_most, equal

ULP = np.finfo(float).eps


def make(claim, cases=None, systems=("rational",), necessity=(), sensitivity=()):
    """Return a theorem with this claim, over vectors ``x`` unless told otherwise."""
    vectors = strategies.dyadics(3).map(lambda x: {"x": x})
    return Theorem(
        "X-1", "test", "bounds", "", (), "", (), claim, cases or (lambda system: vectors),
        systems, necessity, sensitivity,
    )  # fmt: skip


def true_equality(x):
    yield equal("(x+1)² = x²+2x+1", (x + 1) ** 2, x * x + 2 * x + 1)


def false_equality(x):
    yield equal("(x+1)² = x²+1", (x + 1) ** 2, x * x + 1)


def test_true_claim_passes_every_level():
    theorem = make(true_equality)
    assert evidence.tested(theorem, 50).verdict == "CONSISTENT"
    for system in ("rational", "field"):
        assert evidence.certified(theorem, system, 20).verdict == "CERTIFIED"


def test_false_claim_is_refuted_at_every_level_with_a_small_case():
    theorem = make(false_equality)
    for found in (
        evidence.tested(theorem, 50),
        evidence.certified(theorem, "rational", 50),
        evidence.certified(theorem, "field", 50),
    ):
        assert found.verdict == "REFUTED"
        assert "(x+1)² = x²+1" in found.failure
        assert found.case.startswith("{'x': array([")
    shrunk = evidence.tested(theorem, 50).case
    assert "0.0625" in shrunk  # the smallest nonzero entry there is


def test_tolerance_is_the_rounding_error_and_no_more():
    def a_little_off(x):
        yield equal("tanh", np.tanh(x), np.tanh(x) * (1 + 64 * ULP))

    def reordered(x):
        a, b, c = np.tanh(x)
        yield equal("sum", (a + b) + c, a + (b + c))

    assert evidence.tested(make(a_little_off), 50).verdict == "REFUTED"
    found = evidence.tested(make(reordered), 200)
    assert found.verdict == "CONSISTENT"
    assert 0 < found.tightest <= 1


def test_violation_far_below_one_is_seen():
    def claim(x):
        yield at_most("2^-900 (1 + |x|) ≤ 2^-900", 2.0**-900 * (1 + np.abs(x)), 2.0**-900 + 0 * x)

    assert evidence.tested(make(claim), 50).verdict == "REFUTED"


def test_division_by_zero_is_no_pass():
    def claim(x):
        yield equal("0/0", (x - x) / (x - x), x)

    found = evidence.tested(make(claim), 20)
    assert (found.verdict, found.examples) == ("INCONCLUSIVE", 0)


def test_exception_in_a_claim_is_no_pass():
    def claim(x):
        yield equal("broken", x @ np.ones((7, 7)), x)

    assert evidence.tested(make(claim), 5).verdict == "REFUTED"
    assert evidence.certified(make(claim), "rational", 5).verdict == "REFUTED"


def test_undecided_is_no_pass(monkeypatch):
    monkeypatch.setattr(evidence, "MAX_BITS", 512)

    def claim(x):
        # An identity stated as an inequality: no precision separates the two sides.
        yield at_most("sinh ≤ (e^x − e^−x)/2", np.sinh(x), (np.exp(x) - np.exp(-x)) / 2)

    found = evidence.certified(make(claim, systems=("ball",)), "ball", 5)
    assert found.verdict == "INCONCLUSIVE"
    assert found.undecided > 0


def test_box_is_certified_as_a_whole():
    def below(limit):
        def claim(x):
            yield at_most("x below", x, limit)

        box = st.just({"x": evidence.Box(np.array([0.5]), np.array([0.25]))})
        return make(claim, lambda system: box)

    assert evidence.certified(below(0.875), "ball", 1).verdict == "CERTIFIED"
    assert evidence.certified(below(0.625), "ball", 1).verdict == "INCONCLUSIVE"
    assert evidence.certified(below(0.125), "ball", 1).verdict == "REFUTED"


def test_counterexample_must_fail_the_claim():
    holds = Necessity("nothing", lambda: {"x": np.zeros(3)})
    fails = Necessity("x = 0", lambda: {"x": np.ones(3)})
    theorem = make(false_equality, necessity=(holds, fails))
    assert evidence.counterexample(theorem, holds) is None
    assert "is false" in evidence.counterexample(theorem, fails)


def test_planted_mistake_is_caught_and_removed():
    right = RNNCell.jacobian

    def claim(cell, params, x, state):
        yield equal("J", cell.jacobian(params, x[0], state), right(cell, params, x[0], state))

    target = "tinygrad_rnn.cells.RNNCell.jacobian"
    shifted = Mistake("shifted", target, lambda f: lambda *args: 1 + f(*args))
    harmless = Mistake("none", target, lambda f: lambda *args: f(*args))
    theorem = make(claim, strategies.rnns, sensitivity=(shifted, harmless))
    assert evidence.caught(theorem, shifted, 50) == "rational"
    assert evidence.caught(theorem, harmless, 50) is None
    assert RNNCell.jacobian is right


@pytest.mark.parametrize("strategy", [strategies.rnns("float"), strategies.gated()])
def test_every_family_is_drawn(strategy):
    found = evidence.tested(make(_nothing, lambda system: strategy), 300)
    families = set(strategies.FAMILIES) if "nilpotent" in found.families else set(strategies.GATED)
    assert set(found.families) == families


def _nothing(cell, params, x, state):
    yield equal("x", x, x)


@given(strategies.dyadics((3, 3)))
def test_scaled_norm_is_below_by_construction(A):
    norm = np.abs(strategies.scaled(A, 0.75)).sum(axis=1).max()
    assert norm == 0 or 0.375 < norm <= 0.75
