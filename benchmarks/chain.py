"""∂h_T/∂h_0 of a tanh RNN and the norms of all prefixes: our chain and its peers.

python -m benchmarks.chain [--threads N] [--json FILE] [--quick]

Wall-clock times in ms, float64, one sequence. Every contender runs the network too. Where a peer
computes no norms, which is less work, its column says so:

- ours: the whole public call, with its checks, from NumPy arrays to NumPy arrays;
- jax: jit(jacfwd(scan)) of the last state, no norms, arrays already on its device;
- jax + norms: jit(jacfwd(scan)) of all states, and their norms, from NumPy arrays to NumPy arrays;
- torch: torch.autograd.functional.jacobian of the last state, no norms, as it is by default;
- torch vect.: the same with vectorize=True;
- numpy: a loop with P = (f' ∘ W_hᵀ) @ P and np.linalg.norm;
- floor: T matrix products by NumPy's BLAS into an array that exists already.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table

import tinygrad_rnn as tg
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

SHAPES = (100, 8), (100, 32), (1000, 32), (1000, 64), (200, 256)
SLOW = 0.4  # seconds: what takes longer is timed three times, on its own
Array = Any
Run = Callable[[], Any]  # returns ∂h_T/∂h_0, as a contender has it
FIRST_CALL = """
from benchmarks.chain import network, ours
ours(*network(100, 8))()
"""


def network(T: int, H: int) -> tuple[dict[str, Array], Array]:
    rng = np.random.default_rng(0)
    params = {
        "W_x": rng.standard_normal((H, H)) / H**0.5,
        "W_h": rng.standard_normal((H, H)) / H**0.5,
        "b": np.zeros(H),
    }
    return params, 0.3 * rng.standard_normal((T, H))


def ours(params: dict[str, Array], x: Array) -> Run:
    cell = tg.RNNCell(*params["W_x"].shape)
    return lambda: tg.jacobian_chain(cell, params, x).product


def by_numpy(params: dict[str, Array], x: Array) -> Run:
    def run() -> Array:
        a, W = x @ params["W_x"] + params["b"], params["W_h"].T
        h, P, norms = np.zeros(len(W)), np.eye(len(W)), np.empty(len(x))
        for t, a_t in enumerate(a):
            h = np.tanh(a_t + W @ h)
            P = ((1 - h * h)[:, None] * W) @ P
            norms[t] = np.linalg.norm(P)
        return P

    return run


def by_jax(params: dict[str, Array], x: Array, norms: bool) -> Run:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def states(h: Any, p: Any, x: Any) -> Any:
        def step(h: Any, a_t: Any) -> Any:
            h = jnp.tanh(a_t + h @ p["W_h"])
            return h, h if norms else None

        final, every = jax.lax.scan(step, h, x @ p["W_x"] + p["b"])
        return every if norms else final

    def jacobian(h: Any, p: Any, x: Any) -> Any:
        P = jax.jacfwd(states)(h, p, x)
        return (P[-1], jnp.linalg.norm(P, axis=(1, 2))) if norms else (P,)

    compiled = jax.jit(jacobian)
    arguments = np.zeros_like(params["b"]), params, x
    if norms:
        return lambda: [np.asarray(a) for a in compiled(*arguments)]
    arguments = jax.device_put(arguments)
    return lambda: jax.block_until_ready(compiled(*arguments))[0]


def by_torch(params: dict[str, Array], x: Array, vectorize: bool) -> Run:
    torch = importlib.import_module("torch")
    W_x, W_h, b, x = map(torch.from_numpy, (params["W_x"], params["W_h"], params["b"], x))

    def final(h: Any) -> Any:
        for a_t in x @ W_x + b:
            h = torch.tanh(a_t + h @ W_h)
        return h

    h = torch.zeros_like(b)
    return lambda: torch.autograd.functional.jacobian(final, h, vectorize=vectorize)


def floor(params: dict[str, Array], x: Array) -> Run:
    W, P, out = params["W_h"].copy(), np.ones_like(params["W_h"]), np.empty_like(params["W_h"])

    def run() -> None:
        for _ in range(len(x)):
            np.matmul(W, P, out=out)

    return run


ROADS: dict[str, Callable[[dict[str, Array], Array], Run]] = {
    "ours": ours,
    "jax": lambda params, x: by_jax(params, x, norms=False),
    "jax + norms": lambda params, x: by_jax(params, x, norms=True),
    "torch": lambda params, x: by_torch(params, x, vectorize=False),
    "torch vect.": lambda params, x: by_torch(params, x, vectorize=True),
    "numpy": by_numpy,
    "floor": floor,
}
# The quotient's heading, its numerator and its denominator.
RATIOS = {
    "ours / jax": ("ours", "jax"),
    "ours / jax + norms": ("ours", "jax + norms"),
    "torch / ours": ("torch", "ours"),
    "floor / ours": ("floor", "ours"),
}


class Row(NamedTuple):
    shape: tuple[int, int]
    spreads: dict[str, Spread]
    jax_compile: float | None  # seconds
    distance: float  # the largest from NumPy's Jacobian, relative to the largest entry

    def ratio(self, name: str) -> float | None:
        a, b = RATIOS[name]
        known = a in self.spreads and b in self.spreads
        return self.spreads[a].median / self.spreads[b].median if known else None


def measure(T: int, H: int, quick: bool) -> Row:
    params, x = network(T, H)
    truth = by_numpy(params, x)()
    runs: dict[str, Run] = {}
    alone: dict[str, Run] = {}
    compiling, distances = None, []
    for name, make in ROADS.items():
        try:
            run = make(params, x)
        except ImportError:
            continue
        start = time.perf_counter()
        result = run()
        first = time.perf_counter() - start
        if name == "jax":
            compiling = first
        if name != "floor":
            P = result[0] * np.exp(result[1]) if name == "ours" else result
            P = np.asarray(P[0] if name == "jax + norms" else P)
            distances.append(float(np.abs(P - truth).max() / np.abs(truth).max()))
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
        (alone if seconds > SLOW else runs)[name] = run
    spreads = interleave(runs, *((0.0, 2) if quick else (3.0, 5)))
    spreads |= interleave(alone, 0.0, 2 if quick else 3) if alone else {}
    return Row((T, H), spreads, compiling, max(distances))


def show(rows: list[Row], threads: int) -> None:
    title = (
        f"∂h_T/∂h_0 and its norms, {threads} thread(s), ms: median ± half the interquartile range"
    )
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("T, H", no_wrap=True)
    for name in ROADS:
        table.add_column(name, justify="right")
    table.add_column("jax compile, s", justify="right")
    table.add_column("differ", justify="right")
    for row in rows:
        compiling = "–" if row.jax_compile is None else f"{row.jax_compile:.2f}"
        cells = [str(row.spreads.get(name, "–")) for name in ROADS]
        table.add_row("{}, {}".format(*row.shape), *cells, compiling, f"{row.distance:.0e}")
    console.print(table)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("T, H", *RATIOS):
        table.add_column(heading, justify="right")
    for row in rows:
        ratios = [row.ratio(name) for name in RATIOS]
        cells = ["–" if r is None else f"{r:.2f}" for r in ratios]
        table.add_row("{}, {}".format(*row.shape), *cells)
    console.print(table)


def judge(rows: list[Row], cold: float, warm: float) -> None:
    def values(name: str, least: int = 0) -> list[float]:
        ratios = [row.ratio(name) for row in rows if row.shape[1] >= least]
        return [r for r in ratios if r is not None]

    judge_all("ours / jax + norms", values("ours / jax + norms"), 0.95)
    judge_all("ours / jax", values("ours / jax"), 0.95)
    judge_all("30 ours / torch", [30 / r for r in values("torch / ours")], 1)
    judge_all("0.85 ours / floor, H ≥ 64", [0.85 / r for r in values("floor / ours", 64)], 1)
    judge_all("first call in CPU s, cold cache", [cold], 8.0)
    judge_all("first call in CPU s, warm cache", [warm], 0.5)


def as_json(row: Row, threads: int, cold: float, warm: float) -> dict[str, Any]:
    keys = {name: name.strip(".").replace(" + ", "_").replace(" ", "_") for name in ROADS}
    return {
        "shape": row.shape,
        "dtype": "float64",
        "threads": threads,
        **{
            f"{key}_ms": row.spreads[n].median if n in row.spreads else None
            for n, key in keys.items()
        },
        "compile_s": cold,
        "warm_s": warm,
        "jax_compile_s": row.jax_compile,
        "quartiles_ms": {keys[name]: [s.low, s.high] for name, s in row.spreads.items()},
        "difference": row.distance,
    }


def main() -> None:
    chosen = parser(__doc__).parse_args()
    with_threads(chosen.threads, lambda: run(chosen))


def run(chosen: argparse.Namespace) -> None:
    with console.status("first calls") as status:
        cold, warm = first_calls(FIRST_CALL)
        rows = []
        for shape in SHAPES:
            status.update(f"T, H = {shape}")
            rows.append(measure(*shape, chosen.quick))
    save(chosen.json, [as_json(row, chosen.threads, cold, warm) for row in rows])
    console.print(f"Load average {os.getloadavg()[0]:.1f}: other work disturbs wall-clock times.")
    show(rows, chosen.threads)
    console.print(f"Our first call takes {cold:.1f} s with an empty cache and {warm:.2f} s else.")
    judge(rows, cold, warm)


if __name__ == "__main__":
    main()
