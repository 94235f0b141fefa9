"""The notebooks run without a warning at the ends of every slider, and show what is true."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from itertools import combinations

import numpy as np
import pytest
from problems import lift
from source_tree import ROOT

import tinygrad_rnn as tg
from tinygrad_rnn.bounds import singular_value_bounds
from tinygrad_rnn.scalars import Ball, encloses, errors, rounded

mo = pytest.importorskip("marimo", reason="pip install -e '.[notebooks]': no marimo")

U = 2.0**-53
FOLDER = ROOT / "docs" / "notebooks"
# The cells that define the sliders and menus, and nothing else.
CONTROLS = {
    "engine": ("_function", "_step"),
    "bptt": ("_network", "_window"),
    "vanishing": ("_network", "_threshold"),
}


@cache
def notebook(name):
    spec = spec_from_file_location(f"notebook_{name}", FOLDER / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def moved(element, to):
    """The same slider or menu at another value; "low" and "high" are the ends."""
    if isinstance(element, mo.ui.dropdown):
        names = list(element.options)
        to = {"low": names[0], "high": names[-1]}.get(to, to)
        return mo.ui.dropdown(element.options, value=to)
    to = {"low": element.start, "high": element.stop}.get(to, to)
    return mo.ui.slider(element.start, element.stop, element.step, value=to)


def controls(name):
    return [c for cell in CONTROLS[name] for c in sorted(getattr(notebook(name), cell).defs)]


def run(name, **values):
    """Run a notebook with these values; return all that it shows, as text, and what it defines."""
    module, defs = notebook(name), {}
    assert values.keys() <= set(controls(name))
    for cell in CONTROLS[name]:  # in order: the ends of a slider may depend on one before it
        cell = getattr(module, cell)
        elements = cell.run(**{c: defs[c] for c in cell.refs & defs.keys()})[1]
        defs |= {c: moved(e, values[c]) if c in values else e for c, e in elements.items()}
    outputs, found = module.app.run(defs=defs)
    return "\n".join(html.unescape(o.text) for o in outputs if o is not None), found


def settings(name, menu, options, *more):
    """With each option of the menu both ends of all other controls; mixtures of the ends; more."""
    others = [c for c in controls(name) if c != menu]
    found = [{}, *more]
    found += [dict.fromkeys(others, e) | {menu: o} for e in ("low", "high") for o in options]
    for low, high in (("low", "high"), ("high", "low")):
        found.append({c: low if i % 2 else high for i, c in enumerate(others)})
    return pytest.mark.parametrize("values", found, ids=lambda v: " ".join(map(str, v.values())))


def text(number):
    return f"{number:.4g}"


# ---- as programs ------------------------------------------------------------------------------


def test_every_notebook_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(CONTROLS)


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_is_moved(name):
    found = notebook(name).app.run()[1]
    ui = [n for n, v in found.items() if isinstance(v, (mo.ui.slider, mo.ui.dropdown))]
    assert sorted(ui) == sorted(controls(name))


def program(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("name", CONTROLS)
def test_it_runs_where_its_readers_run_it(name, tmp_path):
    """Marimo's own runtime refuses more than a plain run does."""
    page = tmp_path / "page.html"
    done = program("-m", "marimo", "export", "html", FOLDER / f"{name}.py", "-o", page)
    assert done.returncode == 0, done.stderr


def test_marimo_finds_nothing_to_mend():
    done = program("-m", "marimo", "check", "--strict", *sorted(FOLDER.glob("*.py")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_short():
    for name in CONTROLS:
        assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 200


# ---- the engine -------------------------------------------------------------------------------

FUNCTIONS = ("2 y", "y²", "tanh y", "σ(y)", "relu(y)", "y tanh y")


def quotient(loss, at, i, ε):
    """The central difference by argument i, with a bound on its rounding."""
    step = ε * np.eye(3)[i]
    ahead = [rounded(a) + e for a, e in zip(at, step, strict=True)]
    behind = [rounded(a) - e for a, e in zip(at, step, strict=True)]
    return np.asarray((loss(*ahead) - loss(*behind)) / (2 * ε)).item()


def slope(loss, at, i, ε):
    """All derivatives by argument i within ε: by the mean value theorem, the quotient too."""
    around = [np.array(Ball(a, radius=ε if j == i else 0)) for j, a in enumerate(at)]
    return tg.grad(loss, argnums=i)(*around).item()


@settings("engine", "f", FUNCTIONS)
def test_engine(values):
    shown, d = run("engine", **values)
    told, loss, at, gradient = d["told"], d["loss"], d["at"], d["gradient"]
    # Every step of the sweep is shown, and the sweep ends in the gradient.
    assert len(d["sweep"].splitlines()) == 2 + len(told.steps)
    totals = {"L": 1.0} | {step.parent: step.total for step in told.steps}
    for step in told.steps:
        assert f">{totals[step.node]:.6g} · {step.partial:.6g}</td>" in shown
        assert f">{step.term:.6g}</td>" in shown
    for name, g in zip("wxb", gradient, strict=True):
        assert told.gradients[name] == totals[name] == g
    assert str(d["drawing"]) in shown
    # What is shown is off the truth by no more than it may have rounded.
    by_rounded = tg.grad(loss, argnums=(0, 1, 2))
    may_round = [errors(g).item() for g in by_rounded(*map(rounded, at))]
    if d["exact"] is None:
        assert values["f"] == "relu(y)"
        assert d["y"].data == 0
    else:
        for g, exact, bound in zip(gradient, d["exact"], may_round, strict=True):
            assert encloses(exact + Ball(0, radius=bound), g)
    ε = 10.0 ** -d["digits"].value
    for i, (g, difference) in enumerate(zip(gradient, d["differences"], strict=True)):
        bound = quotient(loss, at, i, ε).error
        assert encloses(slope(loss, at, i, ε) + Ball(0, radius=bound), difference)
        assert f">{g:.12g}</td>" in shown
        assert f">{difference:.12g}</td>" in shown


def test_try_the_engine():
    def sums(f):
        told = run("engine", f=f)[1]["told"]
        return [step.parent for step in told.steps if step.total != step.term]

    assert sums("y tanh y") == ["y"]
    assert sums("tanh y") == []

    shown, d = run("engine", f="relu(y)", w=0.0, b=0.0)
    assert list(d["gradient"]) == [0, 0, 0]
    assert d["differences"][2] == 0.5
    assert shown.count("there is a kink: no gradient exists") == 3

    d = run("engine", f="tanh y", w=3.0, x=3.0, b=3.0)[1]
    for digits in range(1, 16):
        difference = d["difference"](10.0**-digits)
        relative = np.abs(difference - d["gradient"]) / d["gradient"]
        assert relative.min() > 1e-5 / 2
        assert digits < 8 or not difference.any()


# ---- BPTT by hand -----------------------------------------------------------------------------


def by_the_sum(d):
    """The terms of the notebook with bounds on their rounding, by the same formulas."""
    cell, s, H = d["cell"], d["s"], d["H"]
    params, x = lift(rounded, d["params"]), rounded(d["x"])
    h = tg.unroll(cell, params, x).states[0]
    slopes = tg.d_tanh(x @ params["W_x"] + h[:-1] @ params["W_h"] + params["b"])
    terms = {}
    for k in range(s, 0, -1):
        Q = rounded(np.eye(H))  # the transpose of J_s ⋯ J_{k+1}
        for slope in slopes[k:s]:
            Q = (Q @ params["W_h"]) * slope
        λ = np.ones((1, H)) @ Q.T
        terms[k] = cell.local(params, x[[k - 1]], (h[[k - 1]],), (λ,))["W_h"]
    return terms


def assert_close(*results):
    """Demand that each pair of (floats, the same with bounds) differs by no more than they may."""
    for (a, by_a), (b, by_b) in combinations(results, 2):
        bound = errors(by_a) + errors(by_b)
        assert np.isfinite(bound).all()
        assert (np.abs(a - b) <= bound * (1 + 2 * U)).all()


@settings("bptt", "units", (1, 2), {"window": 3}, {"units": 2, "position": 4, "window": 2})
def test_bptt(values):
    shown, d = run("bptt", **values)
    cell, params, x, s = d["cell"], d["params"], d["x"], d["s"]
    tex = notebook("bptt").tex
    terms = by_the_sum(d)
    problem = params, x, d["d_outputs"]
    exact = tuple(lift(rounded, part) for part in problem)
    # The terms are the engine's own contributions; after step s there are none.
    theirs = tg.contributions(cell, *problem)["W_h"]
    bounds = tg.contributions(cell, *exact)["W_h"]
    assert list(d["terms"]) == list(range(s, 0, -1))
    assert not theirs[s:].any()
    for k, term in d["terms"].items():
        assert_close((term, terms[k]), (theirs[k - 1], bounds[k - 1]))
        assert tex(term) in shown
        assert tex(d["lambdas"][k]) in shown
    # They add up to the gradient, by whichever road.
    assert_close(
        (d["total"], sum(terms.values())),
        (d["by_bptt"], tg.bptt(cell, *exact, method="chain")["W_h"]),
        (d["by_grad"], tg.bptt(cell, *exact, method="tape")["W_h"]),
    )
    for name in "total", "by_bptt", "by_grad":
        assert f"<code>{d[name].tolist()}</code>" in shown
    # So do those that truncation keeps.
    window = d["window"].value
    assert d["kept"] == [k for k in terms if s - k < window]
    truncated = tg.bptt(cell, *exact, truncate=window, method="chain")["W_h"]
    assert_close((d["kept_sum"], sum(terms[k] for k in d["kept"])), (d["truncated"], truncated))
    assert f"drops {max(0, s - window)}." in shown
    assert tex(d["kept_sum"]) in shown
    assert tex(d["truncated"]) in shown
    assert tex(d["total"] - d["kept_sum"]) in shown


def test_try_bptt():
    d = run("bptt", units=2, steps=8, weight=0.1)[1]
    assert not d["terms"][1].any()
    assert tg.global_norm(d["terms"][8]) == max(map(tg.global_norm, d["terms"].values()))
    assert run("bptt", steps=8, weight=3.0)[1]["J"][1:].max() < 0.4
    missing = {}
    for weight in 0.3, 0.9:
        d = run("bptt", weight=weight, window=2)[1]
        missing[weight] = abs(1 - d["kept_sum"] / d["total"]).item()
    assert round(missing[0.3], 2) == 0.02
    assert missing[0.9] > 1


def test_tex():
    tex = notebook("bptt").tex
    assert tex(-0.25) == "-0.25"
    assert tex(np.array([[1.234e-7]])) == r"1.23\cdot 10^{-7}"
    assert tex(np.array([[1.0, 2.0], [3.0, 4.0]])) == (
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"
    )
    assert notebook("bptt").product([2.0, -1.0]) == r"2 \cdot (-1)"


# ---- vanishing --------------------------------------------------------------------------------

CELLS = ("RNN, tanh", "RNN, linear", "GRU", "LSTM")


@settings("vanishing", "cell", CELLS)
def test_vanishing(values):
    shown, d = run("vanishing", **values)
    cell, T, bounds = d["cell"].value, d["T"], d["bounds"]
    H = cell.H
    # The sliders do what they say.
    gain, bias = d["gain"].value, d["bias"].value
    for W in np.split(d["params"]["W_h"], d["params"]["W_h"].shape[1] // H, axis=1):
        low, high = singular_value_bounds(W)
        slack = 64 * H * U * gain  # Q is orthogonal up to its rounding
        assert low - slack <= gain <= high + slack
    if not isinstance(cell, tg.RNNCell):
        opened = tg.init.forget_bias(cell, d["params"], bias)
        assert np.array_equal(opened["b"], d["params"]["b"])
    # The bounds are certain; the product has rounded by γ_S a step, S ≤ 2H.
    lags = T - np.arange(T)
    norm, slack = np.array(bounds["log_norm"]), 2 * lags * 2 * H * U
    assert (bounds["lower"] <= norm + slack).all()
    assert (norm <= bounds["upper"] + slack).all()
    assert (norm <= bounds["upper_global"] + slack).all()
    # exp(T λ_i) is a diagonal entry of R in P_T = QR.
    assert T * bounds["lyapunov"] <= norm[0] + slack[0]
    for name in "log_norm", "lower", "upper", "upper_global":
        assert text(bounds[name][0]) in shown
    assert f"= {text(bounds['lyapunov'])}" in shown
    # The map: the past only, the identity, and the curve in its last row.
    pairs = d["pairs"]
    assert (np.isneginf(pairs) == np.triu(np.ones_like(pairs), 1)).all()
    assert not np.diag(pairs).any()
    assert np.array_equal(pairs[T, :T], norm)
    assert shown.count("<svg") == 2
    # Clipping, by its own rule each; a norm of n numbers is off by less than (n + 4)u.
    gradients, θ = d["gradients"], d["θ"]
    size = sum(g.size for g in gradients.values())
    assert tg.global_norm(d["clipped"]["by norm"]) <= θ * (1 + (size + 4) * U)
    assert max(g.max() for g in d["clipped"]["one-sided (notes)"].values()) <= θ
    assert max(np.abs(g).max() for g in d["clipped"]["by value"].values()) <= θ
    for g in gradients, *d["clipped"].values():
        assert f">{text(tg.global_norm(g))}</td>" in shown


def test_try_vanishing():
    def found(cell, gain, bias=1.0, **values):
        return run("vanishing", cell=cell, gain=gain, bias=bias, **values)[1]["bounds"]

    for gain in 0.9, 1.0, 1.1:
        b = found("RNN, linear", gain)
        straight = np.log(gain) * np.arange(40, 0, -1)
        # The certain bounds repay all of their rounding, by less than 2⁻³⁵ here.
        for name in "log_norm", "lower", "upper", "upper_global":
            assert (np.abs(b[name] - straight) <= 2.0**-35).all()
    b = found("RNN, tanh", 1.1)
    assert b["log_norm"][0] < 0 < b["upper_global"][0]
    two, three = (found("RNN, tanh", gain)["log_norm"][0] for gain in (2.0, 3.0))
    assert two > three > 0

    kept = [found("LSTM", 0.5, bias)["log_norm"][0] for bias in (0.0, 2.0, 4.0, 6.0)]
    assert kept == sorted(kept)
    assert found("GRU", 0.5, 0.0)["log_norm"][0] < found("GRU", 0.5, 6.0)["log_norm"][0]
    calm, wild = (found("LSTM", gain, 6.0)["lyapunov"] for gain in (0.5, 3.0))
    assert calm < 0 < wild

    shown = run("vanishing", cell="RNN, linear", gain=1.5)[0]
    rows = dict(re.findall(r"<td[^>]*>([^<]+)</td>\n<td[^>]*>([^<]+)</td>\n", shown))
    assert rows["by norm"] == "1"
    assert float(rows["one-sided (notes)"]) > 1e8
    cosines = dict(re.findall(r"<td[^>]*>([^<]+)</td>\n<td.*</td>\n<td[^>]*>([^<]+)</td>", shown))
    assert cosines["by norm"] == "1.0000"
    assert float(cosines["one-sided (notes)"]) < 0.9
