"""One formula of a backward pass, with the layer's numbers put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tinygrad_rnn.check.layer.probe import Step
from tinygrad_rnn.functions import Array


@dataclass
class Equation:
    """got = source ∘ factor + rest, a cotangent in each row; ``others`` are wrong sources."""

    what: str
    got: Array
    source: Array
    factor: Array
    rest: Array | float = 0.0
    others: Mapping[str, Array] = field(default_factory=dict)


def fitted(e: Equation, rows: slice, s: Step) -> Array | None:
    """Return the factor with which the equation holds, None if there is none."""
    source, rest = e.source[rows], np.broadcast_to(e.rest, e.got.shape)[rows]
    got = e.got[rows]
    factor: Array = np.sum(source * (got - rest), axis=0) / np.sum(source * source, axis=0)
    return factor if s.probe.near(got, source * factor + rest) else None
