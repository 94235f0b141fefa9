"""How wrong truncated backpropagation is, against its window, and what bounds it.

The loss δ_t · h_t of every step goes back through K steps only. What is dropped of ∂L/∂W_h is at
most γ Σ_t ‖δ_t‖ M_t Σ_{K ≤ k < t} q^k with q = γ‖W_h‖ and M_t = max ‖h_{i−1}‖, i ≤ t − K (V-3): a
geometric tail where q < 1. Where q > 1 the bound is no help, and the error need not fall at all
until the window has reached the start.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, DASHES, Experiment, Numbers, Setting, Table
from tinygrad_rnn.functions import Array

D, H = 2, 16
NETWORKS = ((0.7, "tanh"), (0.9, "tanh"), (1.0, "identity"), (1.1, "identity"))


def bound(q: float, K: int, h: Array, δ: Array) -> float:
    """Return γ Σ_t ‖δ_t‖ M_t Σ_{K ≤ k < t} q^k, γ = 1; h are the states from h_0 on."""
    T, size = len(δ), np.linalg.norm(h, axis=1)
    tails = [size[: t - K].max() * (q ** np.arange(K, t)).sum() for t in range(K + 1, T + 1)]
    return float(np.linalg.norm(δ[K:], axis=1) @ tails)


def compute(setting: Setting) -> Numbers:
    """Compare the gradients of W_h for windows of 1, 2, 4, … steps with the whole one."""
    T = 32 if setting.quick else 128
    rng = np.random.default_rng(setting.seed)
    x, δ = rng.standard_normal((T, D)), rng.standard_normal((T, H))
    windows = [2**k for k in range(T.bit_length() - 1)]
    found = []
    for q, activation in setting.track(NETWORKS, "networks", len(NETWORKS)):
        cell = tg.RNNCell(D, H, activation)
        params = {**cell.init(rng), "W_h": tg.init.orthogonal(rng, (H, H), gain=q)}
        h = tg.unroll(cell, params, x).states[0]
        whole = tg.bptt(cell, params, x, δ)["W_h"]
        size = float(np.linalg.norm(whole))
        kept = [tg.bptt(cell, params, x, δ, truncate=K)["W_h"] for K in windows]
        found.append(
            {
                "q": q,
                "activation": activation,
                "error": [float(np.linalg.norm(whole - part)) / size for part in kept],
                "bound": [bound(q, K, h, δ) / size for K in windows],
            }
        )
    return {"T": T, "windows": windows, "networks": found}


def table(numbers: Numbers) -> Table:
    """Give the relative error for each window, and its bound."""
    shown = numbers["windows"][::2]
    columns = ("W_h = qQ", "", *(f"K = {K}" for K in shown))
    rows = []
    for n in numbers["networks"]:
        name = f"{n['activation']}, q = {n['q']}"
        rows.append((name, "error", *n["error"][::2]))
        rows.append(("", "bound", *n["bound"][::2]))
    return Table(columns, tuple(rows))


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw error and bound against the window."""
    axes = figure.subplots()
    for i, n in enumerate(numbers["networks"]):
        name = f"{n['activation']}, q = {n['q']}"
        line = axes.plot(numbers["windows"], n["error"], "o-", color=COLORS[i], label=name)
        axes.plot(numbers["windows"], n["bound"], color=line[0].get_color(), linestyle=DASHES[1])
    axes.plot([], [], color=COLORS[0], linestyle=DASHES[1], label="bound (V-3)")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="window K of truncated backpropagation",
        ylabel="‖error of ∂L/∂W_h‖ / ‖∂L/∂W_h‖",
        title=f"Truncated BPTT, W_h = qQ, T = {numbers['T']}",
    )
    axes.set_xticks(numbers["windows"], [str(K) for K in numbers["windows"]])
    axes.legend()


EXPERIMENT = Experiment(compute, table, draw)
