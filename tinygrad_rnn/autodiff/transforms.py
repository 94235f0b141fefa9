"""From functions to their derivatives: vjp and jvp, and what follows from them.

Both run the function once on Tensors of a trace of their own and then sweep over the record,
backward or forward. Arguments and results may be nested dicts, tuples and lists of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.rule import rule
from tinygrad_rnn.autodiff.sweeps import sweep_backward, sweep_forward
from tinygrad_rnn.autodiff.tensor import Array, Tensor, Trace
from tinygrad_rnn.autodiff.trees import flatten


class _Record:
    """One run of ``f``: the leaves it started from, and its outputs as nodes of the record."""

    def __init__(
        self, f: Callable[..., Any], args: Sequence[Any], keywords: dict[str, Any]
    ) -> None:
        inputs, rebuild_args = flatten(tuple(args))
        with Trace() as trace:
            self.leaves = [Tensor.leaf(x, trace) for x in inputs]
            self.outputs, self.rebuild = flatten(f(*rebuild_args(self.leaves), **keywords))
        self.traced = [
            (i, o) for i, o in enumerate(self.outputs) if type(o) is Tensor and o._trace is trace
        ]

    @property
    def value(self) -> Any:
        """The result, with this trace stripped."""
        plain = list(self.outputs)
        for i, node in self.traced:
            plain[i] = node._value
        return self.rebuild(plain)

    def pull(self, cotangents: Sequence[Any], *, release: bool = False) -> list[Array]:
        nodes = [node for _, node in self.traced]
        seeds = [cotangents[i] for i, _ in self.traced]
        return sweep_backward(nodes, seeds, self.leaves, release=release)

    def push(self, tangents: Sequence[Any]) -> Any:
        moved = sweep_forward([node for _, node in self.traced], self.leaves, tangents)
        out = [np.zeros_like(o) for o in self.outputs]
        for (i, _), t in zip(self.traced, moved, strict=True):
            out[i] = t
        return self.rebuild(out)


def _like(trees: Any, patterns: Any, what: str) -> list[Array]:
    """Flatten ``trees`` and check that shapes are those of ``patterns``."""
    leaves, originals = flatten(trees)[0], flatten(patterns)[0]
    if len(leaves) != len(originals):
        raise ValueError(f"Expected {len(originals)} {what} arrays, got {len(leaves)}.")
    for leaf, original in zip(leaves, originals, strict=True):
        if np.shape(leaf) != np.shape(original):
            raise ValueError(
                f"A {what} must have the shape of its value, {np.shape(original)}, "
                f"got {np.shape(leaf)}."
            )
    return leaves


def vjp(f: Callable[..., Any], *args: Any, **keywords: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Return ``f(*args)`` and its pullback: cotangent of the result ↦ cotangents of the arguments.

    The vector–Jacobian product g ↦ (g·∂f/∂a₁, g·∂f/∂a₂, …). The pullback may be called repeatedly.

    Raises
    ------
    TypeError
        If an argument is not floating-point.
    ValueError
        If a cotangent has not the shape of the result.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> y, pullback = tg.vjp(np.sin, np.array([0.0, 1.0]))
    >>> pullback(np.array([1.0, 0.0]))[0].tolist()
    [1.0, 0.0]
    """
    record = _Record(f, args, keywords)
    value = record.value

    def pullback(cotangent: Any) -> Any:
        return flatten(args)[1](record.pull(_like(cotangent, value, "cotangent")))

    return value, pullback


def jvp(f: Callable[..., Any], args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Return ``f(*args)`` and its derivative in the direction of ``tangents``.

    The Jacobian–vector product Σᵢ ∂f/∂aᵢ·tᵢ, by one forward sweep.

    Raises
    ------
    TypeError
        If an argument is not floating-point.
    ValueError
        If a tangent has not the shape of its argument.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> y, dy = tg.jvp(np.sin, (0.0,), (2.0,))
    >>> float(dy)
    2.0
    """
    pushed = [np.asarray(t) if type(t) is not Tensor else t
              for t in _like(tuple(tangents), tuple(args), "tangent")]  # fmt: skip
    record = _Record(f, args, {})
    return record.value, record.push(pushed)


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return the function that computes ``f(*args)`` and its gradient together.

    See :func:`grad`.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> value, gradient = tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient.tolist()
    (5.0, [2.0, 4.0])
    """
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def value_and_gradient(*args: Any, **keywords: Any) -> tuple[Any, Any]:
        def of_chosen(*chosen: Any) -> Any:
            full = list(args)
            for i, x in zip(numbers, chosen, strict=True):
                full[i] = x
            return f(*full, **keywords)

        if any(not -len(args) <= i < len(args) for i in numbers):
            raise ValueError(
                f"argnums={argnums} but the function was called with {len(args)} arguments."
            )
        chosen = tuple(args[i] for i in numbers)
        record = _Record(of_chosen, chosen, {})
        value = record.value
        if np.shape(value) != () or isinstance(value, (dict, list, tuple, type(None))):
            what = f"shape {np.shape(value)}" if hasattr(value, "shape") else type(value).__name__
            raise ValueError(
                f"grad needs a function that returns a scalar, got {what}. Sum it to a loss, or use "
                "tg.vjp or tg.jacobian."
            )
        gradient = flatten(chosen)[1](record.pull([np.ones_like(value)], release=True))
        return value, gradient[0] if isinstance(argnums, int) else gradient

    return value_and_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """Return the gradient of a scalar function, by one backward sweep.

    Parameters
    ----------
    f
        A function of arrays (or nested dicts, tuples, lists of arrays), written in NumPy.
    argnums
        Which argument to differentiate; with a tuple the result is a tuple.

    Raises
    ------
    TypeError
        If an argument to differentiate is not floating-point.
    ValueError
        If the result is not a scalar.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> loss = lambda p, x: np.sum(np.tanh(x @ p["W"]) ** 2)
    >>> tg.grad(loss)({"W": np.ones((2, 1))}, np.zeros((3, 2)))
    {'W': array([[0.],
           [0.]])}
    """
    both = value_and_grad(f, argnums)
    return lambda *args, **keywords: both(*args, **keywords)[1]


def jacobian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """Return the function that computes ∂out/∂in, of shape ``out.shape + in.shape``.

    The argument may be a tree of arrays; then so is the result. One backward sweep per output entry,
    or one forward sweep per input entry, whichever are fewer.

    Raises
    ------
    ValueError
        If the result is not one array.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.jacobian(lambda x: x**2)(np.array([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    def of_args(*args: Any, **keywords: Any) -> Any:
        def of_one(x: Any) -> Any:
            return f(*args[:argnums], x, *args[argnums + 1 :], **keywords)

        inputs, rebuild = flatten(args[argnums])
        record = _Record(of_one, (args[argnums],), {})
        value = record.value
        if not hasattr(value, "shape"):
            raise ValueError(
                f"jacobian needs a function that returns one array, got {type(value).__name__}."
            )
        shapes = [np.shape(x) for x in inputs]
        if np.size(value) <= sum(int(np.prod(s)) for s in shapes):
            rows = [record.pull([unit]) for unit in _units(value)]
            blocks = [
                np.reshape(_stack_or_empty([r[k] for r in rows], s, value), value.shape + s)
                for k, s in enumerate(shapes)
            ]
        else:
            blocks = []
            for k, x in enumerate(inputs):
                zeros = [np.zeros_like(leaf.data) for leaf in record.leaves]
                columns = [record.push([*zeros[:k], unit, *zeros[k + 1 :]]) for unit in _units(x)]
                block = _stack_or_empty(columns, value.shape, value)
                blocks.append(np.reshape(np.moveaxis(block, 0, -1), value.shape + shapes[k]))
        return rebuild(blocks)

    return of_args


def _units(like: Array) -> list[Array]:
    """The unit vectors of the space ``like`` lives in."""
    zeros = np.zeros_like(like if type(like) is Tensor else np.asarray(like))
    units = []
    for i in range(zeros.size):
        unit = zeros.copy()
        unit.flat[i] = 1
        units.append(unit)
    return units


def _stack_or_empty(rows: list[Array], shape: tuple[int, ...], like: Array) -> Array:
    return np.stack(rows) if rows else np.zeros((0, *shape), like.dtype)


def hvp(f: Callable[..., Any], x: Any, v: Any) -> Any:
    """Return the Hessian of a scalar function times ``v``: forward mode over reverse mode.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0])).tolist()
    [6.0, 12.0]
    """
    return jvp(grad(f), (x,), (v,))[1]


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``f`` as one operation of the record: its own steps are recomputed when needed.

    Saves memory for time. All results of ``f`` must have one dtype.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> step = tg.checkpoint(lambda h: np.tanh(h) * h)
    >>> float(tg.grad(step)(1.0)) == float(tg.grad(lambda h: np.tanh(h) * h)(1.0))
    True
    """

    def checkpointed(*args: Any) -> Any:
        leaves, rebuild_args = flatten(args)
        layout: list[Any] = []  # filled while f runs: the shapes of its results and their tree

        def vector(*xs: Any) -> Array:
            outputs, rebuild = flatten(f(*rebuild_args(list(xs))))
            layout[:] = [[np.shape(o) for o in outputs], rebuild]
            return np.concatenate([np.reshape(o, (-1,)) for o in outputs])

        def push(tangents: list[Any], y: Array, *xs: Any) -> Array:
            full = [np.zeros_like(x) if t is None else t for t, x in zip(tangents, xs, strict=True)]
            return jvp(vector, xs, full)[1]

        whole = rule(vector, push, lambda g, y, *xs: vjp(vector, *xs)[1](g))(*leaves)
        shapes, rebuild = layout
        sizes = [int(np.prod(s)) for s in shapes]
        parts = np.split(whole, np.cumsum(sizes)[:-1])
        return rebuild([np.reshape(p, s) for p, s in zip(parts, shapes, strict=True)])

    return checkpointed
