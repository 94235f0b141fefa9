"""How the kernels are compiled, and how many threads share their work.

Every kernel is a Python function that Numba compiles on its first call and keeps on disk. With
``NUMBA_DISABLE_JIT=1`` they run as plain Python. A kernel works on a part of its result, such as
rows n0 … n1 of the batch. The parts do not depend on each other, so the results are the same bit
for bit however they are divided among threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import config, njit, types
from numba.extending import overload, register_jitable

Array = Any

# error_model: a division that may raise is a branch, and a loop with branches is not vectorised.
# fastmath: a·b + c may become one operation and the sign of a zero is free. Nothing here assumes
# that NaN and infinity do not occur, and nothing reorders a sum. Nobody calls a kernel from C.
OPTIONS: Any = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "no_cfunc_wrapper": True}
# A part of a kernel is not called from Python.
PART: Any = {**OPTIONS, "no_cpython_wrapper": True}
PLAIN = bool(config.DISABLE_JIT)  # type: ignore[attr-defined]

# Compiled kernels are kept in a folder of the user's, since pip would leave them behind in that of
# the package; named after all sources, since Numba compares that of the kernel alone, not of parts.
_sources = sorted(Path(__file__).parent.glob("*.py"))
_digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in _sources)).hexdigest()
_caches = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
KEPT = _caches / "tinygrad_rnn" / f"kernels-{_digest[:16]}"

# Linux only; not among what Python's os offers.
_own_core: Callable[[], int] | None = (
    getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None
)

BLOCK = 32  # rows that travel through time together: their buffers stay in cache
GRAIN = 8  # blocks begin at multiples of it
PARALLEL = 2e7  # multiplications below which a second thread costs more than it saves


def kernel(f: Callable[..., Any]) -> Any:
    """Compile ``f`` on its first call, without the GIL; keep it on disk where a place is found.

    The place is ``NUMBA_CACHE_DIR`` if that is set.
    """
    given = config.CACHE_DIR  # type: ignore[attr-defined]
    config.CACHE_DIR = given or str(KEPT)  # type: ignore[attr-defined]
    try:
        return njit(nogil=True, cache=True, **OPTIONS)(f)
    except RuntimeError:  # Numba finds no folder that it may write to
        return njit(nogil=True, **OPTIONS)(f)
    finally:
        config.CACHE_DIR = given  # type: ignore[attr-defined]


def loop(f: Callable[..., Any]) -> Any:
    """Compile ``f`` as a part of the kernels that call it."""
    return register_jitable(**PART)(f)


def scalar(make: Callable[[Any], Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Turn ``make(number)``, a function of one float x, into one for both precisions.

    ``number`` is np.float32 or np.float64 and makes the function's constants, so that none of them
    promotes it.
    """
    versions = {number: make(number) for number in (np.float32, np.float64)}
    compiled = {types.float32: versions[np.float32], types.float64: versions[np.float64]}

    def function(x: Any) -> Any:
        return versions[type(x)](x)

    def choose(x: Any) -> Any:
        return compiled[x]

    overload(function, jit_options=PART)(choose)
    return function


def threads() -> int:
    """Return how many threads may work: OMP_NUM_THREADS, as BLAS reads it, or every core."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(int(limit), cores or 1) if limit.isdigit() and int(limit) > 0 else cores or 1


def in_blocks(f: Callable[..., None], total: int, largest: int, work: float, *args: Any) -> None:
    """Call ``f(start, stop, *args)`` on blocks of 0 … total, by several threads if it pays.

    ``work`` is the number of multiplications in all of it.
    """
    workers = threads() if work > PARALLEL else 1
    if workers == 1 and total <= largest:
        return f(0, total, *args)
    size = min(largest, -(-total // (GRAIN * workers)) * GRAIN)
    blocks = [(i, min(i + size, total)) for i in range(0, total, size)]
    tasks = iter(blocks)

    def work_off() -> None:
        for start, stop in tasks:
            f(start, stop, *args)

    if workers == 1 or len(blocks) == 1:
        return work_off()
    others = _other_cores()

    def help_out() -> None:
        if others:
            with suppress(OSError):  # it is only to be faster
                os.sched_setaffinity(0, others)
        work_off()

    helpers = []
    with suppress(RuntimeError):  # no thread can be had, as when the interpreter is about to end
        for _ in range(workers - 1):
            helpers.append(_pool(os.getpid()).submit(help_out))
    work_off()
    for helper in helpers:
        if not helper.cancel():  # for one that has not begun nothing is left
            helper.result()  # raises what was raised there
    return None


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the threads that help this process; one that is forked from it inherits none.

    They wait between calls: to wake a thread takes a third of the time that it takes to make one.
    """
    return ThreadPoolExecutor(os.cpu_count())


def _other_cores() -> set[int]:
    """Return the cores that this thread may use but for the one that it is running on, if known.

    A scheduler that saves cores lets a thread begin on the core of the thread that woke it, and
    both share it for milliseconds.
    """
    return os.sched_getaffinity(0) - {_own_core()} if _own_core else set()
