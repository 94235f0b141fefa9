"""Settings shared by all tests: how Hypothesis searches, and one thread per process."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from source_tree import ROOT

# Before anything loads NumPy: a BLAS with one thread sums in the same order every time, and the
# test processes do not fight over the cores.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

# No deadline and no complaint about slow generation: a busy machine is not a counterexample.
settings.register_profile(
    "default",
    max_examples=50,
    derandomize=True,  # the same examples on every run: a red suite is red for everybody
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# New examples on every run; failures are kept in .hypothesis and tried first the next time.
settings.register_profile(
    "deep", settings.get_profile("default"), max_examples=2000, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(tryfirst=True)  # before a process says that it is ready for tests
def pytest_collection_finish(session: pytest.Session) -> None:
    """Share the kernels' compilation among the test processes: else each compiles all of them."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not worker or all(item.path.name != "test_kernels.py" for item in session.items):
        return
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn.cells import Cell

    def gradients(cell: Cell) -> None:
        for dtype in np.float32, np.float64:
            ones = np.ones((1, 1), dtype)
            tg.bptt(cell, cell.init(0, dtype), ones, ones, method="kernel")

    def products() -> None:
        cell, ones = tg.RNNCell(1, 1), np.ones((1, 1))
        tg.jacobian_chain(cell, cell.init(0), ones).singular_values()

    rnn, gru, lstm = (
        partial(gradients, make(1, 1)) for make in (tg.RNNCell, tg.GRUCell, tg.LSTMCell)
    )
    number, count = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for compiled in (rnn, gru, products, lstm)[number::count]:
        with suppress(Exception):  # the tests tell
            compiled()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a site: built without a warning, once for all test processes."""
    needed = ("sphinx", "furo", "myst_parser", "sphinx_copybutton")
    if missing := [name for name in needed if find_spec(name) is None]:
        pytest.skip(f"pip install -e '.[docs]': no {', '.join(missing)}")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, ended = shared / "site", shared / "site.ended"
    try:
        folder.mkdir()
    except FileExistsError:  # another process builds it
        while not ended.exists():
            time.sleep(0.1)
    else:
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
        quiet = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
        done = subprocess.run(
            [*command, str(ROOT / "docs"), str(folder)],
            capture_output=True,
            text=True,
            env=quiet,
        )
        written = shared / "site.log"
        written.write_text(f"{done.stderr}exit status {done.returncode}", encoding="utf-8")
        written.rename(ended)
    assert ended.read_text(encoding="utf-8") == "exit status 0"
    return folder.resolve()
