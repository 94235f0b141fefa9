"""The command line: verify and cite the theory, check anybody's layer, do the experiments."""

from __future__ import annotations

import importlib
import json
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import tinygrad_rnn

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


class Profile(StrEnum):
    """How much work ``verify`` does."""

    quick = "quick"
    default = "default"
    deep = "deep"


class Format(StrEnum):
    """What ``cite`` prints."""

    text = "text"
    bibtex = "bibtex"
    latex = "latex"


class CellName(StrEnum):
    """The cells, and their variants."""

    rnn = "rnn"
    rnn_relu = "rnn-relu"
    gru_minimal = "gru-minimal"
    gru = "gru"
    gru_reset_after = "gru-reset_after"
    lstm = "lstm"
    lstm_diagonal = "lstm-diagonal"
    lstm_full = "lstm-full"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(tinygrad_rnn.__version__)
        raise typer.Exit


@app.callback()
def tinygrad_rnn_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The gradient theory of recurrent networks, executable."""


def _chosen(
    option: str, given: list[str] | None, known: Sequence[str], verified: Sequence[str] = ()
) -> list[str]:
    """Pick from ``known`` what was given, one by one or with commas; everything if nothing was.

    Of what is not known, but ``verified``, the message says who shows it.
    """
    if given is None:
        return list(known)
    folded = {name.lower(): name for name in known}
    words = [word for group in given for word in group.replace(",", " ").split()]
    unknown = [word for word in words if word.lower() not in folded]
    if shown := [id for id in verified if id.lower() in map(str.lower, unknown)]:
        raise typer.BadParameter(
            f"{', '.join(shown)}: no theorem; tinygrad-rnn verify --only {','.join(shown)} "
            "tells all about it.",
            param_hint=option,
        )
    if unknown or not words:
        what = f"there is no {', '.join(unknown)}" if unknown else "nothing was named"
        raise typer.BadParameter(f"{what}; there are {_listed(known)}.", param_hint=option)
    chosen = {folded[word.lower()] for word in words}
    return [name for name in known if name in chosen]


def _listed(names: Sequence[str]) -> str:
    """List names, those with consecutive numbers as "A-1 … A-7"."""
    runs: list[list[str]] = []
    for name in names:
        letter, _, number = name.rpartition("-")
        if runs and number.isdigit() and runs[-1][-1] == f"{letter}-{int(number) - 1}":
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(" … ".join(dict.fromkeys((run[0], run[-1]))) for run in runs)


@app.command()
def verify(
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID[,ID…]", help="Only what has these ids.")
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(metavar="LEVEL[,LEVEL…]", help="Only these of tested, certified, proved."),
    ] = None,
    profile: Annotated[Profile, typer.Option(help="How many cases to draw.")] = Profile.default,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random cases.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as a page.")
    ] = None,
) -> None:
    """Check the theorems of the lecture notes, their worked examples, and the notes themselves.

    Exit status: 0 if nothing is refuted, 1 if something is, 2 for bad usage, 130 after Ctrl-C,
    which leaves the report of what was finished. A refuted theorem leaves a program that shows it
    again, beside the JSON report or in the current directory.
    """
    proofs = importlib.import_module("tinygrad_rnn.proofs.verify")
    reader = importlib.import_module("tinygrad_rnn.proofs.report")
    ids = _chosen("--only", only, proofs.known())
    levels = _chosen("--level", level, proofs.LEVELS)
    unfinished = proofs.blank(ids, profile.value, seed)
    _write(unfinished, json_file, html_file)  # fails before the work, if at all
    console = Console()
    columns = (
        TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left:"), TimeRemainingColumn(),
    )  # fmt: skip
    # A theorem may take minutes: the speed is that of the whole run, not of the last 30 seconds.
    with Progress(*columns, console=console, transient=True, speed_estimate_period=86400) as bar:
        task = bar.add_task("verifying", total=len(ids))
        report = proofs.verify(
            ids,
            levels,
            profile.value,
            seed,
            progress=lambda finished: bar.update(task, advance=1, description=finished),
        )
    _write(report, json_file, html_file)
    reader.show(report, console)
    for line in reader.save_scripts(report, (json_file or Path("report")).parent):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if report["interrupted"]:
        raise typer.Exit(130)
    if "REFUTED" in proofs.verdicts(report):
        raise typer.Exit(1)


def _write(report: dict[str, Any], json_file: Path | None, html_file: Path | None) -> None:
    whole = {"version": tinygrad_rnn.__version__, **report}
    if json_file is not None:
        _save("--json", json_file, json.dumps(_plain(whole), indent=1, ensure_ascii=False) + "\n")
    if html_file is not None:
        _save("--html", html_file, importlib.import_module("tinygrad_rnn.proofs.page").html(whole))


def _save(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(
            f"cannot write {path}: {error.strerror}.", param_hint=option
        ) from None


def _plain(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value - value != 0 else value


@app.command()
def cite(
    ids: Annotated[list[str], typer.Argument(metavar="ID…", help="The theorems to cite.")],
    format: Annotated[Format, typer.Option(help="To read, or for a paper.")] = Format.text,
) -> None:
    """Print what theorems say, and how to cite them and their sources."""
    theorems = importlib.import_module("tinygrad_rnn.proofs.catalogue").load()
    known = importlib.import_module("tinygrad_rnn.proofs.verify").known()
    chosen = [theorems[id] for id in _chosen("ID", ids, list(theorems), known)]
    citations = importlib.import_module("tinygrad_rnn.proofs.citations")
    typer.echo(citations.cite(chosen, format.value))


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="MODULE:LAYER", help="The layer to check.")],
    cell: Annotated[
        CellName,
        typer.Option(
            help="The cell that it claims to be. gru has the reset gate before the product with "
            "W_h; that of PyTorch is gru-reset_after."
        ),
    ],
    inputs: Annotated[int, typer.Option("--D", min=1, help="Size of the input.")] = 3,
    hidden: Annotated[int, typer.Option("--H", min=1, help="Size of the state.")] = 4,
    map_file: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="A LayerMap's fields, as TOML.")
    ] = None,
    budget: Annotated[Profile, typer.Option(help="How many inputs to design.")] = Profile.default,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random inputs.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")
    ] = None,
) -> None:
    """Check a recurrent layer, forward and backward, and name the wrong gradient.

    Exit status: 0 if it is consistent, 1 if it is refuted or undecided, 2 for bad usage.
    """
    layer = _loaded(target)
    family, *variant = cell.value.split("-")
    kind = {"rnn": "RNNCell", "gru": "GRUCell", "lstm": "LSTMCell"}[family]
    claimed = getattr(tinygrad_rnn, kind)(inputs, hidden, *variant)
    try:
        if json_file is not None:
            json_file.open("a").close()  # find out before the work whether it can be kept
        layout = {} if map_file is None else tomllib.loads(map_file.read_text(encoding="utf-8"))
        report = tinygrad_rnn.check_layer(layer, claimed, map=layout, rng=seed, budget=budget.value)
    except (OSError, TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    if json_file is not None:
        json_file.write_text(report.to_json() + "\n", encoding="utf-8")
    typer.echo(str(report))
    if report.verdict != "CONSISTENT":
        raise typer.Exit(1)


@app.command()
def experiment(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Which; see --list.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where NAME.json, NAME.svg and NAME.png go.")
    ] = Path("experiments"),
    quick: Annotated[bool, typer.Option("--quick", help="A smaller one, within seconds.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler's, for sweeps.")
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> None:
    """Do an experiment of the notes: print its result, write its numbers and its figure."""
    experiments = importlib.import_module("tinygrad_rnn.experiments")
    if names:
        for known, about in experiments.NAMES.items():
            typer.echo(f"{known:14}{about}")
        return
    if name is None:
        known = ", ".join(experiments.NAMES)
        raise typer.BadParameter(f"which? There are {known}.", param_hint="NAME")
    console = Console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            numbers = experiments.run(name, seed, quick, out, scheduler, _tracker(bar))
    except (ImportError, OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    chosen = experiments.load(name)
    result = chosen.table(numbers)
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(result.columns):
        table.add_column(column, justify="right" if i else "left")
    for row in result.texts():
        table.add_row(*row)
    console.print(f"{name}: {numbers['about']}", highlight=False, markup=False, soft_wrap=True)
    console.print(table)
    for line in chosen.words(numbers):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    written = ", ".join(str(out / f"{name}.{kind}") for kind in ("json", "svg", "png"))
    seconds = f"{numbers['seconds']:.1f} s"
    console.print(f"{seconds}; wrote {written}", highlight=False, markup=False, soft_wrap=True)


def _tracker(bar: Progress) -> Callable[[Iterable[Any], str, int], Iterable[Any]]:
    """Return what goes through things and shows on the bar how far it is."""

    def track(things: Iterable[Any], what: str, total: int) -> Iterator[Any]:
        task = bar.add_task(what, total=total)
        for thing in things:
            yield thing
            bar.advance(task)

    return track


def _loaded(target: str) -> Any:
    """Import what ``package.module:Layer`` names, also from the current directory."""
    module, colon, name = target.partition(":")
    if not colon:
        raise typer.BadParameter(f"expected MODULE:LAYER, got {target!r}.")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"cannot load {target}: {error}.") from None


def main() -> None:
    """Run the command line."""
    app()
