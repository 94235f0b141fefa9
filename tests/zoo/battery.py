"""The inputs that the zoo's truth is established on, and what a layer gets wrong on them.

The reference is the library's BPTT by closed-form Jacobians in float64. A gradient is wrong if an
entry differs by more than rounding may explain: by the bound of
`tinygrad_rnn.check.layer.rounding` for the layer's precision.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer.layout import LayerMap, as_map
from tinygrad_rnn.check.layer.rounding import differentiate

from .entry import CELLS, Array, Entry, Gradients
from .stacks import Composite


@dataclass(frozen=True)
class Case:
    """Sizes, scales, and which outputs have a cotangent: hs or only h_step, h_T, c_T."""

    T: int = 7
    N: int = 5
    D: int = 3
    H: int = 2
    weights: float = 1.0  # their standard deviation
    states: float = 1.0
    cotangents: float = 1.0
    on: tuple[str, ...] = ("hs", "h", "c")
    step: int | None = None
    dtype: str = "float64"
    contiguous: bool = True
    seed: int = 0


CASES = {
    "all": Case(),
    "other numbers": Case(T=6, N=4, D=2, H=3, seed=1),
    "outputs only": Case(on=("hs",)),
    "final state only": Case(on=("h",)),
    "final memory only": Case(on=("c",)),
    "one step": Case(T=1),
    "one sequence": Case(N=1),
    "one of all": Case(T=1, N=1, D=1, H=1),
    "initial state zero": Case(states=0),
    "contractive": Case(T=12, weights=0.05, on=("h", "c")),
    "critical": Case(T=12, weights=0.5),
    "long": Case(T=24, N=2, weights=0.5),
    "saturated": Case(T=3, weights=600),
    "tiny": Case(cotangents=1e-12),
    "large": Case(cotangents=100),
    "float32": Case(dtype="float32"),
    "strided": Case(contiguous=False),
}


@dataclass(frozen=True)
class Posed:
    """A case for a cell: arrays for the layer, the truth, and what rounding may do."""

    params: dict[str, Array]
    x: Array
    state: tuple[Array, ...]
    d_outputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    gradients: Gradients
    output_bounds: tuple[Array, ...]
    bounds: Gradients


@cache
def posed(name: str, layout: str, case: Case) -> Posed:
    """Pose a case for a cell and a layout, which is the layer's map as JSON.

    Cases that differ in the dtype only have the same numbers: they are drawn in float32.
    """
    cell, rng = CELLS[name](case.D, case.H), np.random.default_rng(case.seed)
    map = as_map(json.loads(layout))

    def normal(scale: float, *shape: int) -> Array:
        return (scale * rng.standard_normal(shape)).astype(np.float32).astype(case.dtype)

    T, N, D, H = case.T, case.N, case.D, case.H
    params = {key: normal(case.weights, *shape) for key, shape in map.shapes(cell).items()}
    x, state = normal(1, T, N, D), tuple(normal(case.states, N, H) for _ in cell.state_names)
    d_outputs = [normal(case.cotangents, T, N, H), *(normal(case.cotangents, N, H) for _ in state)]
    if case.step is not None:
        d_outputs[0][np.arange(T) != case.step - 1] = 0
    keys = ("hs", "h", "c")[: len(d_outputs)]
    present = (d if key in case.on else None for key, d in zip(keys, d_outputs, strict=True))
    return truth(cell, map, params, x, state, tuple(present))


def truth(cell: Any, map: LayerMap, params: Any, x: Array, state: Any, d_outputs: Any) -> Posed:
    """Compute the outputs, the gradient by the layer's own parameters, and the bounds."""
    wide = {key: p.astype(float) for key, p in params.items()}
    initial = tuple(s.astype(float) for s in state)
    d_hs, *d_last = (None if d is None else d.astype(float) for d in d_outputs)
    dense = np.zeros((*x.shape[:2], cell.H)) if d_hs is None else d_hs
    canonical, pullback = tg.vjp(lambda p: map.canonical(cell, p), wide)
    run = tg.unroll(cell, canonical, x.astype(float), initial, method="tape")
    found = tg.bptt(
        cell, canonical, x.astype(float), dense, initial, method="chain", d_state=tuple(d_last)
    )
    names = [f"{key}0" for key in cell.state_names]
    (gradients,) = pullback({name: found[name] for name in canonical})
    gradients |= {"x": found["x"], **dict(zip(names, found["state"], strict=True))}

    def specification(v: Any) -> tuple[Array, ...]:
        own = map.canonical(cell, {name: v[name] for name in params})
        run = tg.unroll(cell, own, v["x"], tuple(v[name] for name in names), method="tape")
        return (run.outputs, *run.final)

    inputs = wide | {"x": x.astype(float), **dict(zip(names, initial, strict=True))}
    rounded = differentiate(specification, inputs, lambda _: (d_hs, *d_last), x.dtype)
    return Posed(
        params,
        x,
        state,
        d_outputs,
        (run.outputs, *run.final),
        gradients,
        tuple(y.error for y in rounded.outputs),
        {name: g.error for name, g in rounded.gradients.items()},
    )


def wrong(entry: Entry, case: Case) -> frozenset[str]:
    """Name what a layer gets wrong: gradients, or "outputs" if the forward pass is.

    One cache is used for three backward passes, the last after a forward pass with other weights;
    the first forward pass is repeated at the end. Every backward call is given the same arrays: a
    layer that changes them fools itself. A layer that answers in float32 is held to float32.
    """
    map, layout, layer = as_map(entry.map), json.dumps(entry.map), entry.layer()
    p = posed(entry.cell, layout, case)
    params, x, state, d_hs, *d_last = deepcopy((p.params, p.x, p.state, *p.d_outputs))
    if d_hs is not None and not case.contiguous:
        d_hs = np.repeat(d_hs, 2, axis=-1)[..., ::2]
    x, d_outputs = map.sequence(x), (map.sequence(d_hs), *d_last)
    with np.errstate(all="ignore"):
        outputs, cache = layer.forward(params, x, *state)
        alone = not isinstance(outputs, tuple)
        if alone:
            outputs, d_outputs = (outputs,), d_outputs[0]
            case = replace(case, on=("hs",) if "hs" in case.on else ())
        p = posed(entry.cell, layout, replace(case, dtype=outputs[0].dtype.name))
        if not _agree(map, outputs, p):
            return frozenset({"outputs"})
        found = [layer.backward(d_outputs, cache) for _ in range(2)]
        layer.forward({name: -a for name, a in params.items()}, x[::-1], *deepcopy(p.state))
        found.append(layer.backward(d_outputs, cache))
        outputs, _ = layer.forward(params, x, *deepcopy(p.state))
        if not _agree(map, (outputs,) if alone else outputs, p):
            return frozenset({"outputs"})
    for g in found:
        g["x"] = map.sequence(g["x"])
    return frozenset(
        name
        for name, expected in p.gradients.items()
        for g in found
        if name not in g or not near(g[name], expected, p.bounds[name])
    )


def _agree(map: LayerMap, outputs: tuple[Array, ...], p: Posed) -> bool:
    hs, *final = outputs
    pairs = zip((map.sequence(hs), *final), p.outputs, p.output_bounds, strict=False)
    return all(near(*pair) for pair in pairs)


def near(got: Array, expected: Array, bound: Array) -> bool:
    return np.shape(got) == expected.shape and bool((np.abs(got - expected) <= bound).all())


def first_wrong_step(entry: Entry, case: Case) -> int | None:
    """Return the first s such that a cotangent on h_s alone finds a wrong gradient.

    For a wrong forward pass, return the length of the shortest sequence on which it is wrong.
    """
    steps = range(1, case.T + 1)
    if "outputs" in entry.culprits:
        return next((s for s in steps if wrong(entry, replace(case, T=s))), None)
    return next((s for s in steps if wrong(entry, replace(case, on=("hs",), step=s))), None)


def wrong_in(entry: Composite, seed: int) -> frozenset[str]:
    """Name what a composite gets wrong, against the differentiated specification."""
    layer, rng = entry.layer(), np.random.default_rng(seed)
    inputs = layer.inputs(rng)
    outputs, cache = layer.run(inputs)
    d_outputs = tuple(rng.standard_normal(y.shape) for y in outputs)
    true = differentiate(layer.reference, inputs, lambda _: d_outputs, np.dtype(float))
    if not all(near(y, *pair) for y, pair in zip(outputs, true.outputs, strict=True)):
        return frozenset({"outputs"})
    found = layer.backward(d_outputs, cache)
    return frozenset(name for name, pair in true.gradients.items() if not near(found[name], *pair))


# Where a condition holds, and nowhere else, the mistake may show.
HOLDS: dict[str, Callable[[Case], bool]] = {
    "T ≥ 2": lambda case: case.T > 1,
    "T ≥ 6": lambda case: case.T > 5,
    "T ≥ 9": lambda case: case.T > 8,
    "T ≥ 11": lambda case: case.T > 10,
    "T ≥ 21": lambda case: case.T > 20,
    "N > 1": lambda case: case.N > 1,
    "N = 1": lambda case: case.N == 1,
    "h0 ≠ 0": lambda case: case.states != 0,
    "a cotangent on h_T": lambda case: "h" in case.on,
    "a cotangent on c_T": lambda case: "c" in case.on,
    "not contiguous": lambda case: not case.contiguous,
    "float64": lambda case: case.dtype == "float64",
    "saturated": lambda case: case.weights >= 100,
    "large cotangents": lambda case: case.cotangents >= 1,
    "small cotangents": lambda case: case.cotangents * case.weights < 0.1,
    "changed in place": lambda case: True,
    "on the second call": lambda case: True,
}
