"""The functions recurrent networks need and NumPy lacks: values only; their rules are in the table.

Each runs on float, complex and object arrays. On object arrays it calls the element's method of the
same name, so a number system decides by itself what ``sigmoid`` means; ``Fraction``, which has no
such methods, is served by comparisons where those suffice. On complex arrays a branch is chosen by
the real part, which keeps every function holomorphic off its kinks.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any  # an ndarray of any number system, a NumPy scalar, or a Tensor


def getitem(x: Array, index: Any) -> Array:
    """x[index]."""
    return x[index]


def astype(x: Array, dtype: Any) -> Array:
    """x.astype(dtype)."""
    return x.astype(dtype)


def _by_element(name: str, otherwise: Callable[[Any], Any] | None = None) -> Any:
    """Lift the element's own method ``name`` to object arrays."""

    def call(e: Any) -> Any:
        method = getattr(e, name, None)
        if method is not None:
            return method()
        if otherwise is not None and isinstance(e, (Fraction, int)):
            return otherwise(e)
        raise TypeError(
            f"{name} is not defined for {type(e).__name__}. Use floats, or a number system of "
            "tinygrad_rnn.scalars that has it (balls for tanh and sigmoid)."
        )

    return np.frompyfunc(call, 1, 1)


_sigmoid = _by_element("sigmoid")
_d_sigmoid = _by_element("d_sigmoid")
_d_tanh = _by_element("d_tanh")
_softplus = _by_element("softplus")
_relu = _by_element("relu", lambda e: e if e > 0 else 0 * e)
_step = _by_element("step", lambda e: Fraction(int(e > 0)))


def _decay(x: Array) -> Array:
    """e^(−|x|), with |·| taken by the sign of the real part: it cannot overflow."""
    if x.dtype.kind == "c":
        return np.exp(np.where(x.real > 0, -x, x))
    return np.exp(-np.abs(x))


def sigmoid(x: Array) -> Array:
    """σ(x) = 1/(1 + e^(−x)), accurate in relative terms on both sides.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.sigmoid(np.array([0.0, 800.0])).tolist()
    [0.5, 1.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _sigmoid(x)
    e = _decay(x)
    return np.where(x.real > 0, 1.0, e) / (1.0 + e)


def d_sigmoid(x: Array) -> Array:
    """σ'(x) = e/(1 + e)² with e = e^(−|x|).

    The textbook σ(1 − σ) loses every digit for x > 37; this form loses none.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> float(tg.d_sigmoid(np.array(100.0))) == float(np.exp(-100.0))
    True
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _d_sigmoid(x)
    e = _decay(x)
    return e / np.square(1.0 + e)


def d_tanh(x: Array) -> Array:
    """tanh'(x) = 1/cosh²x = 4e/(1 + e)² with e = e^(−2|x|).

    The textbook 1 − tanh² loses every digit for |x| > 19; this form loses none.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> float(tg.d_tanh(np.array(0.0))), bool(tg.d_tanh(np.array(300.0)) > 0)
    (1.0, True)
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _d_tanh(x)
    # 2|x| may overflow; e^(−1600) is 0.
    e = _decay(x + x) if x.dtype.kind == "c" else np.exp(-2.0 * np.minimum(np.abs(x), 800.0))
    return 4.0 * e / np.square(1.0 + e)


def relu(x: Array) -> Array:
    """max(x, 0), with derivative :func:`step`.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _relu(x)
    # `0 * x` would turn an infinity into NaN; `x > 0` is false for NaN, which must pass through.
    return np.where(x.real <= 0, np.zeros_like(x), x)


def step(x: Array) -> Array:
    """Return relu's derivative: 1 where x > 0, else 0 (0 at the kink, an element of [0, 1]).

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.step(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _step(x)
    return np.where(x.real > 0, np.ones_like(x), np.zeros_like(x))


def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log1p(e^(−|x|)).

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.softplus(np.array([1000.0])).tolist()
    [1000.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        return _softplus(x)
    return relu(x) + np.log1p(_decay(x))


def leaky_relu(x: Array, slope: float | Fraction = 0.01) -> Array:
    """Return x where x > 0, else slope · x.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        slope = Fraction(slope)  # its exact value, so that no element is demoted to a float
        return slope * x + (1 - slope) * _relu(x)
    return np.where(x.real > 0, x, slope * x)


def leaky_step(x: Array, slope: float | Fraction = 0.01) -> Array:
    """Return leaky_relu's derivative: 1 where x > 0, else slope.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.leaky_step(np.array([-1.0, 2.0])).tolist()
    [0.01, 1.0]
    """
    x = np.asarray(x)
    if x.dtype.hasobject:
        slope = Fraction(slope)
        return slope + (1 - slope) * _step(x)
    return np.where(x.real > 0, np.ones_like(x), np.full_like(x, slope))
