"""Recall of the first bit at a lag: which remedies of the notes help an RNN to remember.

The input is ±1, random at every step; the label is the first input, asked for `lag` steps later. A
guesser has an accuracy of 1/2, and so has a network whose gradient by the first step has vanished.
Every network has the same size, at most the same number of steps and, but for two, the same rate of
Adam.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.cells import Cell, Params, RNNCell, State
from tinygrad_rnn.experiments.experiment import Experiment, Numbers, Setting, Table
from tinygrad_rnn.experiments.sweep import sweep
from tinygrad_rnn.experiments.training import accuracy, classifier, step
from tinygrad_rnn.functions import Array

H, BATCH, HELD_OUT, EVERY = 16, 32, 500, 50
RATE, SMALL, LARGE = 3e-3, 3e-5, 0.3
# Hoeffding: one who guesses is as good as this with a chance of at most 10⁻⁶.
REMEMBERS = 0.5 + sqrt(log(1e6) / (2 * HELD_OUT))


@dataclass(frozen=True)
class SkipCell(RNNCell):
    """An RNN with a skip connection from step to step: h_t = h_{t−1} + ε f(a_t).

    Its Jacobian is I + ε times that of the RNN. It has no kernel and runs on the tape.
    """

    epsilon: Any = 0.1

    def step(self, params: Params, x_t: Array, state: State) -> State:
        """Return (h_{t−1} + ε f(a_t),)."""
        return (state[0] + self.epsilon * super().step(params, x_t, state)[0],)

    def jacobian(self, params: Params, x_t: Array, state: State) -> Array:
        """Return I + ε diag(f'(a_t)) W_hᵀ."""
        return np.eye(self.H, dtype=int) + self.epsilon * super().jacobian(params, x_t, state)

    def local(self, params: Params, x_t: Array, state: State, d_state: State) -> dict[str, Array]:
        """Return ∂⁺ of every parameter and of x."""
        return super().local(params, x_t, state, (self.epsilon * d_state[0],))


def _rnn(rng: Any, activation: str = "tanh", **rules: Any) -> tuple[Cell, Any]:
    cell = tg.RNNCell(1, H, activation)
    return cell, tg.init.redraw(cell, cell.init(rng), rng, **rules)


def _relu(rng: Any) -> tuple[Cell, Any]:
    def inputs(rng: Any, shape: Any) -> Array:
        return tg.init.lecun(rng, shape, gain=0.1)

    return _rnn(rng, "relu", W_x=inputs, W_h=tg.init.identity, b=tg.init.zeros)


def _gated(kind: type[Any], bias: float) -> Callable[[Any], tuple[Cell, Any]]:
    def make(rng: Any) -> tuple[Cell, Any]:
        cell = kind(1, H)
        return cell, tg.init.forget_bias(cell, cell.init(rng), bias)

    return make


def _skip(rng: Any) -> tuple[Cell, Any]:
    cell = SkipCell(1, H)
    return cell, cell.init(rng)


REMEDIES: dict[str, tuple[Callable[[Any], tuple[Cell, Any]], float, float | None]] = {
    "RNN, tanh": (_rnn, RATE, None),
    "RNN, small rate": (_rnn, SMALL, None),
    "RNN, large rate": (_rnn, LARGE, None),
    "RNN, clipped": (_rnn, RATE, 1.0),
    "RNN, orthogonal": (lambda rng: _rnn(rng, W_h=tg.init.orthogonal), RATE, 1.0),
    "RNN, relu, W_h = I": (_relu, RATE, 1.0),
    "RNN, skip": (_skip, RATE, 1.0),
    "GRU, bias 0": (_gated(tg.GRUCell, 0.0), RATE, 1.0),
    "GRU, bias 3": (_gated(tg.GRUCell, 3.0), RATE, 1.0),
    "LSTM, bias 0": (_gated(tg.LSTMCell, 0.0), RATE, 1.0),
    "LSTM, bias 1": (_gated(tg.LSTMCell, 1.0), RATE, 1.0),
    "LSTM, bias 5": (_gated(tg.LSTMCell, 5.0), RATE, 1.0),
}


def sequences(rng: np.random.Generator, lag: int, N: int) -> tuple[Array, Array]:
    """Draw inputs ±1 of lag + 1 steps, (T, N, 1), and the first bits."""
    bits = rng.integers(0, 2, (lag + 1, N))
    return (2 * bits - 1).astype(np.float32)[:, :, None], bits[0]


def learn(cell: dict[str, Any]) -> dict[str, Any]:
    """Train one network until it knows every held-out first bit, or the steps are over."""
    make, rate, clip = REMEDIES[cell["remedy"]]
    rng = np.random.default_rng([cell["seed"], cell["draw"], cell["lag"]])
    network, params = make(rng)
    model = classifier(network, params, 2, rng)
    held_out = sequences(rng, cell["lag"], HELD_OUT)
    optimiser = tg.Adam(rate, clip=clip)
    memory, found = optimiser.init(model), 0.0
    for k in range(1, cell["steps"] + 1):
        batch = sequences(rng, cell["lag"], BATCH)
        model, memory = step(model, network, *batch, optimiser, memory)
        if k % EVERY == 0:
            found = accuracy(model, network, *held_out)
            if found == 1:
                break
    return {"accuracy": found, "steps": k}


def compute(setting: Setting) -> Numbers:
    """Sweep remedies and lags."""
    lags, draws, steps = ((3, 20), 1, 200) if setting.quick else ((3, 10, 20, 50, 100), 2, 400)
    cells = [
        {"remedy": remedy, "lag": lag, "draw": draw, "seed": setting.seed, "steps": steps}
        for remedy in REMEDIES
        for lag in lags
        for draw in range(draws)
    ]
    found = iter(sweep(learn, cells, setting, "recall"))
    results = [
        {"remedy": remedy, "draws": [[next(found) for _ in range(draws)] for _ in lags]}
        for remedy in REMEDIES
    ]
    return {"lags": lags, "steps": steps, "remembers": REMEMBERS, "results": results}


def accuracies(result: Any) -> list[float]:
    """Return the mean accuracy for each lag."""
    return [float(np.mean([d["accuracy"] for d in draws])) for draws in result["draws"]]


def table(numbers: Numbers) -> Table:
    """Give the accuracy for each lag."""
    columns = ("accuracy at lag", *map(str, numbers["lags"]))
    return Table(columns, tuple((r["remedy"], *accuracies(r)) for r in numbers["results"]))


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw the accuracies as a map of remedies and lags."""
    axes = figure.subplots()
    axes.grid(False)
    shown = np.array([accuracies(r) for r in numbers["results"]])
    image = axes.imshow(shown, vmin=0.5, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(shown):
        color = "#ffffff" if value < 0.75 else "#000000"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(numbers["lags"])), numbers["lags"])
    axes.set_yticks(range(len(shown)), [r["remedy"] for r in numbers["results"]])
    axes.set(
        xlabel="lag of the first bit, steps",
        title=f"First-bit recall after at most {numbers['steps']} steps of Adam, H = {H}",
    )
    figure.colorbar(image, label="accuracy; 0.5 is guessing")


EXPERIMENT = Experiment(compute, table, draw, sweeps=True)
