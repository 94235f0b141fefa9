"""The inputs of a cell over time: checked once, batched, and for a backward pass of one dtype."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.cells.cell import Cell, Letters, Params, State, check_numbers, check_shape
from tinygrad_rnn.functions import Array

Gradients = dict[str, Any]  # every parameter and "x": an array; "state": a tuple of arrays


class Problem(NamedTuple):
    """What a road is given: checked arrays of one dtype, always with the axis N."""

    cell: Cell
    params: dict[str, Array]
    x: Array
    state: State
    d_outputs: Array
    d_state: State

    def zeros(self) -> Gradients:
        """Return the gradient zero."""
        gradients: Gradients = {name: np.zeros_like(p) for name, p in self.params.items()}
        gradients["x"] = np.zeros_like(self.x)
        gradients["state"] = tuple(np.zeros_like(s) for s in self.state)
        return gradients


def prepare(
    cell: Cell, params: Params, x: Array, state: State | None
) -> tuple[dict[str, Array], Array, State, bool]:
    """Check the inputs and give them the axis N; the flag says that it was absent."""
    params, x, state, single = _shaped(cell, params, x, state)
    names = _labels("state", cell.state_names)
    arrays = check_numbers({"x": x, **params, **dict(zip(names, state, strict=True))})
    return {n: arrays[n] for n in params}, arrays["x"], tuple(arrays[n] for n in names), single


def _shaped(
    cell: Cell, params: Params, x: Array, state: State | None
) -> tuple[dict[str, Array], Array, State, bool]:
    """Check the shapes of the inputs and give them the axis N."""
    if isinstance(cell, type):
        raise TypeError(f"cell must be a cell, such as {cell.__name__}(D=2, H=3), got the class.")
    cell.check(params)
    params = {name: _array(params[name]) for name in cell.layout}
    x = _array(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"x must have shape (T, N, D), or (T, D) for one sequence, got {x.shape}.")
    single = x.ndim == 2
    N = 1 if single else x.shape[1]
    if N == 0:
        raise ValueError(f"x must hold at least one sequence, got N = 0 in shape {x.shape}.")
    sizes = {**cell.sizes, "T": x.shape[0], "N": N}
    x = _batched("x", x, ("T", "N", "D"), sizes, single)
    if state is None:
        state = cell.initial_state(N, x.dtype)
    else:
        _check_components("state", state, cell)
        names = _labels("state", cell.state_names)
        state = tuple(
            [
                _batched(name, s, ("N", "H"), sizes, single)
                for name, s in zip(names, state, strict=True)
            ]
        )
    return params, x, state, single


@cache
def _labels(what: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{what} {name}" for name in names)


def pose(
    cell: Cell,
    params: Params,
    x: Array,
    d_outputs: Array,
    state: State | None,
    d_state: tuple[Array | None, ...] | None,
) -> tuple[Problem, bool]:
    """Check all inputs and bring them to one dtype: beside complex ones, real ones are complex."""
    params, x, state, single = _shaped(cell, params, x, state)
    sizes = {**cell.sizes, "T": x.shape[0], "N": x.shape[1]}
    d_outputs = _batched("d_outputs", d_outputs, ("T", "N", "H"), sizes, single)
    states, finals = _labels("state", cell.state_names), _labels("d_state", cell.state_names)
    if d_state is None:
        d_state = (None,) * len(state)
    _check_components("d_state", d_state, cell)
    d_final = [
        np.zeros(s.shape, s.dtype) if d is None else _batched(name, d, ("N", "H"), sizes, single)
        for name, d, s in zip(finals, d_state, state, strict=True)
    ]
    arrays: Mapping[str, Array] = {
        "x": x,
        **params,
        **dict(zip(states, state, strict=True)),
        "d_outputs": d_outputs,
        **dict(zip(finals, d_final, strict=True)),
    }
    if Tensor in map(type, arrays.values()):
        raise TypeError(
            "bptt takes arrays, got a Tensor. Inside a function that is being differentiated call "
            "unroll: the transform does the backward sweep."
        )
    arrays = check_numbers(arrays)
    dtype = np.result_type(*arrays.values())
    arrays = {name: a.astype(dtype, copy=False) for name, a in arrays.items()}
    return Problem(
        cell,
        {name: arrays[name] for name in params},
        arrays["x"],
        tuple([arrays[name] for name in states]),
        arrays["d_outputs"],
        tuple([arrays[name].copy() for name in finals]),  # without steps it is returned
    ), single


def check_lengths(lengths: Array, x: Array, single: bool) -> Array:
    """Refuse lengths that are not one integer from 0 to T for each sequence."""
    T, N = x.shape[:2]
    lengths = _batched("lengths", lengths, ("N",), {"N": N}, single)
    if lengths.dtype.kind not in "iu" or (lengths < 0).any() or (lengths > T).any():
        raise ValueError(f"lengths must be integers from 0 to T = {T}, got {lengths}.")
    return lengths.astype(np.int64)


def _array(a: Array) -> Array:
    return a if type(a) is Tensor else np.asarray(a)


def _batched(
    name: str, a: Array, letters: Letters, sizes: Mapping[str, int], single: bool
) -> Array:
    """Check the shape of ``a``; where N is absent from it, insert it."""
    a = _array(a)
    if not single:
        check_shape(name, a, letters, sizes)
        return a
    check_shape(name, a, tuple(s for s in letters if s != "N"), sizes)
    return a[:, None] if letters[0] == "T" else a[None]


def _check_components(name: str, state: Any, cell: Cell) -> None:
    names = cell.state_names
    if not isinstance(state, tuple) or len(state) != len(names):
        got = f"{len(state)} of them" if isinstance(state, tuple) else type(state).__name__
        shape = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
        raise TypeError(f"{name} must be the tuple {shape}, got {got}.")
