"""The command line: ``tinygrad-rnn verify`` checks the theory and says what it found."""

from __future__ import annotations

import importlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import tinygrad_rnn

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


class Level(StrEnum):
    """The levels of evidence."""

    tested = "tested"
    certified = "certified"
    proved = "proved"


class Profile(StrEnum):
    """How much work ``verify`` does."""

    quick = "quick"
    default = "default"
    deep = "deep"


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


def _chosen(only: list[str], known: list[str]) -> list[str]:
    ids = [id for group in only for id in group.upper().replace(",", " ").split()]
    unknown = [id for id in ids if id not in known]
    if unknown:
        raise typer.BadParameter(
            f"no theorem {', '.join(unknown)}; there are {', '.join(known)}.", param_hint="--only"
        )
    return [id for id in known if id in ids] or known


@app.command()
def verify(
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID[,ID…]", help="Only these theorems.")
    ] = None,
    level: Annotated[
        list[Level] | None, typer.Option(help="Only this level of evidence; may be repeated.")
    ] = None,
    profile: Annotated[Profile, typer.Option(help="How many cases to draw.")] = Profile.default,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random cases.")] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")
    ] = None,
) -> None:
    """Check the theorems of the lecture notes and their worked examples.

    Exit status: 0 if nothing is refuted, 1 if something is, 2 for bad usage, 130 after Ctrl-C,
    which leaves the report of what was finished.
    """
    proofs = importlib.import_module("tinygrad_rnn.proofs.verify")
    report_module = importlib.import_module("tinygrad_rnn.proofs.report")
    known = list(proofs.load())
    ids = _chosen(only or [], known)
    levels = [str(name) for name in level] if level else proofs.LEVELS
    if json_file is not None:
        _check_writable(json_file)
    console = Console()
    columns = (
        TextColumn("{task.description:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=len(ids) + (not only))
        report = proofs.verify(
            ids,
            levels,
            profile.value,
            seed,
            examples=not only,
            progress=lambda finished: bar.update(task, advance=1, description=finished),
        )
    report["version"] = tinygrad_rnn.__version__
    if json_file is not None:
        json_file.write_text(json.dumps(_plain(report), indent=1, ensure_ascii=False) + "\n")
    report_module.show(report, console)
    if report["interrupted"]:
        raise typer.Exit(130)
    if "REFUTED" in proofs.verdicts(report):
        raise typer.Exit(1)


def _check_writable(path: Path) -> None:
    """Find out before the work whether its report can be kept."""
    try:
        path.open("a").close()
    except OSError as error:
        raise typer.BadParameter(
            f"cannot write {path}: {error.strerror}.", param_hint="--json"
        ) from None


def _plain(value: Any) -> Any:
    """JSON has no infinities and no NaN: they become null."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value - value != 0 else value


def main() -> None:
    """Run the command line."""
    app()
