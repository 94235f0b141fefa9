"""The engine's gradient over any number system, and as a record that can be replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.sweeps import ancestors, sweep_backward
from tinygrad_rnn.autodiff.tensor import Tensor, Trace
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars import Ball, ball

SELECTIONS = {"np.maximum", "np.minimum", "np.where", "getitem"}


def value_and_gradient(
    phi: Callable[..., Any],
    variables: Sequence[Array],
    visit: Callable[[Tensor], None] = lambda node: None,
) -> tuple[Array, list[Array]]:
    """Return the value of the scalar ``phi`` and its gradient by all its variables.

    On the way ``visit`` sees every node of the record.

    Raises
    ------
    TypeError
        If ``phi`` cannot be run on Tensors, or leaves the number system of its variables: a float
        that once was a ball would look like a constant.
    ValueError
        If ``phi`` is not scalar.
    """
    output, leaves = _record(phi, variables)
    if isinstance(output, (tuple, list, dict)):
        raise ValueError(f"f must return a scalar, got a {type(output).__name__} of results.")
    if np.shape(output) != ():
        raise ValueError(f"f must return a scalar, got shape {np.shape(output)}. Sum it to a loss.")
    if type(output) is not Tensor:
        return np.asarray(output), [0 * v._value for v in leaves]
    for node in ancestors([output]):
        visit(node)
        if _rounds(node):
            raise TypeError(
                f"{operation(node)} rounded the number system of the arguments to {node.dtype}. "
                "Keep to functions that do not convert."
            )
    seed = np.asarray(1, leaves[0].dtype)  # exact in every number system
    if seed.dtype.hasobject and isinstance(output._value.item(), Ball):
        seed = ball(1)  # a bare 1 times a float constant would be a float, and round from there on
    return output._value, sweep_backward([output], [seed], leaves)


def _rounds(node: Tensor) -> bool:
    """Return whether a node made floats of another number system's elements.

    What selects may return a constant: it is exact.
    """
    if node._origin is None or node.dtype.kind not in "fc" or operation(node) in SELECTIONS:
        return False
    values = [v for v in node._origin[1] if isinstance(v, np.ndarray) and v.dtype.hasobject]
    return any(not isinstance(e, (int, float)) for v in values for e in v.flat)


def gradient(phi: Callable[..., Any], variables: Sequence[Array]) -> list[Array]:
    """Return the gradient of the scalar ``phi`` by all its variables."""
    return value_and_gradient(phi, variables)[1]


def operation(node: Tensor) -> str:
    """Return the name of the function that made a node; that of an argument is empty."""
    return node._origin[0].name if node._origin else ""


def record(phi: Callable[..., Any], variables: Sequence[Array]) -> list[Tensor]:
    """Return the nodes of a run of ``phi`` that depend on the variables, in order."""
    output, _ = _record(phi, variables)
    return ancestors([output]) if type(output) is Tensor else []


def recorded_gradient(
    phi: Callable[..., Any], variables: Sequence[Array]
) -> tuple[list[Array], list[Tensor]]:
    """Return the gradient and the record of its own computation, in order.

    The gradient's entries are Tensors of an outer trace, which recorded both sweeps. The seed of
    the backward sweep belongs to that trace too, so that no step of it is taken for a constant.
    """
    outer = Trace()
    try:
        seed = Tensor(np.ones(()), outer)
        sources = [Tensor(v, outer) for v in variables]
        output, leaves = _record(phi, sources)
        gradients: list[Array] = [0 * v for v in sources]
        if type(output) is Tensor and output._trace is not outer:
            gradients = sweep_backward([output], [seed], leaves)
    finally:
        outer.live = False
    return gradients, ancestors([g for g in gradients if type(g) is Tensor])


def _record(phi: Callable[..., Any], variables: Sequence[Array]) -> tuple[Any, list[Tensor]]:
    trace = Trace()
    try:
        leaves = [Tensor(v, trace) for v in variables]
        return phi(*leaves), leaves
    finally:
        trace.live = False
