"""One gradient of an unrolled tanh RNN by our tape and by its peers, in one process and thread.

python -m benchmarks.tape [--rounds N] [--json FILE]

The gradient of Σ h_T by W_x, W_h and b, where h_t = tanh(x_t W_x + h_{t−1} W_h + b). The sizes are
small, so what is measured is the cost of recording and sweeping, not of the arithmetic. Times are
CPU times of the process: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy loads

import numpy as np
from rich.console import Console
from rich.table import Table

import tinygrad_rnn as tg

T, N, D, H = 100, 1, 8, 8
WARM_UP = 5
Gradient = Callable[[], tuple[Any, Any, Any]]


def loss(tanh: Callable[[Any], Any], params: Any, h: Any, x: Any) -> Any:
    W_x, W_h, b = params
    for x_t in x:
        h = tanh(x_t @ W_x + h @ W_h + b)
    return h.sum()


def by_tape(params: Any, h: Any, x: Any) -> Gradient:
    gradient = tg.grad(lambda p: loss(np.tanh, p, h, x))
    return lambda: gradient(params)


def by_hand(params: Any, h: Any, x: Any) -> Gradient:
    """Backpropagation through time, written out in NumPy: the floor for everything interpreted."""

    def gradient() -> tuple[Any, Any, Any]:
        W_x, W_h, b = params
        states = [h]
        for x_t in x:
            states.append(np.tanh(x_t @ W_x + states[-1] @ W_h + b))
        d_W_x, d_W_h, d_b = np.zeros_like(W_x), np.zeros_like(W_h), np.zeros_like(b)
        d_h = np.ones_like(h)
        for t in reversed(range(T)):
            d_a = d_h * (1 - states[t + 1] ** 2)
            d_W_x += x[t].T @ d_a
            d_W_h += states[t].T @ d_a
            d_b += d_a.sum(axis=0)
            d_h = d_a @ W_h.T
        return d_W_x, d_W_h, d_b

    return gradient


def by_autograd(params: Any, h: Any, x: Any) -> Gradient:
    autograd = importlib.import_module("autograd")
    tanh = importlib.import_module("autograd.numpy").tanh
    gradient = autograd.grad(lambda p: loss(tanh, p, h, x))
    return lambda: gradient(params)


def by_torch(params: Any, h: Any, x: Any) -> Gradient:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    leaves = [torch.tensor(p, requires_grad=True) for p in params]
    h, x = torch.tensor(h), torch.tensor(x)
    return lambda: torch.autograd.grad(loss(torch.tanh, leaves, h, x), leaves)


ROADS = {
    "tinygrad_rnn tape": by_tape,
    "NumPy by hand": by_hand,
    "PyTorch eager": by_torch,
    "HIPS autograd": by_autograd,
}


def distance(a: Any, b: Any) -> float:
    """The largest difference, relative to the largest entry."""
    pairs = [(np.asarray(p), np.asarray(q)) for p, q in zip(a, b, strict=True)]
    return max(float(np.abs(p - q).max() / np.abs(q).max()) for p, q in pairs)


def measure(rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    params = tuple(0.3 * rng.normal(size=s) for s in ((D, H), (H, H), (H,)))
    h, x = np.zeros((N, H)), rng.normal(size=(T, N, D))
    gradients, missing = {}, {}
    for name, make in ROADS.items():
        try:
            gradients[name] = make(params, h, x)
        except ImportError as error:
            missing[name] = str(error)
    for gradient in gradients.values():
        for _ in range(WARM_UP):
            gradient()
    seconds: dict[str, list[float]] = {name: [] for name in gradients}
    for _ in range(rounds):  # interleaved: a disturbance hits all alike
        for name, gradient in gradients.items():
            start = time.process_time()
            gradient()
            seconds[name].append(time.process_time() - start)
    reference = gradients["NumPy by hand"]()
    ours = seconds["tinygrad_rnn tape"]
    rows = {}
    for name, sample in seconds.items():
        low, median, high = statistics.quantiles(sample, n=4, method="inclusive")
        rows[name] = {
            "milliseconds": [1e3 * low, 1e3 * median, 1e3 * high],
            # Round by round: what slows the machine for a while slows both.
            "ours_over_this": statistics.median(map(truediv, ours, sample)),
            "distance_from_hand": distance(gradients[name](), reference),
        }
    sizes = {"T": T, "N": N, "D": D, "H": H, "dtype": "float64", "rounds": rounds}
    return {"sizes": sizes, "gradients": rows, "missing": missing}


def show(result: dict[str, Any]) -> None:
    sizes = ", ".join(f"{k} = {v}" for k, v in result["sizes"].items())
    table = Table("gradient by", title="tanh RNN, forward and backward, CPU time", caption=sizes)
    for heading in ("median, ms", "quartiles, ms", "ours / this", "difference"):
        table.add_column(heading, justify="right")
    for name, row in result["gradients"].items():
        low, median, high = (f"{m:.2f}" for m in row["milliseconds"])
        ratio, difference = f"{row['ours_over_this']:.2f}", f"{row['distance_from_hand']:.0e}"
        table.add_row(name, median, f"{low} – {high}", ratio, difference)
    console = Console()
    console.print(table)
    for name, reason in result["missing"].items():
        console.print(f"{name} was not measured: {reason}. Install it: pip install -e '.\\[bench]'")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
