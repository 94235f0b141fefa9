"""Handwritten digits read pixel by pixel, and the training of a cell on them.

The 1797 digits of 8 × 8 pixels come with scikit-learn: 64 steps of one input each. The last 360 of
a fixed permutation are held out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import optim
from tinygrad_rnn.cells import Cell
from tinygrad_rnn.experiments.experiment import needed
from tinygrad_rnn.experiments.training import Model, accuracy, classifier, step
from tinygrad_rnn.functions import Array

HELD_OUT, BATCH, H, EPOCHS = 360, 32, 64, 40
RATES = {"RNN": 2e-3, "RNN, orthogonal": 2e-3, "LSTM": 1e-2}  # of an LSTM with forget bias 1


class Digits(NamedTuple):
    """Sequences (T, N, 1) between 0 and 1 in float32, and labels 0 … 9."""

    x: Array
    labels: Array
    x_test: Array
    labels_test: Array


def load() -> Digits:
    """Return the digits, split.

    Raises
    ------
    ImportError
        Without scikit-learn, saying how to install it.
    """
    datasets = needed("sklearn.datasets", "experiments", "scikit-learn")
    pixels, labels = datasets.load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x = np.ascontiguousarray((pixels[order] / 16).astype(np.float32).T[:, :, None])
    y = labels[order]
    return Digits(x[:, :-HELD_OUT], y[:-HELD_OUT], x[:, -HELD_OUT:], y[-HELD_OUT:])


def network(kind: str, H: int, rng: np.random.Generator) -> tuple[Cell, Model]:
    """Return a cell of a kind, one of ``RATES``, with a readout of ten classes."""
    if kind == "LSTM":
        lstm = tg.LSTMCell(1, H)
        return lstm, classifier(lstm, tg.init.forget_bias(lstm, lstm.init(rng), 1.0), 10, rng)
    rnn = tg.RNNCell(1, H)
    params = rnn.init(rng)
    if kind == "RNN, orthogonal":
        rules: Any = {"W_h": tg.init.orthogonal, "b": tg.init.zeros}
        params = tg.init.redraw(rnn, params, rng, **rules)
    return rnn, classifier(rnn, params, 10, rng)


def train(
    cell: Cell,
    model: Model,
    digits: Digits,
    epochs: Iterable[int],
    count: int,
    rate: float,
    rng: Any,
) -> tuple[Model, list[float]]:
    """Train with Adam, clipped, its rate falling on half a cosine; return the accuracy by epoch."""
    batches = len(digits.labels) // BATCH
    optimiser = tg.Adam(optim.cosine(rate, count * batches, final=rate / 50), clip=1.0)
    memory, curve = optimiser.init(model), []
    for _ in epochs:
        order = rng.permutation(len(digits.labels))
        for batch in order[: batches * BATCH].reshape(batches, BATCH):
            x, labels = digits.x[:, batch], digits.labels[batch]
            model, memory = step(model, cell, x, labels, optimiser, memory)
        curve.append(accuracy(model, cell, digits.x_test, digits.labels_test))
    return model, curve
