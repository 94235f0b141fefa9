"""The losses of the notes, as sums over all examples: in the logit form, which cannot overflow."""

from __future__ import annotations

import numpy as np

from tinygrad_rnn.activations import log_softmax
from tinygrad_rnn.autodiff import softplus
from tinygrad_rnn.cells.cell import check_numbers, value
from tinygrad_rnn.functions import Array


def binary_cross_entropy(logits: Array, y: Array) -> Array:
    """Return Σ [softplus(z) − y z] = −Σ [y log σ(z) + (1 − y) log(1 − σ(z))].

    Its derivative by the logit z is σ(z) − y, within [−1, 1].

    Parameters
    ----------
    logits
        z, any shape.
    y
        Targets in [0, 1], of the same shape; integers and booleans are fine.

    Raises
    ------
    ValueError
        If the shapes differ, a target lies outside [0, 1], or a number is not finite.
    TypeError
        For integer logits or mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.losses import binary_cross_entropy
    >>> z = np.array([0.0, 0.0])
    >>> tg.grad(binary_cross_entropy)(z, np.array([1, 0])).tolist()
    [-0.5, 0.5]
    """
    logits, y = _checked(logits, y, "logits", "y")
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError(
            f"y must lie in [0, 1], got values outside it: {y[~((y >= 0) & (y <= 1))][:3]}."
        )
    return np.sum(softplus(logits) - y * logits)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Return −Σ log softmax(z)[label], or −Σ_k q_k log softmax(z)_k for probabilities q.

    Its derivative by the logits of one example is softmax(z) − q, q the one-hot row of the label.

    Parameters
    ----------
    logits
        z, shape (..., C).
    labels
        Integers 0 … C − 1 of shape (...), or rows of probabilities of shape (..., C). That a row
        sums to one is checked in floats; object arrays are taken at their word.

    Raises
    ------
    ValueError
        For a label out of range, rows that are not probabilities, shapes that do not match, or a
        number that is not finite.
    TypeError
        For integer logits or mixed precision.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> from tinygrad_rnn.losses import cross_entropy
    >>> z = np.zeros((1, 2))
    >>> tg.grad(cross_entropy)(z, np.array([1])).tolist()
    [[0.5, -0.5]]
    """
    z, labels = value(logits), np.asarray(labels)
    if z.ndim == 0 or z.shape[-1] == 0:
        raise ValueError(f"logits must have shape (..., C) with C ≥ 1 classes, got {z.shape}.")
    C = z.shape[-1]
    check_numbers({"logits": z})
    if labels.dtype.kind in "iu":
        if labels.shape != z.shape[:-1]:
            raise ValueError(
                f"labels must have the shape of logits without C, {z.shape[:-1]}, got "
                f"{labels.shape}. Integer labels are class numbers; for one-hot rows use floats."
            )
        if ((labels < 0) | (labels >= C)).any():
            raise ValueError(
                f"labels must be class numbers from 0 to C − 1 = {C - 1}, got "
                f"{labels.min()} … {labels.max()}."
            )
        return -np.sum(log_softmax(logits)[(*np.indices(labels.shape), labels)])
    logits, q = _checked(logits, labels, "logits", "labels")
    # Normalising C floats, and summing them, are each off by at most C/2 ulps of one.
    unit = q.dtype == object or np.abs(q.sum(axis=-1) - 1) <= C * np.finfo(q.dtype).eps
    if not (np.all(q >= 0) and np.all(unit)):
        raise ValueError(
            f"rows of labels must be probabilities, ≥ 0 with sum 1, got {q}. "
            "Divide each row by its sum."
        )
    return -np.sum(q * log_softmax(logits))


def squared_error(prediction: Array, target: Array) -> Array:
    """Return Σ (prediction − target)².

    Its derivative by the prediction is 2 (prediction − target). Runs on every number system.

    Raises
    ------
    ValueError
        If the shapes differ or a number is not finite.
    TypeError
        For integer predictions or mixed precision.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.losses import squared_error
    >>> float(squared_error(np.array([1.0, 2.0]), np.array([0.0, 4.0])))
    5.0
    """
    prediction, target = _checked(prediction, target, "prediction", "target")
    difference = prediction - target
    return np.sum(difference * difference)


def _checked(prediction: Array, target: Array, one: str, other: str) -> tuple[Array, Array]:
    """Check a target beside its prediction; whole numbers take the prediction's dtype."""
    predicted, target = value(prediction), np.asarray(target)
    if target.shape != predicted.shape:
        raise ValueError(f"{other} must have the shape {predicted.shape}, got {target.shape}.")
    if target.dtype.kind in "biu":
        target = target.astype(predicted.dtype)
    arrays = check_numbers({one: prediction, other: target})
    return arrays[one], arrays[other]
