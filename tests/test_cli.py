"""The command line: what a user sees, and what scripts rely on."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from typer.testing import CliRunner

from tinygrad_rnn.cli import app
from tinygrad_rnn.proofs import catalogue, evidence, report, verify
from tinygrad_rnn.proofs.formal import coq

COMMAND = [sys.executable, "-c", "from tinygrad_rnn.cli import main; main()"]


@pytest.fixture(autouse=True)
def _no_coq(monkeypatch):
    """So that the output does not depend on what is installed here."""
    monkeypatch.setattr(coq, "version", lambda: None)


@pytest.fixture
def _one_process(monkeypatch):
    """Spare the birth of workers where nothing is asked of them."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def run(*arguments):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160", "TERM": "dumb"})


def test_one_theorem(tmp_path):
    file = tmp_path / "report.json"
    result = run("verify", "--only", "B-7", "--profile", "quick", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "B-7" in result.output
    assert "1 CERTIFIED" in result.output
    (entry,) = json.loads(file.read_text())["theorems"]
    assert entry["id"] == "B-7"
    assert set(entry["levels"]) == {"tested", "certified", "proved"}
    assert entry["levels"]["tested"]["verdict"] == "CONSISTENT"
    assert entry["levels"]["certified"]["verdict"] == "CERTIFIED"
    assert entry["levels"]["proved"]["verdict"] == "NOT CHECKED"
    assert all(n["counterexample"] for n in entry["necessity"])
    assert all(s["caught_by"] for s in entry["sensitivity"])


@pytest.mark.usefixtures("_one_process")
def test_only_takes_several_ids_in_any_case():
    result = run("verify", "--only", "b-7,A-1", "--only", "K-4", "--level", "proved")
    assert result.exit_code == 0
    assert "3 NOT CHECKED" in result.output
    assert "A-1, B-7, K-4 not checked: " in result.output


def test_levels_and_worked_examples():
    result = run("verify", "--only", "E-4,b-7", "--level", "tested,proved", "--profile", "quick")
    assert result.exit_code == 0
    assert "1 theorem, 1 example: 1 CERTIFIED, 1 CONSISTENT" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("verify", "--only", "Z-9"), "there is no Z-9; there are A-1 … A-7, L-1"),
        (("verify", "--json", "/no/such/place.json"), "cannot write /no/such/place.json"),
        (("verify", "--html", "/no/such/place.html"), "cannot write /no/such/place.html"),
        (("verify", "--only", ""), "nothing was named"),
        (("cite", "Z-9"), "there is no Z-9; there are A-1"),
        (("cite", "s4-13"), "S4-13: no theorem; tinygrad-rnn verify --only S4-13 tells"),
        (("cite", "B-5", "--format", "ris"), "'ris' is not one of"),
        (("verify", "--level", "sworn"), "there is no sworn; there are tested, certified, proved"),
        (("verify", "--profile", "slow"), "'slow' is not one of"),
        (("verify", "--seed", "-1"), "'--seed'"),
        (("frobnicate",), "No such command"),
    ],
)
def test_bad_usage(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_refutation_is_told_and_is_exit_status_1(monkeypatch, tmp_path):
    from dataclasses import replace

    monkeypatch.chdir(tmp_path)
    false = replace(catalogue.load()["B-7"], claim=_false)
    monkeypatch.setitem(catalogue.THEOREMS, "B-7", false)
    result = run("verify", "--only", "B-7", "--profile", "quick")
    assert result.exit_code == 1
    assert "REFUTED" in result.output
    assert "two is one: 2 = 1 is false" in result.output
    assert "Saved refuted-B-7.py" in result.output
    program = (tmp_path / "refuted-B-7.py").read_text()
    assert program in result.output.replace("\r", "")
    with pytest.raises(evidence.Violated, match="two is one: 2 = 1 is false"):
        exec(program, {})
    result = run(
        "verify", "--only", "B-7", "--profile", "quick", "--json", str(tmp_path / "a.json")
    )
    assert f"Saved {tmp_path / 'refuted-B-7.py'}" in result.output


def test_a_refutation_that_cannot_be_saved_is_told(tmp_path):
    levels = {"tested": {"verdict": "REFUTED", "script": "1"}, "certified": {}}
    entry = {"id": "B-7", "levels": levels}
    (line,) = report.save_scripts({"theorems": [entry]}, tmp_path / "nowhere")
    assert line.startswith("Cannot write ")


def _false(**case):
    yield catalogue.equal("two is one", 2, 1)


def test_weak_evidence_is_no_pass(monkeypatch):
    from dataclasses import replace

    theorem = catalogue.load()["B-7"]
    blind = catalogue.Mistake("none", "tinygrad_rnn.cells.RNNCell.jacobian", lambda right: right)
    unneeded = catalogue.Necessity("a hypothesis that is not needed", _holds(theorem))
    entry = verify.check(
        replace(theorem, sensitivity=(blind,), necessity=(unneeded,)),
        verify.LEVELS, replace(verify.PROFILES["quick"], mistakes=10), 0,
    )  # fmt: skip
    assert entry["verdict"] == "INCONCLUSIVE"
    told = "\n".join(report.complaints(entry))
    assert "did not catch the planted mistake 'none'" in told
    assert "a hypothesis that is not needed" in told


def _holds(theorem):
    from hypothesis import find

    return lambda: find(theorem.cases("rational"), lambda case: True)


@pytest.mark.skipif(os.name == "nt", reason="Windows delivers Ctrl-C to a process group otherwise")
@pytest.mark.parametrize("delay", [0.2, 1, 4])  # starting up, in the workers' birth, at work
def test_interrupt_leaves_a_valid_partial_report(tmp_path, delay):
    file = tmp_path / "report.json"
    arguments = ["verify", "--profile", "deep", "--json", str(file)]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        # A shell's job in the background ignores it, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not file.exists() and process.poll() is None:  # it is written just before the work
        time.sleep(0.05)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "Interrupted" in output
    written = json.loads(file.read_text())
    assert written["interrupted"] is True
    assert len(written["theorems"]) == len(catalogue.load())
    unfinished = [t for t in written["theorems"] if t["verdict"] == "NOT CHECKED"]
    assert all(t["levels"]["tested"]["reason"] == "interrupted" for t in unfinished)
    assert unfinished


@pytest.mark.usefixtures("_one_process")
def test_page(tmp_path):
    file = tmp_path / "report.html"
    result = run("verify", "--only", "B-7,E-4", "--level", "proved", "--html", str(file))
    assert result.exit_code == 0, result.output
    page = file.read_text()
    assert '<article id="B-7">' in page
    assert "interrupted" not in page  # as it says until the end


def test_cite():
    result = run("cite", "b-5")
    assert result.exit_code == 0
    assert "Theorem B-5: " in result.output
    assert "On the difficulty of training recurrent neural networks" in result.output
    assert "lecture notes: S0-1 (file 0, " in result.output
    assert "P_{t,i} → 0 as t − i → ∞" in result.output
    result = run("cite", "B-5,B-1", "--format", "bibtex")
    assert "@misc{tinygrad_rnn:B-1,\n" in result.output
    assert result.output.count("@inproceedings{pascanu2013,") == 1


def test_version():
    assert run("--version").output.strip() == "0.1.0"
