"""Gradient clipping: by the norm of all gradients together, by value, and by the notes' rule.

Gradients come as they leave :func:`tinygrad_rnn.bptt`: nested dicts, tuples and lists of arrays.
Nothing is changed in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from types import NoneType
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.cells.cell import check_numbers
from tinygrad_rnn.functions import Array, relu
from tinygrad_rnn.scalars.element import FOREIGN, number
from tinygrad_rnn.trees import flatten


def global_norm(gradients: Any) -> Array:
    """Return ‖g‖ = √(Σ gᵢ²) over all entries of all arrays.

    The sum neither overflows nor underflows; the norm is infinite only if it exceeds the largest
    float. Of Fractions it is exact.

    Parameters
    ----------
    gradients
        A nested dict, tuple or list of real arrays of one precision or number system.

    Raises
    ------
    ValueError
        For NaN and infinities, and for Fractions whose norm is irrational.
    TypeError
        For integers, complex numbers, Tensors, and mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> g = {"W_h": np.array([[3.0]]) * 2.0**1000, "b": np.array([4.0]) * 2.0**1000}
    >>> float(tg.global_norm(g)) == 5 * 2.0**1000
    True
    """
    leaves, _ = _leaves(gradients)
    fraction, exponent = _norm(leaves)
    return _scale(fraction, exponent)


def clip_by_norm(gradients: Any, threshold: Any, epsilon: Any = 0) -> Any:
    """Shrink all gradients together to the norm θ if theirs is larger: g min(1, θ/(‖g‖ + ε)).

    With ε = 0 this is Algorithm 1 of Pascanu, Mikolov & Bengio (2013): the projection onto the ball
    of radius θ, which keeps the direction. The norm is that of all arrays together, as in
    :func:`global_norm`, and no step overflows. Rounding may leave it an ulp or so above θ.

    ε > 0 is the variant of PyTorch's ``clip_grad_norm_``, there 10⁻⁶: the norm stays below θ, and
    clipping what has been clipped makes it smaller still.

    Parameters
    ----------
    gradients
        A nested dict, tuple or list of real arrays of one precision or number system.
    threshold
        θ, positive and finite.
    epsilon
        ε, not negative and finite.

    Returns
    -------
    tree
        Of the same structure; if ‖g‖ + ε is at most θ, with the same arrays.

    Raises
    ------
    ValueError
        If θ or ε is out of range, for NaN and infinities in the gradients, and for Fractions
        whose norm is irrational.
    TypeError
        For integers, complex numbers, Tensors, and mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.clip_by_norm({"W_h": np.array([3.0]), "b": np.array([4.0])}, threshold=1.25)
    {'W_h': array([0.75]), 'b': array([1.])}
    >>> tg.clip_by_norm(np.array([3.0, -4.0]) * 2.0**1000, threshold=10.0).tolist()
    [6.0, -8.0]
    >>> tg.clip_by_norm(np.array([3.0, -4.0]), threshold=2.5, epsilon=5.0).tolist()
    [0.75, -1.0]
    """
    leaves, rebuild = _leaves(gradients)
    θ, ε = _positive(_number(threshold)), _number(epsilon, "epsilon")
    if not ε >= 0:
        raise ValueError(f"epsilon must not be negative, got {ε!r}.")
    fraction, exponent = _norm(leaves)
    if any(g.dtype == object for g in leaves):
        θ, fraction = _exact(θ), fraction + _exact(ε)
        # max(‖g‖, θ) without a comparison: an enclosure of ‖g‖ that contains θ is no obstacle.
        factor = θ / (θ + relu(fraction - θ))
        return rebuild([g * factor for g in leaves])
    fraction, exponent = _sum(fraction, exponent, float(ε))
    if _scale(fraction, exponent) <= float(θ):
        return rebuild(leaves)
    # θ/‖g‖ may underflow where its product with g does not, so its exponent is applied last.
    mantissa, more = math.frexp(float(θ) / fraction)
    return rebuild([_scale(g * mantissa, more - exponent) for g in leaves])


def clip_by_value(gradients: Any, threshold: Any) -> Any:
    """Clip every entry to [−θ, θ]: the projection onto the box. It can turn the direction.

    Parameters
    ----------
    gradients
        A nested dict, tuple or list of real arrays of one precision or number system.
    threshold
        θ, positive and finite.

    Raises
    ------
    ValueError
        If θ is not positive and finite, and for NaN and infinities in the gradients.
    TypeError
        For integers, complex numbers, Tensors, and mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.clip_by_value(np.array([0.05, 3.0, -1000.0]), threshold=0.5).tolist()
    [0.05, 0.5, -0.5]
    """
    return _each(gradients, _positive(_number(threshold)), lambda g, θ: np.clip(g, -θ, θ))


def clip_one_sided(gradients: Any, threshold: Any) -> Any:
    """Replace every entry above θ by θ and leave the others: min(g, θ). Do not train with it.

    It is the rule "if gradient > threshold, then gradient = threshold, else gradient = gradient" of
    the lecture notes, kept to be examined: nothing bounds it from below, so a gradient of −1000
    stays −1000 and the step it was meant to stop is taken. Use :func:`clip_by_norm` or
    :func:`clip_by_value`.

    Parameters
    ----------
    gradients
        A nested dict, tuple or list of real arrays of one precision or number system.
    threshold
        θ, finite. Below zero the result may even point uphill.

    Raises
    ------
    ValueError
        If θ is not finite, and for NaN and infinities in the gradients.
    TypeError
        For integers, complex numbers, Tensors, and mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.clip_one_sided(np.array([0.05, 3.0, -1000.0]), threshold=0.5).tolist()
    [0.05, 0.5, -1000.0]
    """
    return _each(gradients, _number(threshold), np.minimum)


def _each(gradients: Any, θ: Any, rule: Callable[[Array, Array], Array]) -> Any:
    """Apply a rule to every array and the threshold, as an array of the same kind of numbers."""
    leaves, rebuild = _leaves(gradients)
    bounds = [_exact(θ) if g.dtype == object else float(θ) for g in leaves]
    return rebuild([rule(g, 0 * g + bound) for g, bound in zip(leaves, bounds, strict=True)])


def _leaves(gradients: Any) -> tuple[list[Array], Callable[[list[Array]], Any]]:
    """Take the tree apart into checked arrays."""
    leaves, rebuild = flatten(gradients)
    if any(type(g) is Tensor for g in leaves):
        raise TypeError("clipping takes arrays, got a Tensor. Pass its .grad or its .data.")
    arrays = [np.asarray(g) for g in leaves]
    names = ["the gradient"] if len(arrays) == 1 else [f"gradient {i}" for i in range(len(arrays))]
    arrays = list(check_numbers(dict(zip(names, arrays, strict=True))).values())
    for name, g in zip(names, arrays, strict=True):
        if g.dtype.kind == "c":
            raise TypeError(f"{name} is complex; clipping needs real gradients. Take its .real.")
    return arrays, rebuild


def _norm(leaves: list[Array]) -> tuple[Any, int]:
    """Return (r, e) with ‖g‖ = r 2^e; of floats, e is the exponent of the largest entry."""
    flat = np.concatenate([g.ravel() for g in leaves]) if leaves else np.zeros(0)
    if flat.dtype == object:
        return _root((flat * flat).sum()), 0
    flat = flat.astype(np.result_type(flat, np.float64))
    exponent = int(np.frexp(np.abs(flat).max(initial=0))[1])
    flat = _scale(flat, -exponent)
    return np.sqrt(flat @ flat), exponent


def _sum(fraction: Any, exponent: int, ε: float) -> tuple[Any, int]:
    """Return r 2^e + ε, likewise as r and e: neither term overflows."""
    if ε == 0:
        return fraction, exponent
    common = max(exponent, math.frexp(ε)[1])
    return _scale(fraction, exponent - common) + _scale(ε, -common), common


def _scale(a: Any, exponent: int) -> Any:
    """Return a 2^exponent; of an object array, whose exponent is 0, a itself."""
    if exponent == 0:
        return a
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(a, exponent)


def _root(square: Any) -> Any:
    """Return √x, exactly where x is a Fraction."""
    if not isinstance(square, (int, Fraction)):
        return np.sqrt(square)
    root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    if root * root != square:
        raise ValueError(
            f"the norm √({square}) is irrational. Use floats or balls, or Fractions whose squares "
            "add up to a square."
        )
    return root


def _number(value: Any, name: str = "threshold") -> Any:
    """Return the value as one finite number."""
    one = np.asarray(value, dtype=object)[()]
    if isinstance(one, (np.ndarray, str, NoneType)):
        raise TypeError(f"{name} must be one number, got {value!r}.")
    if isinstance(one, (float, np.floating)) and not math.isfinite(one):
        raise ValueError(f"{name} must be finite, got {one}.")
    return one


def _positive(θ: Any) -> Any:
    if not θ > 0:
        raise ValueError(f"threshold must be positive, got {θ!r}.")
    return θ


def _exact(θ: Any) -> Any:
    """Return a float as the Fraction that it is, which demotes no exact number."""
    return Fraction(number(θ)) if isinstance(θ, FOREIGN) else θ
