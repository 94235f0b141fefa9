"""‖∂s_t/∂s_i‖ for all pairs of steps, before and after training on digits read pixel by pixel.

A tanh RNN, the same begun with an orthogonal W_h, and an LSTM with forget bias 1 read 64 pixels and
name the digit. The map shows how much of step i is left at step t: log ‖∂s_t/∂s_i‖_F of the whole
state s, (h, c) of the LSTM, relative to the diagonal, as the mean over a few held-out digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.cells import Cell
from tinygrad_rnn.experiments import digits
from tinygrad_rnn.experiments.experiment import Experiment, Numbers, Setting, Table, needed
from tinygrad_rnn.experiments.sweep import sweep
from tinygrad_rnn.functions import Array

LAGS = (8, 32, 63)


def pairs(cell: Cell, model: Any, x: Array) -> Array:
    """Return the mean over sequences of log ‖∂s_t/∂s_i‖_F − log ‖I‖_F at [t, i], −∞ for i > t."""
    logs = tg.jacobian_chain(cell, model["cell"], x).all_pairs()
    mean: Array = logs.mean(axis=2) - logs[0, 0, 0]
    return mean


def learn(cell: dict[str, Any]) -> dict[str, Any]:
    """Train one network, and take the maps before and after."""
    data, rng = digits.load(), np.random.default_rng(cell["seed"])
    kind, epochs = cell["network"], cell["epochs"]
    network, model = digits.network(kind, cell["H"], rng)
    shown = data.x_test[:, : cell["shown"]]
    before = pairs(network, model, shown)
    loop, rate = range(epochs), digits.RATES[kind]
    model, curve = digits.train(network, model, data, loop, epochs, rate, rng)
    after = pairs(network, model, shown)
    return {"network": kind, "accuracy": curve, "before": before, "after": after}


def compute(setting: Setting) -> Numbers:
    """Train each network, in a process of its own."""
    H, epochs, shown = (16, 4, 1) if setting.quick else (digits.H, digits.EPOCHS, 2)
    needed("sklearn", "experiments", "scikit-learn")  # finds out before the work
    kinds = sorted(digits.RATES, reverse=True, key=lambda kind: kind == "LSTM")  # the longest first
    size = {"H": H, "epochs": epochs, "shown": shown, "seed": setting.seed}
    found = sweep(learn, [{"network": kind, **size} for kind in kinds], setting, "heatmap")
    by_kind = {n["network"]: n for n in found}
    return {"H": H, "epochs": epochs, "networks": [by_kind[kind] for kind in digits.RATES]}


def at_lag(pairs: Any, lag: int) -> float:
    """Return the mean over all pairs of steps that far apart."""
    return float(np.mean([pairs[i + lag][i] for i in range(len(pairs) - lag)]))


def table(numbers: Numbers) -> Table:
    """Give the test accuracy, and the means over all pairs of some lags."""
    columns = ("network", "training", "test accuracy", *(f"log norm at lag {k}" for k in LAGS))
    rows = []
    for n in numbers["networks"]:
        for name, score in (("before", "–"), ("after", n["accuracy"][-1])):
            rows.append((n["network"], name, score, *(at_lag(n[name], k) for k in LAGS)))
    return Table(columns, tuple(rows))


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw a map for each network, before and after."""
    panels = figure.subplots(2, len(numbers["networks"]), sharex=True, sharey=True)
    for column, n in zip(panels.T, numbers["networks"], strict=True):
        for axes, name in zip(column, ("before", "after"), strict=True):
            axes.grid(False)
            shown = np.array(n[name], dtype=float)  # above the diagonal is nothing
            image = axes.imshow(shown, vmin=-10, vmax=0)
        column[0].set_title(f"{n['network']}\nbefore training")
        column[1].set_title(f"after: {n['accuracy'][-1]:.1%} right")
        column[1].set_xlabel("step i")
    for axes in panels[:, 0]:
        axes.set_ylabel("step t")
    label = "log ‖∂s_t/∂s_i‖_F, relative to i = t"
    figure.colorbar(image, ax=panels, label=label, extend="both")


EXPERIMENT = Experiment(compute, table, draw, size=(9.0, 6.2), sweeps=True)
