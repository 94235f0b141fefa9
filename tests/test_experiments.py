"""The experiments from the command line, --quick, and what each of them is to show.

The claims are read off the JSON. Where a theorem stands behind a claim the bound is the theorem's;
every other threshold says what it follows from.
"""

from __future__ import annotations

import json
import os
import pickle
from fractions import Fraction
from xml.etree.ElementTree import parse

import numpy as np
import pytest
from typer.testing import CliRunner

import tinygrad_rnn as tg
from tinygrad_rnn import experiments, scalars
from tinygrad_rnn.cli import app
from tinygrad_rnn.experiments import (
    cliff,
    digits,
    experiment,
    heatmap,
    phase,
    recall,
    sentences,
    sweep,
    truncated,
)

U = 2.0**-53


def command(*arguments):
    return CliRunner().invoke(app, ["experiment", *arguments], env={"COLUMNS": "160"})


def done(name, folder, *options):
    """Do an experiment and return its numbers."""
    result = command(name, "--quick", "--out", str(folder), *options)
    assert result.exit_code == 0, result.output
    numbers = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert numbers["experiment"] == name
    first_row = next(experiments.load(name).table(numbers).texts())
    assert all(cell in result.output for cell in first_row)
    assert parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    assert (folder / f"{name}.png").read_bytes()[1:4] == b"PNG"
    return numbers


@pytest.fixture
def _one_process(monkeypatch):
    """Let a sweep compute here; others are by processes and on a cluster."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


@pytest.mark.parametrize("function", [heatmap.learn, phase.log_norms, recall.learn])
def test_a_sweep_s_function_is_found_by_other_processes(function):
    assert pickle.loads(pickle.dumps(function)) is function


# ---- what each shows --------------------------------------------------------------------------


def test_sentences(tmp_path):
    numbers = done("sentences", tmp_path)
    x, y = sentences.one_hot(), np.array([1.0, 1.0, 0.0])
    params = {name: scalars.rounded(np.array(p)) for name, p in numbers["params"].items()}
    exact = scalars.rounded(x), scalars.rounded(y)
    # The two roads to the first gradient differ by no more than both of them may have rounded.
    terms = sentences.summed(params, *exact)
    engine = tg.grad(sentences.total)(params, *exact)
    for name in params:
        gap = np.abs(np.array(numbers["sum_of_terms"][name]) - numbers["gradient"][name])
        assert (gap <= scalars.errors(terms[name]) + scalars.errors(engine[name])).all()
    # A loss below log 2 says that ŷ is on the right side of 1/2.
    assert max(numbers["losses"][-1]) < np.log(2) < max(numbers["losses"][0])


@pytest.mark.usefixtures("_one_process")
def test_recall(tmp_path):
    numbers = done("recall", tmp_path)
    short, long = numbers["lags"]
    assert (short, long) == (3, 20)
    accuracy = {r["remedy"]: recall.accuracies(r) for r in numbers["results"]}
    # One who guesses passes with a chance of 10⁻⁶ (Hoeffding).
    reached = {name: [a > numbers["remembers"] for a in row] for name, row in accuracy.items()}
    assert all(near for name, (near, _) in reached.items() if name != "RNN, small rate")
    # What is begun with gradients that last remembers longer; clipping has nothing to clip.
    assert all(reached[name][1] for name in ("RNN, orthogonal", "RNN, skip", "LSTM, bias 5"))
    assert not any(reached[name][1] for name in ("RNN, tanh", "RNN, clipped", "RNN, small rate"))
    assert not any(reached[name][1] for name in ("GRU, bias 0", "LSTM, bias 0"))


def test_a_skip_connection_by_two_roads():
    cell = recall.SkipCell(1, 2, "identity", Fraction(1, 8))
    rng = np.random.default_rng(0)

    def dyadic(*shape):
        return scalars.rational(rng.integers(-8, 9, shape) / 4)

    params = {name: dyadic(*shape) for name, shape in cell.shapes.items()}
    problem = cell, params, dyadic(5, 1), dyadic(5, 2)
    tape, chain = (tg.bptt(*problem, method=method) for method in ("tape", "chain"))
    assert all((tape[name] == chain[name]).all() for name in (*params, "x"))


@pytest.mark.usefixtures("_one_process")
def test_heatmap(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    numbers = done("heatmap", tmp_path)
    rnn, orthogonal, lstm = numbers["networks"]
    for n in numbers["networks"]:
        for name in "before", "after":
            shown = np.array(n[name], dtype=float)
            assert (np.isnan(shown) == np.triu(np.ones_like(shown), 1)).all()  # causal
            assert (np.diag(shown) == 0).all()
    # V-1: ‖W_h‖ = 1 up to its rounding to float32, so no product is larger than I.
    assert np.nanmax(np.array(orthogonal["before"], dtype=float)) <= 64 * numbers["H"] * 2.0**-24
    # The influence of what was long ago grows where it had vanished.
    for n in rnn, lstm:
        assert heatmap.at_lag(n["before"], 32) < heatmap.at_lag(n["after"], 32)
    # One who guesses among ten digits is as good as this with a chance of 10⁻⁶ (Hoeffding).
    learnt = 0.1 + np.sqrt(np.log(1e6) / (2 * digits.HELD_OUT))
    assert orthogonal["accuracy"][-1] > learnt < lstm["accuracy"][-1]


def test_the_digits_are_split_once_for_all():
    pytest.importorskip("sklearn", reason="needs scikit-learn")
    data = digits.load()
    assert (data.x.shape, data.x_test.shape) == ((64, 1437, 1), (64, 360, 1))
    assert data.x.dtype == np.float32
    assert data.x.min() == data.x_test.min() == 0
    assert data.x.max() == data.x_test.max() == 1
    assert set(data.labels) == set(data.labels_test) == set(range(10))


def test_contributions(tmp_path):
    numbers = done("contributions", tmp_path)
    T, H = numbers["T"], numbers["H"]
    share = {case["name"]: np.array(case["share"]) for case in numbers["cases"]}
    for name, q in ("contracting", 0.8), ("critical", 1.0), ("expanding", 1.25):
        exact = q ** np.arange(T) / (q ** np.arange(T)).sum()
        # A term is carried back by at most T products with (H, H), which Q's own rounding is like.
        assert (np.abs(share[name] - exact) <= 2 * T * H * (H + 2) * U * exact).all()
        long = share[name][T // 2 :].sum()
        assert long < 0.5 if q < 1 else long > 0.5 if q > 1 else True
    assert share["first input only"].tolist() == [0.0] * (T - 1) + [1.0]
    # Saturation: the same W_h, whose linear network has the longest lag on top, has it at the end.
    assert share["expanding, tanh"][-1] < share["expanding, tanh"][0]


def test_vanishing(tmp_path):
    numbers = done("vanishing", tmp_path)
    T, networks = numbers["T"], {n["name"]: n for n in numbers["networks"]}
    assert len(networks) == 8
    lags = T - np.array(numbers["t"])
    for n in networks.values():
        norm, lower = ([-np.inf if v is None else v for v in n[k]] for k in ("log_norm", "lower"))
        # The bounds are certain; the product has rounded by γ_S a step, S ≤ 2H.
        slack = 2 * lags * 2 * numbers["H"] * U
        assert (np.array(lower) <= norm + slack).all()
        assert (norm <= n["upper"] + slack).all()
        assert (norm <= n["upper_global"] + slack).all()
        # exp(T λ_i) is a diagonal entry of R in P_T = QR.
        assert n["lyapunov"] is None or T * n["lyapunov"] <= norm[0] + slack[0]
    # ‖J‖ ≤ γ‖W_h‖ = 0.95: however it is initialised, this RNN vanishes (V-1).
    assert networks["RNN, W_h = 0.95 Q"]["log_norm"][0] <= T * np.log(0.95) + 2 * T * U * T
    # The cell passes f per step: the more, the larger the bias of the gate.
    at = [networks[f"LSTM, bias {b}"]["log_norm"][0] for b in (0, 1, 5)]
    assert at[0] < at[1] < at[2]
    assert networks["RNN, W_h uniform"]["log_norm"][0] < at[2]
    assert networks["GRU, bias 0"]["log_norm"][0] < networks["GRU, bias 5"]["log_norm"][0]


def test_truncated(tmp_path):
    numbers = done("truncated", tmp_path)
    T, H = numbers["T"], truncated.H
    windows = np.array(numbers["windows"])
    for n in numbers["networks"]:
        error, bound = np.array(n["error"]), np.array(n["bound"])
        # V-3. Either gradient is off by some roundings of each of its T² H products, which is far
        # less than what a window of half of the steps drops.
        rounding = T * T * H * U * (1 + bound[0])
        assert (error <= bound + rounding).all()
        # A tail of q^k that begins at K: where q < 1 it is at most q^(K−1) of the whole from 1 on.
        if n["q"] < 1:
            assert (bound <= bound[0] * n["q"] ** (windows - 1) * (1 + T * U)).all()
        else:
            assert bound[-1] > 1  # no help with half of the steps in the window


def test_cliff(tmp_path):
    numbers = done("cliff", tmp_path)
    top = numbers["steepest"]
    assert (f"{top['norm']:.1f}", round(top["w"], 9), round(top["b"], 9)) == ("34.4", 4.575, -2.35)
    thrown, clipped = numbers["paths"].values()
    for path in thrown, clipped:
        w, b = np.array(path["path"]).T
        assert (np.array(path["E"]) == cliff.error(w, b)).all()
        steps = np.hypot(np.diff(w), np.diff(b))
        # A step is η times the gradient, and of the clipped one at most ηθ (K-1), up to the
        # rounding of the points themselves.
        norms = np.array(path["norm"])
        norms = np.minimum(norms, numbers["threshold"]) if path is clipped else norms
        rounding = 8 * U * (np.abs(w).max() + np.abs(b).max() + norms)
        assert (np.abs(steps - numbers["rate"] * norms) <= rounding).all()
    # Thrown off: a unit that is saturated has h = 1, and no gradient to come back by.
    assert abs(thrown["E"][-1] - (1 - cliff.TARGET) ** 2) < abs(thrown["E"][0] - thrown["E"][-1])
    assert clipped["E"][-1] < clipped["E"][0] < thrown["E"][-1]


def test_clipping(tmp_path):
    numbers = done("clipping", tmp_path)
    before, θ = np.array(numbers["before"]), numbers["threshold"]
    assert before.min() < θ < before.max()
    rounding = 8 * numbers["n"] * U
    rules = {r["rule"]: r for r in numbers["rules"]}
    for r in rules.values():  # the bounds of K-1, K-3 and K-5
        length, cosine = np.array(r["length"]), np.array(r["cosine"])
        assert (cosine >= r["least"] - rounding).all()
        assert r["longest"] is None or (length <= θ * r["longest"] * (1 + rounding)).all()
        assert (length <= before * (1 + rounding)).all()
    # The notes' rule leaves most of the longest gradient, where each other has cut it to its bound.
    longest = before.argmax()
    assert rules["one-sided (notes)"]["longest"] is None
    assert rules["one-sided (notes)"]["length"][longest] > numbers["n"] ** 0.5 * θ


def test_phase(tmp_path, monkeypatch):
    numbers = done("phase", tmp_path)
    gain, steps = np.array(numbers["gain"]), np.array(numbers["steps"])
    exact = np.log(gain)[:, None] * steps
    rounding = 8 * numbers["H"] ** 2 * steps * U
    logs = {p["activation"]: phase.median(p) for p in numbers["panels"]}
    assert (np.abs(logs["identity"] - exact) <= rounding).all()
    for f in "tanh", "relu":  # |f'| ≤ 1
        assert (logs[f] <= exact + rounding).all()
    # All three phases are there after 100 steps, in their order.
    last = logs["identity"][:, -1]
    assert last[0] < phase.VANISHED < last[gain == 1] < phase.EXPLODED < last[-1]

    # Broken off while a cell was written: it alone is done again.
    kept = tmp_path / "phase.cells.jsonl"
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    kept.write_text("".join(lines[:-1]) + lines[-1][:40], encoding="utf-8")
    right, calls = phase.log_norms, []
    monkeypatch.setattr(phase, "log_norms", lambda cell: calls.append(cell) or right(cell))
    again = done("phase", tmp_path)
    assert len(calls) == 1
    assert {**again, "seconds": 0} == {**numbers, "seconds": 0}
    assert kept.read_text(encoding="utf-8") == "".join(lines)


def test_phase_on_a_cluster(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        assert len(cluster.scheduler.workers) == 2
        numbers = done("phase", tmp_path, "--scheduler", cluster.scheduler_address)
    there = [draw for p in numbers["panels"] for row in p["log_norm"] for draw in row]
    assert there == [*map(phase.log_norms, phase.grid(experiment.Setting(quick=True)))]


def test_no_scheduler(monkeypatch, tmp_path):
    pytest.importorskip("distributed", reason="needs dask[distributed]")
    monkeypatch.setattr(sweep, "PATIENCE", "1s")
    result = command("phase", "--quick", "--out", str(tmp_path), "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 2
    assert "no Dask scheduler with a worker answers at tcp://127.0.0.1:9" in result.output


# ---- the command ------------------------------------------------------------------------------


def test_the_list_names_every_experiment():
    result = command("--list")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(experiments.NAMES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which? There are sentences, "),
        (("cats",), "there is no experiment 'cats'; there are sentences, "),
        (("sentences", "--scheduler", "tcp://x:1"), "sentences is no sweep"),
        (("sentences", "--out", "/dev/null/x"), "Not a directory"),
    ],
)
def test_bad_usage(arguments, message):
    result = command(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_package_that_is_missing(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(experiment, "import_module", missing)
    result = command("sentences", "--out", str(tmp_path))
    assert result.exit_code == 2
    assert "pip install 'tinygrad_rnn[plot]'" in result.output


def test_the_same_seed_gives_the_same_numbers():
    first, second, other = (experiments.run("contributions", s, quick=True) for s in (0, 0, 1))
    assert first["cases"] == second["cases"] != other["cases"]


# ---- figures ----------------------------------------------------------------------------------


def luminance(color):
    """Return the relative luminance of #rrggbb, as WCAG 2 defines it."""
    channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])  # a light page, and a dark one
@pytest.mark.parametrize("color", [experiment.INK, *experiment.COLORS])
def test_colours_are_seen_on_light_and_dark_pages(color, background):
    dark, light = sorted([luminance(color), luminance(background)])
    assert (light + 0.05) / (dark + 0.05) >= 3  # what WCAG 2 asks of graphics


def test_the_same_numbers_make_the_same_figure(tmp_path):
    numbers = experiments.run("contributions", quick=True)
    paths = [tmp_path / f"{i}.svg" for i in range(2)]
    for path in paths:
        experiment.write_figure(experiments.load("contributions"), numbers, [path])
    assert paths[0].read_bytes() == paths[1].read_bytes()
