"""The domain table of the rules: for each function, calls and shapes to try it on.

A call that Hypothesis draws has its static arguments (axes, shapes, subscripts) filled in; negative
axes, several axes, no axes, empty axes and 0-d arrays are all drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tinygrad_rnn import autodiff as ad
from tinygrad_rnn import functions
from tinygrad_rnn.autodiff import arrays, elementwise
from tinygrad_rnn.functions import astype, getitem

Array = Any


class Row(NamedTuple):
    """A function of arrays of the given shapes, and the inputs it can be tried on."""

    call: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    positive: bool = False
    define: Callable[..., Any] | None = None  # where NumPy's own cannot take object arrays

    def truth(self, xs: list[Array]) -> Any:
        return (self.define or self.call)(*xs)


# ---- the domain table --------------------------------------------------------------------------

shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
filled = npst.array_shapes(min_dims=0, max_dims=3, min_side=1, max_side=3)


def unary(f: Callable[..., Any], positive: bool = False) -> st.SearchStrategy[Row]:
    return shapes.map(lambda s: Row(f, (s,), positive))


def binary(f: Callable[..., Any], positive: bool = False) -> st.SearchStrategy[Row]:
    pairs = npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_dims=3, max_side=3)
    return pairs.map(lambda p: Row(f, p.input_shapes, positive))


def on(f: Callable[..., Any], shape: tuple[int, ...], *args: Any, **keywords: Any) -> Row:
    return Row(lambda x: f(x, *args, **keywords), (shape,))


def axes_of(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """None, one axis, or several; counted from either end."""
    if not shape:
        return st.sampled_from([None, ()])
    n = len(shape)
    return st.one_of(st.none(), st.integers(-n, n - 1), npst.valid_tuple_axes(n))


@st.composite
def reductions(draw: Any, f: Callable[..., Any], shapes: Any = shapes) -> Row:
    shape = draw(shapes)
    return on(f, shape, axis=draw(axes_of(shape)), keepdims=draw(st.booleans()))


@st.composite
def along(draw: Any, f: Callable[..., Any]) -> Row:
    """A function with axis= one axis or None."""
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    n = len(shape)
    return on(f, shape, axis=draw(st.one_of(st.none(), st.integers(-n, n - 1))))


@st.composite
def spreads(draw: Any, f: Callable[..., Any]) -> Row:
    """Of several numbers, which differ: the root of a variance of 0 has a test of its own."""
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=3))
    n = len(shape)
    several = npst.valid_tuple_axes(n, min_size=1)
    axis = draw(st.one_of(st.none(), st.integers(-n, n - 1), several))
    ddof, keepdims = draw(st.sampled_from([0, 1])), draw(st.booleans())

    def define(x: Array) -> Array:
        """E[x²] − E[x]²."""
        total, squares = (np.sum(v, axis=axis, keepdims=keepdims) for v in (x, x * x))
        count = np.size(x) // np.size(total)
        variance = (squares - total * total / count) / (count - ddof)
        return np.sqrt(variance) if f is np.std else variance

    return Row(lambda x: f(x, axis, ddof=ddof, keepdims=keepdims), (shape,), define=define)


@st.composite
def norms(draw: Any) -> Row:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    n = len(shape)
    one = st.integers(-n, n - 1)
    two = npst.valid_tuple_axes(n, min_size=2, max_size=2) if n > 1 else one
    axis = draw(st.one_of(st.none(), one, two))
    vector = n == 1 if axis is None else isinstance(axis, int)
    orders = [None, 2, 1, np.inf, -np.inf] if vector else [None]
    if not vector and (axis is not None or n == 2):
        orders.append("fro")
    order, keepdims = draw(st.sampled_from(orders)), draw(st.booleans())

    def define(x: Array) -> Array:
        if order == 1:
            return np.sum(abs(x), axis=axis, keepdims=keepdims)
        if order in (np.inf, -np.inf):
            return (np.max if order > 0 else np.min)(abs(x), axis=axis, keepdims=keepdims)
        return np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims))

    return Row(lambda x: np.linalg.norm(x, order, axis, keepdims), (shape,), define=define)


@st.composite
def reshapes(draw: Any) -> Row:
    shape = draw(filled)
    size = int(np.prod(shape, dtype=int))
    targets: list[Any] = [(size,), (1, size), (-1,), (size, 1, 1), shape[::-1], -1]
    orders: list[Any] = [(), ("C",), ("F",)]
    return on(np.reshape, shape, draw(st.sampled_from(targets)), *draw(st.sampled_from(orders)))


@st.composite
def squeezes(draw: Any) -> Row:
    shape = (1, *draw(shapes))
    return on(np.squeeze, shape, *draw(st.sampled_from([(), (0,), (-len(shape),), ((0,),)])))


@st.composite
def broadcasts(draw: Any) -> Row:
    pair = draw(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3))
    return on(np.broadcast_to, pair.input_shapes[0], pair.result_shape)


@st.composite
def permuted(draw: Any) -> Row:
    shape = draw(shapes)
    order = draw(st.permutations(range(len(shape))))
    signs = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    axes = tuple(a - len(shape) if s else a for a, s in zip(order, signs, strict=True))
    return on(np.transpose, shape, draw(st.sampled_from([None, axes])))


@st.composite
def exchanged(draw: Any, f: Callable[..., Any]) -> Row:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3))
    axis = st.integers(-len(shape), len(shape) - 1)
    return on(f, shape, draw(axis), draw(axis))


@st.composite
def indexed(draw: Any) -> Row:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    rows = st.lists(st.integers(-shape[0], shape[0] - 1), max_size=5)  # may name a row twice
    index = draw(
        st.one_of(
            npst.basic_indices(shape, allow_newaxis=True),
            rows,
            rows.map(lambda r: (..., np.array(r, dtype=int) % shape[-1])),
            npst.arrays(bool, shape),
            st.just(np.array(True)),
        )
    )
    return on(lambda x: x[index], shape)


@st.composite
def scattered(draw: Any) -> Row:
    n = draw(st.integers(1, 4))
    indices = draw(st.lists(st.sampled_from([slice(None), 0, [0, 0], ..., None]), min_size=1))
    pieces = tuple(np.zeros(n)[i].shape for i in indices)
    return Row(lambda *gs: arrays.scatter((n,), indices, *gs), pieces)


@st.composite
def joined(draw: Any, f: Callable[..., Any], same: bool = False, flat: bool = False) -> Row:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    lengths = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    ends = [shape[axis] if same else n for n in lengths]
    pieces = [tuple(n if a == axis % len(shape) else s for a, s in enumerate(shape)) for n in ends]
    if flat and draw(st.booleans()):
        return Row(lambda *xs: f(xs, None), tuple(pieces))
    return Row(lambda *xs: f(xs, axis), tuple(pieces))


def stacked(f: Callable[..., Any], *choices: tuple[tuple[int, ...], ...]) -> Any:
    return st.sampled_from(choices).map(lambda s: Row(lambda *xs: f(xs), s))


@st.composite
def splits(draw: Any) -> Row:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    cuts = [[], [1], [1, 1], [0, 2], [9], [2, 1], [-1], shape[axis], 1]
    return on(np.split, shape, draw(st.sampled_from(cuts)), axis)


@st.composite
def products(draw: Any) -> Row:
    pair = draw(
        npst.mutually_broadcastable_shapes(signature=np.matmul.signature, min_side=0, max_side=3)
    )
    return Row(draw(st.sampled_from([np.matmul, lambda a, b: a @ b])), pair.input_shapes)


SUBSCRIPTS = [
    *("ij,jk->ik", "ij->ji", "ij->i", "ij->", "ii->i", "ii", "ij,ij", "ijk,kl->il", " i j , j "),
    *(
        "iij,jk->ki",
        "iii->i",
        "iii",
        "ij,ij->ij",
        "i,j,k->kij",
        "ij,kj,k->i",
        "ab,b",
        "bca",
        "ijij",
    ),
    *("i,i,i->", "ij,kl->", "iijj->ji", "aab,cb->c"),
]


@st.composite
def einsums(draw: Any) -> Row:
    subscripts = draw(st.sampled_from(SUBSCRIPTS))
    terms = subscripts.replace(" ", "").partition("->")[0].split(",")
    size = {c: draw(st.integers(0, 3)) for c in sorted(set("".join(terms)))}
    if draw(st.booleans()):  # an axis of length 1 is broadcast
        shapes = [tuple(draw(st.sampled_from([1, size[c]])) for c in t) for t in terms]
        repeated = any(len(set(t)) < len(t) for t in terms)
    else:
        repeated = True
    if repeated:
        shapes = [tuple(size[c] for c in t) for t in terms]
    return Row(lambda *xs: np.einsum(subscripts, *xs), tuple(shapes))


def pairs_of_shapes(f: Callable[..., Any], *choices: tuple[Any, ...]) -> st.SearchStrategy[Row]:
    """Choices of (shape, shape, *further arguments)."""
    return st.sampled_from(choices).map(lambda c: Row(lambda a, b: f(a, b, *c[2:]), c[:2]))


POWERS = (0, 1, 2, 3, -1, -2)
ROWS: dict[Callable[..., Any], st.SearchStrategy[Row]] = {
    **{f: binary(f) for f in (np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum)},
    np.power: st.one_of(
        binary(np.power, positive=True),
        *(unary(lambda x, n=n: x**n) for n in POWERS),
        *(unary(lambda x, n=n: np.power(x, np.array(n))) for n in POWERS),
        unary(lambda x: 2**x),
    ),
    **{f: unary(f) for f in (np.negative, np.positive, np.square, np.absolute)},
    **{f: unary(f) for f in (np.exp, np.expm1, np.sin, np.cos, np.sinh, np.cosh, np.tanh)},
    **{f: unary(f, positive=True) for f in (np.sqrt, np.log, np.log1p)},
    elementwise._exact: unary(elementwise.exact),
    functions.d_tanh: unary(ad.d_tanh),
    functions.sigmoid: unary(ad.sigmoid),
    functions.d_sigmoid: unary(ad.d_sigmoid),
    functions.softplus: unary(ad.softplus),
    functions.relu: unary(ad.relu),
    functions.step: unary(ad.step),
    functions.leaky_relu: st.one_of(
        unary(ad.leaky_relu),
        *(unary(lambda x, s=s: ad.leaky_relu(x, slope=s)) for s in (0.25, 2.0)),
    ),
    functions.leaky_step: st.one_of(unary(ad.leaky_step), unary(lambda x: ad.leaky_step(x, 0.25))),
    np.where: st.one_of(
        binary(lambda a, b: np.where(a > b, a, b)),
        binary(lambda a, b: np.where(b < 0, a * b, 2)),
        binary(lambda a, b: np.where(True, a, b)),
    ),
    np.clip: st.one_of(
        unary(lambda x: np.clip(x, -1, 2)),
        unary(lambda x: np.clip(x, None, 1)),
        unary(lambda x: np.clip(x, min=-1)),
        binary(lambda x, low: np.clip(x, low, None)),
    ),
    np.full_like: pairs_of_shapes(lambda x, v: np.full_like(x, v) * x, ((2, 3), ()), ((3,), (3,))),
    np.sum: reductions(np.sum),
    np.mean: reductions(np.mean, filled),
    np.prod: reductions(np.prod),
    np.var: spreads(np.var),
    np.std: spreads(np.std),
    np.max: reductions(np.max, filled),
    np.min: reductions(np.min, filled),
    np.cumsum: along(np.cumsum),
    np.reshape: reshapes(),
    np.ravel: st.one_of(unary(np.ravel), unary(lambda x: np.ravel(x, order="F"))),
    np.expand_dims: st.one_of(
        *(unary(lambda x, a=a: np.expand_dims(x, a)) for a in (0, -1, (0, -1), (0, 1)))
    ),
    np.squeeze: squeezes(),
    np.broadcast_to: broadcasts(),
    np.transpose: st.one_of(  # and a permutation that is not its own inverse
        permuted(), st.just(on(np.transpose, (2, 3, 4), (1, -1, 0)))
    ),
    np.swapaxes: exchanged(np.swapaxes),
    np.moveaxis: exchanged(np.moveaxis),
    np.flip: along(np.flip),
    np.roll: st.one_of(
        *(along(lambda x, axis, n=n: np.roll(x, n, axis)) for n in (0, 1, -2)),
        st.just(on(np.roll, (2, 3), (1, 2), (0, 1))),
    ),
    np.tile: st.one_of(*(unary(lambda x, r=r: np.tile(x, r)) for r in (2, (2, 1), (1, 3, 2), 0))),
    np.repeat: along(lambda x, axis: np.repeat(x, 2, axis)),
    np.take: st.just(on(np.take, (3, 2), [0, 0, 2], 0)),
    np.diagonal: st.sampled_from([(), (1,), (-1, 1, 0)]).map(lambda a: on(np.diagonal, (3, 2), *a)),
    np.rot90: st.just(on(np.rot90, (3, 2))),
    np.copy: unary(np.copy),
    np.diag: st.sampled_from(
        [((3,),), ((2,), 1), ((2,), -2), ((0,), 1), ((3, 2),), ((2, 3), 1), ((0, 2),)]
    ).map(lambda c: on(np.diag, *c)),
    np.pad: st.one_of(
        st.sampled_from([((3,), 2), ((2, 3), ((1, 0), (0, 2))), ((0, 2), 1)]).map(
            lambda c: on(np.pad, *c)
        ),
        st.sampled_from(["edge", "reflect", "symmetric", "wrap"]).map(
            lambda mode: on(np.pad, (3, 2), ((2, 1), (0, 1)), mode)
        ),
    ),
    np.split: splits(),
    astype: unary(lambda x: x.astype(object)),
    getitem: indexed(),
    arrays._scatter: scattered(),
    arrays.concatenate: joined(lambda xs, axis: arrays.join(axis, *xs)),
    np.concatenate: joined(np.concatenate, flat=True),
    np.stack: joined(np.stack, same=True),
    np.column_stack: stacked(
        np.column_stack, ((2,), (2,)), ((), ()), ((2, 1), (2, 3)), ((3,), (3, 2))
    ),
    np.hstack: stacked(np.hstack, ((2,), (3,)), ((), ()), ((2, 1), (2, 3))),
    np.vstack: stacked(np.vstack, ((2,), (2,)), ((), ()), ((2, 3), (1, 3)), ((3,), (2, 3))),
    np.matmul: products(),
    np.einsum: einsums(),
    np.tensordot: pairs_of_shapes(
        np.tensordot,
        ((2, 3), (2, 3)),
        ((2,), (3,), 0),
        ((2, 3), (3, 1), 1),
        ((2, 3, 1), (3, 2), ([0, 1], [1, 0])),
        ((2, 3), (4, 2), (0, -1)),
        ((0, 3), (3, 2), 1),
    ),
    np.dot: pairs_of_shapes(
        np.dot, ((), (2,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 2)), ((3,), (2, 3, 1))
    ),
    np.inner: pairs_of_shapes(np.inner, ((2,), ()), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (1, 3))),
    np.outer: pairs_of_shapes(np.outer, ((2,), (3,)), ((2, 2), (0,)), ((), (2,))),
    np.trace: st.sampled_from([((3, 2),), ((2, 3), 1), ((3, 3, 2), -1, 1, 0), ((2, 2), 5)]).map(
        lambda c: on(np.trace, *c)
    ),
    np.linalg.norm: norms(),
}
