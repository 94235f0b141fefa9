"""The zoo: what its entries say of themselves is true, and check_layer finds it out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from zoo import CELLS, COMPOSITES, ENTRIES, Composite, Entry
from zoo.battery import CASES, HOLDS, Case, first_wrong_step, wrong, wrong_in

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer.conform import pose

FAULTY = [entry for entry in ENTRIES if entry.faulty]
CORRECT = [entry for entry in ENTRIES if not entry.faulty]
# The inputs that show a mistake which these sizes and scales would not.
WITNESSES = {
    "T ≥ 9": CASES["long"],
    "T ≥ 11": CASES["long"],
    "T ≥ 21": CASES["long"],
    "N = 1": CASES["one sequence"],
    "not contiguous": CASES["strided"],
    "saturated": CASES["saturated"],
    "large cotangents": CASES["large"],
    "small cotangents": CASES["tiny"],
}


def each(entries: list[Any]) -> Any:
    return pytest.mark.parametrize("entry", entries, ids=lambda entry: entry.id)


def test_the_zoo_is_large_and_every_animal_has_its_own_name() -> None:
    assert len(FAULTY) >= 40
    assert len([entry for entry in CORRECT if not entry.mistake.startswith("nothing")]) >= 15
    assert len({entry.id for entry in ENTRIES}) == len(ENTRIES)
    assert all(entry.mistake and entry.source for entry in ENTRIES)


@each(FAULTY)
def test_exactly_the_culprits_are_wrong_where_the_condition_holds(entry: Entry) -> None:
    found = {name: wrong(entry, case) for name, case in CASES.items()}
    assert frozenset().union(*found.values()) == entry.culprits
    if entry.condition:
        assert [
            n for n, case in CASES.items() if found[n] and not HOLDS[entry.condition](case)
        ] == []


@each([e for e in FAULTY if e.first_wrong_step is not None])
def test_the_first_wrong_step(entry: Entry) -> None:
    case = WITNESSES.get(entry.condition or "", Case())
    expected = entry.first_wrong_step
    if isinstance(expected, str):
        expected = eval(expected, {"T": case.T})
    assert first_wrong_step(entry, case) == expected


@each(CORRECT)
def test_a_correct_layer_is_within_rounding_of_the_reference(entry: Entry) -> None:
    assert {name: set(wrong(entry, case)) for name, case in CASES.items()} == {
        name: set() for name in CASES
    }


@each(COMPOSITES)
@pytest.mark.parametrize("seed", range(3))
def test_exactly_the_culprits_of_a_composite_are_wrong(entry: Composite, seed: int) -> None:
    assert wrong_in(entry, seed) == entry.culprits


# ---- check_backward, with and without a specification ----------------------------------------


def given(entry: Composite) -> tuple[Any, Any, Any]:
    layer = entry.layer()
    return layer.run, layer.backward, layer.inputs(np.random.default_rng(0))


@each(COMPOSITES)
def test_check_backward_against_the_specification(entry: Composite) -> None:
    found = tg.check_backward(*given(entry), reference=entry.layer().reference)
    assert frozenset(found.culprits) == entry.culprits, str(found)
    assert found.verdict == ("REFUTED" if entry.faulty else "CONSISTENT")


def in_buffers(run: Any, dtype: Any) -> Any:
    """Make a forward pass that writes into buffers, which the engine cannot follow."""

    def buffered(inputs: Any) -> Any:
        outputs, cache = run(inputs)
        buffers = [np.empty(o.shape, dtype or o.dtype) for o in outputs]
        for buffer, o in zip(buffers, outputs, strict=True):
            buffer[...] = o
        return tuple(buffers), cache

    return buffered


@each(COMPOSITES)
@pytest.mark.parametrize("road", ["engine", "the complex step", "difference quotients"])
def test_check_backward_with_the_forward_pass_alone(entry: Composite, road: str) -> None:
    run, backward, inputs = given(entry)
    if road != "engine":
        run = in_buffers(run, None if road == "the complex step" else float)
    found = tg.check_backward(run, backward, inputs)
    assert frozenset(found.culprits) == entry.culprits, str(found)
    assert found.verdict == ("REFUTED" if entry.faulty else "CONSISTENT")
    assert road in found.notes[-1] or road == "engine"


# ---- check_layer ------------------------------------------------------------------------------


def report(entry: Entry) -> Any:
    return tg.check_layer(entry.layer(), CELLS[entry.cell](3, 4), map=entry.map)


@each(FAULTY)
def test_its_trials_refute_it_and_tell_the_culprits(entry: Entry) -> None:
    """The trials of check_layer, without the search for the likely mistake, which takes longer."""
    c, _, trials = pose(entry.layer(), CELLS[entry.cell](3, 4), None, entry.map, 0, "default")
    outcomes = [c.run(trial) for trial in trials]
    found = frozenset(name for o in outcomes for name in o.wrong)
    assert any(o.failed for o in outcomes)
    assert (found & {"outputs"} or found) == entry.culprits


@each(FAULTY[::10])
def test_check_layer_refutes_it_and_names_the_culprits(entry: Entry) -> None:
    found = report(entry)
    assert (found.verdict, frozenset(found.culprits)) == ("REFUTED", entry.culprits), str(found)
    assert found.conditions or found.mistakes


@each(CORRECT)
def test_check_layer_has_nothing_against_it(entry: Entry) -> None:
    found = report(entry)
    assert found.verdict == "CONSISTENT", str(found)
