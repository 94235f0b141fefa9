"""Backpropagation through time, all gradients: our kernels, PyTorch and JAX beside the bare GEMMs.

python -m benchmarks.sequence [--threads N] [--json FILE] [--quick] [--cell NAME] [--dtype NAME]

Wall-clock times of whole public calls, in ms. The GRU is the one that PyTorch has, with the reset
gate after the product. Below the table: the accuracy of a vanishing gradient.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

from benchmarks import vanishing
from benchmarks.peers import CELLS, Gradients, by_jax, by_torch, floor, ours, random_case
from benchmarks.timing import (
    Spread,
    console,
    first_calls,
    interleave,
    judge_all,
    parser,
    save,
    with_threads,
)

DTYPES = "float32", "float64"
SHAPES = (  # T, N, D, H
    (100, 1, 8, 8),
    (100, 1, 32, 32),
    (100, 16, 32, 32),
    (100, 32, 64, 128),
    (100, 32, 128, 256),
    (1000, 1, 16, 16),
    (1000, 1, 32, 64),
    (20, 256, 64, 64),
)
PEERS: dict[str, Callable[..., Any]] = {"torch": by_torch, "jax": by_jax}
COLUMNS = "ours", *PEERS, "floor"
FIRST_CALL = """
from benchmarks.peers import ours, random_case
ours(random_case({kind!r}, 100, 1, 8, 8, {dtype!r}))[0]()
"""


class Row(NamedTuple):
    kind: str
    dtype: str
    shape: tuple[int, int, int, int]
    spreads: dict[str, Spread]  # of ours, the peers that are installed, and the floor
    distances: dict[str, float]  # of the peers' gradients from ours

    @property
    def over_peer(self) -> float:
        """Our time over the faster peer's."""
        peers = [self.spreads[name].median for name in PEERS if name in self.spreads]
        return self.spreads["ours"].median / min(peers, default=math.nan)

    @property
    def over_floor(self) -> float:
        return self.spreads["ours"].median / self.spreads["floor"].median

    @property
    def target(self) -> float:
        """What is wanted of ``over_peer``: a little less where PyTorch is at the floor itself."""
        _, N, _, H = self.shape
        bare = (self.kind, self.dtype) == ("lstm", "float32") and N >= 32 and H >= 64
        return 1.1 if bare else 1.0


def disagreement(a: Gradients, b: Gradients) -> float:
    """The largest difference, relative to the largest entry of its array."""
    pairs = [(a[name], b[name]) for name in b if name != "state"]
    pairs += zip(a["state"], b["state"], strict=True)
    return float(np.max([np.abs(p - q).max() / np.abs(q).max() for p, q in pairs]))


def measure(kind: str, dtype: str, shape: tuple[int, int, int, int], quick: bool) -> Row:
    T, N, D, H = shape
    case = random_case(kind, T, N, D, H, dtype)
    run, gradients = ours(case)
    runs, reference, distances = {"ours": run}, gradients(run()), {}
    # One rounding for every term of every step's sums; a truncated gradient is much farther off.
    bound = T * (N + D + H) * float(np.finfo(dtype).eps)
    for name, make in PEERS.items():
        try:
            runs[name], gradients = make(case)
        except ImportError:
            continue
        distance = distances[name] = disagreement(gradients(runs[name]()), reference)
        if not distance <= bound:
            where = f"{kind}, {dtype}, {shape}"
            raise SystemExit(f"{where}: {name} differs by {distance:.0e}, more than {bound:.0e}.")
    runs["floor"] = floor(case)
    spreads = interleave(runs, *((0.0, 2) if quick else (3.0, 5)))
    return Row(kind, dtype, shape, spreads, distances)


def show(rows: list[Row], calls: dict[tuple[str, str], tuple[float, float]], threads: int) -> None:
    title = f"Forward and backward, {threads} thread(s): median ± half the interquartile range"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("T, N, D, H", no_wrap=True)
    for name in COLUMNS:
        table.add_column(f"{name}, ms", justify="right", no_wrap=True)
    for heading in ("/ peer", "/ floor", "differ", "compile, s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (kind, dtype), (cold, _) in calls.items():
        table.add_row(f"[bold]{kind} {dtype}[/]", *[""] * (len(COLUMNS) + 3), f"{cold:.2f}")
        for row in rows:
            if (row.kind, row.dtype) != (kind, dtype):
                continue
            color = "green" if row.over_peer <= row.target else "red"
            table.add_row(
                ", ".join(map(str, row.shape)),
                *(str(row.spreads.get(name, "–")) for name in COLUMNS),
                f"[{color}]{row.over_peer:.2f}[/]",
                f"{row.over_floor:.2f}",
                f"{max(row.distances.values(), default=math.nan):.0e}",
            )
    console.print(table)


def judge(rows: list[Row], calls: dict[tuple[str, str], tuple[float, float]]) -> None:
    for target, where in (1.0, ""), (1.1, ", float32 LSTM bound by GEMMs"):
        ratios = [row.over_peer for row in rows if row.target == target]
        judge_all(f"ours / faster peer{where}", ratios, target)
    mean = statistics.geometric_mean(row.over_peer for row in rows)
    judge_all("ours / faster peer, geometric mean", [mean], 0.4)
    judge_all("ours / floor, H ≥ 128", [r.over_floor for r in rows if r.shape[3] >= 128], 1.3)
    judge_all("first call in CPU s, cold cache", [cold for cold, _ in calls.values()], 8.0)
    judge_all("first call in CPU s, warm cache", [warm for _, warm in calls.values()], 0.5)


def as_json(row: Row, threads: int, cold: float, warm: float) -> dict[str, Any]:
    medians = {
        f"{name}_ms": row.spreads[name].median if name in row.spreads else None for name in COLUMNS
    }
    return {
        "cell": row.kind,
        "dtype": row.dtype,
        "shape": row.shape,
        "threads": threads,
        **medians,
        "compile_s": cold,
        "warm_s": warm,
        "quartiles_ms": {name: [s.low, s.high] for name, s in row.spreads.items()},
        "differences": row.distances,
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--cell", choices=CELLS)
    arguments.add_argument("--dtype", choices=DTYPES)
    chosen = arguments.parse_args()
    with_threads(chosen.threads, lambda: run(chosen))


def run(chosen: argparse.Namespace) -> None:
    kinds = [chosen.cell] if chosen.cell else list(CELLS)
    dtypes = [chosen.dtype] if chosen.dtype else DTYPES
    rows, calls = [], {}
    with console.status("first calls") as status:
        for kind, dtype in product(kinds, dtypes):
            calls[kind, dtype] = first_calls(FIRST_CALL.format(kind=kind, dtype=dtype))
            for shape in SHAPES:
                status.update(f"{kind}, {dtype}, {shape}")
                rows.append(measure(kind, dtype, shape, chosen.quick))
    save(chosen.json, [as_json(row, chosen.threads, *calls[row.kind, row.dtype]) for row in rows])
    console.print(
        f"Load average {os.getloadavg()[0]:.1f}: other work disturbs several threads most."
    )
    show(rows, calls, chosen.threads)
    judge(rows, calls)
    for name in PEERS:
        if name not in rows[0].spreads:
            console.print(f"{name} was not measured. Install it: pip install -e '.\\[bench]'")
    vanishing.show(vanishing.measure())


if __name__ == "__main__":
    main()
