"""The ways to call a backward pass of which only the inputs and outputs are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One way to call: ``only`` one output has a cotangent, at one ``row`` of its axis 0."""

    values: str = "given"
    only: int | None = None
    row: int | None = None
    dtype: str | None = None
    contiguous: bool = True
    protocol: str = "once"
    scale: float = 1.0

    def __str__(self) -> str:
        special = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value != getattr(Case, name)
        ]
        return ", ".join(special) or "the inputs as given"


def described(made: Any) -> str:
    """Describe what was returned: types and shapes."""
    if isinstance(made, (tuple, list)):
        return f"({', '.join(described(part) for part in made)})"
    shape = f" of shape {made.shape}" if hasattr(made, "shape") else ""
    return type(made).__name__ + shape
