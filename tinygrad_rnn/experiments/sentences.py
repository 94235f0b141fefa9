"""The notes' many-to-one RNN: three sentences over cat, mat, rat, and binary cross-entropy.

o_t = tanh(x_t w_i + o_{t−1} w_h), ŷ = σ(o_3 w_o), L = −Σ [y log ŷ + (1 − y) log (1 − ŷ)]. The
gradient of the first step is written out as the notes write it,

∂L/∂w = Σ_j ∂L/∂ŷ ∂ŷ/∂o_3 ∂o_3/∂o_2 ⋯ ∂o_{j+1}/∂o_j ∂⁺o_j/∂w,

number by number, ∂⁺ the derivative with o_{j−1} held fixed. Vectors are rows and ∂out/∂in has the
shape (out, in), so that factors are multiplied in the notes' order. The learning itself takes the
gradient of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.experiments.experiment import COLORS, DASHES, Experiment, Numbers, Setting, Table
from tinygrad_rnn.functions import Array

VOCABULARY = ("cat", "mat", "rat")
SENTENCES = {"cat mat cat": 1, "rat rat mat": 1, "mat mat cat": 0}
H, RATE = 2, 0.5
Params = dict[str, Array]


def one_hot() -> Array:
    """Return the sentences as x (T, N, D)."""
    words = [[VOCABULARY.index(word) for word in sentence.split()] for sentence in SENTENCES]
    return np.eye(len(VOCABULARY))[np.transpose(words)]


def losses(params: Params, x: Array, y: Array) -> Any:
    """Return the loss of each sentence, and ŷ."""
    cell = tg.RNNCell(*params["w_i"].shape)
    recurrent = {"W_x": params["w_i"], "W_h": params["w_h"], "b": 0 * params["w_h"][0]}
    logits = (tg.unroll(cell, recurrent, x).outputs[-1] @ params["w_o"])[:, 0]
    return [tg.binary_cross_entropy(logits[n], y[n]) for n in range(len(y))], tg.sigmoid(logits)


def total(params: Params, x: Array, y: Array) -> Any:
    """Return the loss."""
    return sum(losses(params, x, y)[0])


def written_out(params: Params, x: Array, y: float) -> dict[str, Any]:
    """Return every number of the gradient of one sentence x (T, D), as the notes write it."""
    w_i, w_h, w_o = params["w_i"], params["w_h"], params["w_o"]
    T, o = len(x), [0 * w_h[0]]
    for x_t in x:
        o.append(np.tanh(x_t @ w_i + o[-1] @ w_h))
    ŷ = tg.sigmoid(o[T] @ w_o)
    by_ŷ = -y / ŷ + (1 - y) / (1 - ŷ)
    of_ŷ = ŷ * (1 - ŷ) * w_o[:, 0]
    steps = {t: (1 - o[t] * o[t])[:, None] * w_h.T for t in range(2, T + 1)}
    terms: dict[str, Any] = {"w_i": {}, "w_h": {}, "w_o": {T: np.outer(o[T], by_ŷ * ŷ * (1 - ŷ))}}
    carried = by_ŷ * of_ŷ
    for j in range(T, 0, -1):
        immediate = carried * (1 - o[j] * o[j])
        terms["w_i"][j] = np.outer(x[j - 1], immediate)
        terms["w_h"][j] = np.outer(o[j - 1], immediate)
        if j > 1:
            carried = carried @ steps[j]
    return {
        "o": o,
        "y_hat": ŷ,
        "dL/dy_hat": by_ŷ,
        "dy_hat/do": of_ŷ,
        "do/do": steps,
        "terms": terms,
    }


def summed(params: Params, x: Array, y: Array) -> Params:
    """Return the sum of all terms of all sentences x (T, N, D)."""
    parts = [written_out(params, x[:, n], y[n])["terms"] for n in range(len(y))]
    return {name: sum(t for part in parts for t in part[name].values()) for name in params}


def compute(setting: Setting) -> Numbers:
    """Write out the first gradient, and descend."""
    steps = 400 if setting.quick else 1500
    rng = np.random.default_rng(setting.seed)
    x, y = one_hot(), np.array([*map(float, SENTENCES.values())])
    shapes = {"w_i": (len(VOCABULARY), H), "w_h": (H, H), "w_o": (H, 1)}
    params = {name: tg.init.glorot(rng, shape) for name, shape in shapes.items()}
    first = [
        {"sentence": sentence, "y": label, **written_out(params, x[:, n], label)}
        for n, (sentence, label) in enumerate(SENTENCES.items())
    ]
    numbers: Numbers = {
        "rate": RATE,
        "params": params,
        "first_step": first,
        "sum_of_terms": summed(params, x, y),
        "gradient": tg.grad(total)(params, x, y),
    }
    descent = tg.SGD(RATE)
    memory, curves = descent.init(params), []
    for _ in setting.track(range(steps), "gradient descent", steps):
        curves.append([float(loss) for loss in losses(params, x, y)[0]])
        params, memory = descent.step(params, tg.grad(total)(params, x, y), memory)
    final, ŷ = losses(params, x, y)
    curves.append([float(loss) for loss in final])
    return {**numbers, "losses": curves, "y_hat": ŷ, "trained": params}


def table(numbers: Numbers) -> Table:
    """Give each sentence before and after."""
    first, last = numbers["losses"][0], numbers["losses"][-1]
    rows = []
    for n, (sentence, label) in enumerate(SENTENCES.items()):
        before = numbers["first_step"][n]["y_hat"][0]
        rows.append((sentence, label, before, numbers["y_hat"][n], first[n], last[n]))
    steps = len(numbers["losses"]) - 1
    columns = ("sentence", "y", "ŷ at first", f"after {steps} steps", "loss at first", "loss after")
    return Table(columns, tuple(rows))


def words(numbers: Numbers) -> Iterator[str]:
    """Write the gradient of the first step out, sentence by sentence."""
    for n, part in enumerate(numbers["first_step"], 1):
        T = len(part["o"]) - 1
        yield ""
        yield f"Sentence {n}, {part['sentence']}, y = {part['y']}:"
        for t in range(1, T + 1):
            yield f"  o_{t} = tanh(x_{t} w_i + o_{t - 1} w_h) = {_show(part['o'][t])}"
        yield f"  ŷ = σ(o_{T} w_o) = {_show(part['y_hat'])}"
        yield f"  ∂L/∂ŷ = −y/ŷ + (1 − y)/(1 − ŷ) = {_show(part['dL/dy_hat'])}"
        yield f"  ∂ŷ/∂o_{T} = ŷ(1 − ŷ) w_oᵀ = {_show(part['dy_hat/do'])}"
        for t in range(T, 1, -1):
            shown = _show(part["do/do"][str(t)])
            yield f"  ∂o_{t}/∂o_{t - 1} = diag(1 − o_{t}²) w_hᵀ = {shown}"
        for name in ("w_i", "w_h"):
            for j in range(T, 0, -1):
                links = "".join(f" ∂o_{t}/∂o_{t - 1}" for t in range(T, j, -1))
                term = _show(part["terms"][name][str(j)])
                yield f"  j = {j}: ∂L/∂ŷ ∂ŷ/∂o_{T}{links} ∂⁺o_{j}/∂{name} = {term}"
        yield f"  ∂L/∂w_o = ∂L/∂ŷ ∂ŷ/∂w_o = {_show(part['terms']['w_o'][str(T)])}"
    yield ""
    for name, gradient in numbers["sum_of_terms"].items():
        yield f"∂L/∂{name}, all terms of all sentences: {_show(gradient)}"
        yield f"  by automatic differentiation: {_show(numbers['gradient'][name])}"
        yield f"  {name} ← {name} − {RATE} ∂L/∂{name}, from {_show(numbers['params'][name])}"


def _show(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_show, value)) + "]"
    return f"{value:.5g}" if value else "0"


def draw(numbers: Numbers, figure: Any) -> None:
    """Draw the losses against the steps."""
    axes, curves = figure.subplots(), np.array(numbers["losses"])
    axes.plot(curves.sum(axis=1), color=COLORS[0], linewidth=2.4, label="all sentences")
    for n, (sentence, label) in enumerate(SENTENCES.items(), 1):
        text = f"{sentence}, y = {label}"
        axes.plot(curves[:, n - 1], color=COLORS[n], linestyle=DASHES[n], label=text)
    axes.set(
        yscale="log",
        xscale="symlog",
        xlim=(0, len(curves) - 1),
        xlabel="step of gradient descent",
        ylabel="loss L, binary cross-entropy",
        title=f"Three sentences, many to one, η = {numbers['rate']}",
    )
    axes.legend()


EXPERIMENT = Experiment(compute, table, draw, words)
