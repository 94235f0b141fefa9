"""The experiments of the notes, done with this library: ``tinygrad-rnn experiment NAME``.

Each module computes plain numbers, and a table and a figure from them alone.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

from tinygrad_rnn.experiments.experiment import (
    Experiment,
    Numbers,
    Setting,
    Track,
    needed,
    plain,
    untracked,
    write_figure,
    write_numbers,
)

__all__ = ["NAMES", "load", "run"]

NAMES = {
    "sentences": "a many-to-one RNN on three sentences, and its first gradient term by term",
    "recall": "recall of the first bit at a lag: RNN with the notes' remedies, GRU, LSTM",
    "contributions": "the share of each lag in the gradient: contracting, critical, expanding",
    "vanishing": "log ‖∂h_T/∂h_t‖ of RNN, GRU and LSTM, between its bounds",
    "truncated": "the error of truncated backpropagation against its window, and its bound",
    "cliff": "the error surface of one unit, its wall, and descent with and without clipping",
    "clipping": "what each rule of clipping does to the length and the direction of a gradient",
    "heatmap": "‖∂h_t/∂h_i‖ for all pairs of steps, before and after training on digits",
    "phase": "where products of Jacobians vanish, hold and explode, over gain and steps",
}


def load(name: str) -> Experiment:
    """Return an experiment by its name.

    Raises
    ------
    ValueError
        For a name that is not in ``NAMES``.

    Examples
    --------
    >>> from tinygrad_rnn import experiments
    >>> experiments.load("cats")
    Traceback (most recent call last):
    ValueError: there is no experiment 'cats'; there are sentences, ...
    """
    if name not in NAMES:
        raise ValueError(f"there is no experiment {name!r}; there are {', '.join(NAMES)}.")
    experiment: Experiment = import_module(f"{__name__}.{name}").EXPERIMENT
    return experiment


def run(
    name: str,
    seed: int = 0,
    quick: bool = False,
    out: Path | str | None = None,
    scheduler: str | None = None,
    track: Track = untracked,
) -> Numbers:
    """Do an experiment, and return its numbers.

    Parameters
    ----------
    name
        One of ``NAMES``.
    seed
        Of everything that is random.
    quick
        Do a smaller one, to see that it works.
    out
        A directory, made if need be, for NAME.json, NAME.svg and NAME.png; None writes nothing.
    scheduler
        The address of a Dask scheduler, for experiments that are sweeps.
    track
        ``track(iterable, what, total)`` goes through the iterable and shows how far it is.

    Raises
    ------
    ValueError
        For an unknown name, and a scheduler where there is nothing to share out.
    ImportError
        Where an optional package is needed, saying how to install it.

    Examples
    --------
    >>> from tinygrad_rnn import experiments
    >>> numbers = experiments.run("contributions", quick=True)
    >>> numbers["experiment"], [row["q"] for row in numbers["cases"][:3]]
    ('contributions', [0.8, 1.0, 1.25])
    """
    experiment = load(name)
    if scheduler is not None and not experiment.sweeps:
        raise ValueError(f"{name} is no sweep: there is nothing to share out among workers.")
    folder = None if out is None else Path(out)
    if folder is not None:
        needed("matplotlib", "plot")  # finds out before the work
        folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    found = experiment.compute(Setting(seed, quick, track, folder, scheduler))
    heading: dict[str, Any] = {"experiment": name, "about": NAMES[name], "seed": seed}
    heading |= {"quick": quick, "seconds": round(time.perf_counter() - start, 3)}
    numbers: Numbers = plain({**heading, **found})
    if folder is not None:
        write_numbers(numbers, folder / f"{name}.json")
        write_figure(experiment, numbers, [folder / f"{name}.{kind}" for kind in ("svg", "png")])
    return numbers
