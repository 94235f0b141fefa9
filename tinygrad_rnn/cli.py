"""The command line: ``tinygrad-rnn verify`` checks the theory and says what it found."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import tinygrad_rnn

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


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


def _chosen(option: str, given: list[str] | None, known: Sequence[str]) -> list[str]:
    """Pick from ``known`` what was given, one by one or with commas; everything if nothing was."""
    if given is None:
        return list(known)
    folded = {name.lower(): name for name in known}
    words = [word for group in given for word in group.lower().replace(",", " ").split()]
    unknown = [word for word in words if word not in folded]
    if unknown or not words:
        what = f"there is no {', '.join(unknown)}" if unknown else "nothing was named"
        raise typer.BadParameter(f"{what}; there are {', '.join(known)}.", param_hint=option)
    return [name for name in known if name.lower() in words]


@app.command()
def verify(
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID[,ID…]", help="Only these theorems, examples.")
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
) -> None:
    """Check the theorems of the lecture notes and their worked examples.

    Exit status: 0 if nothing is refuted, 1 if something is, 2 for bad usage, 130 after Ctrl-C,
    which leaves the report of what was finished.
    """
    proofs = importlib.import_module("tinygrad_rnn.proofs.verify")
    ids = _chosen("--only", only, [*proofs.load(), *proofs.EXAMPLES])
    levels = _chosen("--level", level, proofs.LEVELS)
    _write(proofs.blank(ids, profile.value, seed), json_file)  # fails before the work, if at all
    console = Console()
    columns = (
        TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("verifying", total=len(ids))
        report = proofs.verify(
            ids,
            levels,
            profile.value,
            seed,
            progress=lambda finished: bar.update(task, advance=1, description=finished),
        )
    _write(report, json_file)
    importlib.import_module("tinygrad_rnn.proofs.report").show(report, console)
    if report["interrupted"]:
        raise typer.Exit(130)
    if "REFUTED" in proofs.verdicts(report):
        raise typer.Exit(1)


def _write(report: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    text = json.dumps(
        _plain({"version": tinygrad_rnn.__version__, **report}), indent=1, ensure_ascii=False
    )
    try:
        path.write_text(text + "\n", encoding="utf-8")
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
