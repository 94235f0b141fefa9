"""Functions composed of others in the table: plain NumPy, so they need no rule of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Array, raw


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
    """log Σ exp(x) along ``axis``, without overflow.

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
    """x − logsumexp(x): the logarithms of the softmax probabilities.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.log_softmax(np.array([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    return x - logsumexp(x, axis, keepdims=True)


def softmax(x: Array, axis: Any = -1) -> Array:
    """exp(x) / Σ exp(x): the softmax probabilities.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.softmax(np.array([5.0, 5.0])).tolist()
    [0.5, 0.5]
    """
    e = np.exp(x - _shift(x, axis))
    return e / np.sum(e, axis=axis, keepdims=True)
