"""Floats with all their bits, which round in every operation, for the theorems on rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flint
import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.cells import RNNCell

from .catalogue import Case
from .strategies import GATED, RNN_ACTIVATIONS, Draw

Array = Any


def floats(array: Array, dtype: Any = float) -> Array:
    """Return the floats of a case again, from whatever number system they were lifted to."""
    return np.asarray(array).astype(float).astype(dtype)


def tree(f: Callable[[Array], Array], data: Any) -> Any:
    """Apply f to every array of a dict or tuple of arrays."""
    if isinstance(data, dict):
        return {name: tree(f, a) for name, a in data.items()}
    return tuple(tree(f, a) for a in data) if isinstance(data, tuple) else f(data)


def in_balls(f: Callable[..., Any], *args: Any, bits: int = 256) -> Any:
    """Evaluate f on balls, with at least so many bits."""
    with scalars.precision(max(bits, flint.ctx.prec)):
        return f(*(tree(scalars.ball, a) for a in args))


@st.composite
def rounding_runs(draw: Draw, T: int = 3, N: int = 2, D: int = 2, H: int = 2) -> Case:
    """Draw any cell with parameters, a sequence, a loss, from linear to saturated: ``cell, data``.

    All numbers are floats of random bits, from a seed, in either precision.
    """
    kinds = {f"RNN {f}": f for f in RNN_ACTIVATIONS["float"]}
    kind = draw(st.sampled_from((*kinds, *GATED)))
    n = {k: draw(st.integers(1, top)) for k, top in (("T", T), ("N", N), ("D", D), ("H", H))}
    cell = RNNCell(n["D"], n["H"], kinds[kind]) if kind in kinds else GATED[kind](n["D"], n["H"])
    dtype = draw(st.sampled_from((np.float64, np.float32)))
    gain = draw(st.sampled_from((0.25, 1.0, 8.0)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def random(*shape: int) -> Array:
        return (gain * rng.normal(size=shape)).astype(dtype)

    batch = n["N"], n["H"]
    data = {
        "params": {name: random(*shape) for name, shape in cell.shapes.items()},
        "x": random(n["T"], n["N"], n["D"]),
        "d_outputs": random(n["T"], *batch),
        "state": tuple(np.tanh(random(*batch)) for _ in cell.state_names),
        "d_state": tuple(random(*batch) for _ in cell.state_names),
    }
    return {"cell": cell, "data": data, "dtype": dtype, "family": kind}
