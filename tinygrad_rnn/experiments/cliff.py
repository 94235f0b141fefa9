"""The error surface of one recurrent unit, its wall, and descent with and without clipping.

a_t = w σ(a_{t−1}) + b, a_0 = 1/2, E = (σ(a_50) − 0.7)² is the network of Pascanu, Mikolov and
Bengio (2013, figure 6), which the notes show. The gradient is small almost everywhere and huge on a
curve. Gradient descent along the foot of that wall is thrown off by a single step; with the
gradient's norm clipped it goes on down. Nothing here is random, and all of it is quick.

The larger norms that the clipped path meets lie between the points of the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, Experiment, Numbers, Setting, Table
from tinygrad_rnn.functions import Array

T, TARGET = 50, 0.7
START, RATE, THRESHOLD = (5.0, -2.4), 0.1, 0.5


def error(w: Array, b: Array) -> Array:
    """Return E for each w and b; a_0 = 1/2."""
    h = tg.sigmoid(0.5 + 0 * w)
    for _ in range(T):
        h = tg.sigmoid(w * h + b)
    return (h - TARGET) ** 2


def gradient(w: Array, b: Array) -> tuple[Array, Array]:
    """Return ∂E/∂w and ∂E/∂b for each w and b, by one sweep over the sum of all E."""
    both: tuple[Array, Array] = tg.grad(lambda w, b: np.sum(error(w, b)), argnums=(0, 1))(w, b)
    return both


def descend(clip: float | None, steps: Any) -> dict[str, Any]:
    """Return the path of gradient descent and the norm of the gradient at each of its points."""
    descent = tg.SGD(RATE, clip=clip)
    point = {"w": np.array(START[0]), "b": np.array(START[1])}
    memory, path, norms = descent.init(point), [START], []
    for _ in steps:
        d_w, d_b = gradient(point["w"], point["b"])
        norms.append(float(np.hypot(d_w, d_b)))
        point, memory = descent.step(point, {"w": d_w, "b": d_b}, memory)
        path.append((float(point["w"]), float(point["b"])))
    return {"path": path, "norm": norms, "E": [float(error(*map(np.array, p))) for p in path]}


def compute(setting: Setting) -> Numbers:
    """Take the surface on a grid, and two paths from the same point."""
    w, b, steps = np.linspace(4, 6.5, 101), np.linspace(-3, -1, 81), 150
    rows = setting.track(w, "error surface", len(w))
    grid = [(error(0 * b + v, b), np.hypot(*gradient(0 * b + v, b))) for v in rows]
    E, norm = map(np.array, zip(*grid, strict=True))
    i, j = np.unravel_index(norm.argmax(), norm.shape)
    paths = {
        name: descend(clip, setting.track(range(steps), name, steps))
        for name, clip in (("without clipping", None), ("norm clipped", THRESHOLD))
    }
    return {
        "w": w,
        "b": b,
        "E": E,
        "steepest": {"norm": norm[i, j], "w": w[i], "b": b[j], "median": np.median(norm)},
        "rate": RATE,
        "threshold": THRESHOLD,
        "paths": paths,
    }


def table(numbers: Numbers) -> Table:
    """Give the longest step and the last error of each path."""
    rows = []
    for name, found in numbers["paths"].items():
        steps = np.hypot(*np.diff(np.array(found["path"]).T))
        rows.append((name, max(found["norm"]), float(steps.max()), found["E"][0], found["E"][-1]))
    columns = ("gradient descent", "largest ‖∇E‖", "longest step", "E at first", "E at last")
    return Table(columns, tuple(rows))


def words(numbers: Numbers) -> list[str]:
    """Say where the wall is."""
    top = numbers["steepest"]
    where = f"w = {top['w']:g}, b = {top['b']:g}"
    return [f"‖∇E‖ is {top['norm']:.3g} at {where}; its median on the grid is {top['median']:.2g}."]


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw the surface and the paths on it."""
    axes = figure.subplots()
    axes.grid(False)
    E = np.array(numbers["E"])
    image = axes.pcolormesh(numbers["w"], numbers["b"], E.T, rasterized=True, shading="nearest")
    figure.colorbar(image, label="error E")
    looks = (("#ffffff", "-", "x"), (COLORS[1], "-", "."))
    for (name, found), (color, line, marker) in zip(numbers["paths"].items(), looks, strict=True):
        path = np.array(found["path"])
        axes.plot(*path.T, color=color, linestyle=line, marker=marker, markersize=5, label=name)
    axes.set(
        xlim=(numbers["w"][0], numbers["w"][-1]),
        ylim=(numbers["b"][0], numbers["b"][-1]),
        xlabel="recurrent weight w",
        ylabel="bias b",
        title=f"Gradient descent at the wall, η = {numbers['rate']}, θ = {numbers['threshold']}",
    )
    axes.legend(labelcolor="#ffffff", loc="upper right")


EXPERIMENT = Experiment(compute, table, draw, words)
