"""Every theorem of the registry, as test items named by its id: ``pytest -k B-5``."""

import pytest

from tinygrad_rnn.proofs import catalogue, evidence
from tinygrad_rnn.proofs.verify import PROFILES

THEOREMS = catalogue.load()
EFFORT = PROFILES["quick"]
# How many theorems the theory has for each letter.
SIZES = {"A": 7, "L": 3, "J": 7, "C": 9, "B": 10, "S": 4, "V": 8, "G": 15, "K": 9, "I": 5, "N": 6}
IDS = {f"{letter}-{n}" for letter, size in SIZES.items() for n in range(1, size + 1)}

every_theorem = pytest.mark.parametrize("id", THEOREMS)


def _items(attribute, name):
    return [
        pytest.param(THEOREMS[id], item, id=f"{id} {name(item)}")
        for id in THEOREMS
        for item in getattr(THEOREMS[id], attribute)
    ]


@every_theorem
def test_tested(id):
    statistical = THEOREMS[id].false_alarm is not None
    found = evidence.tested(THEOREMS[id], EFFORT.statistical if statistical else EFFORT.tested)
    assert found.verdict == "CONSISTENT", f"{found.failure} on {found.case}"


@pytest.mark.parametrize(("theorem", "system"), _items("systems", str))
def test_certified(theorem, system):
    found = evidence.certified(theorem, system, EFFORT.certified)
    assert found.verdict == "CERTIFIED", f"{found.failure} on {found.case}; {found.undecided}"


@pytest.mark.parametrize(("theorem", "necessity"), _items("necessity", lambda n: n.dropped))
def test_hypothesis_is_necessary(theorem, necessity):
    assert evidence.counterexample(theorem, necessity), "the claim holds without the hypothesis"


@pytest.mark.parametrize(("theorem", "mistake"), _items("sensitivity", lambda m: m.name))
def test_mistake_is_caught(theorem, mistake):
    assert evidence.caught(theorem, mistake, EFFORT.mistakes), "the planted mistake went unnoticed"


@every_theorem
def test_entry_is_complete(id):
    theorem = THEOREMS[id]
    assert theorem.id == id
    for text in (theorem.title, theorem.statement, theorem.proof):
        assert text.strip()
    assert theorem.sources
    assert bool(theorem.systems) == (theorem.false_alarm is None)
    assert set(theorem.systems) <= set(catalogue.SYSTEMS)
    assert theorem.sensitivity


def test_the_ids_are_those_of_the_theory():
    assert len(IDS) == 83
    assert set(THEOREMS) == IDS
