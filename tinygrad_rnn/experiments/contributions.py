"""The notes' sum over j, term by term: which lags the gradient consists of.

A linear network with W_h = qQ, Q orthogonal, multiplies what it carries back by q at every step, so
that the terms of ∂L/∂W_x are q^lag in size. Short lags have the say where q < 1 and long lags where
q > 1. The rule needs inputs of equal size: where the first input is the only one, the whole
gradient is its longest lag, though q < 1. And tanh saturates, so that q is not what the steps do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import (
    COLORS,
    DASHES,
    Experiment,
    Numbers,
    Setting,
    Table,
)

H = 8
CASES = (  # name, q, activation, whether the first input is the only one
    ("contracting", 0.8, "identity", False),
    ("critical", 1.0, "identity", False),
    ("expanding", 1.25, "identity", False),
    ("first input only", 0.8, "identity", True),
    ("expanding, tanh", 1.25, "tanh", False),
)


def compute(setting: Setting) -> Numbers:
    """Split ∂L/∂W_x, L = δ · h_T, into its terms, and take the share of every lag."""
    T = 20 if setting.quick else 50
    rng = np.random.default_rng(setting.seed)
    x = rng.choice([-1.0, 1.0], (T, 1))
    d_outputs = np.zeros((T, H))
    d_outputs[-1] = rng.standard_normal(H)
    direction = tg.init.orthogonal(rng, (H, H))
    W_x = rng.standard_normal((1, H))
    cases = []
    for name, q, activation, first_only in setting.track(CASES, "cases", len(CASES)):
        inputs = np.where(np.arange(T)[:, None] == 0, x, 0.0) if first_only else x
        params = {"W_x": W_x, "W_h": q * direction, "b": np.zeros(H)}
        terms = tg.contributions(tg.RNNCell(1, H, activation), params, inputs, d_outputs)["W_x"]
        size = np.array([float(tg.global_norm(term)) for term in terms[::-1]])  # by lag
        cases.append({"name": name, "q": q, "activation": activation, "share": size / size.sum()})
    return {"T": T, "H": H, "cases": cases}


def table(numbers: Numbers) -> Table:
    """Give the shares of the shorter and of the longer half of the lags."""
    T, K = numbers["T"], numbers["T"] // 2
    rows = []
    for case in numbers["cases"]:
        long, q = sum(case["share"][K:]), case["q"]
        rows.append((case["name"], q, 1 - long, long, geometric(q, K, T)))
    return Table(("W_h = qQ", "q", f"lags < {K}", f"lags ≥ {K}", "of terms q^lag"), tuple(rows))


def geometric(q: float, K: int, T: int) -> float:
    """Return the share of the lags from K on where the term of each lag is q^lag in size."""
    return 1 - K / T if q == 1 else (q**K - q**T) / (1 - q**T)


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw the share against the lag."""
    axes = figure.subplots()
    for i, case in enumerate(numbers["cases"]):
        lags = range(len(case["share"]))
        label = f"{case['name']}, q = {case['q']:g}"
        if case["share"][0] == 0:  # all in one lag
            axes.plot(lags[-1:], case["share"][-1:], "o", color=COLORS[i], label=label)
        else:
            axes.plot(lags, case["share"], color=COLORS[i], linestyle=DASHES[i], label=label)
    axes.set(
        yscale="log",
        xlabel="lag T − j",
        ylabel="share of the term j in ∂L/∂W_x",
        title=f"Contributions to the gradient, W_h = qQ, T = {numbers['T']}",
    )
    axes.legend()


EXPERIMENT = Experiment(compute, table, draw)
