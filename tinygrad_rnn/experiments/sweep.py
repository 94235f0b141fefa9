"""The same function of many cells, in parallel: on local processes, or on a Dask cluster.

A cell is a dict that JSON can hold, and so is what the function returns. Finished cells are kept
in a file, one on each line, so that a sweep that was broken off goes on where it stood.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tinygrad_rnn import __version__
from tinygrad_rnn.experiments.experiment import Setting, needed, plain

Cell = dict[str, Any]
Function = Callable[[Cell], Any]
PATIENCE = "10s"  # until a scheduler has answered, and until it has a worker


def sweep(function: Function, cells: list[Cell], setting: Setting, name: str) -> list[Any]:
    """Return the function's values, in the order of the cells.

    Parameters
    ----------
    function
        Of a module that can be imported, for it is called in other processes.
    cells
        The arguments.
    setting
        With ``folder`` the values are kept in NAME.cells.jsonl; with ``scheduler`` they are
        computed on that Dask cluster, else on as many local processes as there are cores.
    name
        The sweep's.

    Raises
    ------
    ValueError
        Where no Dask scheduler answers, or none of its workers.
    """
    kept = None if setting.folder is None else setting.folder / f"{name}.cells.jsonl"
    known = {} if kept is None else _read(kept)
    keys = [_key(cell) for cell in cells]
    missing = [cell for cell, key in zip(cells, keys, strict=True) if key not in known]
    if setting.scheduler is not None:
        finished = _on_cluster(function, missing, setting.scheduler)
    else:
        finished = _on_processes(function, missing)
    for i, value in setting.track(finished, name, len(missing)):
        key = _key(missing[i])
        known[key] = plain(value)
        if kept is not None:
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
    return [known[key] for key in keys]


def _read(path: Path) -> dict[str, Any]:
    """Return the values that a file holds; a line that was broken off does not count."""
    known = {}
    if path.exists():
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
        path.write_text(whole + "\n" if whole else "", encoding="utf-8")
        for line in whole.splitlines():
            key, value = json.loads(line)
            known[key] = value
    return known


def _key(cell: Cell) -> str:
    """Name a cell, and the version of the library that has computed it."""
    return json.dumps([__version__, cell])


def _on_processes(function: Function, cells: list[Cell]) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each cell as it is finished."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(cores or 1, len(cells))
    if workers <= 1:
        yield from ((i, function(cell)) for i, cell in enumerate(cells))
        return
    # A process of its own start, not a fork: other threads may be under way here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        futures = {pool.submit(function, cell): i for i, cell in enumerate(cells)}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave the other cores to the other processes, and Ctrl-C to the one that has started them."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _on_cluster(function: Function, cells: list[Cell], scheduler: str) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each cell as it is finished."""
    distributed = needed("distributed", "experiments", "dask[distributed]")
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE)
        client.wait_for_workers(1, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler with a worker answers at {scheduler} ({error}). Start them: "
            "dask scheduler, then dask worker ADDRESS."
        ) from None
    with client:
        futures = client.map(function, cells, pure=False)
        number = {future.key: i for i, future in enumerate(futures)}
        for future, value in distributed.as_completed(futures, with_results=True):
            yield number[future.key], value
