"""A gradient with a bound, entry by entry, on what rounding does to a correct evaluation of it.

The model of one operation is that of :mod:`tinygrad_rnn.check.roundoff`, with one difference: tanh
and σ are allowed an absolute error of 8u, because each is often computed from the other, and σ'
therefore one of 18u. The errors
are then propagated through the record of both sweeps in magnitude, E_y = Σ |∂y/∂aᵢ| Eᵢ + ε_y. This
ignores that errors may cancel, which over the few steps of a designed input costs little, and it
needs one pass and no chance.

Where a value is within its own error of a kink, a correct evaluation may take either side: there
the derivative's error is the height of the jump.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autodiff.sweeps import ancestors, sweep_backward
from tinygrad_rnn.autodiff.tensor import Tensor, Trace, raw
from tinygrad_rnn.check.roundoff import EXACT, FUNCTION, HELD, roundings
from tinygrad_rnn.check.tape import operation
from tinygrad_rnn.functions import Array

MULTILINEAR = {"np.multiply", "np.matmul", "np.einsum"}
SQUASHING = {"np.tanh", "sigmoid"}
LIPSCHITZ = {"relu", "leaky_relu", "np.absolute"}  # with constant 1, across their kinks
FORMULAS = 4  # correct formulas differ in the number and the order of their operations

Inputs = Mapping[str, Array]
Function = Callable[[Inputs], Sequence[Array]]


class Bounded(NamedTuple):
    """The true numbers, and what rounding may change each by."""

    value: Array
    error: Array

    def wrong(self, got: Array) -> Array:
        """Say entry by entry whether ``got`` is further off than rounding explains."""
        with np.errstate(all="ignore"):
            off = ~(np.abs(np.asarray(got, np.float64) - self.value) <= self.error)
        return off & np.isfinite(self.value) & np.isfinite(self.error)


class Reference(NamedTuple):
    """The outputs and the gradient of a specification, with bounds."""

    outputs: list[Bounded]
    gradients: dict[str, Bounded]


def differentiate(
    f: Function,
    inputs: Inputs,
    cotangents: Callable[[Sequence[Array]], Sequence[Array | None]],
    precision: np.dtype[Any],
) -> Reference:
    """Return outputs and gradients of ``f`` in float64, and bounds for a layer of ``precision``.

    ``cotangents`` maps the outputs to cotangents of their shapes; None means zero.
    """
    info = np.finfo(precision)
    with np.errstate(all="ignore"):
        outputs, gradients = _record(f, inputs, cotangents)
        nodes = ancestors([v for v in (*outputs, *gradients.values()) if type(v) is Tensor])
        errors = _propagate(nodes, FORMULAS * float(info.eps) / 2, float(info.smallest_subnormal))

        def bounded(v: Array) -> Bounded:
            value = np.asarray(raw(v))
            error = errors[v._serial] if type(v) is Tensor else np.zeros(value.shape)
            slack = info.eps * np.abs(value) + 2 * float(info.smallest_subnormal)
            overflow = np.abs(value) > float(info.max)
            return Bounded(value, np.where(overflow, np.inf, error + slack))

        return Reference(
            [bounded(v) for v in outputs], {name: bounded(g) for name, g in gradients.items()}
        )


def _record(
    f: Function, inputs: Inputs, cotangents: Callable[[Sequence[Array]], Sequence[Array | None]]
) -> tuple[list[Array], dict[str, Array]]:
    """Run both sweeps on Tensors of an outer trace, which records them."""
    outer, inner = Trace(), Trace()
    try:
        sources = {k: Tensor(np.asarray(v, np.float64), outer) for k, v in inputs.items()}
        leaves = {k: Tensor(v, inner) for k, v in sources.items()}
        made = list(f(leaves))
        outputs = [o._value if type(o) is Tensor and o._trace is inner else o for o in made]
        given = cotangents([np.asarray(raw(o)) for o in outputs])
        seeded = [
            (o, Tensor(np.asarray(c, np.float64), outer))
            for o, c in zip(made, given, strict=True)
            if c is not None and type(o) is Tensor and o._trace is inner
        ]
        found = sweep_backward([o for o, _ in seeded], [c for _, c in seeded], [*leaves.values()])
    finally:
        outer.live = inner.live = False
    return outputs, dict(zip(leaves, found, strict=True))


def _propagate(nodes: Sequence[Tensor], u: float, tiny: float) -> dict[int, Array]:
    """Return a bound on every node's error, by its serial number."""
    errors: dict[int, Array] = {}
    for node in nodes:
        name = operation(node)
        error = 0.0 if node._origin is None else _inherited(node, name, errors)
        if name in SQUASHING:
            error = error + FUNCTION * u
        elif name == "d_sigmoid":
            error = error + 18 * u
        elif name not in EXACT:
            error = error + u * roundings(node) + tiny
        shape = node._value.shape
        errors[node._serial] = error if np.shape(error) == shape else np.broadcast_to(error, shape)
    return errors


def _inherited(node: Tensor, name: str, errors: dict[int, Array]) -> Array:
    """Return Σ |∂y/∂aᵢ| Eᵢ, and for products Eᵢ Eⱼ too."""
    rule, values, keywords, parents = node._origin  # type: ignore[misc]  # no leaf
    inward = [None if p is None else errors[p._serial] for p in parents]
    if name in HELD:
        return np.where(np.abs(values[0]) <= inward[0], 1.0, 0.0)
    if name in LIPSCHITZ:
        return inward[0]
    if name in MULTILINEAR:
        values = [
            np.abs(v) + (0.0 if e is None else e) if hasattr(v, "dtype") else v
            for v, e in zip(values, inward, strict=True)
        ]
    if not isinstance(rule.jvps, tuple):
        return np.abs(rule.jvps(inward, node._value, *values))
    total: Array = 0.0
    for error, jvp in zip(inward, rule.jvps):  # noqa: B905  # options have no product
        if error is not None and jvp is not None:
            total = total + np.abs(jvp(error, node._value, *values, **keywords))
    return total
