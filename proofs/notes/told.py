"""The refereed claims as a person reads them in a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .claim import VERDICTS

Row = dict[str, Any]


def told(row: Row) -> str:
    """Return all about one claim."""
    lines = [
        f"{row['id']} ({row['where']}): {row['verdict']}.",
        f"As written: {row['as_written']}",
        f"{'Corrected' if row['verdict'] in ('false', 'garbled') else 'Precisely'}: "
        f"{row['corrected']}",
    ]
    lines += [
        f"{name.capitalize()}, by {shown['arithmetic']}: {shown['sentence']}"
        for name in ("counterexample", "check")
        if (shown := row[name])
    ]
    if row["theorem"]:
        lines.append(f"Theorems: {', '.join([row['theorem'], *row['related']])}")
    return "\n    ".join(lines)


def failures(rows: list[Row]) -> list[str]:
    """Return a sentence for each claim on which the referee is refuted."""
    return [f"{row['id']} {row['failure']}" for row in rows if row["holds"] is False]


def summary(claims: list[Row], traps: list[Row]) -> str:
    """Return how many claims have which verdict, and how many evaluations show it."""
    count = Counter(row["verdict"] for row in claims)
    parts = [f"{count[verdict]} {verdict}" for verdict in VERDICTS if count[verdict]]
    said = [f"{_many(len(claims), 'claim')} of the notes: {', '.join(parts)}."] if claims else []
    if traps:
        said.append(f"{_many(len(traps), 'false statement')} of the literature.")
    rows = [*claims, *traps]
    shown = [
        _many(sum(row[name] is not None for row in rows), name)
        for name in ("counterexample", "check")
    ]
    said.append(f"{' and '.join(shown)} evaluated.")
    if wrong := failures(rows):
        said.append(f"{len(wrong)} REFUTED.")
    return " ".join(said)


def _many(number: int, name: str) -> str:
    return f"{number} {name}" + ("" if number == 1 else "s")
