"""The rule table, third part: products of matrices and linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.rule import rule
from tinygrad_rnn.autodiff.tensor import RULES, apply, raw
from tinygrad_rnn.composed import composed, simple_einsum
from tinygrad_rnn.functions import Array

# ---- matmul ------------------------------------------------------------------------------------


def _swap(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _promoted(g: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
    """Write a 1-D factor, and g accordingly, as the matrix it stands for in matmul."""
    a, b = (x if hasattr(x, "ndim") else np.asarray(x) for x in (a, b))  # a list
    if b.ndim == 1:
        g, b = np.expand_dims(g, -1), np.expand_dims(b, -1)
    if a.ndim == 1:
        g, a = np.expand_dims(g, -2), np.expand_dims(a, -2)
    return g, a, b


def _matmul_left(g: Array, y: Array, a: Array, b: Array) -> Array:
    if type(a) is type(b) is np.ndarray and a.ndim == b.ndim == 2:
        return np.matmul(g, b.T)
    g, _, b = _promoted(g, a, b)
    return np.matmul(g, _swap(b))


def _matmul_right(g: Array, y: Array, a: Array, b: Array) -> Array:
    if type(a) is type(b) is np.ndarray and a.ndim == b.ndim == 2:
        return np.matmul(a.T, g)
    g, a, _ = _promoted(g, a, b)
    product = np.matmul(_swap(a), g)
    return product[..., 0] if np.ndim(b) == 1 else product


# fmt: off
rule(np.matmul,
    (lambda t, y, a, b: np.matmul(t, b), lambda t, y, a, b: np.matmul(a, t)),
    (_matmul_left,                       _matmul_right))
# fmt: on

# ---- einsum ------------------------------------------------------------------------------------


@composed(np.einsum)
def _einsum(subscripts: str, *operands: Array) -> Array:
    return apply(RULES[np.einsum], simple_einsum(subscripts, *operands), {})


def _einsum_pull(g: Array, y: Array, subscripts: str, *operands: Array) -> list[Array | None]:
    inputs, _, output = subscripts.partition("->")
    terms = inputs.split(",")
    cotangents: list[Array | None] = [None]
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        letters = [output, *terms[:k], *terms[k + 1 :]]
        others = [g, *operands[:k], *operands[k + 1 :]]
        # An axis that only this operand has (others may have length 1) is spread by ones.
        sizes = [
            dict(zip(t, np.shape(o), strict=True)) for t, o in zip(letters, others, strict=True)
        ]
        lost = [c for c in term if all(s.get(c, 1) == 1 for s in sizes)]
        ones = [np.ones(np.shape(x)[term.index(c)], raw(x).dtype) for c in lost]
        cotangents.append(np.einsum(",".join(letters + lost) + "->" + term, *others, *ones))
    return cotangents


def _einsum_push(ts: list[Any], y: Array, subscripts: str, *operands: Array) -> Array:
    ks = [k for k, t in enumerate(ts[1:]) if t is not None]
    terms = [np.einsum(subscripts, *operands[:k], ts[k + 1], *operands[k + 1 :]) for k in ks]
    return sum(terms[1:], terms[0])


rule(np.einsum, _einsum_push, _einsum_pull)

# ---- linear algebra ----------------------------------------------------------------------------


@composed(np.linalg.solve)
def _solve(a: Array, b: Array) -> Array:
    columns = np.expand_dims(b, -1) if np.ndim(b) == 1 else b
    x = apply(RULES[np.linalg.solve], (a, columns), {})
    return x[..., 0] if np.ndim(b) == 1 else x


# fmt: off
rule(np.linalg.solve,
    (lambda t, y, a, b: -np.linalg.solve(a, np.matmul(t, y)),
     lambda t, y, a, b: np.linalg.solve(a, t)),
    (lambda g, y, a, b: -np.matmul(np.linalg.solve(_swap(a), g), _swap(y)),
     lambda g, y, a, b: np.linalg.solve(_swap(a), g)))
rule(np.linalg.inv,
    (lambda t, y, x: -np.matmul(np.matmul(y, t), y),),
    (lambda g, y, x: -np.matmul(np.matmul(_swap(y), g), _swap(y)),))
rule(np.linalg.det,
    (lambda t, y, x: y * np.trace(np.matmul(np.linalg.inv(x), t), 0, -2, -1),),
    (lambda g, y, x: np.expand_dims(g * y, (-2, -1)) * _swap(np.linalg.inv(x)),))
# fmt: on
