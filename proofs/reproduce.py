"""A case as Python source: exact to the last bit, to paste, to save and to run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from .catalogue import SYSTEMS, Case


def python(value: Any) -> str:
    """Return an expression that evaluates to ``value``, given the names of :func:`imports`."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {python(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(python, value)) + (",)" if len(value) == 1 else ")")
    if isinstance(value, list):
        return "[" + ", ".join(map(python, value)) + "]"
    if isinstance(value, np.ndarray):
        plain = value.dtype.name in ("float64", "int64", "bool")
        dtype = "" if plain and value.size else f", {value.dtype.name!r}"
        if value.size:
            return f"array({python(value.tolist())}{dtype})"
        return f"zeros({value.shape}{dtype})"
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(f"{f.name}={python(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__name__}({inside})"
    return value.__name__ if callable(value) else repr(value)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """The module and the name of every class and function that ``python(value)`` mentions."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _named(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _named(part)
    elif isinstance(value, np.ndarray):
        yield from _named(value.ravel().tolist())
        yield "numpy", "array" if value.size else "zeros"
    elif callable(value):
        yield value.__module__, value.__name__
    elif not isinstance(value, (str, int, float, complex, type(None), np.generic)):
        yield type(value).__module__, type(value).__name__
        if is_dataclass(value):
            yield from _named([getattr(value, f.name) for f in fields(value)])


def imports(value: Any) -> str:
    """Return the import statements that ``python(value)`` needs."""
    named = {("numpy", "inf"), ("numpy", "nan")} | set(_named(value))
    lines = ["import numpy as np"]
    for module in sorted({module for module, _ in named}):
        names = sorted(name for home, name in named if home == module)
        lines.append(f"from {module} import {', '.join(names)}")
    return "\n".join(lines)


def script(id: str, system: str, case: Case, example: int, failure: str) -> str:
    """Return a program that shows a refutation again, whatever Hypothesis draws."""
    arguments = [repr(id), repr(system), "case"] + [f"example={example}"] * (system == "field")
    body = "".join(f"    {name!r}: {python(value)},\n" for name, value in case.items())
    return (
        f"# {id} is refuted in {SYSTEMS[system]}, on this case. What was seen:\n"
        + "".join(f"#   {line}\n" for line in failure.splitlines())
        + f"{imports(case)}\n"
        "from tinygrad_rnn.proofs import evidence\n\n"
        f"case = {{\n{body}}}\n"
        f"evidence.replay({', '.join(arguments)})\n"
        f'print("{id} holds on this case.")\n'
    )


LARGEST = 256


def arrays(case: Any, name: str = "") -> dict[str, Any]:
    """Return the small real arrays of a case as nested lists, by their place in it."""
    if isinstance(case, dict):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in case.items()]
    elif isinstance(case, tuple):
        parts = [(f"{name}[{i}]", part) for i, part in enumerate(case)]
    else:
        drawable = isinstance(case, np.ndarray) and case.dtype.kind == "f"
        small = drawable and 0 < case.size <= LARGEST and np.isfinite(case).all()
        return {name: case.tolist()} if small else {}
    return {k: v for place, part in parts for k, v in arrays(part, place).items()}
