"""How the influence of step t on the last step decays: RNN, GRU and LSTM, between their bounds.

log ‖∂s_T/∂s_t‖₂ of the whole state s, which is h, or (h, c) of an LSTM. Drawn with it are the local
bound Σ log σ_max(J_k), the global bound that holds for all inputs, the lower bound
Σ log σ_min(J_k), and the line whose slope is the largest Lyapunov exponent.

What a gated cell keeps depends on the bias of its gate: σ(0) = 1/2 per step vanishes like any RNN.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, Experiment, Numbers, Setting, Table
from tinygrad_rnn.functions import Array

KEEP = 5.0  # the bias of a gate that keeps σ(5) = 0.993 of its memory per step


def networks(H: int, rng: np.random.Generator) -> dict[str, tuple[Any, Any]]:
    """Return cells and parameters: RNNs by their W_h, and gated cells by the bias of their gate."""
    rnn, relu = tg.RNNCell(1, H), tg.RNNCell(1, H, "relu")
    gru, lstm = tg.GRUCell(1, H), tg.LSTMCell(1, H)
    params = {cell: cell.init(rng) for cell in (rnn, gru, lstm)}
    orthogonal = {"W_h": partial(tg.init.orthogonal, gain=0.95), "b": tg.init.zeros}
    identity = {"W_h": tg.init.identity, "b": tg.init.zeros}

    def gated(cell: Any, bias: float) -> tuple[Any, Any]:
        return cell, tg.init.forget_bias(cell, params[cell], bias)

    return {
        "RNN, W_h uniform": (rnn, params[rnn]),
        "RNN, W_h = 0.95 Q": (rnn, tg.init.redraw(rnn, params[rnn], rng, **orthogonal)),
        "RNN, relu, W_h = I": (relu, tg.init.redraw(relu, params[rnn], rng, **identity)),
        "GRU, bias 0": gated(gru, 0.0),
        f"GRU, bias {KEEP:g}": gated(gru, KEEP),
        "LSTM, bias 0": gated(lstm, 0.0),
        "LSTM, bias 1": gated(lstm, 1.0),
        f"LSTM, bias {KEEP:g}": gated(lstm, KEEP),
    }


def between_bounds(cell: Any, params: Any, x: Array, steps: Iterable[int]) -> Numbers:
    """Return log ‖∂s_T/∂s_t‖₂ for these t < T, its bounds, and the largest Lyapunov exponent."""
    states = tg.unroll(cell, params, x).states
    starts = [(x[t:], tuple(s[t] for s in states)) for t in steps]
    chains = [tg.jacobian_chain(cell, params, *start, norm=2) for start in starts]
    return {
        "log_norm": [chain.log_norm[-1] for chain in chains],
        "upper": [chain.upper[-1] for chain in chains],
        "upper_global": [chain.upper_global[-1] for chain in chains],
        "lower": [chain.lower[-1] for chain in chains],
        "lyapunov": chains[0].lyapunov()[0],
    }


def compute(setting: Setting) -> Numbers:
    """Multiply the Jacobians of the steps t + 1 … T, for a number of t."""
    T, H, every = (40, 8, 4) if setting.quick else (100, 16, 4)
    rng = np.random.default_rng(setting.seed)
    x = rng.standard_normal((T, 1))
    steps = list(range(0, T, every))
    found = []
    chosen = networks(H, rng)
    for name, (cell, params) in setting.track(chosen.items(), "networks", len(chosen)):
        found.append({"name": name, **between_bounds(cell, params, x, steps)})
    return {"T": T, "H": H, "t": steps, "networks": found}


def table(numbers: Numbers) -> Table:
    """Give the numbers of the longest lag."""
    columns = ("network", "log ‖∂s_T/∂s_0‖", "≤ local", "≤ global", "≥ lower", "T λ₁")
    keys = ("log_norm", "upper", "upper_global", "lower")
    return Table(
        columns,
        tuple(
            (n["name"], *("−∞" if n[k][0] is None else n[k][0] for k in keys), _line(n, numbers, 0))
            for n in numbers["networks"]
        ),
    )


def _line(network: Any, numbers: Numbers, t: int) -> Any:
    slope = network["lyapunov"]
    return "−∞" if slope is None else slope * (numbers["T"] - t)


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw a panel for each network, the norm between its bounds."""
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    t = numbers["t"]
    lowest = min(v for n in numbers["networks"] for v in n["log_norm"] if v is not None)
    for axes, n in zip(panels.flat, numbers["networks"], strict=True):
        panel(axes, n, numbers["T"], t, floor=2 * lowest)
        axes.set_title(n["name"])
        axes.set_ylim(1.1 * lowest, -0.3 * lowest)
    for axes in panels[1]:
        axes.set_xlabel("step t")
    for axes in panels[:, 0]:
        axes.set_ylabel("log of a norm")
    figure.legend(*panels.flat[0].get_legend_handles_labels(), loc="outside upper center", ncols=5)


def panel(axes: Any, n: Numbers, T: int, t: Any, floor: float) -> None:
    """Draw what :func:`between_bounds` found; −∞, None in plain numbers, goes to the floor."""
    norm, lower = ([floor if v is None else v for v in n[k]] for k in ("log_norm", "lower"))
    axes.plot(t, n["upper_global"], color=COLORS[4], linestyle=":", label="global bound")
    axes.plot(t, n["upper"], color=COLORS[1], linestyle="--", label="local bound")
    axes.plot(t, norm, color=COLORS[0], linewidth=2.4, label="log ‖∂s_T/∂s_t‖")
    if n["lyapunov"] is not None:
        line = [n["lyapunov"] * (T - i) for i in t]
        axes.plot(t, line, color=COLORS[2], linestyle="-.", label="λ₁ (T − t)")
    axes.plot(t, lower, color=COLORS[3], linestyle=(0, (1, 1)), label="lower bound")


EXPERIMENT = Experiment(compute, table, draw, size=(10.0, 5.5))
