"""NumPy functions that need no rule of their own: constant ones, and compositions of others.

A composition runs on arrays and on Tensors alike; on arrays it is NumPy's own
function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.functions import Array

Function = Callable[..., Any]
COMPOSED: dict[Function, Function] = {}

# Piecewise constant, or questions about shape: on Tensors the answer is a plain array.
# fmt: off
CONSTANT: set[Function] = {
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
    np.logical_and, np.logical_or, np.logical_not, np.any, np.all, np.array_equal,
    np.sign, np.floor, np.ceil, np.rint, np.trunc, np.isnan, np.isinf, np.isfinite, np.signbit,
    np.shape, np.ndim, np.size, np.argmax, np.argmin, np.argsort, np.nonzero, np.count_nonzero,
    np.zeros_like, np.ones_like, np.empty_like, np.iscomplexobj, np.isrealobj, np.result_type,
    np.isclose, np.allclose,
}
# fmt: on


def public_name(f: Function) -> str:
    """Return ``np.tanh`` for np.tanh: the name a user would type."""
    module = (getattr(f, "__module__", None) or "np").replace("numpy", "np")  # a ufunc has none
    return f"{module}.{f.__name__}" if module.split(".")[0] == "np" else f.__name__


def composed(f: Function) -> Callable[[Function], Function]:
    """Register the decorated function as what ``f`` does on Tensors."""

    def register(g: Function) -> Function:
        COMPOSED[f] = g
        g.__qualname__ = public_name(f)  # what Python says when an argument is missing or unknown
        return g

    return register


def refuse_complex(*xs: Array) -> None:
    """Refuse functions that compare on complex numbers, where they are not differentiable."""
    if any(map(np.iscomplexobj, xs)):
        raise TypeError(
            "abs, maximum, minimum, clip, max, min, norm, std and var are not holomorphic: their "
            "complex derivative does not exist. Use real inputs."
        )


# ---- element-wise ------------------------------------------------------------------------------


@composed(np.clip)
def _clip(
    x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Array:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@composed(np.full_like)
def _full_like(x: Array, fill_value: Array) -> Array:
    return np.zeros_like(x) + fill_value


# ---- what only moves, repeats or drops elements is an index ------------------------------------


def _moved(f: Function) -> Function:
    def index(x: Array, *args: Any, **keywords: Any) -> Array:
        places = np.reshape(np.arange(np.size(x)), np.shape(x))
        return np.ravel(x)[f(places, *args, **keywords)]

    return index


for _f in (np.roll, np.tile, np.repeat, np.take, np.diagonal, np.rot90):
    composed(_f)(_moved(_f))


def _moved_into_zeros(f: Function, x: Array, *args: Any) -> Array:
    """Move with ``f`` where it also puts zeros: they are place 0, before all elements."""
    places = np.reshape(np.arange(1, np.size(x) + 1), np.shape(x))
    return np.concatenate([np.zeros_like(x, shape=1), np.ravel(x)])[f(places, *args)]


@composed(np.diag)
def _diag(v: Array, k: int = 0) -> Array:
    return _moved_into_zeros(np.diag, v, k)


@composed(np.pad)
def _pad(array: Array, pad_width: Any, mode: Any = "constant") -> Array:
    if mode not in ("constant", "edge", "reflect", "symmetric", "wrap"):
        raise TypeError(
            "np.pad on Tensors pads with zeros, or with mode 'edge', 'reflect', 'symmetric' or "
            f"'wrap'; got mode={mode!r}. Join what you want with np.concatenate."
        )
    return _moved_into_zeros(np.pad, array, pad_width, mode)


@composed(np.copy)
def _copy(a: Array) -> Array:
    return a  # nothing can change it in place


@composed(np.split)
def _split(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    places = np.split(np.arange(np.shape(x)[axis]), indices_or_sections)
    before = (slice(None),) * (axis % np.ndim(x))
    return [x[(*before, slice(p[0], p[-1] + 1) if p.size else slice(0))] for p in places]


# ---- joining -----------------------------------------------------------------------------------


@composed(np.stack)
def _stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    return np.concatenate([np.expand_dims(a, axis) for a in arrays], axis)


@composed(np.column_stack)
def _column_stack(tup: Sequence[Array]) -> Array:
    return np.concatenate([np.reshape(a, (-1, 1)) if np.ndim(a) < 2 else a for a in tup], 1)


@composed(np.hstack)
def _hstack(arrays: Sequence[Array]) -> Array:
    rows = [np.reshape(a, (-1,)) if np.ndim(a) == 0 else a for a in arrays]
    return np.concatenate(rows, 0 if np.ndim(rows[0]) == 1 else 1)


@composed(np.vstack)
def _vstack(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.reshape(a, (1, -1)) if np.ndim(a) < 2 else a for a in arrays])


# ---- reductions --------------------------------------------------------------------------------


def _merge(x: Array, axis: Any) -> tuple[Array, tuple[int, ...]]:
    """Move the axes of a reduction to the end and merge them; also the shape keepdims wants."""
    sizes = np.shape(x)
    every = range(len(sizes))
    reduced = every if axis is None else [int(a) % len(sizes) for a in np.atleast_1d(axis)]
    kept = [a for a in every if a not in reduced]
    rows = np.transpose(x, (*kept, *reduced))
    n = int(np.prod([sizes[a] for a in reduced], dtype=int))
    merged = np.reshape(rows, (*(sizes[a] for a in kept), n))
    return merged, tuple(1 if a in reduced else sizes[a] for a in every)


def _best(argbest: Function) -> Function:
    """Max and min pick one element: at a tie the first, as an element of the subdifferential."""

    def pick(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
        refuse_complex(x)
        rows, kept_shape = _merge(x, axis)
        best = np.asarray(argbest(rows, axis=-1))
        y = rows[(*np.indices(best.shape), best)]
        return np.reshape(y, kept_shape) if keepdims else y

    return pick


composed(np.max)(_best(np.argmax))
composed(np.min)(_best(np.argmin))


@composed(np.mean)
def _mean(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / (np.size(x) // max(1, np.size(total)))


@composed(np.var)
def _var(x: Array, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Array:
    refuse_complex(x)
    squares = np.square(x - np.mean(x, axis=axis, keepdims=True))
    total = np.sum(squares, axis=axis, keepdims=keepdims)
    return total / max(0, np.size(x) // max(1, np.size(total)) - ddof)


@composed(np.std)
def _std(x: Array, axis: Any = None, *, ddof: float = 0, keepdims: bool = False) -> Array:
    return _root(np.var(x, axis=axis, ddof=ddof, keepdims=keepdims))


@composed(np.prod)
def _prod(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    # Pairs are multiplied until one is left, so that a zero factor needs no special case, as it
    # would in y / x.
    rows, kept_shape = _merge(x, axis)
    if rows.shape[-1] == 0:
        return np.ones_like(np.sum(x, axis=axis, keepdims=keepdims))
    while (n := rows.shape[-1]) > 1:
        pairs = rows[..., : n // 2] * rows[..., n // 2 : n // 2 * 2]
        rows = np.concatenate([pairs, rows[..., -1:]], axis=-1) if n % 2 else pairs
    return np.reshape(rows, kept_shape) if keepdims else rows[..., 0]


@composed(np.trace)
def _trace(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    return np.sum(np.diagonal(x, offset, axis1, axis2), axis=-1)


@composed(np.linalg.norm)
def _norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    refuse_complex(x)
    vector = np.ndim(x) == 1 if axis is None else isinstance(axis, int)
    of_sizes: dict[float, Function] = {1: np.sum, np.inf: np.max, -np.inf: np.min}
    if vector and ord in of_sizes:
        return of_sizes[ord](np.absolute(x), axis=axis, keepdims=keepdims)
    if ord is not None and ord != (2 if vector else "fro"):
        raise TypeError(
            "np.linalg.norm on Tensors knows the Euclidean and Frobenius norms, and ord = 1, ±inf "
            f"of vectors; got ord={ord!r} for shape {np.shape(x)}."
        )
    return _root(np.sum(x * x, axis=axis, keepdims=keepdims))


def _root(squares: Array) -> Array:
    """Take the root of a sum of squares: at 0 with the subgradient 0, not 0/0."""
    return np.where(squares == 0, 0, np.sqrt(np.where(squares == 0, 1, squares)))


# ---- products ----------------------------------------------------------------------------------


@composed(np.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    if isinstance(axes, (int, np.integer)):
        axes = (range(-int(axes), 0), range(int(axes)))
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    of_a, of_b = letters[: np.ndim(a)], list(letters[np.ndim(a) :][: np.ndim(b)])
    for i, j in zip(*map(np.atleast_1d, axes), strict=True):
        of_b[j] = of_a[i]
    free = [c for c in (*of_a, *of_b) if (c in of_a) != (c in of_b)]
    return np.einsum(f"{of_a},{''.join(of_b)}->{''.join(free)}", a, b)


@composed(np.dot)
def _dot(a: Array, b: Array) -> Array:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.matmul(a, b) if np.ndim(b) <= 2 else np.tensordot(a, b, (-1, -2))


@composed(np.inner)
def _inner(a: Array, b: Array) -> Array:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, (-1, -1))


@composed(np.outer)
def _outer(a: Array, b: Array) -> Array:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


def simple_einsum(subscripts: Any, *operands: Array) -> tuple[Any, ...]:
    """Rewrite the arguments of np.einsum: an explicit output, and no letter twice in one term.

    Examples
    --------
    >>> import numpy as np
    >>> simple_einsum("ii,j", np.eye(2), np.ones(3))[0]
    'i,j->j'
    """
    inputs, arrow, output = str(subscripts).replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "." in inputs or len(terms) != len(operands):
        raise TypeError(
            "np.einsum on Tensors needs one term an operand and no ellipsis, got "
            f"{subscripts!r} for {len(operands)} operands."
        )
    if not arrow:
        output = "".join(sorted(c for c in inputs if c != "," and inputs.count(c) == 1))
    pairs = [_diagonals(term, x) for term, x in zip(terms, operands, strict=True)]
    return ",".join(term for term, _ in pairs) + "->" + output, *[x for _, x in pairs]


def _diagonals(term: str, x: Array) -> tuple[str, Array]:
    """Replace the axes of a letter that a term repeats by their diagonal."""
    for letter in term:
        while term.count(letter) > 1:
            i, j = term.index(letter), term.rindex(letter)
            x = np.diagonal(x, axis1=i, axis2=j)  # which becomes the last axis
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + letter
    return term, x
