"""Where products of Jacobians vanish, hold and explode: a phase diagram over gain and steps.

W_h = gQ with Q orthogonal; measured is log (‖P_t‖_F/√H), P_t = ∂h_t/∂h_0, the logarithm of the root
mean square of its singular values. A linear network has t log g exactly, and tanh and relu at most
that. relu stops what is not active, so that its border lies at a gain above 1; tanh saturates the
more, the larger the gain, and its border bends away.

Small and large are as in the notes: less than 0.5¹⁰ has vanished, more than 1.5¹⁰ has exploded. The
cells of the diagram are a sweep, in parallel, and may be shared out among the workers of a cluster.
"""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, Experiment, Numbers, Setting, Table, needed
from tinygrad_rnn.experiments.sweep import sweep

ACTIVATIONS = ("identity", "tanh", "relu")
VANISHED, EXPLODED = 10 * log(0.5), 10 * log(1.5)
DECADES = (10, 100, 1000)
NOISE = 0.1  # the inputs' standard deviation


def log_norms(cell: dict[str, Any]) -> list[float | None]:
    """Return log (‖P_t‖_F/√H) at the steps of a cell, a network of its own; None for −∞."""
    H, steps = cell["H"], cell["steps"]
    rng = np.random.default_rng([cell["seed"], cell["draw"]])
    x = NOISE * rng.standard_normal((steps[-1], H))
    W_h = tg.init.orthogonal(rng, (H, H), gain=cell["gain"])
    params = {"W_x": np.eye(H), "W_h": W_h, "b": np.zeros(H)}
    chain = tg.jacobian_chain(tg.RNNCell(H, H, cell["activation"]), params, x)
    logs = chain.log_norm[np.array(steps) - 1] - log(H) / 2
    return [float(v) if np.isfinite(v) else None for v in logs]


def grid(setting: Setting) -> list[dict[str, Any]]:
    """Return the cells: gains for each activation, and several networks for each gain."""
    gains, draws, H, T = (17, 1, 8, 100) if setting.quick else (65, 4, 32, 1000)
    decades = [t for t in DECADES if t <= T]
    steps = np.unique([*np.geomspace(1, T, 60).round(), *decades]).astype(int).tolist()
    return [
        {"activation": f, "gain": float(g), "draw": k, "seed": setting.seed, "H": H, "steps": steps}
        for f in ACTIVATIONS
        for g in 2 ** np.linspace(-1, 1, gains)
        for k in range(draws)
    ]


def compute(setting: Setting) -> Numbers:
    """Sweep the cells, and put them together by activation and gain."""
    cells = grid(setting)
    logs = sweep(log_norms, cells, setting, "phase")
    gain = sorted({cell["gain"] for cell in cells})
    panels: dict[str, Any] = {f: [[] for _ in gain] for f in ACTIVATIONS}
    for cell, found in zip(cells, logs, strict=True):
        panels[cell["activation"]][gain.index(cell["gain"])].append(found)
    return {
        "H": cells[0]["H"],
        "gain": gain,
        "steps": cells[0]["steps"],
        "panels": [{"activation": f, "log_norm": panels[f]} for f in ACTIVATIONS],
    }


def median(panel: Any) -> Any:
    """Return the median over the networks, (gains, steps)."""
    logs = np.array(panel["log_norm"], dtype=float)  # None is NaN
    return np.median(np.where(np.isnan(logs), -np.inf, logs), axis=1)


def table(numbers: Numbers) -> Table:
    """Give the gains between which the product holds, after some numbers of steps."""
    gain, steps = np.array(numbers["gain"]), numbers["steps"]
    rows = []
    for panel in numbers["panels"]:
        logs = median(panel)
        for i, t in ((steps.index(t), t) for t in DECADES if t in steps):
            holds = gain[(logs[:, i] >= VANISHED) & (logs[:, i] <= EXPLODED)]
            between = f"{holds[0]:.3g} … {holds[-1]:.3g}" if len(holds) else "none"
            linear = f"{0.5 ** (10 / t):.3g} … {1.5 ** (10 / t):.3g}"
            rows.append((panel["activation"], t, between, linear))
    return Table(("activation", "steps", "gains that hold", "if linear"), tuple(rows))


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw a diagram for each activation, and the borders of the linear network."""
    colors = needed("matplotlib.colors", "plot").ListedColormap([COLORS[0], "#d9d9d9", COLORS[1]])
    panels = figure.subplots(1, len(ACTIVATIONS), sharex=True, sharey=True)
    steps = np.array(numbers["steps"])
    for axes, panel in zip(panels, numbers["panels"], strict=True):
        logs = median(panel)
        phases = 1 * (logs >= VANISHED) + (logs > EXPLODED)
        axes.grid(False)
        axes.pcolormesh(
            numbers["gain"], steps, phases.T, cmap=colors, vmin=0, vmax=2, shading="nearest",
            rasterized=True,
        )  # fmt: skip
        for border in VANISHED, EXPLODED:
            axes.plot(np.exp(border / steps), steps, color="#000000", linestyle="--", linewidth=1)
        axes.set(xscale="log", yscale="log", xlabel="gain g", title=panel["activation"])
        axes.set(xlim=(numbers["gain"][0], numbers["gain"][-1]), ylim=(steps[0], steps[-1]))
        axes.set_xticks([0.5, 2**-0.5, 1, 2**0.5, 2], ["0.5", "0.71", "1", "1.41", "2"])
        axes.minorticks_off()
        for name, x, color in (("vanish", 0.56, "w"), ("hold", 0.95, "k"), ("explode", 1.62, "w")):
            axes.text(
                x, 0.75 * steps[-1] if name != "hold" else 1.6, name, color=color, ha="center"
            )
    panels[0].set_ylabel("steps t")
    figure.suptitle("log (‖∂h_t/∂h_0‖_F/√H), W_h = gQ; dashed: the borders of a linear network")


EXPERIMENT = Experiment(compute, table, draw, size=(10.0, 4.0), sweeps=True)
