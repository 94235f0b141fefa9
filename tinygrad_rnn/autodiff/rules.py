"""The rule table: every function that can be differentiated, with its derivatives beside it.

A vector–Jacobian product may return the shape of the broadcast result: the backward sweep undoes
broadcasting, in one place for all rules (`sweeps.unbroadcast`). Rules are themselves written with
functions of the table, which is why derivatives can be differentiated again. No literal is a float,
so a rule runs on exact numbers as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import functions
from tinygrad_rnn.autodiff.rule import derived, elementwise, linear, rule
from tinygrad_rnn.autodiff.tensor import UNTRACED, Array, astype, getitem, raw


def _ordered(*xs: Array) -> None:
    """Refuse functions that compare on complex numbers, where they are not differentiable."""
    for x in xs:
        if np.iscomplexobj(raw(x)):
            raise TypeError(
                "abs, maximum, minimum, clip, max, min and norm are not holomorphic: their complex "
                "derivative does not exist. Use real inputs."
            )


# ---- element-wise -------------------------------------------------------------------------------


def _power_partial(y: Array, a: Array, b: Array) -> Array:
    if isinstance(b, int):  # exact numbers want an exact exponent
        return b * a ** (b - 1) if b != 0 else 0 * a
    return b * a ** np.where(b == 0, 1, b - 1)  # 0 · 0⁻¹ would be NaN


def _sign(y: Array, x: Array) -> Array:
    _ordered(x)
    return np.sign(x)


def _wins(compare: Any, second: bool = False) -> Any:
    """The partial derivative of a selection: 1 where this argument is the one selected.

    At a tie the first argument wins: an element of Clarke's subdifferential either way.
    """

    def partial(y: Array, a: Array, b: Array) -> Array:
        _ordered(a, b)
        won = compare(a, b)
        return np.logical_not(won) if second else won

    return partial


elementwise(np.add, 1, 1)
elementwise(np.subtract, 1, -1)
elementwise(np.negative, -1)
elementwise(np.positive, 1)
elementwise(np.multiply, lambda y, a, b: b, lambda y, a, b: a)
elementwise(np.divide, lambda y, a, b: 1 / b, lambda y, a, b: -y / b)
elementwise(np.power, _power_partial, lambda y, a, b: y * np.log(np.where(a == 0, 1, a)))
elementwise(np.square, lambda y, x: 2 * x)
elementwise(np.sqrt, lambda y, x: 1 / (2 * y))
elementwise(np.absolute, _sign)
elementwise(np.exp, lambda y, x: y)
elementwise(np.expm1, lambda y, x: np.exp(x))
elementwise(np.log, lambda y, x: 1 / x)
elementwise(np.log1p, lambda y, x: 1 / (1 + x))
elementwise(np.sin, lambda y, x: np.cos(x))
elementwise(np.cos, lambda y, x: -np.sin(x))
elementwise(np.sinh, lambda y, x: np.cosh(x))
elementwise(np.cosh, lambda y, x: np.sinh(x))
elementwise(np.tanh, lambda y, x: d_tanh(x))
elementwise(np.maximum, _wins(np.greater_equal), _wins(np.greater_equal, second=True))
elementwise(np.minimum, _wins(np.less_equal), _wins(np.less_equal, second=True))
elementwise(np.logaddexp, lambda y, a, b: sigmoid(a - b), lambda y, a, b: sigmoid(b - a))
d_tanh = elementwise(functions.d_tanh, lambda y, x: -2 * np.tanh(x) * y)
sigmoid = elementwise(functions.sigmoid, lambda y, x: d_sigmoid(x))
d_sigmoid = elementwise(functions.d_sigmoid, lambda y, x: y * (1 - 2 * sigmoid(x)))
softplus = elementwise(functions.softplus, lambda y, x: sigmoid(x))
relu = elementwise(functions.relu, lambda y, x: step(x))
step = elementwise(functions.step, lambda y, x: 0 * x)
leaky_relu = elementwise(
    functions.leaky_relu, lambda y, x, slope=0.01: leaky_step(x, slope), keywords=("slope",)
)
leaky_step = elementwise(functions.leaky_step, lambda y, x, slope=0.01: 0 * x, keywords=("slope",))


def _where(take_first: bool) -> Any:
    def product(v: Array, y: Array, mask: Any, a: Array, b: Array) -> Array:
        return np.where(mask, v, 0) if take_first else np.where(mask, 0, v)

    return product


_selections = (None, _where(True), _where(False))
rule(np.where, _selections, _selections)


@derived(np.clip)
def _clip(
    x: Array, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None
) -> Array:
    low, high = (min if a_min is None else a_min), (max if a_max is None else a_max)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


# ---- reductions ---------------------------------------------------------------------------------


def _spread(g: Array, x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    """Broadcast what a reduction of ``x`` returned back to the shape of ``x``."""
    if axis is not None and not keepdims:
        g = np.expand_dims(g, axis)
    return np.broadcast_to(g, np.shape(x))


def _merge(x: Array, axis: Any) -> tuple[Array, tuple[int, ...]]:
    """Move the axes of a reduction to the end and merge them; also the shape keepdims wants."""
    every = range(np.ndim(x))
    reduced = every if axis is None else [a % len(every) for a in np.atleast_1d(axis)]
    kept = [a for a in every if a not in reduced]
    rows = np.transpose(x, (*kept, *reduced))
    sizes = np.shape(x)
    merged = np.reshape(rows, (*(sizes[a] for a in kept), -1 if np.size(x) else 0))
    return merged, tuple(1 if a in reduced else sizes[a] for a in every)


def _best(argbest: Any) -> Any:
    """Max and min pick one element: at a tie the first, as an element of the subdifferential."""

    def pick(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
        _ordered(x)
        rows, kept_shape = _merge(x, axis)
        best = np.asarray(argbest(raw(rows), axis=-1))
        y = rows[(*np.indices(best.shape), best)]
        return np.reshape(y, kept_shape) if keepdims else y

    return pick


linear(np.sum, _spread, ("axis", "keepdims"))
linear(
    np.cumsum,
    lambda g, x, axis=None: np.reshape(
        np.flip(np.cumsum(np.flip(g, axis), axis), axis), np.shape(x)
    ),
    ("axis",),
)
derived(np.max)(_best(np.argmax))
derived(np.min)(_best(np.argmin))


@derived(np.mean)
def _mean(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    total = np.sum(x, axis=axis, keepdims=keepdims)
    return total / (np.size(x) // max(1, np.size(total)))


@derived(np.prod)
def _prod(x: Array, axis: Any = None, *, keepdims: bool = False) -> Array:
    # Pairs are multiplied until one is left, so that a zero factor needs no special case, as it
    # would in y / x.
    rows, kept_shape = _merge(x, axis)
    if rows.shape[-1] == 0:
        return np.prod(raw(x), axis=axis, keepdims=keepdims)
    while (n := rows.shape[-1]) > 1:
        pairs = rows[..., : n // 2] * rows[..., n // 2 : n // 2 * 2]
        rows = np.concatenate([pairs, rows[..., -1:]], axis=-1) if n % 2 else pairs
    return np.reshape(rows, kept_shape) if keepdims else rows[..., 0]


# ---- shape and selection ------------------------------------------------------------------------


def _unshape(g: Array, x: Array, *_: Any, **__: Any) -> Array:
    return np.reshape(g, np.shape(x))


def _transpose(g: Array, x: Array, axes: Any = None) -> Array:
    return np.transpose(g, None if axes is None else np.argsort(np.mod(axes, np.ndim(x))))


linear(np.reshape, lambda g, x, shape: _unshape(g, x), ("shape",))
linear(np.ravel, lambda g, x: _unshape(g, x))
linear(np.expand_dims, lambda g, x, axis: _unshape(g, x), ("axis",))
linear(np.squeeze, lambda g, x, axis=None: _unshape(g, x), ("axis",))
linear(np.broadcast_to, lambda g, x, shape: g, ("shape",))
linear(np.transpose, _transpose, ("axes",))
linear(np.swapaxes, lambda g, x, a, b: np.swapaxes(g, a, b))
linear(np.moveaxis, lambda g, x, source, destination: np.moveaxis(g, destination, source))
linear(np.flip, lambda g, x, axis=None: np.flip(g, axis), ("axis",))
linear(np.roll, lambda g, x, shift, axis=None: np.roll(g, np.negative(shift), axis), ("axis",))
linear(astype, lambda g, x, dtype: g.astype(x.dtype))


def _add_at(buffer: Array, g: Array, index: Any) -> None:
    parts = index if isinstance(index, tuple) else (index,)
    if all(isinstance(p, (int, np.integer, slice, type(None), type(...))) for p in parts):
        buffer[index] += g
    else:
        np.add.at(buffer, index, g)  # an integer array may name an element twice


def _scatter(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Return zeros of ``shape`` with ``g`` added at ``index``: the transpose of indexing."""
    buffer = np.zeros(shape, g.dtype)
    _add_at(buffer, g, index)
    return buffer


scatter = linear(_scatter, lambda g, x, index, shape: g[index])
linear(getitem, lambda g, x, index: scatter(g, index, np.shape(x)), accumulate=_add_at)


def _join(*arrays: Array, axis: int = 0) -> Array:
    return np.concatenate(arrays, axis)


join = rule(
    _join,
    lambda tangents, y, *arrays, axis=0: join(
        *[np.zeros_like(raw(a)) if t is None else t for t, a in zip(tangents, arrays, strict=True)],
        axis=axis,
    ),
    lambda g, y, *arrays, axis=0: np.split(
        g, np.cumsum([np.shape(a)[axis] for a in arrays])[:-1], axis=axis
    ),
    ("axis",),
)


@derived(np.concatenate)
def _concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    if axis is None:
        return join(*map(np.ravel, arrays))
    return join(*arrays, axis=axis)


@derived(np.stack)
def _stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    return join(*[np.expand_dims(a, axis) for a in arrays], axis=axis)


@derived(np.split)
def _split(x: Array, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    n = np.shape(x)[axis]
    if isinstance(indices_or_sections, (int, np.integer)):
        if n % indices_or_sections:
            raise ValueError(f"np.split: {n} entries do not divide into {indices_or_sections}.")
        cuts = [n // indices_or_sections * i for i in range(1, int(indices_or_sections))]
    else:
        cuts = [int(i) for i in indices_or_sections]
    before = (slice(None),) * (axis % np.ndim(x))
    return [x[(*before, slice(a, b))] for a, b in zip([0, *cuts], [*cuts, n], strict=True)]


@derived(np.tile)
def _tile(x: Array, reps: Any) -> Array:
    reps = np.atleast_1d(reps)
    d = max(len(reps), np.ndim(x))
    reps = [1] * (d - len(reps)) + [int(r) for r in reps]
    sizes = [1] * (d - np.ndim(x)) + list(np.shape(x))
    apart = np.reshape(x, [s for size in sizes for s in (1, size)])
    copies = np.broadcast_to(apart, [s for pair in zip(reps, sizes, strict=True) for s in pair])
    return np.reshape(copies, [r * s for r, s in zip(reps, sizes, strict=True)])


# ---- products -----------------------------------------------------------------------------------


def _swap(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _matmul_left(g: Array, y: Array, a: Array, b: Array) -> Array:
    if a.ndim == b.ndim == 2:
        return np.matmul(g, b.T)
    if b.ndim == 1:
        return np.expand_dims(g, -1) * b
    if a.ndim == 1:
        return np.matmul(b, np.expand_dims(g, -1))[..., 0]
    return np.matmul(g, _swap(b))


def _matmul_right(g: Array, y: Array, a: Array, b: Array) -> Array:
    if a.ndim == b.ndim == 2:
        return np.matmul(a.T, g)
    if b.ndim == 1:
        return np.expand_dims(g, -1) * a
    if a.ndim == 1:
        return np.expand_dims(a, -1) * np.expand_dims(g, -2)
    return np.matmul(_swap(a), g)


rule(
    np.matmul,
    (lambda t, y, a, b: np.matmul(t, b), lambda t, y, a, b: np.matmul(a, t)),
    (_matmul_left, _matmul_right),
)


@derived(np.dot)
def _dot(a: Array, b: Array) -> Array:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    if np.ndim(b) <= 2:
        return np.matmul(a, b)
    return np.tensordot(a, b, (-1, -2))


@derived(np.inner)
def _inner(a: Array, b: Array) -> Array:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return np.tensordot(a, b, (-1, -1))


@derived(np.outer)
def _outer(a: Array, b: Array) -> Array:
    return np.reshape(a, (-1, 1)) * np.reshape(b, (1, -1))


@derived(np.tensordot)
def _tensordot(a: Array, b: Array, axes: Any = 2) -> Array:
    if isinstance(axes, (int, np.integer)):
        axes = (range(-int(axes), 0), range(int(axes)))
    of_a, of_b = (
        [int(i) % np.ndim(x) for i in np.atleast_1d(ax)] for x, ax in zip((a, b), axes, strict=True)
    )
    free_a = [i for i in range(np.ndim(a)) if i not in of_a]
    free_b = [i for i in range(np.ndim(b)) if i not in of_b]
    sizes = [np.shape(a)[i] for i in free_a] + [np.shape(b)[i] for i in free_b]
    n = int(np.prod([np.shape(a)[i] for i in of_a], dtype=int))
    rows = int(np.prod([np.shape(a)[i] for i in free_a], dtype=int))
    left = np.reshape(np.transpose(a, (*free_a, *of_a)), (rows, n))
    right = np.reshape(np.transpose(b, (*of_b, *free_b)), (n, -1 if n and np.size(b) else 0))
    return np.reshape(np.matmul(left, right), sizes)


@derived(np.trace)
def _trace(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    x = np.moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = np.shape(x)[-2:]
    i = np.arange(max(0, -offset), max(0, -offset, min(rows, columns - offset)))
    return np.sum(x[..., i, i + offset], axis=-1)


@derived(np.einsum)
def _einsum(subscripts: str, *operands: Array) -> Array:
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "." in subscripts or len(terms) != len(operands):
        raise TypeError(
            f"np.einsum on Tensors needs one term an operand and no ellipsis, got {subscripts!r} "
            f"for {len(operands)} operands."
        )
    if not arrow:
        letters = inputs.replace(",", "")
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    pairs = [_take_diagonals(t, x) for t, x in zip(terms, operands, strict=True)]
    return contract(",".join(t for t, _ in pairs) + "->" + output, *[x for _, x in pairs])


def _take_diagonals(term: str, x: Array) -> tuple[str, Array]:
    """Replace a letter that a term repeats by the diagonal, so that the rule need not know."""
    for letter in sorted({c for c in term if term.count(c) > 1}):
        while term.count(letter) > 1:
            first, second = term.index(letter), term.rindex(letter)
            i = np.arange(np.shape(x)[first])
            x = np.moveaxis(x, (first, second), (-2, -1))[..., i, i]
            term = "".join(c for p, c in enumerate(term) if p not in (first, second)) + letter
    return term, x


def _contract(subscripts: str, *operands: Array) -> Array:
    return np.einsum(subscripts, *operands)


def _contract_pull(g: Array, y: Array, subscripts: str, *operands: Array) -> list[Array | None]:
    inputs, _, output = subscripts.partition("->")
    terms = inputs.split(",")
    cotangents: list[Array | None] = [None]
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        others = terms[:k] + terms[k + 1 :]
        known = "".join([output, *others])
        lost = [c for c in term if c not in known]  # summed over in this operand alone
        ones = [np.ones(np.shape(x)[term.index(c)], dtype=int) for c in lost]
        spec = ",".join([output, *others, *lost]) + "->" + term
        cotangents.append(contract(spec, g, *operands[:k], *operands[k + 1 :], *ones))
    return cotangents


def _contract_push(
    tangents: list[Array | None], y: Array, subscripts: str, *operands: Array
) -> Array:
    total: Array = None
    for k, t in enumerate(tangents[1:]):
        if t is not None:
            term = contract(subscripts, *operands[:k], t, *operands[k + 1 :])
            total = term if total is None else total + term
    return total


contract = rule(_contract, _contract_push, _contract_pull)


# ---- linear algebra -----------------------------------------------------------------------------


def _euclidean(x: Array, axis: Any) -> Array:
    if np.asarray(x).dtype == object:
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=True))
    return np.linalg.norm(x, axis=axis, keepdims=True)


def _direction(y: Array, x: Array) -> Array:
    _ordered(x)
    return x / np.where(y == 0, 1, y)  # at 0 the subgradient 0, not 0/0


euclidean = rule(
    _euclidean,
    (lambda t, y, x, axis: np.sum(t * _direction(y, x), axis=axis, keepdims=True), None),
    (lambda g, y, x, axis: g * _direction(y, x), None),
)


@derived(np.linalg.norm)
def _norm(x: Array, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Array:
    vector = np.ndim(x) == 1 if axis is None else isinstance(axis, int)
    axes = tuple(range(np.ndim(x))) if axis is None else axis
    if ord is None or ord == "fro" or (ord == 2 and vector):
        flat = np.ravel(x) if axis is None else x
        y = euclidean(flat, 0 if axis is None else axis)
        if axis is None:
            return np.reshape(y, (1,) * np.ndim(x) if keepdims else ())
        return y if keepdims else np.squeeze(y, axis)
    if vector and ord == 1:
        return np.sum(np.absolute(x), axis=axes, keepdims=keepdims)
    if vector and ord in (np.inf, -np.inf):
        return (np.max if ord > 0 else np.min)(np.absolute(x), axis=axes, keepdims=keepdims)
    raise TypeError(
        f"np.linalg.norm on Tensors knows the Euclidean and Frobenius norms and ord = 1, ±inf of "
        f"vectors, got ord={ord!r} for shape {np.shape(x)}."
    )


def _solve_columns(a: Array, b: Array, vector: bool) -> Array:
    """Solve a x = b, where ``vector`` says that the last axis of b holds vectors, not columns."""
    if not vector:
        return np.linalg.solve(a, b)
    return np.linalg.solve(a, np.expand_dims(b, -1))[..., 0]


def _solve_pull_matrix(g: Array, y: Array, a: Array, b: Array) -> Array:
    u = _solve_columns(_swap(a), g, np.ndim(b) == 1)
    if np.ndim(b) == 1:
        return -np.expand_dims(u, -1) * np.expand_dims(y, -2)
    return -np.matmul(u, _swap(y))


def _solve_push_matrix(t: Array, y: Array, a: Array, b: Array) -> Array:
    if np.ndim(b) == 1:
        return -_solve_columns(a, np.matmul(t, np.expand_dims(y, -1))[..., 0], True)
    return -np.linalg.solve(a, np.matmul(t, y))


rule(
    np.linalg.solve,
    (_solve_push_matrix, lambda t, y, a, b: _solve_columns(a, t, np.ndim(b) == 1)),
    (_solve_pull_matrix, lambda g, y, a, b: _solve_columns(_swap(a), g, np.ndim(b) == 1)),
)
rule(
    np.linalg.inv,
    (lambda t, y, x: -np.matmul(np.matmul(y, t), y),),
    (lambda g, y, x: -np.matmul(np.matmul(_swap(y), g), _swap(y)),),
)
rule(
    np.linalg.det,
    (lambda t, y, x: y * np.trace(np.matmul(np.linalg.inv(x), t), axis1=-2, axis2=-1),),
    (lambda g, y, x: np.expand_dims(g * y, (-2, -1)) * _swap(np.linalg.inv(x)),),
)

# ---- functions without a derivative, or whose derivative is zero ---------------------------------

# fmt: off
UNTRACED.update({
    np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal,
    np.logical_and, np.logical_or, np.logical_not, np.any, np.all, np.array_equal,
    np.sign, np.floor, np.ceil, np.rint, np.trunc, np.isnan, np.isinf, np.isfinite, np.signbit,
    np.shape, np.ndim, np.size, np.argmax, np.argmin, np.argsort, np.nonzero, np.count_nonzero,
    np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.iscomplexobj, np.isrealobj,
    np.result_type,
})
# fmt: on
