"""What an experiment is made of, and what it leaves: numbers, a figure, a table.

Numbers are plain: lists, dicts, strings and floats, as JSON gives them back. Tables and figures are
made of the numbers alone, so that they can be made again from the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

Numbers = dict[str, Any]
Track = Callable[[Iterable[Any], str, int], Iterable[Any]]

# Every colour has a contrast of 3 to white and to the black of dark pages, and a lightness of its
# own for those who do not see the hue; lines differ in their dashes as well.
INK = "#767676"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#c46a9b", "#a87900", "#7f6fd0", "#4d8f8f", "#9a5b3c")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)), (0, (3, 1)))
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
CLEAR = ("axes.facecolor", "figure.facecolor", "savefig.facecolor")
STYLE: dict[str, Any] = {
    **dict.fromkeys((*INKED, "grid.color"), INK),
    **dict.fromkeys(CLEAR, "none"),
    **{"font.size": 9, "legend.fontsize": 9, "axes.titlesize": 10, "axes.labelsize": 10},
    **{"axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.5, "lines.linewidth": 1.6},
    **{"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False},
    **{"image.cmap": "cividis", "svg.hashsalt": "tinygrad_rnn"},  # cividis is the same to all eyes
}


def untracked(things: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    """Go through the things without a word."""
    return things


@dataclass(frozen=True)
class Setting:
    """How an experiment is to be done.

    ``track`` shows how far a loop is: it is given the iterable, what is done, and how often. Only
    experiments that are sweeps look at ``folder``, where finished cells are kept, and at
    ``scheduler``, the address of a Dask cluster.
    """

    seed: int = 0
    quick: bool = False
    track: Track = untracked
    folder: Path | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class Table:
    """The result in few lines."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def texts(self) -> Iterator[tuple[str, ...]]:
        """Yield the rows as text, floats to three digits."""
        for row in self.rows:
            yield tuple(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row)


@dataclass(frozen=True)
class Experiment:
    """How the numbers are computed, what is printed of them, and how they are drawn.

    ``words`` are lines to print after the table; ``size`` is that of the figure, in inches;
    ``sweeps`` says that cells of it can be done on a cluster.
    """

    compute: Callable[[Setting], Numbers]
    table: Callable[[Numbers], Table]
    draw: Callable[[Numbers, Any], None]
    words: Callable[[Numbers], Iterable[str]] = lambda numbers: ()
    size: tuple[float, float] = (7.0, 4.5)
    sweeps: bool = False


def needed(module: str, extra: str, package: str = "") -> Any:
    """Import a module of an optional package.

    Raises
    ------
    ImportError
        Saying how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = package or module.partition(".")[0]
        raise ImportError(
            f"this needs {package}: pip install 'tinygrad_rnn[{extra}]' ({error})."
        ) from None


def plain(value: Any) -> Any:
    """Return what JSON can hold: arrays as lists, infinities and NaN as None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return None if isinstance(value, float) and value - value != 0 else value


def write_numbers(numbers: Numbers, path: Path) -> None:
    """Write the numbers as JSON, a line for each name."""
    dumps = partial(json.dumps, ensure_ascii=False, allow_nan=False)
    lines = ",\n".join(f" {dumps(name)}: {dumps(value)}" for name, value in numbers.items())
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


@contextmanager
def styled(size: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure of ``size`` inches in our style, to be drawn and saved inside."""
    matplotlib = needed("matplotlib", "plot")
    figure_of = needed("matplotlib.figure", "plot").Figure
    with matplotlib.rc_context({**STYLE, "axes.prop_cycle": matplotlib.cycler(color=COLORS)}):
        yield figure_of(figsize=size, layout="constrained", dpi=144)


def write_figure(experiment: Experiment, numbers: Numbers, paths: Iterable[Path]) -> None:
    """Draw the numbers, in the format that each path's ending names."""
    with styled(experiment.size) as figure:
        experiment.draw(numbers, figure)
        for path in paths:
            # Without the date the same numbers make the same file.
            figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def svg(draw: Callable[[Any], None], size: tuple[float, float] = (7.0, 4.5)) -> str:
    """Return what ``draw(figure)`` draws as an SVG element, for a page of HTML."""
    with styled(size) as figure, StringIO() as file:
        draw(figure)
        figure.savefig(file, format="svg", metadata={"Date": None})
        text = file.getvalue()
    return text[text.index("<svg") :]
