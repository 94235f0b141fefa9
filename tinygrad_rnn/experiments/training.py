"""Training a cell to classify sequences from its last output, in float32, with the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.cells import Cell
from tinygrad_rnn.functions import Array

Model = dict[str, Any]


def classifier(cell: Cell, params: Any, classes: int, rng: np.random.Generator) -> Model:
    """Return the parameters of a cell and of the readout h_T W_o + b_o."""
    W_o = tg.init.lecun(rng, (cell.H, classes)).astype(np.float32)
    recurrent = {name: p.astype(np.float32) for name, p in params.items()}
    return {"cell": recurrent, "W_o": W_o, "b_o": np.zeros(classes, np.float32)}


def logits(model: Model, cell: Cell, x: Array) -> Array:
    """Return h_T W_o + b_o for x (T, N, D): (N, classes)."""
    return tg.unroll(cell, model["cell"], x).final[0] @ model["W_o"] + model["b_o"]


def loss(model: Model, cell: Cell, x: Array, labels: Array) -> Any:
    """Return the mean cross-entropy."""
    return tg.cross_entropy(logits(model, cell, x), labels) / np.float32(len(labels))


def accuracy(model: Model, cell: Cell, x: Array, labels: Array) -> float:
    """Return the share of the sequences that get their label."""
    return float((logits(model, cell, x).argmax(axis=1) == labels).mean())


def step(model: Model, cell: Cell, x: Array, labels: Array, optimiser: Any, memory: Any) -> Any:
    """Take one step, and return the parameters and the optimiser's memory after it."""
    return optimiser.step(model, tg.grad(loss)(model, cell, x, labels), memory)
