"""The relative error of a gradient that has vanished to about 1e-250: ours, PyTorch's, JAX's own.

python -m benchmarks.vanishing [--json FILE]

A tanh RNN in float64 and ∂L/∂h_0 of a loss of h_T. It vanishes over many steps of small recurrent
weights, or over few steps in saturation, where 1 − tanh² cancels. The truth is the same gradient on
balls.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.peers import Case, by_jax, by_torch, ours, random_case
from benchmarks.timing import console, judge_all, parser, save, with_threads
from tinygrad_rnn import bptt
from tinygrad_rnn.scalars import ball, precision

H = 8
BITS = 2048  # a ball grows a little at every step
TARGET = 1e-10
ROADS = {"ours": ours, "torch": by_torch, "jax": by_jax}


def cases() -> Iterator[tuple[str, Case]]:
    for name, T, scale, bias in ("small weights", 324, 0.25, 0.0), ("saturated", 26, 1.0, 13.0):
        case = random_case("rnn", T, 1, H, H, "float64")
        params = {**case.params, "W_h": scale * case.params["W_h"], "b": np.full(H, bias)}
        d_outputs = np.zeros_like(case.d_outputs)
        d_outputs[-1] = 1
        yield name, case._replace(params=params, d_outputs=d_outputs)


def measure() -> list[dict[str, Any]]:
    return [{"case": name, "T": len(case.x), **errors(case)} for name, case in cases()]


def errors(case: Case) -> dict[str, float]:
    """log10 of the true gradient's norm, and the relative error of every road, norm to norm."""
    with precision(BITS):
        params = {name: ball(p) for name, p in case.params.items()}
        state = tuple(map(ball, case.state))
        truth = bptt(case.cell, params, ball(case.x), ball(case.d_outputs), state)["state"][0]
        norm = (truth**2).sum().sqrt()
        row = {"log10_norm": float(norm.log() / np.log(10.0))}
        for name, road in ROADS.items():
            try:
                run, gradients = road(case)
            except ImportError:
                continue
            error = ball(gradients(run())["state"][0]) - truth
            row[name] = ((error**2).sum().sqrt() / norm).upper
    return row


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("vanishing gradient", "T", "log10 of its norm", title="Relative error")
    for name in ROADS:
        table.add_column(name, justify="right")
    for row in rows:
        found = (f"{row[name]:.0e}" if name in row else "–" for name in ROADS)
        table.add_row(row["case"], str(row["T"]), f"{row['log10_norm']:.0f}", *found)
    console.print(table)
    judge_all("our relative error", [row["ours"] for row in rows], TARGET)


def main() -> None:
    chosen = parser(__doc__).parse_args()

    def run() -> None:
        rows = measure()
        save(chosen.json, rows)
        show(rows)

    with_threads(chosen.threads, run)


if __name__ == "__main__":
    main()
