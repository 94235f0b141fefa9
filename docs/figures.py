"""The figures of the documentation: ``python docs/figures.py`` draws them anew.

It needs ``pip install -e '.[plot,draw]'`` and Graphviz. The results are committed, so that the
pages need neither.
"""

from pathlib import Path

import matplotlib
import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, DASHES, INK

STATIC = Path(__file__).parent / "_static"


def line() -> None:
    """Draw the record of chapter 2."""
    w, b = tg.Tensor(3.0), tg.Tensor(1.0)
    loss = (w * 2.0 + b - 10.0) ** 2
    (STATIC / "line.svg").write_text(tg.draw(loss, w=w, b=b).svg(), encoding="utf-8")


def vanishing() -> None:
    """Draw how the products of chapters 5 and 6 shrink."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    style = {"svg.fonttype": "none", "svg.hashsalt": "tinygrad_rnn", "font.size": 11}
    style |= dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor"], INK)
    style |= dict.fromkeys(["xtick.color", "ytick.color"], INK)
    style |= {"axes.spines.top": False, "axes.spines.right": False, "font.family": "sans-serif"}
    T, D, H = 200, 2, 8
    x = np.random.default_rng(0).normal(size=(T, D))
    rng = np.random.default_rng(1)
    rnn, gru, lstm = tg.RNNCell(D, H), tg.GRUCell(D, H), tg.LSTMCell(D, H)
    lines = [("RNN", rnn, rnn.init(rng)), ("GRU", gru, gru.init(rng))]
    params = lstm.init(rng)
    for bias in (0, 2, 4):
        opened = tg.init.forget_bias(lstm, params, float(bias))
        lines.append((f"LSTM, forget bias {bias}", lstm, opened))
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(5.4, 3.2), layout="constrained")
        for i, (name, cell, weights) in enumerate(lines):
            size = tg.jacobian_chain(cell, weights, x).log_norm / np.log(10)
            axes.plot(range(1, T + 1), size, color=COLORS[i], linestyle=DASHES[i])
            axes.annotate(
                name,
                (T, size[-1]),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=COLORS[i],
            )
        axes.set(xlabel="steps", ylabel="log₁₀ ‖∂sₜ/∂s₀‖", xlim=(0, T))
        figure.savefig(STATIC / "vanishing.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    line()
    vanishing()
