"""The page on speed, from what the benchmarks measured.

``python -m benchmarks.page FILE … > docs/speed.md``: what ``python -m benchmarks.sequence --json
FILE``, ``chain`` and ``scaling`` wrote.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

Row = dict[str, Any]
CPUINFO = Path("/proc/cpuinfo")  # on Linux

HEAD = """# How fast

Ratios of times, ours over another's, in one interleaved run on one machine: the smaller the better.
Absolute times differ from machine to machine; run it on yours:

```sh
pip install -e '.[bench]'
python -m benchmarks.sequence --threads 1
python -m benchmarks.chain --threads 1
```

This page is made of such runs by `python -m benchmarks.page`. All contenders share one process and
have the same number of threads; each begins when the threads of the one before it are asleep.
Large calls of ours use as many threads as `OMP_NUM_THREADS` says, or else every core; the results
are the same bit for bit. Measured on {cpu} with {versions}.
"""
SEQUENCE = """## A sequence, forward and backward

All gradients of a layer over T steps, N sequences, D inputs, H units, against `torch.nn.RNN`, `GRU`
and `LSTM` (eager; the LSTM in float32 is oneDNN's, the others are loops over the steps) and
`jax.jit(jax.grad(scan))`. The *floor* is the time of the same matrix products alone, by NumPy's
BLAS; where the ratio to it is near 1 there is nothing left to gain. Of a call as small as the first
of the RNN three quarters are Python's: the checks of what comes and of what goes, and the calls.
"""
SCALING = """## Long sequences

`bptt` of one sequence (LSTM, D = 8, H = 32, float64), by `python -m benchmarks.scaling`: the time
of a step, in units of that at T = 1000, and the memory of a call beside its arguments and its
result. `checkpoint="sqrt"` runs everything twice, in memory that stays in the caches; the results
are the same bit for bit.
"""
CHAIN = """## A product of Jacobians

`jacobian_chain` of a tanh RNN in float64: ∂h_T/∂h_0 and the norm of every prefix. JAX is
`jax.jit(jax.jacfwd(scan))`, which gives the product alone, and the same with the norms; PyTorch is
`torch.autograd.functional.jacobian`.
"""


def where() -> dict[str, str]:
    """Return the processor and the versions of what is installed here."""
    cpu = platform.processor() or platform.machine()
    for line in CPUINFO.read_text().splitlines() if CPUINFO.exists() else []:
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
    versions = [f"{name} {version(name)}" for name in ("numpy", "numba", "torch", "jax")]
    return {"cpu": cpu, "versions": ", ".join([f"Python {platform.python_version()}", *versions])}


def ratio(row: Row, *others: str) -> str:
    """Ours over the fastest of the others; nothing where none was measured."""
    times = [row[f"{name}_ms"] for name in others if row.get(f"{name}_ms")]
    return f"{row['ours_ms'] / min(times):.2f}" if times else "–"


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def sequences(rows: list[Row]) -> Iterator[str]:
    head = ["T, N, D, H", "/ PyTorch", "/ JAX", "/ faster", "/ floor"]
    for threads in sorted({row["threads"] for row in rows}):
        own = [row for row in rows if row["threads"] == threads]
        faster = [float(ratio(row, "torch", "jax")) for row in own]
        yield f"### {threads} thread{'s' if threads > 1 else ''}\n"
        yield (
            f"At most {max(faster):.2f} of the faster of the two, geometric mean "
            f"{statistics.geometric_mean(faster):.2f}.\n"
        )
        for cell, dtype in dict.fromkeys((row["cell"], row["dtype"]) for row in own):
            yield f"{cell.upper()}, {dtype}:\n"
            yield from table(
                head,
                [
                    [
                        ", ".join(map(str, row["shape"])),
                        *(ratio(row, *n) for n in (["torch"], ["jax"], ["torch", "jax"])),
                        ratio(row, "floor"),
                    ]
                    for row in own
                    if (row["cell"], row["dtype"]) == (cell, dtype)
                ],
            )


def chains(rows: list[Row]) -> Iterator[str]:
    head = ["T, H", "threads", "/ JAX", "/ JAX with norms", "/ PyTorch", "/ floor"]
    others = ("jax", "jax_norms", "torch", "floor")
    yield from table(
        head,
        [
            [
                ", ".join(map(str, row["shape"])),
                str(row["threads"]),
                *(f"{row['ours_ms'] / row[f'{name}_ms']:.2g}" for name in others),
            ]
            for row in rows
        ],
    )


def scalings(rows: list[Row]) -> Iterator[str]:
    """One line for every T, the plain road beside the checkpointed one."""
    cost = {(row["T"], row["road"]): row["ms"] / row["T"] for row in rows}
    memory = {(row["T"], row["road"]): row["memory_mb"] for row in rows}
    head = ["T", "plain", "checkpointed", "plain, MB", "checkpointed, MB"]
    roads = "plain", "checkpointed"
    yield from table(
        head,
        [
            [
                f"{T:,}",
                *(f"{cost[T, road] / cost[1000, 'plain']:.2f}" for road in roads),
                *(f"{memory[T, road]:.3g}" for road in roads),
            ]
            for T in dict.fromkeys(row["T"] for row in rows)
        ],
    )


def main() -> None:
    rows = [row for name in sys.argv[1:] for row in json.loads(Path(name).read_text())]
    print(HEAD.format(**where()))
    print(SEQUENCE, *sequences([row for row in rows if {"cell", "dtype"} <= row.keys()]), sep="\n")
    print(SCALING, *scalings([row for row in rows if "road" in row]), sep="\n")
    print(CHAIN, *chains([row for row in rows if "jax_norms_ms" in row]), sep="\n", end="")


if __name__ == "__main__":
    main()
