"""The contract of every rule: its products are the derivative, and each is the other's transpose.

The rules are read from the tables, so a rule without a row here fails. The truth comes from power
series over balls (`taylor`), which know nothing of the rules: enclosures of the derivatives must
overlap, and where the function is rational and the inputs dyadic they are points, so that this is
equality. Floats are then held to the running error bound of the rule's own formula.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from domains import ROWS, Row
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from taylor import agree, coefficient, series, taylor

from tinygrad_rnn import autodiff as ad
from tinygrad_rnn.autodiff import jvp, vjp
from tinygrad_rnn.autodiff.tensor import RULES
from tinygrad_rnn.composed import COMPOSED, public_name
from tinygrad_rnn.functions import astype
from tinygrad_rnn.scalars import errors, rational, rounded
from tinygrad_rnn.trees import flatten

Array = Any
seeds = st.integers(0, 2**32 - 1)


# NumPy does not offer these for object arrays; each has a test of its own below.
FLOATS_ONLY = {
    np.logaddexp: "test_logaddexp",
    np.linalg.solve: "test_solve",
    np.linalg.inv: "test_inverse_and_determinant",
    np.linalg.det: "test_inverse_and_determinant",
}
FUNCTIONS = sorted({*RULES, *COMPOSED}, key=public_name)  # at import: before anyone adds to them

every_function = pytest.mark.parametrize(
    "f", [f for f in FUNCTIONS if f not in FLOATS_ONLY], ids=public_name
)


def test_every_rule_has_a_row_or_a_test_of_its_own() -> None:
    """So a rule added to the table fails here until its contract is tested."""
    assert set(FUNCTIONS) == ROWS.keys() | FLOATS_ONLY.keys()
    assert not ROWS.keys() & FLOATS_ONLY.keys()
    assert all(callable(globals()[test]) for test in FLOATS_ONLY.values())


# ---- inputs ------------------------------------------------------------------------------------


def distinct(rng: np.random.Generator, row: Row) -> list[Array]:
    """Odd eighths, no two alike in size: neither zero nor a tie, and exact in every format."""
    sizes = [int(np.prod(s, dtype=int)) for s in row.shapes]
    x = (2 * rng.permutation(sum(sizes)) + 1) / 8
    if not row.positive:
        x *= rng.choice([-1, 1], x.shape)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    return [p.reshape(s) for p, s in zip(parts, row.shapes, strict=True)]


def quarters(rng: np.random.Generator, like: Any) -> Any:
    """Fill a tree of arrays with small multiples of a quarter."""
    leaves, rebuild = flatten(like)
    return rebuild([rng.integers(-64, 65, np.shape(leaf)) / 4 for leaf in leaves])


def pairing(a: Any, b: Any) -> Array:
    """⟨a, b⟩ = Σ aᵢbᵢ over all arrays of two trees."""
    pairs = zip(flatten(a)[0], flatten(b)[0], strict=True)
    return sum((np.sum(np.multiply(x, y)) for x, y in pairs), start=0)


def each(f: Callable[[Array], Array], tree: Any) -> Any:
    parts, rebuild = flatten(tree)
    return rebuild([f(a) for a in parts])


def leaves(tree: Any) -> list[Array]:
    return flatten(tree)[0]


def problem(row: Row, rng: np.random.Generator) -> tuple[Any, ...]:
    """Points x, tangents t, the series x + tε, what the function makes of it, and cotangents."""
    x = distinct(rng, row)
    t = quarters(rng, x)
    moving = [taylor(a, b) for a, b in zip(x, t, strict=True)]
    truth = row.truth(moving)
    return each(taylor, x), each(taylor, t), moving, truth, each(taylor, quarters(rng, truth))


# ---- the contract ------------------------------------------------------------------------------


@every_function
@given(st.data(), seeds)
@settings(max_examples=25)
def test_products_are_derivatives_and_transposes(f: Any, data: Any, seed: int) -> None:
    row = data.draw(ROWS[f])
    rng = np.random.default_rng(seed)
    with series():
        points, t, _, truth, g = problem(row, rng)

        value, tangent = jvp(row.call, points, t)
        for y, dy, z in zip(leaves(value), leaves(tangent), leaves(truth), strict=True):
            assert agree(coefficient(y, 0), coefficient(z, 0))
            assert agree(coefficient(dy, 0), coefficient(z, 1))

        value, pullback = vjp(row.call, *points)
        for y, z in zip(leaves(value), leaves(truth), strict=True):
            assert agree(coefficient(y, 0), coefficient(z, 0))
        cotangent = pullback(g)
        assert [np.shape(c) for c in cotangent] == [np.shape(a) for a in points]
        assert agree(coefficient(pairing(g, tangent), 0), coefficient(pairing(cotangent, t), 0))


@every_function
@given(st.data(), seeds)
@settings(max_examples=10)
def test_products_can_be_differentiated_again(f: Any, data: Any, seed: int) -> None:
    row = data.draw(ROWS[f])
    rng = np.random.default_rng(seed)
    with series():
        points, t, moving, truth, g = problem(row, rng)

        def gradient(*xs: Array) -> Any:
            return vjp(row.call, *xs)[1](g)

        def slope(*xs: Array) -> Any:
            return jvp(row.call, xs, t)[1]

        # Along x + tε the gradient changes by H t, and the slope by tᵀ H t.
        curved = [coefficient(c, 1) for c in gradient(*moving)]
        ways = (
            jvp(gradient, points, t)[1],
            vjp(slope, *points)[1](g),
            vjp(lambda *xs: pairing(gradient(*xs), t), *points)[1](1),
        )
        for way in ways:
            for c, z in zip(way, curved, strict=True):
                assert agree(coefficient(c, 0), z)
        for c, z in zip(leaves(jvp(slope, points, t)[1]), leaves(truth), strict=True):
            assert agree(coefficient(c, 0), 2 * coefficient(z, 2))


# Exponents of an enclosure are integers.
COMPUTED = [f for f in FUNCTIONS if f not in {*FLOATS_ONLY, np.power, astype}]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("f", COMPUTED, ids=public_name)
@given(st.data(), seeds)
@settings(max_examples=8)
def test_floats_keep_their_precision_and_their_bound(
    f: Any, dtype: Any, data: Any, seed: int
) -> None:
    row = data.draw(ROWS[f])
    rng = np.random.default_rng(seed)
    with series():
        x = distinct(rng, row)
        t = quarters(rng, x)
        g = quarters(rng, row.truth(x))
        truth, computed, bounded = (
            leaves([jvp(row.call, xs, ts)[1], vjp(row.call, *xs)[1](gs)])
            for lift in (taylor, lambda a: np.asarray(a, dtype), lambda a: rounded(a, dtype))
            for xs, ts, gs in [each(lift, (x, t, g))]
        )
        for y, z, e in zip(computed, truth, bounded, strict=True):
            assert y.dtype == dtype
            limit = errors(e)
            assert np.isfinite(limit).all()
            gap = taylor(y.astype(float)) - z
            for d, b in zip(coefficient(gap, 0).flat, np.ravel(limit), strict=True):
                assert abs(d) <= b + abs(d.rad())


# ---- what object arrays cannot do --------------------------------------------------------------


def triangular(rng: np.random.Generator, n: int) -> Array:
    """A matrix whose LU factors, and all sums with them, are exact in floats: P U, Uᵢᵢ = ±2ᵏ."""
    upper = np.triu(rng.integers(-4, 5, (n, n)), 1) + np.diag(rng.choice([-2, -1, 1, 2, 4], n))
    return rng.permutation(upper).astype(float)


def exact_inverse(a: Array) -> Array:
    """The inverse by Gauss–Jordan elimination over the rationals."""
    n = len(a)
    rows = np.concatenate([rational(a), rational(np.eye(n))], axis=1)
    for k in range(n):
        pivot = k + next(i for i, e in enumerate(rows[k:, k]) if e != 0)
        rows[[k, pivot]] = rows[[pivot, k]]
        rows[k] = rows[k] / rows[k, k]
        for i in set(range(n)) - {k}:
            rows[i] = rows[i] - rows[i, k] * rows[k]
    return rows[:, n:]


def exact_determinant(a: Array) -> Any:
    """The determinant by Leibniz' sum over permutations, read off as signs of the inversions."""
    n = len(a)
    total: Any = 0
    for p in itertools.permutations(range(n)):
        sign = (-1) ** sum(p[i] > p[j] for i in range(n) for j in range(i + 1, n))
        total += sign * np.prod([rational(a[i, p[i]]).item() for i in range(n)], initial=1)
    return total


def grid(y: Array) -> Array:
    """The exact value of a result that is a multiple of 2⁻²⁰, from one that is nearly so.

    NumPy's determinant is an exponential of a logarithm.
    """
    return rational(np.round(y * 2**20)) / 2**20


@given(st.integers(1, 3), st.sampled_from([(), (1,), (2,)]), st.booleans(), seeds)
def test_solve(n: int, columns: tuple[int, ...], batched: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, da = triangular(rng, n), quarters(rng, np.zeros((n, n)))
    b, db, g = (quarters(rng, np.zeros((n, *columns))) for _ in range(3))
    A = exact_inverse(a)
    x = A @ rational(b)
    if batched and columns:  # one matrix for a stack of right-hand sides
        b, db, g = (np.stack([v, v]) for v in (b, db, g))
        x = np.stack([x, x])
    y, dy = jvp(np.linalg.solve, (a, b), (da, db))
    assert np.all(rational(y) == x)
    assert np.all(rational(dy) == A @ (rational(db) - rational(da) @ x))
    pulled_a, pulled_b = vjp(np.linalg.solve, a, b)[1](g)
    assert np.all(rational(pulled_b) == A.T @ rational(g))
    assert pairing(pulled_a, da) + pairing(pulled_b, db) == pairing(g, dy)


@given(st.integers(1, 3), seeds)
def test_inverse_and_determinant(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, t, g = triangular(rng, n), *quarters(rng, [np.zeros((n, n))] * 2)
    A, T = exact_inverse(x), rational(t)
    y, dy = jvp(np.linalg.inv, (x,), (t,))
    assert np.all(rational(y) == A)
    assert np.all(rational(dy) == -A @ T @ A)
    assert pairing(vjp(np.linalg.inv, x)[1](g), t) == pairing(g, dy)

    det = exact_determinant(x)
    y, dy = jvp(np.linalg.det, (x,), (t,))
    assert grid(y) == det
    assert grid(dy) == det * np.trace(A @ T)  # Jacobi's formula
    assert np.all(grid(vjp(np.linalg.det, x)[1](np.array(2.0))[0]) == 2 * det * A.T)


@pytest.mark.parametrize("f", [np.linalg.inv, np.linalg.det])
def test_linear_algebra_is_stacked(f: Any) -> None:
    rng = np.random.default_rng(0)
    x = np.stack([triangular(rng, 3) for _ in range(2)])
    y, pullback = vjp(f, x)
    g = quarters(rng, y)
    apart = [vjp(f, m)[1](h)[0] for m, h in zip(x, g, strict=True)]
    assert np.all(pullback(g)[0] == np.stack(apart))
    apart = [jvp(f, (m,), (m,))[1] for m in x]
    assert np.all(jvp(f, (x,), (x,))[1] == np.stack(apart))


def test_linear_algebra_twice() -> None:
    """d²(A⁻¹)[T, T] = 2 A⁻¹TA⁻¹TA⁻¹, and solve and det likewise through the inverse."""
    rng = np.random.default_rng(1)
    x, t = triangular(rng, 3), quarters(rng, np.zeros((3, 3)))
    b = quarters(rng, np.zeros(3))
    A, T = exact_inverse(x), rational(t)
    second = 2 * A @ T @ A @ T @ A

    def twice(f: Any) -> Array:
        return jvp(lambda m: jvp(f, (m,), (t,))[1], (x,), (t,))[1]

    assert np.all(rational(twice(np.linalg.inv)) == second)
    assert np.all(rational(twice(lambda m: np.linalg.solve(m, b))) == second @ rational(b))
    trace, square = np.trace(A @ T), np.trace(A @ T @ A @ T)
    assert grid(twice(np.linalg.det)) == exact_determinant(x) * (trace**2 - square)


@given(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3), seeds)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_logaddexp(dtype: Any, shapes: Any, seed: int) -> None:
    """Its partial derivatives are σ(a − b) and σ(b − a), which have been tested."""
    rng = np.random.default_rng(seed)
    row = Row(np.logaddexp, shapes.input_shapes)
    a, b = (v.astype(dtype) for v in distinct(rng, row))
    t = np.ones((), dtype)
    y, da = jvp(lambda a: np.logaddexp(a, b), (a,), (np.broadcast_to(t, a.shape),))
    db = jvp(lambda b: np.logaddexp(a, b), (b,), (np.broadcast_to(t, b.shape),))[1]
    assert y.dtype == da.dtype == db.dtype == dtype
    assert np.all(da == ad.sigmoid(a - b))
    assert np.all(db == ad.sigmoid(b - a))
    pulled = vjp(np.logaddexp, a, b)[1](np.ones_like(y))
    whole = np.broadcast_to(a, y.shape), np.broadcast_to(b, y.shape)
    apart = vjp(np.logaddexp, *whole)[1](np.ones_like(y))
    assert np.all(apart[0] == da)
    assert np.all(apart[1] == db)
    assert [p.shape for p in pulled] == list(shapes.input_shapes)
