"""The audit of the Coq proofs: what it checks, what it refuses, what it says without Coq."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tinygrad_rnn.proofs.formal import coq
from tinygrad_rnn.proofs.formal.audit import ALLOWED, Audit, Proof, audit, digests, recorded
from tinygrad_rnn.proofs.formal.mutants import MUTANTS, plant, survivors
from tinygrad_rnn.proofs.formal.registry import FORMAL, evidence

needs_coq = pytest.mark.skipif(
    coq.version() is None, reason=f"no coqc: proofs not checked here; {coq.INSTALL}"
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
