"""Each cell's step against loops over scalars, and its closed forms against two other roads."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    ALL,
    PIECEWISE_LINEAR,
    POLYNOMIAL,
    arrays,
    assert_same,
    assert_within,
    cells,
    fill_params,
    fill_state,
    in_field,
    in_floats,
    in_rationals,
    lift,
    seeds,
    sizes,
    total,
)

from tinygrad_rnn.autodiff import jacobian, jvp, vjp
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import finite
from tinygrad_rnn.scalars import GF, assert_exact, errors, rounded, values

# ---- the step ---------------------------------------------------------------------------------


def twin(cell: Cell, p: dict[str, Any], x: list[Any], state: list[list[Any]]) -> list[list[Any]]:
    """One step of one sequence, scalar by scalar, as the notes write it."""
    D, H, h = cell.D, cell.H, state[0]

    def from_x(column: int) -> Any:
        return sum((x[k] * p["W_x"][k, column] for k in range(D)), p["b"][column])

    def from_h(column: int, h: list[Any] = h) -> Any:
        return sum(h[k] * p["W_h"][k, column] for k in range(H))

    def gate(block: int) -> list[Any]:
        return [from_x(block * H + j) + from_h(block * H + j) for j in range(H)]

    if isinstance(cell, RNNCell):
        f = {
            "tanh": lambda a: a.tanh(),
            "sigmoid": lambda a: a.sigmoid(),
            "identity": lambda a: a,
            "relu": lambda a: max(a, 0),
            "leaky_relu": lambda a: a if a > 0 else a * Fraction(0.01),
        }[cell.activation]
        return [[f(a) for a in gate(0)]]
    if isinstance(cell, GRUCell):
        r = [] if cell.variant == "minimal" else [a.sigmoid() for a in gate(0)]
        update = 0 if cell.variant == "minimal" else 1
        z = [a.sigmoid() for a in gate(update)]
        candidate = range((update + 1) * H, (update + 2) * H)
        if cell.variant == "minimal":
            a_c = [from_x(j) + from_h(j) for j in candidate]
        elif cell.variant == "reset_before":
            a_c = [from_x(j) + from_h(j, [r[k] * h[k] for k in range(H)]) for j in candidate]
        else:
            a_c = [from_x(j) + r[k] * (from_h(j) + p["b_h"][k]) for k, j in enumerate(candidate)]
        return [[z[j] * a_c[j].tanh() + (1 - z[j]) * h[j] for j in range(H)]]
    c = state[1]

    def peep(block: int, c: list[Any], j: int) -> Any:
        if cell.peephole == "diagonal":
            return c[j] * p["w_c"][block, j]
        if cell.peephole == "full":
            return sum(c[k] * p["W_c"][k, block * H + j] for k in range(H))
        return 0

    i = [(a + peep(0, c, j)).sigmoid() for j, a in enumerate(gate(0))]
    f = [(a + peep(1, c, j)).sigmoid() for j, a in enumerate(gate(1))]
    g = [a.tanh() for a in gate(2)]
    c = [f[j] * c[j] + i[j] * g[j] for j in range(H)]
    o = [(a + peep(2, c, j)).sigmoid() for j, a in enumerate(gate(3))]
    return [[o[j] * c[j].tanh() for j in range(H)], c]


def steps_by_loops(cell: Cell, params: Any, x: Any, state: Any) -> tuple[Any, ...]:
    each = [twin(cell, params, list(x[n]), [list(s[n]) for s in state]) for n in range(len(x))]
    return tuple(np.array(component, dtype=object) for component in zip(*each, strict=True))


@given(cells(POLYNOMIAL), sizes, seeds)
def test_step_is_the_notes_equation(cell, N, seed) -> None:
    fill = in_field(np.random.default_rng(seed))
    params, x, state = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    assert_same(cell.step(params, x, state), steps_by_loops(cell, params, x, state))


@given(cells(PIECEWISE_LINEAR), sizes, seeds)
def test_step_is_the_notes_equation_over_the_rationals(cell, N, seed) -> None:
    fill = in_rationals(np.random.default_rng(seed))
    params, x, state = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    step = cell.step(params, x, state)
    assert_exact(step[0])
    assert_same(step, steps_by_loops(cell, params, x, state))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cells(ALL), sizes, seeds, st.sampled_from([0.1, 1.0, 5.0]))
def test_step_in_floats(dtype, cell, N, seed, gain) -> None:
    fill = in_floats(np.random.default_rng(seed), gain, dtype)
    data = (fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill))
    step = cell.step(*data)
    assert all(s.dtype == dtype for s in step)
    running = cell.step(*lift(lambda a: rounded(a, dtype), data))
    assert_within(step, lift(values, running), total(lift(errors, running), lift(errors, running)))


# ---- the closed forms -------------------------------------------------------------------------


class Dual:
    """A + Bε with ε² = 0 over the field: a forward mode that shares nothing with the engine."""

    def __init__(self, a: Any, b: Any = 0) -> None:
        self.a, self.b = a, b

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.a + other.a, self.b + other.b)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        other = other if isinstance(other, Dual) else Dual(other)
        return Dual(self.a * other.a, self.a * other.b + self.b * other.a)

    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Any:
        return Dual(other - self.a, -self.b)

    def tanh(self) -> Dual:
        y = self.a.tanh()
        return Dual(y, self.b * (1 - y * y))

    def sigmoid(self) -> Dual:
        y = self.a.sigmoid()
        return Dual(y, self.b * (y - y * y))


def epsilons(cell: Cell, params: Any, x: Any, state: Any, moved: Any, index: Any) -> Any:
    """∂(state, one component after the other)/∂moved[index], shape (N, S)."""
    lifted = lift(lambda a: np.frompyfunc(Dual, 1, 1)(a), (params, x, state))
    target = arrays(lifted)[moved]
    target[index] = np.frompyfunc(lambda e: Dual(e.a, GF(1)), 1, 1)(target[index])
    return np.frompyfunc(lambda e: e.b, 1, 1)(np.concatenate(cell.step(*lifted), axis=1))


@given(cells(POLYNOMIAL), st.integers(1, 2), seeds)
def test_jacobian_by_dual_numbers(cell, N, seed) -> None:
    fill = in_field(np.random.default_rng(seed))
    data = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    columns = [
        epsilons(cell, *data, f"/2/{k}", (slice(None), j))
        for k in range(len(cell.state_names))
        for j in range(cell.H)
    ]
    assert_same(cell.jacobian(*data), np.stack(columns, axis=2))


@given(cells(POLYNOMIAL), st.integers(1, 2), seeds)
def test_local_by_dual_numbers(cell, N, seed) -> None:
    fill = in_field(np.random.default_rng(seed))
    data = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    d_state = fill_state(cell, N, fill)
    d = np.concatenate(d_state, axis=1)
    local = cell.local(*data, d_state)
    assert list(local) == [*cell.layout, "x"]
    for name, got in local.items():
        moved = "/1" if name == "x" else f"/0/{name}"
        expected = np.empty(got.shape, dtype=object)
        for index in np.ndindex(got.shape):
            expected[index] = (d * epsilons(cell, *data, moved, index)).sum()
        assert_same(got, expected)


def flat_step(cell: Cell, params: Any, x: Any) -> Any:
    return lambda state: np.concatenate(cell.step(params, x, state), axis=1)


def by_engine(cell: Cell, params: Any, x: Any, state: Any) -> Any:
    """The Jacobian of each sequence by the engine, shape (N, S, S)."""
    rows = []
    for n in range(len(x)):
        one = lift(lambda s, n=n: s[n : n + 1], state)
        blocks = jacobian(flat_step(cell, params, x[n : n + 1]))(one)
        rows.append(np.concatenate([b[0, :, 0] for b in blocks], axis=1))
    return np.stack(rows)


@given(cells(POLYNOMIAL), sizes, seeds)
def test_the_engine_agrees_over_the_field(cell, N, seed) -> None:
    check_engine(cell, N, in_field(np.random.default_rng(seed)))


@given(cells(PIECEWISE_LINEAR), sizes, seeds)
def test_the_engine_agrees_over_the_rationals(cell, N, seed) -> None:
    check_engine(cell, N, in_rationals(np.random.default_rng(seed)))


def check_engine(cell: Cell, N: int, fill: Any) -> None:
    params, x, state = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    assert_same(cell.jacobian(params, x, state), by_engine(cell, params, x, state))
    d_state = fill_state(cell, N, fill)
    _, pullback = vjp(lambda params, x: cell.step(params, x, state), params, x)
    d_params, d_x = pullback(d_state)
    assert_same(cell.local(params, x, state, d_state), {**d_params, "x": d_x})


# The relative error of the complex step is of the order of its square, far below a roundoff; and
# for data within ±2 preactivations stay within ±60, so that no derivative times it underflows.
H_STEP = 2.0**-100


@given(cells(POLYNOMIAL), sizes, seeds, st.sampled_from([0.1, 1.0, 2.0]))
def test_jacobian_by_complex_step(cell, N, seed, gain) -> None:
    fill = in_floats(np.random.default_rng(seed), gain)
    params, x, state = fill_params(cell, fill), fill((N, cell.D)), fill_state(cell, N, fill)
    direction = fill_state(cell, N, fill)
    moved = tuple(s + 1j * H_STEP * v for s, v in zip(state, direction, strict=True))
    slope = np.concatenate(cell.step(params, x, moved), axis=1).imag / H_STEP
    # A complex product with a tiny imaginary part is the product rule, so the complex step rounds
    # where the forward mode does: that is its bound.
    lifted = lift(rounded, (params, x, state, direction))
    forward = jvp(flat_step(cell, *lifted[:2]), (lifted[2],), (lifted[3],))[1]

    def along(params: Any, x: Any, state: Any, direction: Any) -> Any:
        v = np.concatenate(direction, axis=1)
        return (cell.jacobian(params, x, state) @ v[:, :, None])[:, :, 0]

    closed = along(params, x, state, direction)
    assert_within(slope, closed, total(errors(forward), errors(along(*lifted))))


@pytest.mark.parametrize("make", ALL)
def test_float32_stays_float32(make) -> None:
    cell = make(3, 2)
    params, x, state = cell.init(0, np.float32), np.ones((2, 3), np.float32), ()
    state = cell.initial_state(2, np.float32)
    local = cell.local(params, x, state, cell.initial_state(2, np.float32))
    for a in (*cell.step(params, x, state), cell.jacobian(params, x, state), *local.values()):
        assert a.dtype == np.float32


def test_saturated_jacobians_keep_their_relative_accuracy() -> None:
    # tanh'(40) = 4e⁻⁸⁰ to the last digits; 1 - tanh² would be 0.
    cell = RNNCell(1, 1)
    params = {"W_x": np.zeros((1, 1)), "W_h": np.ones((1, 1)), "b": np.full(1, 40.0)}
    J = cell.jacobian(params, np.zeros((1, 1)), (np.zeros((1, 1)),))
    exact = cell.jacobian(*lift(rounded, (params, np.zeros((1, 1)), (np.zeros((1, 1)),))))
    assert J.item() > 0
    assert errors(exact).item() < J.item() * np.finfo(float).eps * 2**8


# ---- parameters and state ---------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
def test_init(make) -> None:
    cell = make(2, 16)
    params = cell.init(np.random.default_rng(5))
    assert {name: p.shape for name, p in params.items()} == cell.shapes
    values = np.concatenate([p.ravel() for p in params.values()])
    assert np.all(np.abs(values) <= 1 / 4)
    assert values.min() < -1 / 8
    assert values.max() > 1 / 8
    assert_same(params, cell.init(5))
    assert all(p.dtype == np.float32 for p in cell.init(5, np.float32).values())


def test_init_refuses_what_it_cannot_draw() -> None:
    for dtype in (int, object, complex):
        with pytest.raises(TypeError, match="must be a floating type"):
            RNNCell(1, 1).init(0, dtype)


def test_initial_state() -> None:
    h, c = LSTMCell(2, 3).initial_state(4, np.float32)
    assert h.shape == c.shape == (4, 3)
    assert h.dtype == c.dtype == np.float32
    assert not h.any()
    assert not c.any()
    (h,) = GRUCell(2, 3).initial_state(4, object)
    assert_exact(h)


def test_layouts() -> None:
    W = {"W_x": (2, 3), "W_h": (3, 3), "b": (3,)}
    assert RNNCell(2, 3).shapes == W
    assert GRUCell(2, 3, "minimal").shapes == {"W_x": (2, 6), "W_h": (3, 6), "b": (6,)}
    assert GRUCell(2, 3).shapes == {"W_x": (2, 9), "W_h": (3, 9), "b": (9,)}
    assert GRUCell(2, 3, "reset_after").shapes == {**GRUCell(2, 3).shapes, "b_h": (3,)}
    assert LSTMCell(2, 3).shapes == {"W_x": (2, 12), "W_h": (3, 12), "b": (12,)}
    assert LSTMCell(2, 3, "diagonal").shapes == {**LSTMCell(2, 3).shapes, "w_c": (3, 3)}
    assert LSTMCell(2, 3, "full").shapes == {**LSTMCell(2, 3).shapes, "W_c": (3, 9)}
    assert LSTMCell(2, 3, peephole=True) == LSTMCell(2, 3, "full")
    assert len({LSTMCell(2, 3), LSTMCell(2, 3, False), LSTMCell(2, 3, True)}) == 2


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_sizes_are_positive_integers(size) -> None:
    with pytest.raises(ValueError, match=f"D must be a positive integer, got {size!r}"):
        RNNCell(size, 1)
    with pytest.raises(ValueError, match=f"H must be a positive integer, got {size!r}"):
        LSTMCell(1, size)


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="activation must be one of"):
        RNNCell(1, 1, "swish")
    with pytest.raises(ValueError, match="variant must be one of minimal, reset_before, reset_aft"):
        GRUCell(1, 1, "full")
    with pytest.raises(ValueError, match="peephole must be False, True, 'diagonal' or 'full'"):
        LSTMCell(1, 1, "half")


def test_check_says_what_is_wrong() -> None:
    cell = RNNCell(3, 4)
    params = cell.init(0)
    cell.check(params)
    cases = {
        r"^W_h must have shape \(H, H\) = \(4, 4\), got \(3, 4\). Did you pass W_x\?$": {
            "W_h": params["W_x"]
        },
        r"^W_x must have shape \(D, H\) = \(3, 4\), got \(4, 3\). Did you pass it transposed\?": {
            "W_x": params["W_x"].T
        },
        r"^b must have shape \(H,\) = \(4,\), got \(5,\).$": {"b": np.zeros(5)},
        r"^RNNCell has the parameters W_x, W_h, b; missing: none; unknown: b_h.$": {"b_h": 0},
    }
    for message, wrong in cases.items():
        with pytest.raises(ValueError, match=message):
            cell.check({**params, **wrong})
    with pytest.raises(ValueError, match=r"missing: W_h, b; unknown: none.$"):
        cell.check({"W_x": params["W_x"]})
    with pytest.raises(
        ValueError, match=r"W_x must have shape \(D, 4H\) = \(3, 16\), got \(3, 4\)"
    ):
        LSTMCell(3, 4).check(params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("size", [1, 2**13 - 1, 2**13, 3 * 2**16 + 1])
def test_what_is_not_finite_is_found_wherever_it_stands(size, dtype):
    a = np.full((size, 1), np.finfo(dtype).max, dtype)  # the sum of its squares overflows
    assert finite([a])
    for i, bad in product({0, size // 2, size - 1}, (np.nan, np.inf, -np.inf)):
        b = a.copy()
        b[i] = bad
        assert not finite([b])
        assert not finite([a, b, a])
