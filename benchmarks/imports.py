"""What ``import tinygrad_rnn`` costs above ``import numpy``, in fresh interpreters.

python -m benchmarks.imports [--rounds N] [--json FILE]

Also timed with every public name loaded, which is the most that first use can cost. Times are CPU
times: other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

STATEMENTS = {
    "tinygrad_rnn": "import tinygrad_rnn",
    "every public name": "from tinygrad_rnn import *",
}
TIMED = """
import time, numpy
start = time.process_time()
{statement}
print(time.process_time() - start)
"""


def measure(rounds: int) -> dict[str, list[float]]:
    """Quartiles in milliseconds, for each statement."""
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    with tempfile.TemporaryDirectory() as elsewhere:  # the installed package, not the checkout
        for _ in range(rounds + 1):
            for name, statement in STATEMENTS.items():
                command = [sys.executable, "-c", TIMED.format(statement=statement)]
                output = subprocess.check_output(command, cwd=elsewhere, text=True)
                seconds[name].append(float(output))
    # The first round compiles the bytecode.
    return {
        name: [1e3 * q for q in statistics.quantiles(sample[1:], n=4, method="inclusive")]
        for name, sample in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.rounds)
    table = Table("import, after numpy", title=f"CPU time in ms, {arguments.rounds} rounds")
    for heading in ("lower quartile", "median", "upper quartile"):
        table.add_column(heading, justify="right")
    for name, quartiles in result.items():
        table.add_row(name, *(f"{q:.1f}" for q in quartiles))
    Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
