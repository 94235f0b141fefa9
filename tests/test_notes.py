"""The referee is refereed: every claim is there, and every counterexample is one."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from test_cli import run
from test_theorems import IDS, THEOREMS

from tinygrad_rnn.proofs import evidence, examples, notes, report, verify
from tinygrad_rnn.proofs.catalogue import Mistake
from tinygrad_rnn.proofs.mistakes import NO_DIAGONAL, PRIME, RULES, of_rule
from tinygrad_rnn.proofs.notes.claim import CITED, VERDICTS, Claim, Evaluation

SIZES = (18, 41, 15, 15, 14)
FALSE = {
    *("S0-2", "S0-4", "S0-7", "S1-1", "S1-3", "S1-7", "S1-8", "S1-9", "S1-12", "S1-23", "S1-28"),
    *("S1-30", "S1-31", "S1-33", "S1-37", "S2-5", "S2-6", "S2-12", "S2-13", "S3-9", "S3-11"),
    *("S3-14", "S4-4", "S4-6", "S4-9", "S4-13"),
}
EVERYTHING = {**notes.CLAIMS, **notes.TRAPS}
ROWS = {row["id"]: row for row in [*notes.to_json(), *(t.to_json() for t in notes.TRAPS.values())]}
REFUTING = [id for id, claim in EVERYTHING.items() if claim.counterexample]
CONFIRMING = [id for id, claim in EVERYTHING.items() if claim.check]


# ---- complete -----------------------------------------------------------------------------------


def test_every_formula_has_its_claim():
    ids = [f"S{file}-{n}" for file, size in enumerate(SIZES) for n in range(1, size + 1)]
    assert list(notes.CLAIMS) == ids
    assert len(ids) == 103
    assert list(notes.TRAPS) == ["P-1", "P-2", "P-3", "P-4"]


def test_the_false_ones_are_known():
    assert {id for id, claim in notes.CLAIMS.items() if claim.verdict == "false"} == FALSE


@pytest.mark.parametrize("id", EVERYTHING)
def test_a_claim_is_complete(id):
    claim = EVERYTHING[id]
    assert claim.verdict in VERDICTS
    assert claim.where
    assert claim.as_written
    assert claim.corrected
    assert set(claim.theorems) <= IDS
    assert len(set(claim.theorems)) == len(claim.theorems)
    if claim.verdict == "false":
        assert claim.counterexample


@pytest.mark.parametrize("id", EVERYTHING)
def test_formulas_are_between_dollars(id):
    for text in (EVERYTHING[id].as_written, EVERYTHING[id].corrected):
        assert text.count("$") % 2 == 0
        for outside in text.split("$")[::2]:
            assert not re.search(r"[\\{}^]", outside), outside


def test_what_theorems_and_examples_cite_are_claims():
    cited = {s for t in THEOREMS.values() for s in t.sources}
    cited |= {s for e in examples.EXAMPLES.values() for s in e().sources}
    formulas = {s for s in cited if re.match(r"[SP]-?\d", s)}
    assert len(formulas) > 50
    assert formulas <= set(EVERYTHING)


# ---- evaluated ----------------------------------------------------------------------------------


@pytest.mark.parametrize("id", REFUTING)
def test_a_counterexample_refutes(id):
    row = ROWS[id]
    assert row["holds"] is True, row["failure"]
    shown = row["counterexample"]
    assert shown["as_written"] != shown["truth"]
    assert "{" not in shown["sentence"]


@pytest.mark.parametrize("id", CONFIRMING)
def test_a_check_confirms(id):
    row = ROWS[id]
    assert row["holds"] is True, row["failure"]
    shown = row["check"]
    assert shown["relation"] != "=" or shown["as_written"] == shown["truth"]


def test_only_a_fact_of_history_is_cited():
    systems = {id: EVERYTHING[id].counterexample.system for id in REFUTING}
    assert [id for id, system in systems.items() if system == CITED] == ["S3-11"]
    assert [id for id, system in systems.items() if system == "float"] == ["S2-11"]


@pytest.mark.parametrize("id", REFUTING)
def test_the_corrected_formula_is_no_counterexample(id):
    claim = EVERYTHING[id]
    if claim.counterexample.corrected is None:
        assert id == "S3-11"
        return
    planted = replace(claim.counterexample, as_written=claim.counterexample.corrected, relation="=")
    row = replace(claim, counterexample=planted).to_json()
    assert row["holds"] is False
    assert "as written it holds here" in row["failure"]


@pytest.mark.parametrize("id", [id for id in REFUTING if id != "S3-11"])
def test_a_wrong_correction_is_seen(id):
    claim = EVERYTHING[id]
    wrong = replace(
        claim.counterexample, corrected=lambda **case: claim.counterexample.truth(**case) + 1
    )
    row = replace(claim, counterexample=wrong).to_json()
    assert row["holds"] is False
    assert "corrected" in row["failure"]


@pytest.mark.parametrize("id", CONFIRMING)
def test_a_false_formula_does_not_pass_its_check(id):
    claim = EVERYTHING[id]
    off = {"=": 1, "≤": -100, "≥": 10**9}[claim.check.relation]
    wrong = replace(claim.check, as_written=lambda **case: claim.check.truth(**case) + off)
    row = replace(claim, check=wrong).to_json()
    assert row["holds"] is False
    assert row["failure"].startswith("check: as written")


def _in(function, wrong):
    return Mistake(function, f"tinygrad_rnn.{function}", wrong)


@pytest.mark.parametrize(
    ("mistake", "ids"),
    [
        (PRIME, {"S1-30"}),  # its derivative is the formula of S1-28, which PRIME makes true
        (NO_DIAGONAL, {"S1-28"}),
        (Mistake("a linear tanh", RULES, of_rule(np.tanh, vjps=lambda v: (lambda g, y, x: g,))),
         {"S0-9", "S2-5", "P-1"}),
        (Mistake("no gradient of weights", RULES,
                 of_rule(np.matmul, vjps=lambda v: (v[0], lambda g, *_: 0 * g))),
         {"S1-8", "S2-2", "S4-4", "S4-9"}),
        (_in("proofs.notes.networks.contributions", lambda right: lambda *a: {
            name: d[::-1] for name, d in right(*a).items()}), {"S1-14", "S1-22", "S1-23"}),
        (_in("clip_by_norm", lambda right: lambda g, *θ: g), {"S2-12", "S2-13"}),
        (_in("clip_by_value", lambda right: lambda g, θ: np.minimum(g, θ)), {"S4-13"}),
        (_in("binary_cross_entropy", lambda right: lambda z, y: -right(z, y)), {"S1-9", "S1-7"}),
        (_in("cells.GRUCell.step", lambda right: lambda self, p, x, s: s), {"S3-9", "P-4"}),
    ],
    ids=lambda p: p.name if isinstance(p, Mistake) else None,
)  # fmt: skip
def test_a_mistake_in_the_library_is_noticed(mistake, ids):
    with evidence.planted(mistake):
        rows = {id: EVERYTHING[id].to_json() for id in ids}
    assert {id for id, row in rows.items() if row["holds"] is False} == ids


# ---- what cannot be decided does not count ------------------------------------------------------


def _evaluation(truth, as_written, **also):
    return Evaluation("", lambda: truth, lambda: as_written, **also)


@pytest.mark.parametrize(
    ("evaluation", "failure"),
    [
        (_evaluation(1.0, 2), "expected exact numbers, got the float 1.0"),
        (_evaluation(1, 1), "as written it holds here: 1 = 1"),
        (_evaluation(1, 2, relation="≤"), "as written it holds here: 1 ≤ 2"),
        (_evaluation(1, 2, case={"x": 1}), "unexpected keyword argument"),
    ],
)
def test_what_is_no_counterexample(evaluation, failure):
    claim = Claim("S9-9", "", "", "false", "", counterexample=evaluation)
    row = claim.to_json()
    assert row["holds"] is False
    assert failure in row["failure"]
    assert row["counterexample"] is None


def test_balls_that_overlap_are_no_counterexample():
    from tinygrad_rnn.scalars import Ball

    vague = Evaluation("", lambda: Ball(0, 1), lambda: Ball(0), system="ball")
    row = Claim("S9-9", "", "", "false", "", counterexample=vague).to_json()
    assert row["holds"] is False
    assert "cannot be decided" in row["failure"]


# ---- in the report ------------------------------------------------------------------------------


def test_rows_are_json():
    rows = list(ROWS.values())
    assert json.loads(json.dumps(rows)) == rows
    keys = {"id", "as_written", "verdict", "corrected", "theorem", "counterexample"}
    assert all(keys <= set(row) for row in rows)
    assert all(bool(row["counterexample"]) == (row["id"] in REFUTING) for row in rows)


def test_verify_reports_all_claims():
    found = verify.verify([*EVERYTHING], processes=1)
    assert [row["id"] for row in found["notes"]] == list(notes.CLAIMS)
    assert [row["id"] for row in found["traps"]] == list(notes.TRAPS)
    assert [*found["notes"], *found["traps"]] == list(ROWS.values())
    assert verify.verdicts(found) == []
    told = report.conclusion(found)
    count = Counter(claim.verdict for claim in notes.CLAIMS.values())
    assert told.startswith("103 claims of the notes: ")
    assert all(f"{count[verdict]} {verdict}" in told for verdict in VERDICTS)
    assert "4 false statements of the literature" in told
    assert "REFUTED" not in told


def test_one_claim_is_told():
    result = run("verify", "--only", "s2-5,P-2")
    assert result.exit_code == 0
    assert "S2-5 (file 2, Why): false." in result.output
    assert "Counterexample, by balls: " in result.output
    assert "P-2 (Pascanu" in result.output
    assert "1 claim of the notes: 1 false." in result.output


def test_a_referee_who_errs_is_refuted(monkeypatch):
    claim = notes.CLAIMS["S2-5"]
    right = replace(claim.counterexample, as_written=claim.counterexample.corrected)
    monkeypatch.setitem(verify.REFEREED, "S2-5", replace(claim, counterexample=right))
    result = run("verify", "--only", "S2-5")
    assert result.exit_code == 1
    assert "S2-5 counterexample: as written it holds here" in result.output
    assert "1 REFUTED" in result.output


def test_interrupted_claims_are_blank():
    blank = verify.blank(["S2-5", "P-1"], "quick", 0)
    assert [row["holds"] for row in (*blank["notes"], *blank["traps"])] == [None, None]
    assert set(blank["notes"][0]) == set(ROWS["S2-5"])
