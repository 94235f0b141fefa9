"""Time and memory of backpropagation through time over 10² … 10⁶ steps, and how they grow.

python -m benchmarks.scaling [--threads N] [--json FILE] [--quick] [--cell NAME]

One sequence, H = 32, float64. The memory is what a call needs beside its arguments and its result,
which have length T themselves: the peak of what NumPy allocates, less the result. What kernels
might take behind NumPy's back is in the last column, for the longest sequence: the growth of a new
process over one call, less the result.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from benchmarks.peers import CELLS, Case, Gradients, random_case
from benchmarks.timing import console, interleave, judge_all, parser, save, with_threads
from tinygrad_rnn import bptt

H, D = 32, 8
STEPS = (100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
FIT = 1000  # shorter sequences cost what a call costs
MB = 1e6
ROADS: dict[str, Callable[..., Gradients]] = {
    "plain": partial(bptt, method="kernel"),
    "checkpointed": partial(bptt, method="kernel", checkpoint="sqrt"),
}
MEMORY_TARGETS = {"checkpointed": 0.55}
PROCESS = "from benchmarks.scaling import growth; growth({!r}, {!r}, {!r})"


def long_case(kind: str, T: int) -> Case:
    return random_case(kind, T, 1, D, H, "float64")


def nbytes(gradients: Gradients) -> int:
    named = (g for name, g in gradients.items() if name != "state")
    return sum(a.nbytes for a in (*named, *gradients["state"]))


def traced(road: Callable[..., Gradients], case: Case) -> float:
    """The peak of NumPy's memory over one call, less the result, in MB."""
    tracemalloc.start()
    result = nbytes(road(*case[1:]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (peak - result) / MB


def growth(kind: str, name: str, T: int) -> None:
    """Print by how much this process grows over one call, less the result, in MB."""
    ROADS[name](*long_case(kind, 100)[1:])  # load and compile everything
    case = long_case(kind, T)
    before = resident()
    result = nbytes(ROADS[name](*case[1:]))
    print((resident() - before - result) / MB)


def resident() -> float:
    """The most that this process has had in memory, in bytes; getrusage counts its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(float(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(kind: str, T: int, quick: bool) -> list[dict[str, Any]]:
    case = long_case(kind, T)
    runs = {name: partial(road, *case[1:]) for name, road in ROADS.items()}
    spreads = interleave(runs, *((0.0, 2) if quick else (2.0, 3)))
    rows = []
    for name, road in ROADS.items():
        row = {"T": T, "road": name, "cell": kind, "ms": spreads[name].median}
        row["quartiles_ms"] = [spreads[name].low, spreads[name].high]
        row["memory_mb"] = traced(road, case)
        if max(STEPS) == T and sys.platform == "linux":
            command = [sys.executable, "-c", PROCESS.format(kind, name, T)]
            row["process_mb"] = float(subprocess.check_output(command))
        rows.append(row)
    return rows


def exponent(rows: list[dict[str, Any]], name: str, quantity: str) -> float:
    """The slope of log quantity against log T."""
    chosen = [row for row in rows if row["road"] == name and row["T"] >= FIT]
    steps, values = ([row[key] for row in chosen] for key in ("T", quantity))
    return float(np.polyfit(np.log(steps), np.log(values), 1)[0])


def show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Medians over T steps", box=box.SIMPLE_HEAD)
    for heading in ("T", "bptt", "ms", "µs per step", "memory, MB", "process, MB"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['T']:,}",
            row["road"],
            f"{row['ms']:.4g}",
            f"{1e3 * row['ms'] / row['T']:.2f}",
            f"{row['memory_mb']:.3g}",
            f"{row['process_mb']:.3g}" if "process_mb" in row else "",
        )
    console.print(table)
    for name in ROADS:
        time, memory = (exponent(rows, name, quantity) for quantity in ("ms", "memory_mb"))
        console.print(f"{name}, from T = {FIT}: time ~ T^{time:.3f}, memory ~ T^{memory:.3f}")
        judge_all("distance of the exponent of time from 1", [abs(time - 1)], 0.05)
        if name in MEMORY_TARGETS:
            judge_all("exponent of memory", [memory], MEMORY_TARGETS[name])


def run(chosen: argparse.Namespace) -> None:
    rows = []
    with console.status("") as status:
        for T in STEPS:
            status.update(f"T = {T}")
            rows += measure(chosen.cell, T, chosen.quick)
    save(chosen.json, rows)
    show(rows)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--cell", choices=CELLS, default="lstm")
    chosen = arguments.parse_args()
    with_threads(chosen.threads, lambda: run(chosen))


if __name__ == "__main__":
    main()
