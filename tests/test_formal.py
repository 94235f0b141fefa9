"""The audit of the Coq proofs: what it checks, what it refuses, what it says without Coq."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import GRUCell, LSTMCell, RNNCell, Tensor, unroll
from tinygrad_rnn.proofs import verify
from tinygrad_rnn.proofs.formal import __main__ as command
from tinygrad_rnn.proofs.formal import audit as audits
from tinygrad_rnn.proofs.formal import coq, links
from tinygrad_rnn.proofs.formal.audit import ALLOWED, Audit, Proof, audit, digests, recorded
from tinygrad_rnn.proofs.formal.mutants import MUTANTS, plant, survivors
from tinygrad_rnn.proofs.formal.registry import FORMAL, evidence
from tinygrad_rnn.proofs.formal.tapes import Network, recorded_tape
from tinygrad_rnn.scalars import GF
from tinygrad_rnn.scalars.element import elementwise

needs_coq = pytest.mark.skipif(
    coq.version() is None or os.environ.get("REQUIRE_COQ") != "1",
    reason=f"checking the proofs takes minutes: REQUIRE_COQ=1 pytest, and coqc: {coq.INSTALL}",
)
EMPTY: dict[str, dict[str, str]] = {"theorems": {}, "definitions": {}, "sources": {}}
TRUE = "Theorem fact : 0 = 0. Proof. reflexivity. Qed.\n"
FALSE = "Theorem fact : 0 = 1. Proof. apply magic. Qed.\n"
MAGIC = "Hypothesis magic : forall x : nat, x = 1.\n"


def development(folder: Path, text: str) -> Path:
    """Write a development of one module."""
    (folder / "Small.v").write_text(text, encoding="utf-8")
    return folder


def of(folder: Path, text: str, expected: dict[str, dict[str, object]] | None = None) -> Audit:
    """Audit a development of one module, without the independent checker."""
    then = EMPTY | (expected or {})
    return audit(development(folder, text), ("Small",), then, thorough=False)


# ---- what needs no Coq --------------------------------------------------------------------------


def test_every_theorem_serves_an_id_and_every_name_is_a_theorem() -> None:
    named = {name for formal in FORMAL.values() for name in formal.theorems}
    assert named == set(coq.theorems(coq.HERE, coq.MODULES))


def test_every_module_is_compiled() -> None:
    assert {p.stem for p in coq.HERE.glob("*.v")} == set(coq.MODULES)


def test_a_module_serves_what_the_registry_says() -> None:
    for module in coq.MODULES:
        served = {
            id
            for id, formal in FORMAL.items()
            if any(name.startswith(f"{module}.") for name in formal.theorems)
        }
        header = (coq.HERE / f"{module}.v").read_text(encoding="utf-8").partition("*)")[0]
        assert set(re.findall(r"\b[A-Z]-\d+\b", header)) == served, module


def test_the_record_is_of_these_sources() -> None:
    then = recorded()
    assert then["sources"] == digests(coq.HERE, coq.MODULES)
    assert list(then["theorems"]) == coq.theorems(coq.HERE, coq.MODULES)
    assert {a for t in then["theorems"].values() for a in t["axioms"]} <= ALLOWED


def test_every_mutant_changes_its_module() -> None:
    for mutant in MUTANTS:
        text = (coq.HERE / f"{mutant.module}.v").read_text(encoding="utf-8")
        assert plant(mutant, text) != text


def test_without_coq_nothing_passes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(coq, "version", lambda: None)
    fact = {"Small.fact": {"statement": "0 = 0", "axioms": []}}
    development(tmp_path, TRUE)
    here = digests(tmp_path, ("Small",))
    for expected, status in (
        ({"theorems": fact, "sources": here}, "recorded"),
        ({"theorems": fact, "sources": {"Small": "another"}}, "stale"),
        ({}, "not checked here"),
    ):
        found = of(tmp_path, TRUE, expected)
        assert found.theorems["Small.fact"].status == status
        assert not found.passed
        assert coq.INSTALL in found.summary()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("checked", "PROVED"),
        ("failed", "INCONCLUSIVE"),
        *((status, "NOT CHECKED") for status in ("recorded", "stale", "not checked here")),
    ],
)
def test_only_what_is_checked_is_proved(status: str, verdict: str) -> None:
    result = Audit("8", dict.fromkeys(recorded()["theorems"], Proof(status)))
    assert evidence("J-5", result)["verdict"] == verdict
    assert evidence("Z-9", result)["verdict"] == "NOT CHECKED"


def test_what_has_a_gap_is_not_proved() -> None:
    result = Audit("8", dict.fromkeys(recorded()["theorems"], Proof("checked")))
    found = evidence("J-7", result)
    assert (found["verdict"], found["gap"]) == ("NOT CHECKED", "one unit only")


def test_a_development_that_does_not_compile_says_nothing_of_theorems() -> None:
    failed = dict.fromkeys(recorded()["theorems"], Proof("failed"))
    found = evidence("J-5", Audit("9", failed, objections=["Toolbox.v does not compile:\n…"]))
    assert found["verdict"] == "NOT CHECKED"
    assert "Toolbox.v does not compile" in found["reason"]


CELLS = [
    *(RNNCell(1, 1), RNNCell(2, 2), RNNCell(1, 2, activation="identity"), LSTMCell(1, 2)),
    *(GRUCell(1, 2, variant=v) for v in ("minimal", "reset_before", "reset_after")),
]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_tape_computes_what_the_program_computes(cell: Any) -> None:
    """In GF(2⁶¹ − 1), where equal means equal as formulas."""
    network = Network(cell, 3)
    inputs, loss = network.record()
    tape = recorded_tape(inputs, loss)
    assert all(type(t) is Tensor for t in inputs)
    memory: list[Any] = [GF(v) for v in tape.inputs]
    for name, cells in tape.instructions:
        a, *b = (memory[i] for i in cells)
        memory.append(
            {
                "IAdd": lambda a, b: a + b,
                "ISub": lambda a, b: a - b,
                "IMul": lambda a, b: a * b,
                "ITanh": lambda a: a.tanh(),
                "ISigm": lambda a: a.sigmoid(),
            }[name](a, *b)
        )

    def lift(a: Any) -> Any:
        return elementwise(lambda v: GF(Fraction(v)), a)

    x, params, state = network.arrays()
    run = unroll(cell, {k: lift(v) for k, v in params.items()}, lift(x), tuple(map(lift, state)))
    assert memory[tape.output] == run.outputs[-1].sum()
    numbers = [v for a in (x, *params.values(), *state) for v in a.flat]
    assert tape.inputs[: len(numbers)] == numbers
    for _, gradient in network.gradients():
        assert len(gradient) == len(numbers)


def test_a_tape_holds_what_the_model_knows() -> None:
    x = Tensor([0.5])
    with pytest.raises(ValueError, match="none of the inputs"):
        recorded_tape([], np.sum(x))
    with pytest.raises((TypeError, AttributeError)):
        recorded_tape([x], np.sum(np.exp(x)))


@pytest.mark.parametrize("what", ["audit", "tape", "certificates"])
def test_a_command_without_coq(what: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(coq, "version", lambda: None)
    monkeypatch.setattr("sys.argv", ["formal", what])
    monkeypatch.delenv("REQUIRE_COQ", raising=False)
    assert command.main() == 77
    assert coq.INSTALL in capsys.readouterr().out
    monkeypatch.setenv("REQUIRE_COQ", "1")
    assert command.main() == 1


def audited(status: str) -> Audit:
    """Return an audit in which every theorem has this status."""
    definitions = recorded()["definitions"]
    return Audit("8", dict.fromkeys(recorded()["theorems"], Proof(status)), definitions)


@pytest.mark.parametrize(("status", "verdict"), [("checked", "PROVED"), ("failed", "INCONCLUSIVE")])
def test_verify_asks_coq_once(status: str, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(coq, "version", lambda: "8")
    monkeypatch.setattr(verify, "kept_audit", lambda: asked.append(1) or audited(status))
    finished: list[str] = []
    report = verify.verify(
        ["J-5", "J-7", "E-4"], ("proved",), processes=1, progress=finished.append
    )
    assert [t["verdict"] for t in report["theorems"]] == [
        verdict,
        "NOT CHECKED" if status == "checked" else verdict,
    ]
    assert (asked, finished) == ([1], ["J-5", "J-7", "E-4"])
    verify.verify(["J-5"], verify.LEVELS, "quick", processes=1)
    assert asked == [1]


def test_verify_without_coq_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coq, "version", lambda: None)
    (entry,) = verify.verify(["J-5"], ("proved",))["theorems"]
    assert entry["verdict"] == "NOT CHECKED"
    assert coq.INSTALL in entry["levels"]["proved"]["reason"]
    assert entry["levels"]["proved"]["coq"] == list(FORMAL["J-5"].theorems)


# ---- what needs it ------------------------------------------------------------------------------


@needs_coq
def test_the_development_is_checked() -> None:
    result = audit(thorough=False)
    assert result.passed, (result.objections, result.summary())


@needs_coq
def test_a_true_theorem_is_checked(tmp_path: Path) -> None:
    fact = {"Small.fact": {"statement": "0 = 0", "axioms": []}}
    assert of(tmp_path, TRUE).theorems["Small.fact"].status == "failed"  # not recorded
    text = "Lemma helper : True. Proof. exact I. Qed.\n" + TRUE
    first = of(tmp_path, text)
    fact["Small.fact"]["statement"] = first.theorems["Small.fact"].statement
    assert of(tmp_path, text, {"theorems": fact}).passed


@needs_coq
@pytest.mark.parametrize("planted", [MAGIC, MAGIC.replace("Hypothesis", "Variable")])
def test_a_hypothesis_outside_a_section_is_an_axiom(tmp_path: Path, planted: str) -> None:
    proof = of(tmp_path, planted + FALSE).theorems["Small.fact"]
    assert (proof.status, proof.objection) == ("failed", "rests on TG.Small.magic")


@needs_coq
def test_an_axiom_cannot_borrow_an_allowed_name(tmp_path: Path) -> None:
    text = (
        "Module Classical_Prop.\nHypothesis classic : forall x : nat, x = 1.\nEnd Classical_Prop.\n"
    )
    proof = of(tmp_path, text + FALSE.replace("magic", "Classical_Prop.classic"))
    assert "TG.Small.Classical_Prop.classic" in proof.theorems["Small.fact"].objection


@needs_coq
@pytest.mark.parametrize(
    "text",
    [
        MAGIC.replace("Hypothesis", "Axiom") + FALSE,
        "Theorem fact : 0 = 1. Proof. Admitted.\n",
        "Theorem fact : 0 = 1. Proof. reflexivity. Qed.\n",
    ],
)
def test_an_open_proof_is_refused(tmp_path: Path, text: str) -> None:
    result = of(tmp_path, text)
    assert result.objections
    assert not result.passed


@needs_coq
def test_a_changed_statement_or_definition_is_seen(tmp_path: Path) -> None:
    text = "Definition one := 1.\nTheorem fact : one = one. Proof. reflexivity. Qed.\n"
    first = of(tmp_path, text)
    then = {
        "theorems": {
            "Small.fact": {"statement": first.theorems["Small.fact"].statement, "axioms": []}
        },
        "definitions": first.definitions,
    }
    assert of(tmp_path, text, then).passed
    assert not of(tmp_path, text.replace("one = one", "1 = one"), then).passed
    weaker = of(tmp_path, text.replace(":= 1", ":= 2"), then)
    assert weaker.objections == ["the definition of Small.one is not the recorded one"]
    assert not of(tmp_path, "Definition one := 1.\n", then).passed


@needs_coq
def test_a_mutant_of_the_chain_rule_dies() -> None:
    assert survivors(MUTANTS[:1]) == []


@needs_coq
def test_an_audit_that_passed_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = [audited("failed"), audited("checked")]
    monkeypatch.setattr(audits, "audit", lambda **options: found.pop(0))
    assert not audits.kept_audit().passed
    assert not list(tmp_path.rglob("*.json"))
    for _ in range(2):  # the second time from the file
        assert audits.kept_audit() == audited("checked")


# ---- the link to the code -----------------------------------------------------------------------

SMALL = Network(RNNCell(D=1, H=1), T=2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile what tapes and certificates need."""
    scratch = tmp_path_factory.mktemp("built")
    coq.build(coq.HERE, scratch, links.CERTIFICATES)
    return scratch


@needs_coq
def test_the_recorded_tape_is_the_modelled_one(built: Path) -> None:
    tape = recorded_tape(*SMALL.record())
    links.compile_source(built, "Right", links.tapes_source({2: tape}))
    swapped = [("IMul", (3, 0)), *tape.instructions[1:]]
    for i, altered in enumerate(
        [
            tape._replace(instructions=swapped),
            tape._replace(instructions=tape.instructions[:-1]),
            tape._replace(output=tape.output - 1),
        ]
    ):
        with pytest.raises(coq.CoqError, match="Unable to unify"):
            links.compile_source(built, f"Wrong{i}", links.tapes_source({2: altered}))


@needs_coq
def test_a_gradient_is_certified_and_a_changed_one_refused(built: Path) -> None:
    tape = recorded_tape(*SMALL.record())
    gradients = dict(SMALL.gradients())
    links.compile_source(built, "Sound", links.certificate_source(tape, gradients))
    exact = gradients["engine"]
    for i, change in enumerate((1e-8, -1e-8)):
        changed = [*exact[:3], exact[3] + change, *exact[4:]]
        source = links.certificate_source(tape, {"engine": changed})
        with pytest.raises(coq.CoqError, match="does not compile"):
            links.compile_source(built, f"Changed{i}", source)
    # Entry by entry, in both directions: Coq computes that it is refused.
    refusals = [
        f"Goal certified (1, 10 ^ 13)%Z tape given {tape.output} {links.rationals(changed)} "
        "= false. now vm_compute. Qed.\n"
        for i in range(len(exact))
        for change in (1e-8, -1e-8)
        for changed in [[*exact[:i], exact[i] + change, *exact[i + 1 :]]]
    ]
    source = links.certificate_source(tape, {}) + "".join(refusals)
    links.compile_source(built, "Refused", source)
