"""From functions to their derivatives: vjp and jvp, and what follows from them.

Both run the function once on Tensors of a trace of their own and then sweep over the record,
backward or forward. Arguments and results may be nested dicts, tuples and lists of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.sweeps import sweep_backward, sweep_forward
from tinygrad_rnn.autodiff.tensor import LOST, Rule, Tensor, Trace, apply
from tinygrad_rnn.composed import Function
from tinygrad_rnn.functions import Array
from tinygrad_rnn.trees import flatten, in_order_of


class _Record:
    """One run of ``f``: the leaves it started from, and its outputs as nodes of the record."""

    def __init__(self, f: Function, args: Sequence[Any], keywords: dict[str, Any]) -> None:
        inputs, rebuild_args = flatten(tuple(args))
        trace = Trace()
        try:
            self.leaves = [Tensor(x, trace) for x in inputs]
            outputs, self.rebuild = flatten(f(*rebuild_args(self.leaves), **keywords))
        except ValueError as error:
            # NumPy has put "setting an array element with a sequence" over what we said.
            if str(error.__cause__) == LOST and not hasattr(error, "__notes__"):
                error.add_note(LOST)
            raise
        finally:
            trace.live = False
        traced = [type(o) is Tensor and o._trace is trace for o in outputs]
        self.places = [i for i, is_traced in enumerate(traced) if is_traced]
        self.nodes = [outputs[i] for i in self.places]
        self.plain = [o._value if t else o for o, t in zip(outputs, traced, strict=True)]
        self.value = self.rebuild(self.plain)

    def pull(self, cotangents: Sequence[Any], release: bool = False) -> list[Array]:
        seeds = [cotangents[i] for i in self.places]
        return sweep_backward(self.nodes, seeds, self.leaves, release)

    def push(self, tangents: Sequence[Any]) -> Any:
        out = [np.zeros_like(y) for y in self.plain]
        for i, t in zip(self.places, sweep_forward(self.nodes, self.leaves, tangents), strict=True):
            out[i] = t
        return self.rebuild(out)


def _like(tree: Any, pattern: Any, what: str) -> list[Array]:
    """Flatten ``tree`` and check that it has the structure and the shapes of ``pattern``."""
    tree = in_order_of(pattern, tree)
    given, wanted = ([np.shape(x) for x in flatten(t)[0]] for t in (tree, pattern))
    shapes, expected = flatten(tree)[1](given), flatten(pattern)[1](wanted)
    if shapes != expected:
        raise ValueError(f"A {what} must have the shape of its value, {expected}, got {shapes}.")
    return [t if type(t) is Tensor else np.asarray(t) for t in flatten(tree)[0]]


def _of_chosen(f: Function, argnums: Any, args: Any, keywords: Any) -> tuple[Function, Any]:
    """Return ``f`` as a function of the chosen argument, or tuple of arguments, and what it is."""
    one = isinstance(argnums, (int, np.integer))
    numbers = (argnums,) if one else tuple(argnums)
    if any(i not in range(-len(args), len(args)) for i in numbers):
        raise ValueError(
            f"argnums must be positions among {len(args)} arguments, got {numbers}. Arguments to "
            "differentiate are passed by position, not by name: tg.grad(f)(x), not tg.grad(f)(x=x)."
        )

    def of_chosen(chosen: Any) -> Any:
        full = list(args)
        for i, x in zip(numbers, (chosen,) if one else chosen, strict=True):
            full[i] = x
        return f(*full, **keywords)

    return of_chosen, args[argnums] if one else tuple(args[i] for i in numbers)


def vjp(f: Function, *args: Any, **keywords: Any) -> tuple[Any, Callable[[Any], Any]]:
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

    def pullback(cotangent: Any) -> Any:
        return flatten(args)[1](record.pull(_like(cotangent, record.value, "cotangent")))

    return record.value, pullback


def jvp(f: Function, args: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
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
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"jvp takes tuples: jvp(f, (x,), (t,)); got args = {type(args).__name__}.")
    moved = _like(tuple(tangents), tuple(args), "tangent")
    record = _Record(f, args, {})
    return record.value, record.push(moved)


def value_and_grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Return the function that computes ``f(*args)`` and its gradient together.

    See :func:`grad`.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> value, gradient = tg.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient.tolist()
    (5.0, [2.0, 4.0])
    """

    def value_and_gradient(*args: Any, **keywords: Any) -> tuple[Any, Any]:
        of_chosen, x = _of_chosen(f, argnums, args, keywords)
        record = _Record(of_chosen, (x,), {})
        shapes = record.rebuild(list(map(np.shape, record.plain)))
        if shapes != () or not record.plain:
            got = f"shape {shapes}" if record.plain else "None (is a return missing?)"
            raise ValueError(
                f"grad needs a scalar, got {got}. Sum it to a loss, or use tg.vjp or tg.jacobian."
            )
        return record.value, flatten(x)[1](record.pull([np.ones_like(record.value)], release=True))

    return value_and_gradient


def grad(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
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


def jacobian(f: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """Return the function that computes ∂out/∂in, of shape ``out.shape + in.shape``.

    The argument may be a tree of arrays; then so is the result. With a tuple of arguments the
    result is a tuple. It costs one backward sweep per entry of the output.

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
        of_chosen, x = _of_chosen(f, argnums, args, keywords)
        value, pullback = vjp(of_chosen, x)
        if not hasattr(value, "shape"):
            raise ValueError(f"jacobian needs one array as the result, got {type(value)}.")
        unit, (leaves, rebuild) = np.zeros_like(value), flatten(x)
        rows = [list(map(np.zeros_like, leaves))]  # left out again: there may be no other
        for i in range(value.size):
            unit.flat[i] = 1
            rows.append(flatten(pullback(unit))[0])
            unit.flat[i] = 0
        blocks = [np.stack(block)[1:] for block in zip(*rows, strict=True)]
        return rebuild([np.reshape(b, value.shape + b.shape[1:]) for b in blocks])

    return of_args


def hvp(f: Function, x: Any, v: Any) -> Any:
    """Return the Hessian of a scalar function times ``v``: forward mode over reverse mode.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.hvp(lambda x: np.sum(x**3), np.array([1.0, 2.0]), np.array([1.0, 1.0])).tolist()
    [6.0, 12.0]
    """
    return jvp(grad(f), (x,), (v,))[1]


def checkpoint(f: Function) -> Function:
    """Return ``f`` as one operation of the record: its own steps are recomputed when needed.

    Saves memory for time. All results of ``f`` must have one dtype.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> step = tg.checkpoint(lambda h: np.tanh(h) * h)
    >>> float(tg.grad(step)(1.0)) == float(tg.grad(lambda h: np.tanh(h) * h)(1.0))
    True
    """

    def checkpointed(*args: Any, **kw: Any) -> Any:
        leaves, rebuild_args = flatten(args)
        places = [i for i, leaf in enumerate(leaves) if type(leaf) is Tensor]
        of_tensors, xs = _of_chosen(lambda *full: f(*rebuild_args(full), **kw), places, leaves, {})
        layout: list[Any] = []  # filled while f runs: the shapes of its results and their tree

        def vector(*xs: Any) -> Array:
            outputs, rebuild = flatten(of_tensors(xs))
            layout[:] = [list(map(np.shape, outputs)), rebuild]
            return np.concatenate([np.ravel(o) for o in outputs])

        def push(tangents: list[Any], y: Array, *xs: Any) -> Array:
            full = [np.zeros_like(x) if t is None else t for t, x in zip(tangents, xs, strict=True)]
            return jvp(vector, xs, full)[1]

        def pull(g: Array, y: Array, *xs: Any) -> Any:
            return vjp(vector, *xs)[1](g)

        whole = apply(Rule(vector, push, pull), xs, {})
        shapes, rebuild = layout
        parts = np.split(whole, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
        return rebuild([np.reshape(p, s) for p, s in zip(parts, shapes, strict=True)])

    return checkpointed
