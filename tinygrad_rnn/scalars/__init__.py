"""Number systems for object arrays: one formula, many meanings.

Fractions and GF decide identities exactly, balls enclose, :class:`Rounded` bounds what floats do,
:class:`Count` counts. Only the balls need flint; they are loaded when first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinygrad_rnn.scalars.counting import Count, Tally, counted
from tinygrad_rnn.scalars.field import GF, P, field
from tinygrad_rnn.scalars.rational import assert_exact, rational
from tinygrad_rnn.scalars.rounding import ULPS, Rounded, errors, rounded, values
from tinygrad_rnn.scalars.undecided import Undecided

if TYPE_CHECKING:
    from tinygrad_rnn.scalars.balls import Ball, ball, contains_zero, encloses, ladder, precision

__all__ = [
    "GF",
    "ULPS",
    "Ball",
    "Count",
    "P",
    "Rounded",
    "Tally",
    "Undecided",
    "assert_exact",
    "ball",
    "contains_zero",
    "counted",
    "encloses",
    "errors",
    "field",
    "ladder",
    "precision",
    "rational",
    "rounded",
    "values",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("tinygrad_rnn.scalars.balls"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
