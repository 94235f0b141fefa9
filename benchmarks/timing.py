"""What the benchmarks share: one number of threads for everybody, and interleaved timing."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

MOST_ROUNDS = 200
MOMENT = ENOUGH = 0.005  # seconds
MARK = "TINYGRAD_RNN_BENCHMARK"
FIRST_CALL = """
import sys, time, numpy
sys.modules["scipy"] = None  # JAX brings SciPy, which Numba imports where it finds it; we do not
start = time.process_time()
{work}
print(time.process_time() - start)
"""
console = Console(width=120)  # in a log, too


class Spread(NamedTuple):
    """Quartiles, in milliseconds."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        median = f"{self.median:.0f}" if self.median >= 100 else f"{self.median:#.3g}"
        return f"{median} [dim]±{50 * (self.high - self.low) / self.median:.0f}%[/]"


def parser(doc: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="the same for all contenders")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="a few rounds, to see that it works")
    return parser


def with_threads(threads: int, main: Callable[[], None]) -> None:
    """Run ``main`` where every library finds the number of threads: before any of them loads.

    That takes a new process, which is this one's command line in another environment.
    """
    if MARK in os.environ:
        main()
        return
    n = str(threads)
    names = "OMP", "OPENBLAS", "MKL", "NUMBA"
    environment = {**os.environ, **{f"{name}_NUM_THREADS": n for name in names}, MARK: n}
    environment["NPROC"] = n  # the size of JAX's pool
    if threads == 1:
        flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        environment["XLA_FLAGS"] = flags
    sys.exit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=environment))


def first_calls(work: str) -> tuple[float, float]:
    """Return the seconds that Python code takes in a new process: without Numba's cache, and with.

    It is CPU time, which a user waits for on an idle machine, from the imports of the code on.
    """
    code = FIRST_CALL.format(work=work)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        cold, *warm = (
            float(subprocess.check_output([sys.executable, "-c", code], env=environment))
            for _ in range(4)
        )
    return cold, statistics.median(warm)


def settle() -> None:
    """Wait until no thread of this process works: OpenBLAS's spin for a tenth of a second."""
    busy = True
    while busy:
        before = time.process_time()
        time.sleep(MOMENT)
        busy = time.process_time() - before > MOMENT / 10


def seconds_of(run: Callable[[], Any], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return time.perf_counter() - start


def interleave(
    runs: Mapping[str, Callable[[], Any]], seconds: float, fewest: int = 3
) -> dict[str, Spread]:
    """Time each of ``runs`` in turn, round after round: a disturbance hits all alike.

    In a round each runs once, and then counts: it finds its own data in the caches and its own
    threads awake, and those of the others asleep. What takes little time runs several times.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    for done in range(MOST_ROUNDS):
        if done >= fewest and time.perf_counter() > end:
            break
        for name, run in runs.items():
            settle()
            times = max(1, int(ENOUGH / seconds_of(run, 1)))
            samples[name].append(1e3 * seconds_of(run, times) / times)
    return {
        name: Spread(*statistics.quantiles(sample, n=4, method="inclusive"))
        for name, sample in samples.items()
    }


def judge_all(claim: str, values: Sequence[float], target: float) -> None:
    """Print how many of ``values`` keep to the target, and the largest."""
    if values:
        met = sum(value <= target for value in values)
        verdict = "[green]met[/]" if met == len(values) else "[red]missed[/]"
        numbers = f"at most {max(values):.3g}, wanted ≤ {target:g}, kept by {met} of {len(values)}"
        console.print(f"{verdict}: {claim}: {numbers}")


def save(path: Path | None, rows: Sequence[Mapping[str, Any]]) -> None:
    if path:
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
