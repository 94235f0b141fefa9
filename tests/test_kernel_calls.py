"""How the kernels are called: any memory layout, any number of threads; where there is none."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from typing import Any

import numpy as np
import pytest
from problems import ALL, assert_same, in_field, in_floats, lift, problem

from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.kernels import compile as compiling
from tinygrad_rnn.kernels import gru, lstm, matmul, rnn
from tinygrad_rnn.recurrent import bptt, unroll
from tinygrad_rnn.scalars import rounded

both_precisions = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_cell = pytest.mark.parametrize("make", ALL, ids=lambda make: str(make(1, 1)))


def floats(cell: Any, T: int, N: int, dtype: Any = np.float64) -> Any:
    return problem(cell, T, N, in_floats(np.random.default_rng(0), 1.0, dtype))


# ---- which road -------------------------------------------------------------------------------


class Twice(RNNCell):
    """A cell of somebody else's, with a step of its own."""

    def step(self, params: Any, x_t: Any, state: Any) -> Any:
        return (2 * super().step(params, x_t, state)[0],)


@both_precisions
def test_floats_take_the_kernel_and_all_else_the_tape(dtype) -> None:
    cell = LSTMCell(2, 3)
    data = floats(cell, 4, 2, dtype=dtype)
    assert_same(bptt(cell, **data), bptt(cell, **data, method="kernel"))
    exact = problem(cell, 4, 2, in_field(np.random.default_rng(0)))
    assert_same(bptt(cell, **exact), bptt(cell, **exact, method="tape"))
    own, data = Twice(2, 3), floats(RNNCell(2, 3), 4, 2)
    assert_same(bptt(own, **data), bptt(own, **data, method="tape"))


@pytest.mark.parametrize(
    ("cell", "change", "got"),
    [
        (RNNCell(2, 3), lambda a: a.astype(complex), "RNNCell on complex128"),
        (RNNCell(2, 3), rounded, "RNNCell on object"),
        (GRUCell(2, 3), lambda a: a.astype(np.longdouble), "GRUCell on (float128|longdouble)"),
        (Twice(2, 3), lambda a: a, "Twice on float64"),
    ],
)
def test_where_there_is_no_kernel_none_runs(cell, change, got) -> None:
    data = lift(change, floats(cell, 4, 2))
    with pytest.raises(ValueError, match=f"runs RNNCell, GRUCell .* got {got}. Use method='tape'"):
        bptt(cell, **data, method="kernel")
    del data["d_outputs"], data["d_state"]
    with pytest.raises(ValueError, match="Use method='tape'"):
        unroll(cell, **data, method="kernel")


def test_an_overflow_is_not_silent() -> None:
    cell = RNNCell(1, 1, "identity")
    params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 1e200), "b": np.zeros(1)}
    with pytest.warns(RuntimeWarning, match="overflow encountered in unroll"):
        unroll(cell, params, np.ones((4, 1)), method="kernel")
    with pytest.warns(RuntimeWarning, match="overflow encountered in bptt"):
        bptt(cell, params, np.zeros((4, 1)), np.ones((4, 1)), method="kernel")


# ---- any array, any thread --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [("XDG_CACHE_HOME", "tinygrad_rnn/kernels-*/kernels_*"), ("NUMBA_CACHE_DIR", "kernels_*")],
)
def test_what_is_compiled_is_kept_outside_the_package(name, place, tmp_path) -> None:
    code = "from tinygrad_rnn.kernels import lstm; print(lstm._forward.stats.cache_path)"
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment[name] = str(tmp_path)
    printed = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert fnmatch(printed.strip(), str(tmp_path / place))


def read_only(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def misaligned(a: Any) -> Any:
    raw = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    raw[...] = a
    return raw


WAYS = {
    "Fortran-ordered": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
    "read-only": read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "misaligned": misaligned,
}


@every_cell
@pytest.mark.parametrize("way", WAYS)
def test_how_an_array_lies_in_memory_changes_nothing(make, way) -> None:
    cell = make(2, 3)
    data = floats(cell, 4, 3)
    options = ({}, {"lengths": np.array([4, 2, 3])}, {"truncate": 2})
    expected = [bptt(cell, **data, **option, method="kernel") for option in options]  # compiles
    kernels = [f for m in (rnn, gru, lstm) for f in (m._forward, m._backward)]
    kernels += [matmul._correlate]
    versions = [list(getattr(f, "signatures", ())) for f in kernels]
    for option, right in zip(options, expected, strict=True):
        assert_same(bptt(cell, **lift(WAYS[way], data), **option, method="kernel"), right)
    assert versions == [list(getattr(f, "signatures", ())) for f in kernels]  # nothing to compile


@every_cell
@both_precisions
@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_threads_changes_nothing(make, dtype, workers, monkeypatch) -> None:
    cell = make(5, 7)
    data = floats(cell, 6, 41, dtype=dtype)
    expected = bptt(cell, **data, method="kernel")
    monkeypatch.setattr(compiling, "PARALLEL", 0)
    monkeypatch.setattr(compiling, "threads", lambda: workers)
    assert_same(bptt(cell, **data, method="kernel"), expected)


def test_threads_do_not_disturb_each_other() -> None:
    problems = [(make(4, 5), floats(make(4, 5), 50, 9)) for make in ALL]
    expected = [bptt(cell, **data, method="kernel") for cell, data in problems]
    results: dict[int, Any] = {}
    start = threading.Barrier(2)

    def work(k: int) -> None:
        start.wait()
        results[k] = [bptt(cell, **data, method="kernel") for cell, data in problems]

    workers = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results.values():
        for got, wanted in zip(result, expected, strict=True):
            assert_same(got, wanted)
    assert len(results) == 2


@pytest.mark.parametrize(
    ("variable", "value", "number"),
    [("OMP_NUM_THREADS", "1", 1), ("OMP_NUM_THREADS", "", None), ("OMP_NUM_THREADS", "0", None)],
)
def test_the_environment_limits_the_threads(monkeypatch, variable, value, number) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setenv(variable, value)
    assert compiling.threads() == (number or 3)


BITS = """
import hashlib, os, numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.kernels import compile
compile.PARALLEL = 0

def bits():
    digest = hashlib.sha256()
    for cell in (tg.RNNCell(9, 7), tg.GRUCell(9, 7), tg.LSTMCell(9, 7, "full")):
        rng = np.random.default_rng(0)
        x, d = (rng.normal(size=(40, 64, n)).astype(np.float32) for n in (9, 7))
        g = tg.bptt(cell, cell.init(0, np.float32), x, d, method="kernel")
        for name in (*cell.layout, "x"):
            digest.update(g[name].tobytes())
    return digest.hexdigest()

print(bits(), flush=True)
if not os.fork():  # the threads stay with the parent
    print(bits(), flush=True)
    os._exit(0)
os.wait()
"""


def test_processes_with_more_threads_compute_the_same_and_so_do_their_children() -> None:
    digests: list[bytes] = []
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BITS]
        digests += subprocess.check_output(command, env=env, timeout=600).split()
    assert len(digests) == 4
    assert len(set(digests)) == 1


LATE = """
import threading, numpy as np, tinygrad_rnn as tg
from tinygrad_rnn.kernels import compile
compile.PARALLEL, compile.threads = 0, lambda: 2
cell, x, d = tg.RNNCell(9, 7), np.ones((40, 64, 9)), np.ones((40, 64, 7))

def late():
    threading.main_thread().join()
    print(tg.bptt(cell, cell.init(0), x, d, method="kernel")["b"].shape)

threading.Thread(target=late).start()
"""


def test_while_the_interpreter_ends_one_thread_does_all() -> None:
    assert subprocess.check_output([sys.executable, "-c", LATE], timeout=600) == b"(7,)\n"


def test_nobody_waits_for_a_thread_that_has_not_begun(monkeypatch) -> None:
    free, done = threading.Event(), np.zeros(100, int)

    def work(start: int, stop: int) -> None:
        done[start:stop] += 1

    with ThreadPoolExecutor(1) as busy:
        busy.submit(free.wait)
        monkeypatch.setattr(compiling, "_pool", lambda process: busy)
        monkeypatch.setattr(compiling, "threads", lambda: 2)
        compiling.in_blocks(work, len(done), 32, math.inf)
        free.set()
    assert (done == 1).all()


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="only Linux says where a thread is"
)
def test_a_helper_leaves_the_core_of_its_caller_who_may_go_anywhere(monkeypatch) -> None:
    allowed, both = os.sched_getaffinity(0), threading.Barrier(2, timeout=60)
    cores: dict[int, set[int]] = {}

    def work(start: int, stop: int) -> None:
        cores[threading.get_ident()] = os.sched_getaffinity(0)
        both.wait()

    monkeypatch.setattr(compiling, "threads", lambda: 2)
    compiling.in_blocks(work, 64, 32, math.inf)
    assert cores.pop(threading.get_ident()) == os.sched_getaffinity(0) == allowed
    (helper,) = cores.values()
    assert len(helper) == max(1, len(allowed) - 1)
    assert helper <= allowed


def test_what_a_thread_raises_is_raised(monkeypatch) -> None:
    here = threading.get_ident()
    begun = threading.Event()

    def work(start: int, stop: int) -> None:
        if threading.get_ident() != here:
            begun.set()
            raise MemoryError("there")
        begun.wait()

    monkeypatch.setattr(compiling, "threads", lambda: 2)
    with pytest.raises(MemoryError, match="there"):
        compiling.in_blocks(work, 64, 32, math.inf)
