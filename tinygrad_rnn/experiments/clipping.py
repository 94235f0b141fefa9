"""What each rule of clipping does to the length and the direction of a gradient.

The gradients are those of an RNN, W_h = qQ with q on either side of 1, so that some have vanished
and some exploded. What is known of the rules for gradients of n entries in m arrays (K-1 to K-5):

- by norm: length ≤ θ, direction kept;
- by value: length ≤ θ√n, cosine ≥ 1/√n;
- each array by its own norm, as the notes' loop: length ≤ θ√m, cosine ≥ 1/√m;
- one-sided, "if gradient > threshold": no bound on the length, a cosine above 0 and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, Experiment, Numbers, Setting, Table
from tinygrad_rnn.functions import Array

D, H, T, THRESHOLD = 2, 8, 40, 1.0


def each_by_norm(gradients: dict[str, Array], θ: float) -> dict[str, Array]:
    """Clip every array by its own norm."""
    return {name: tg.clip_by_norm(g, θ) for name, g in gradients.items()}


RULES: dict[str, Callable[[dict[str, Array], float], dict[str, Array]]] = {
    "by norm": tg.clip_by_norm,
    "each array by norm": each_by_norm,
    "by value": tg.clip_by_value,
    "one-sided (notes)": tg.clip_one_sided,
}


def flat(gradients: dict[str, Array]) -> Array:
    """Put all entries into one vector."""
    return np.concatenate([g.ravel() for g in gradients.values()])


def compute(setting: Setting) -> Numbers:
    """Clip the gradients of networks of growing q by every rule."""
    count = 60 if setting.quick else 300
    rng = np.random.default_rng(setting.seed)
    cell = tg.RNNCell(D, H, "leaky_relu")
    before, after = [], []
    for q in setting.track(np.linspace(0.8, 1.5, count), "gradients", count):
        params = cell.init(rng)
        params["W_h"] = tg.init.orthogonal(rng, (H, H), gain=q)
        d_outputs = np.zeros((T, H))
        d_outputs[-1] = rng.standard_normal(H)
        gradients = tg.bptt(cell, params, rng.standard_normal((T, D)), d_outputs)
        g = {name: gradients[name] for name in params}
        before.append(float(tg.global_norm(g)))
        clipped = [rule(g, THRESHOLD) for rule in RULES.values()]
        after.append([(float(tg.global_norm(c)), cosine(flat(g), flat(c))) for c in clipped])
    lengths, cosines = np.array(after).T
    n, m = sum(p.size for p in params.values()), len(params)
    bounds = ((1.0, 1.0), (m**0.5, m**-0.5), (n**0.5, n**-0.5), (np.inf, 0.0))
    rules = [
        {
            "rule": rule,
            "length": lengths[i],
            "cosine": cosines[i],
            "longest": longest,
            "least": least,
        }
        for i, (rule, (longest, least)) in enumerate(zip(RULES, bounds, strict=True))
    ]
    return {"threshold": THRESHOLD, "n": n, "m": m, "before": before, "rules": rules}


def cosine(a: Array, b: Array) -> float:
    """Return the cosine of the angle between two vectors."""
    a, b = a / tg.global_norm(a), b / tg.global_norm(b)
    return float(a @ b)


def table(numbers: Numbers) -> Table:
    """Give the extremes, and what is known of them."""
    longest = max(numbers["before"])
    rows = [("none", longest, "∞", 1.0, 1.0)]
    for r in numbers["rules"]:
        most = "∞" if r["longest"] is None else f"{r['longest']:.3g}"
        rows.append((r["rule"], max(r["length"]), most, min(r["cosine"]), r["least"]))
    columns = ("clipping, θ = 1", "longest", "at most", "least cosine", "at least")
    return Table(columns, tuple(rows))


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw length and cosine after clipping against the length before."""
    left, right = figure.subplots(1, 2)
    before = np.array(numbers["before"])
    left.plot(np.sort(before), np.sort(before), "-", label="unclipped")
    for i, (r, marker) in enumerate(zip(numbers["rules"], ".x+1", strict=True)):
        look = {"marker": marker, "color": COLORS[i], "linestyle": "none", "markersize": 5}
        left.plot(before, r["length"], label=r["rule"], **look)
        right.plot(before, r["cosine"], **look)
    xlabel = "length ‖g‖ before"
    left.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="length after clipping, θ = 1")
    right.set(xscale="log", xlabel=xlabel, ylabel="cosine of the angle to g", ylim=(0, 1.05))
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)


EXPERIMENT = Experiment(compute, table, draw, size=(9.0, 4.5))
