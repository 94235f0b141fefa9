"""How a rule is stated: two short ways and a general one.

* `elementwise(f, ∂₁, ∂₂, …)` names the partial derivative for each argument, a function of the
  result ``y`` and the arguments, or the number 1 or −1; None marks an argument without one;
* `linear(f, transpose)` names the transpose: f is its own Jacobian–vector product;
* `rule(f, jvps, vjps)` gives both products.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import RULES, Rule, Tensor, apply
from tinygrad_rnn.composed import Function, public_name
from tinygrad_rnn.functions import Array


def rule(f: Function, jvps: Any, vjps: Any, keywords: tuple[str, ...] = ()) -> Function:
    """Register the primitive ``f`` and return a version of it that accepts Tensors."""
    if public_name(f).startswith("np."):  # NumPy hands over to us by itself
        RULES[f] = Rule(f, jvps, vjps, keywords)
        return f

    @wraps(f)
    def on_tensors(*args: Any, **keywords: Any) -> Any:
        for a in args:
            if type(a) is Tensor:
                return apply(made, args, keywords)
        return f(*args, **keywords)

    made = RULES[f] = Rule(on_tensors, jvps, vjps, keywords)
    return on_tensors


def _times(partial: Any) -> Any:
    """Return (v, y, *args) ↦ v · ∂: for element-wise functions JVP and VJP are the same product."""
    if partial is None:
        return None
    if isinstance(partial, int):
        return {1: lambda v, *_: v, -1: lambda v, *_: -v}[partial]
    return lambda v, *args, **keywords: v * partial(*args, **keywords)


def elementwise(f: Function, *partials: Any, keywords: tuple[str, ...] = ()) -> Function:
    """Register ``f``, of which argument i has the element-wise partial derivative partials[i]."""
    products = tuple(map(_times, partials))
    return rule(f, products, products, keywords)


def linear(f: Function, transpose: Function, keywords: tuple[str, ...] = ()) -> Function:
    """Register ``f``, linear in its first argument; transpose(g, *arguments) is its transpose."""

    def push(t: Array, y: Array, x: Array, *args: Any, **k: Any) -> Array:
        return on_tensors(t, *args, **k)

    on_tensors = rule(f, (push,), (lambda g, y, *args, **k: transpose(g, *args, **k),), keywords)
    return on_tensors


def differentiable(
    *,
    partials: Sequence[Any] | None = None,
    transpose: Function | None = None,
    jvp: Any = None,
    vjp: Any = None,
) -> Callable[[Function], Function]:
    """Teach the engine a function: your own, or one of NumPy's that has no rule yet.

    Parameters
    ----------
    partials
        For an element-wise function: ∂f/∂aᵢ for each argument, as functions ``(y, *args)``.
    transpose
        For a function linear in its first argument: its transpose, ``(g, *args)``.
    jvp, vjp
        Otherwise: ``(t, y, *args)`` and ``(g, y, *args)`` for each argument, as tuples.

    Returns
    -------
    A decorator. Derivatives written with NumPy functions can be differentiated again.

    Raises
    ------
    TypeError
        Unless exactly one of the three ways is used.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> @tg.differentiable(partials=[lambda y, x: 3 * x**2])
    ... def cube(x):
    ...     return x**3
    >>> float(tg.grad(cube)(2.0)), float(tg.grad(tg.grad(cube))(2.0))
    (12.0, 12.0)
    >>> arcsinh = tg.differentiable(partials=[lambda y, x: 1 / np.sqrt(1 + x * x)])(np.arcsinh)
    >>> float(tg.grad(np.arcsinh)(0.0))
    1.0
    """
    ways = [partials is not None, transpose is not None, jvp is not None and vjp is not None]
    if sum(ways) != 1 or (jvp is None) != (vjp is None):
        raise TypeError("differentiable() needs partials=, or transpose=, or both jvp= and vjp=.")

    def decorate(f: Function) -> Function:
        keywords = () if isinstance(f, np.ufunc) else tuple(inspect.signature(f).parameters)
        if partials is not None:
            return elementwise(f, *partials, keywords=keywords)
        if transpose is not None:
            return linear(f, transpose, keywords)
        return rule(f, tuple(jvp), tuple(vjp), keywords)

    return decorate
