"""An epoch of training on digits read pixel by pixel: our LSTM and PyTorch's, side by side.

python -m benchmarks.digits [--threads N] [--json FILE] [--quick]

H = 64, 64 steps, batches of 32, float32, Adam with clipping by norm; both from the same parameters
on the same batches. PyTorch's second bias stays zero, so that both train the same network. Then
ours is trained as the experiment `heatmap` does: the accuracy on the 360 digits held out, and the
seconds. scikit-learn has the digits: pip install -e '.[experiments,bench]'.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.table import Table

import tinygrad_rnn as tg
from benchmarks.timing import console, interleave, judge_all, parser, save, with_threads
from tinygrad_rnn.experiments import digits
from tinygrad_rnn.experiments.training import step

RATE, CLIP = digits.RATES["LSTM"], 1.0
WANTED = 0.95  # of the digits held out
WITHIN = 60.0  # seconds
Epoch = Callable[[], Any]  # returns a readout's weights after the epoch


def batches(data: digits.Digits) -> list[tuple[Any, Any]]:
    order = np.random.default_rng(0).permutation(len(data.labels))
    count = len(order) // digits.BATCH
    parts = order[: count * digits.BATCH].reshape(count, digits.BATCH)
    return [(np.ascontiguousarray(data.x[:, part]), data.labels[part]) for part in parts]


def ours(data: digits.Digits) -> Epoch:
    cell, model = digits.network("LSTM", digits.H, np.random.default_rng(0))
    chosen, adam = batches(data), tg.Adam(RATE, clip=CLIP)

    def epoch() -> Any:
        trained, memory = model, adam.init(model)
        for batch in chosen:
            trained, memory = step(trained, cell, *batch, adam, memory)
        return trained["W_o"]

    return epoch


def by_torch(data: digits.Digits) -> Epoch:
    torch = importlib.import_module("torch")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    _, model = digits.network("LSTM", digits.H, np.random.default_rng(0))
    lstm, readout = torch.nn.LSTM(1, digits.H), torch.nn.Linear(digits.H, 10)
    torch.nn.init.zeros_(lstm.bias_hh_l0.requires_grad_(False))
    trained = lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0
    tensors = [*trained, *readout.parameters()]
    p = model["cell"]
    start = [p["W_x"].T, p["W_h"].T, p["b"], model["W_o"].T, model["b_o"]]
    chosen = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches(data)]

    def epoch() -> Any:
        with torch.no_grad():
            for tensor, value in zip(tensors, start, strict=True):
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        adam = torch.optim.Adam(tensors, lr=RATE)
        for x, labels in chosen:
            adam.zero_grad()
            outputs, _ = lstm(x)
            torch.nn.functional.cross_entropy(readout(outputs[-1]), labels).backward()
            torch.nn.utils.clip_grad_norm_(tensors, CLIP)
            adam.step()
        return readout.weight.detach().numpy().T.copy()

    return epoch


def learn(data: digits.Digits, epochs: int) -> list[dict[str, float]]:
    """Train as the experiment does: seconds and accuracy after every epoch."""
    rng = np.random.default_rng(0)
    cell, model = digits.network("LSTM", digits.H, rng)
    clock, start = [], time.perf_counter()

    def loop() -> Any:
        for k in range(epochs):
            yield k
            clock.append(time.perf_counter() - start)

    _, curve = digits.train(cell, model, data, loop(), epochs, RATE, rng)
    return [{"seconds": s, "accuracy": a} for s, a in zip(clock, curve, strict=True)]


def run(chosen: argparse.Namespace) -> None:
    data = digits.load()
    runs: dict[str, Epoch] = {"ours": ours(data)}
    try:
        runs["torch"] = by_torch(data)
    except ImportError:
        console.print("torch was not measured. Install it: pip install -e '.\\[bench]'")
    with console.status("epochs"):
        ends = [run() for run in runs.values()]
        spreads = interleave(runs, *((0.0, 2) if chosen.quick else (20.0, 5)))
    with console.status("training"):
        curve = learn(data, 2 if chosen.quick else digits.EPOCHS)
    table = Table("an epoch", "ms, median ± half the interquartile range")
    for name, spread in spreads.items():
        table.add_row(name, str(spread))
    console.print(f"Load average {os.getloadavg()[0]:.1f}: other work disturbs wall-clock times.")
    console.print(table)
    row: dict[str, Any] = {f"{name}_ms": spread.median for name, spread in spreads.items()}
    if "torch" in spreads:
        row["difference"] = float(np.abs(ends[0] - ends[1]).max())
        console.print(f"After an epoch the readouts differ by {row['difference']:.0e}.")
        judge_all("ours / torch, an epoch", [row["ours_ms"] / row["torch_ms"]], 1.0)
    if not chosen.quick:
        last = curve[-1]
        reached = [p["seconds"] for p in curve if p["accuracy"] >= WANTED]
        console.print(f"{last['accuracy']:.1%} of 360 digits after {last['seconds']:.1f} s.")
        judge_all(f"errors after {digits.EPOCHS} epochs", [1 - last["accuracy"]], 1 - WANTED)
        judge_all(f"seconds to {WANTED:.0%}", reached[:1] or [np.inf], WITHIN)
    save(chosen.json, [{"threads": chosen.threads, **row, "training": curve}])


def main() -> None:
    chosen = parser(__doc__).parse_args()
    with_threads(chosen.threads, lambda: run(chosen))


if __name__ == "__main__":
    main()
