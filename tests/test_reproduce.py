"""A refutation leaves a program that shows it again."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tinygrad_rnn.proofs import catalogue, evidence, reproduce

THEOREMS = catalogue.load()


def evaluated(case):
    namespace = {}
    exec(f"{reproduce.imports(case)}\nfrom tinygrad_rnn.proofs.evidence import Box", namespace)
    return eval(reproduce.python(case), namespace)


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        exact = a.dtype == b.dtype and a.shape == b.shape
        return exact and (a.dtype.kind == "O" or a.tobytes() == b.tobytes())
    if isinstance(a, evidence.Box):
        return same((a.mid, a.radius), (b.mid, b.radius))
    return type(a) is type(b) and (a == b or a != a)


@pytest.mark.parametrize("id", THEOREMS)
def test_every_case_evaluates_to_itself(id):
    theorem = THEOREMS[id]

    @settings(max_examples=3, phases=[Phase.generate], database=None)
    @given(st.sampled_from(["float", *theorem.systems]).flatmap(theorem.cases))
    def check(case):
        assert same(case, evaluated(case)), reproduce.python(case)

    check()
    witness = (theorem.witness or dict)()
    assert same(witness, evaluated(witness)), reproduce.python(witness)


def test_numbers_keep_every_bit():
    case = {"x": np.array([0.1 + 0.2, -0.0, np.nan, np.inf]), "y": np.float32([1 / 3]), "n": 3}
    case["long"] = np.arange(2000.0)
    assert same(case, evaluated(case))


@pytest.mark.parametrize("system", ["rational", "field", "ball", "float"])
def test_a_planted_mistake_is_shown_again(system):
    theorem = THEOREMS["J-1"]
    with evidence.planted(theorem.sensitivity[0]):
        if system == "float":
            found = evidence.tested(theorem, 100)
        else:
            found = evidence.certified(theorem, system, 100)
        assert found.verdict == "REFUTED"
        with pytest.raises(evidence.Violated) as shown:
            exec(found.script, {})
        assert str(shown.value) == found.failure
    exec(found.script, {})  # without the mistake the theorem holds there


def test_the_small_arrays_of_a_case_by_name():
    case = {"p": {"W": np.ones((1, 2))}, "s": (np.zeros(1),), "n": 3, "big": np.zeros(999)}
    assert reproduce.arrays(case) == {"p.W": [[1.0, 1.0]], "s[0]": [0.0]}
