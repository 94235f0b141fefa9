"""The activations of a recurrent unit: value, derivative, sup of the derivative; and softmax."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, leaky_relu, leaky_step, relu, sigmoid, step
from tinygrad_rnn.autodiff.tensor import raw
from tinygrad_rnn.functions import Array


@dataclass(frozen=True)
class Activation:
    """An elementwise f, its derivative f', and γ = sup |f'|.

    ``derivative`` is a closed form of the preactivation, accurate in relative terms over the whole
    range. ``lipschitz`` is an exact number, so it can be compared in any number system.

    Examples
    --------
    >>> from tinygrad_rnn.activations import activation
    >>> activation("sigmoid").lipschitz
    Fraction(1, 4)
    """

    name: str
    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    lipschitz: int | Fraction


def _identity(x: Array) -> Array:
    return x


ACTIVATIONS = {
    f.name: f
    for f in (
        Activation("tanh", np.tanh, d_tanh, 1),
        Activation("sigmoid", sigmoid, d_sigmoid, Fraction(1, 4)),
        Activation("relu", relu, step, 1),
        Activation("leaky_relu", leaky_relu, leaky_step, 1),
        Activation("identity", _identity, np.ones_like, 1),
    )
}


def activation(name: str) -> Activation:
    """Look up an activation by name.

    Raises
    ------
    ValueError
        If there is none of that name.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.activations import activation
    >>> activation("relu").derivative(np.array([-1.0, 2.0])).tolist()
    [0.0, 1.0]
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


def _shift(x: Array, axis: Any) -> Array:
    """Return the maximum, to be subtracted before exp: a constant, whose derivative cancels.

    Exact and enclosing number systems do not overflow and need none.
    """
    plain = np.asarray(raw(x))
    if plain.dtype == object:
        return 0
    top = np.max(plain.real, axis=axis, keepdims=True)
    return np.where(np.isfinite(top), top, 0)


def logsumexp(x: Array, axis: Any = -1, *, keepdims: bool = False) -> Array:
    """Return log Σ exp(x) along ``axis``, without overflow.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> float(tg.logsumexp(np.array([1000.0, 1000.0]))) == 1000.0 + float(np.log(2.0))
    True
    """
    shift = _shift(x, axis)
    y = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return y if keepdims else np.squeeze(y, axis)


def log_softmax(x: Array, axis: Any = -1) -> Array:
    """Return x − logsumexp(x): the logarithms of the softmax probabilities.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.log_softmax(np.array([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: Array, axis: Any = -1) -> Array:
    """Return exp(x) / Σ exp(x): the softmax probabilities.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.softmax(np.array([5.0, 5.0])).tolist()
    [0.5, 0.5]
    """
    e = np.exp(x - _shift(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)
