"""Recurrent problems for the tests: every cell, random sizes, any number system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.scalars import field, rational

Array = Any
Fill = Callable[[tuple[int, ...]], Array]

PIECEWISE_LINEAR = [
    lambda D, H, f=f: RNNCell(D, H, activation=f) for f in ("relu", "leaky_relu", "identity")
]
GATED = [
    *(
        lambda D, H, v=v: GRUCell(D, H, variant=v)
        for v in ("minimal", "reset_before", "reset_after")
    ),
    *(lambda D, H, p=p: LSTMCell(D, H, peephole=p) for p in (False, "diagonal", "full")),
]
# Over a finite field: no order, so no relu.
POLYNOMIAL = [
    *(lambda D, H, f=f: RNNCell(D, H, activation=f) for f in ("tanh", "sigmoid", "identity")),
    *GATED,
]
ALL = [*PIECEWISE_LINEAR, *POLYNOMIAL[:2], *GATED]

sizes = st.integers(1, 4)
lengths_of_time = st.integers(0, 6)
seeds = st.integers(0, 2**32 - 1)


def cells(makers: list[Callable[[int, int], Cell]]) -> st.SearchStrategy[Cell]:
    return st.builds(lambda make, D, H: make(D, H), st.sampled_from(makers), sizes, sizes)


def in_field(rng: np.random.Generator) -> Fill:
    return lambda shape: field(shape, rng)


def in_rationals(rng: np.random.Generator) -> Fill:
    """Quarters: small enough to stay exact in float64 too, and often exactly on a kink."""
    return lambda shape: rational(rng.integers(-8, 9, shape)) / 4


def in_floats(rng: np.random.Generator, gain: float, dtype: Any = np.float64) -> Fill:
    """Uniform on ±gain."""
    return lambda shape: rng.uniform(-gain, gain, shape).astype(dtype)


def fill_params(cell: Cell, fill: Fill) -> dict[str, Array]:
    return {name: fill(shape) for name, shape in cell.shapes.items()}


def fill_state(cell: Cell, N: int, fill: Fill) -> tuple[Array, ...]:
    return tuple(fill((N, cell.H)) for _ in cell.state_names)


def problem(cell: Cell, T: int, N: int, fill: Fill) -> dict[str, Any]:
    """The keyword arguments of bptt, every array filled."""
    return {
        "params": fill_params(cell, fill),
        "x": fill((T, N, cell.D)),
        "d_outputs": fill((T, N, cell.H)),
        "state": fill_state(cell, N, fill),
        "d_state": fill_state(cell, N, fill),
    }


def lift(f: Callable[[Array], Array], tree: Any) -> Any:
    """Apply ``f`` to every array of a dict or tuple of arrays."""
    if isinstance(tree, dict):
        return {name: lift(f, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(lift(f, part) for part in tree)
    return f(tree)


def arrays(tree: Any, name: str = "") -> dict[str, Array]:
    """Flatten a dict or tuple of arrays to named arrays."""
    if isinstance(tree, (dict, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {n: a for k, part in items for n, a in arrays(part, f"{name}/{k}").items()}
    return {name: np.asarray(tree)}


def assert_same(a: Any, b: Any) -> None:
    """Demand the same names, shapes and values, without a tolerance."""
    a, b = arrays(a), arrays(b)
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].shape == b[name].shape, name
        assert np.all(a[name] == b[name]), name


def assert_within(a: Any, b: Any, bound: Any) -> None:
    """Demand |a − b| ≤ bound, entry by entry, and that the bound says something."""
    a, b, bound = arrays(a), arrays(b), arrays(bound)
    assert a.keys() == b.keys() == bound.keys()
    for name in a:
        assert a[name].shape == b[name].shape == bound[name].shape, name
        assert np.isfinite(bound[name]).all(), name
        gap = np.abs(a[name].astype(np.float64) - b[name].astype(np.float64))
        assert np.all(gap <= bound[name]), (name, gap, bound[name])


def total(*bounds: Any) -> Any:
    """Add trees of bounds of the same structure, rounding upwards."""
    first, *others = bounds
    if not others:
        return first
    rest = total(*others)
    if isinstance(first, dict):
        return {name: total(first[name], rest[name]) for name in first}
    if isinstance(first, tuple):
        return tuple(map(total, first, rest))
    return np.nextafter(first + rest, np.inf)
