"""The number systems: each keeps the promise its docstring makes, and fails loudly elsewhere."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import functions
from tinygrad_rnn.scalars import (
    GF,
    P,
    Tally,
    assert_exact,
    ball,
    counted,
    field,
    rational,
    rounded,
    values,
)

SYSTEMS = {
    "rational": rational,
    "field": lambda a: np.vectorize(GF, otypes=[object])(a),
    "ball": ball,
    "counted": lambda a: counted(a, Tally()),
    "rounded": rounded,
}
NUMPY = "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "sinh", "cosh", "tanh"
OURS = "d_tanh", "sigmoid", "d_sigmoid", "softplus", "relu"
FUNCTIONS = {n: getattr(np, n) for n in NUMPY} | {n: getattr(functions, n) for n in OURS}
rationals = st.fractions(min_value=-9, max_value=9, max_denominator=9)
elements = st.integers(0, P - 1).map(GF)


# --- Every system is a citizen of NumPy


@pytest.mark.parametrize("lift", SYSTEMS.values(), ids=SYSTEMS)
@given(data=st.lists(st.integers(-9, 9), min_size=4, max_size=4))
def test_numpy_computes_with_the_elements(lift, data):
    ints = np.array(data).reshape(2, 2)
    A = lift(ints)
    read = values if lift is rounded else np.asarray  # Rounded values equal only what is exact
    for compute in (
        lambda a: a @ a,
        lambda a: a.sum(),
        lambda a: np.cumsum(a, axis=0),
        lambda a: np.einsum("ij,jk->ik", a, a),
        lambda a: np.concatenate([a[0], a[1]]) - 1,
        lambda a: (a**2).T,
        lambda a: 3 - a**3,
        lambda a: np.outer(a, a) * np.int64(2),
        lambda a: a - np.uint8(3),
        lambda a: np.where(a == 0, 5, a),
        lambda a: np.prod(a, axis=1),
        lambda a: -a[0] @ a[1] + (a[:, :0] @ a[:0]).sum(),  # empty sums are the int 0
    ):
        assert np.all(read(compute(A)) == compute(ints))
    assert np.all(read(A.mean() * 4) == ints.sum())
    assert np.all(read(2 * A / 2) == ints)


@pytest.mark.parametrize("lift", [SYSTEMS[n] for n in ("rational", "ball", "counted", "rounded")])
def test_ordered_systems_order(lift):
    A = lift([-2, 0, 3])
    assert np.maximum(A, 0).tolist() == [0, 0, 3]
    assert np.where(A > 0, A, 0).tolist() == np.clip(A, 0, None).tolist() == [0, 0, 3]
    assert np.abs(A).tolist() == [2, 0, 3]
    assert functions.relu(A).tolist() == [0, 0, 3]
    assert functions.step(A).tolist() == [0, 0, 1]
    assert [np.any(A), np.all(A), np.argmax(A)] == [True, False, 2]


@pytest.mark.parametrize("lift", SYSTEMS.values(), ids=SYSTEMS)
def test_lifting_keeps_no_axes_an_array_and_refuses_the_rest(lift):
    assert lift(1).shape == ()
    assert lift(1).dtype == object
    for refused in (1j, "1", None, np.longdouble(1)):
        with pytest.raises(TypeError):
            lift(refused)
        with pytest.raises(TypeError):
            lift([1])[0] + [refused]


def test_nothing_but_the_balls_needs_flint_and_names_do_not_depend_on_import_order():
    program = (
        "import sys, tinygrad_rnn.scalars as s; assert 'flint' not in sys.modules;"
        "import tinygrad_rnn.scalars.balls, tinygrad_rnn.scalars.field;"
        "assert all(callable(getattr(s, n)) for n in s.__all__ if n not in ('P', 'ULPS'))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="nonsense"):
        sys.modules["tinygrad_rnn.scalars"].nonsense  # noqa: B018


# --- Rationals


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(width=32, min_value=-9))
def test_floats_lift_to_the_rational_they_are(x, y):
    assert rational(x).item() == Fraction(x)
    finite = np.float32(y if math.isfinite(y) else 0)
    assert rational(np.array([finite]))[0] == float(finite)


@pytest.mark.parametrize("x", [math.inf, -math.inf, math.nan])
def test_non_finite_numbers_are_not_rational(x):
    with pytest.raises(ValueError, match="finite"):
        rational([1.0, x])


@pytest.mark.parametrize(
    "demote",
    [
        lambda F: np.zeros(2) + F,
        lambda F: 0.5 * F,
        lambda F: np.prod([]) * F,
        lambda F: np.concatenate([F, np.zeros(2)]),
        lambda F: F / np.float32(2),
        lambda F: F.astype(float),
        lambda F: F + 1j,
    ],
)
def test_trap_silent_demotion_is_found(demote):
    F = rational([1, 2])
    assert_exact(F)
    assert_exact(1 - F * F)
    assert_exact(field(3, np.random.default_rng(0)))
    with pytest.raises(TypeError, match=r"got the (float|complex) .* at index \("):
        assert_exact(demote(F))


def test_assert_exact_names_the_first_float():
    mixed = rational([[1, 2], [3, 4]])
    mixed[1, 0] = 0.25
    with pytest.raises(TypeError, match=r"float 0\.25 at index \(1, 0\)"):
        assert_exact(mixed)


def test_trap_fractions_have_no_transcendental_functions():
    for function in FUNCTIONS.values():
        if function is not functions.relu:
            with pytest.raises(TypeError):
                function(rational([1]))


# --- The finite field


@given(elements, elements, elements)
def test_field_axioms(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert [a + b, a * b] == [b + a, b * a]
    assert [a - a, a + 0, 1 * a, a**0] == [0, a, a, 1]
    if a != 0:
        assert [a / a, a**-2 * a * a, (b / a) * a] == [1, 1, b]
    assert a ** (P - 1) == int(a != 0)  # Fermat
    assert hash(a) == hash(GF(a.value + P))


@given(rationals, rationals)
def test_fractions_map_into_the_field_homomorphically(p, q):
    assert GF(p) + q == GF(p + q)
    assert p * GF(q) == GF(p * q)
    if q:
        assert p / GF(q) == GF(p / q)


def test_the_field_refuses_what_has_no_meaning_in_it():
    a = GF(3)
    for operation in (
        lambda: a + 0.5,
        lambda: np.float64(2) * a,
        lambda: np.zeros(2) + a,
        lambda: GF(2.0),
        lambda: a == 3.0,
    ):
        with pytest.raises(TypeError, match="float"):
            operation()
    for order in (lambda: a < 3, lambda: a >= a, lambda: np.maximum(np.array([a]), 0)):
        with pytest.raises(TypeError, match="no order"):
            order()
    for divide in (lambda: a / 0, lambda: a / P, lambda: GF(0) ** -1, lambda: GF(Fraction(1, P))):
        with pytest.raises(ZeroDivisionError):
            divide()


@given(elements)
def test_oracles_are_functions_with_their_derivatives(a):
    assert a.tanh() == GF(a.value).tanh()
    assert a.tanh() != a.sigmoid()
    assert a.d_tanh() == (1 - a.tanh()) * (1 + a.tanh())
    assert a.d_sigmoid() == a.sigmoid() - a.sigmoid() ** 2
    assert a.tanh() != (a + 1).tanh()
    assert a.d_tanh() != 1 - a.tanh()  # a wrong derivative is refuted


def test_oracles_are_the_same_in_every_process():
    assert GF(0).tanh() == GF(537168345570627216)
    assert GF(0).sigmoid() == GF(1173386244307066804)


def test_field_draws_a_shape_reproducibly():
    one, two = (field(np.zeros((2, 3)), np.random.default_rng(5)) for _ in range(2))
    assert one.shape == (2, 3)
    assert np.all(one == two)
    assert len(set(field((1000,), np.random.default_rng(6)))) == 1000


# --- Counting


@given(T=st.integers(1, 4), D=st.integers(1, 3), H=st.integers(1, 4))
def test_an_rnn_step_costs_what_the_theory_says(T, D, H):
    """C-8: H² + HD multiplications a step for the two products."""
    tally, rng = Tally(), np.random.default_rng(0)
    draw = lambda *shape: counted(rng.normal(size=shape), tally)  # noqa: E731
    W_x, W_h, b, h = draw(D, H), draw(H, H), draw(H), draw(H)
    for x in draw(T, D):
        h = np.tanh(x @ W_x + h @ W_h + b)
    assert tally == Tally(add=T * H * (H + D), mul=T * H * (H + D), function=T * H)


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=6))
def test_counting_is_exact_and_changes_no_value(xs):
    tally, plain = Tally(), np.array(xs)
    x = counted(plain, tally)
    n = len(xs)
    assert np.all(((x - 1.5) / 2 + x**3) == ((plain - 1.5) / 2 + plain * plain * plain))
    assert tally == Tally(add=2 * n, mul=2 * n, div=n)
    _ = 0 + x, 1 * x, 0 * x, x / 1, -x, abs(x), x > 0  # none of these is an operation
    assert tally == Tally(add=2 * n, mul=2 * n, div=n)
    for function in FUNCTIONS.values():
        function(abs(x) + 1)
    assert tally.function == n * len(FUNCTIONS)
    with pytest.raises(TypeError):
        x + counted(plain, Tally())
