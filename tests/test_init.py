"""Initial weights: exact where they are orthogonal, and of the stated law where they are random."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Array, assert_within, cells, seeds

from tinygrad_rnn import GRUCell, LSTMCell, RNNCell, Stack, init
from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.proofs.p_values import chi_square_p, fair_coin_p, hoeffding_p
from tinygrad_rnn.scalars import ball, encloses, errors, rational, rounded

FALSE_ALARM = 1e-9
EVERY_CELL = [
    lambda D, H: RNNCell(D, H),
    *(lambda D, H, v=v: GRUCell(D, H, v) for v in ("minimal", "reset_before", "reset_after")),
    *(lambda D, H, p=p: LSTMCell(D, H, p) for p in (False, "diagonal", "full")),
]
RULES = [init.identity, init.orthogonal, init.lecun, init.glorot, init.he]
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5))


def normals(seed: int, n: int, m: int) -> list[Array]:
    """The vectors that orthogonal draws from this seed."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(n - k) for k in range(m)]


# ---- orthogonal ---------------------------------------------------------------------------------


@given(shapes, seeds, st.sampled_from([0.5, 1.0, 3.0]))
def test_orthogonal_within_its_rounding_error(shape, seed, gain) -> None:
    W = init.orthogonal(seed, shape, gain)
    assert W.shape == shape
    tall = W if shape[0] >= shape[1] else W.T
    x = normals(seed, *tall.shape)
    assert np.all(tall == gain * init.orthonormal(x))
    Q = gain * init.orthonormal([rounded(v) for v in x])
    assert_within(tall.T @ tall, gain * gain * np.eye(tall.shape[1]), errors(Q.T @ Q))


@given(shapes, seeds)
def test_the_formula_is_orthonormal_in_balls(shape, seed) -> None:
    n, m = max(shape), min(shape)
    Q = init.orthonormal([ball(v) for v in normals(seed, n, m)])
    assert all(encloses(c, e) for c, e in zip((Q.T @ Q).flat, np.eye(m).flat, strict=True))
    assert all(float(c.rad) < 2.0**-20 for c in (Q.T @ Q).flat)


@given(st.lists(st.integers(-9, 9), min_size=3, max_size=3).filter(any))
def test_a_reflection_is_exact_on_fractions(v) -> None:
    v, eye = rational(v), rational(np.eye(3))
    R = init.householder(v, eye)
    assert np.all(eye == R.T @ R)
    assert np.all(R == R.T)
    assert np.all(R @ v == -v)
    assert np.trace(R) == 1  # two directions stay, one turns round


def test_orthogonal_is_uniform() -> None:
    """Each entry of a uniform Q changes sign freely; Q e times an independent χ_n is Gaussian."""
    rng, n, draws = np.random.default_rng(0), 3, 400
    Q = np.stack([init.orthogonal(rng, (n, n)) for _ in range(draws)])
    p = [fair_coin_p(int((Q[:, i, j] > 0).sum()), draws) for i in range(n) for j in range(n)]
    p.append(fair_coin_p(int((np.linalg.det(Q) > 0).sum()), draws))
    length = np.linalg.norm(rng.standard_normal((draws, n)), axis=1)
    for unit in (*np.eye(n), np.ones(n) / np.sqrt(n)):
        gaussian = (Q @ unit)[:, 0] * length
        p.append(chi_square_p(float(gaussian @ gaussian), draws))
    assert min(p) >= FALSE_ALARM / len(p)


def test_the_sign_matters() -> None:
    """Without it, as from a QR decomposition that is not mended, no first entry is positive."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        v = rng.standard_normal(3)
        v[0] += np.copysign(np.linalg.norm(v), v[0])
        assert init.householder(v, np.eye(3))[0, 0] < 0


# ---- independent entries ------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(30, 50), (50, 30)])
@pytest.mark.parametrize(
    ("rule", "variance"),
    [
        (init.lecun, lambda n, m: 1 / n),
        (init.he, lambda n, m: 2 / n),
        (init.glorot, lambda n, m: 2 / (n + m)),
    ],
)
def test_variance(rule, variance, shape) -> None:
    gain = 1.5
    sigma2 = gain**2 * variance(*shape)
    normal = rule(0, shape, gain, "normal").ravel()
    uniform = rule(0, shape, gain, "uniform").ravel()
    assert chi_square_p(float(normal @ normal) / sigma2, normal.size) >= FALSE_ALARM
    assert hoeffding_p(uniform**2, sigma2, 3 * sigma2) >= FALSE_ALARM
    # The largest of n numbers uniform on [0, a] is at most a x with probability xⁿ.
    share = np.abs(uniform).max() / np.sqrt(3 * sigma2)
    assert FALSE_ALARM <= share**uniform.size <= 1
    for drawn in (normal, uniform):
        assert fair_coin_p(int((drawn > 0).sum()), drawn.size) >= FALSE_ALARM


@pytest.mark.parametrize("rule", RULES)
def test_the_seed_decides(rule) -> None:
    rng = np.random.default_rng(3)
    assert np.all(rule(3, (4, 5)) == rule(rng, (4, 5)))
    if rule is not init.identity:
        assert np.any(rule(rng, (4, 5)) != rule(3, (4, 5)))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 3), [3, 3], 3])
def test_what_is_no_matrix_is_refused(rule, shape) -> None:
    with pytest.raises(ValueError, match=r"shape must be \(fan_in, fan_out\), two positive"):
        rule(0, shape)


def test_an_unknown_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="must be 'normal' or 'uniform', got 'cauchy'"):
        init.he(0, (2, 2), distribution="cauchy")


# ---- parameters of cells ------------------------------------------------------------------------


@given(cells(EVERY_CELL), st.sampled_from([np.float32, np.float64]))
def test_every_gate_is_drawn_on_its_own(cell, dtype) -> None:
    start = cell.init(0, dtype)
    params = init.redraw(cell, start, 1, W_h=init.identity, W_x=init.lecun, b=init.zeros)
    cell.check(params)
    assert {p.dtype for p in params.values()} == {np.dtype(dtype)}
    assert all(
        np.all(np.eye(cell.H) == W) for W in split(params["W_h"], len(params["b"]) // cell.H)
    )
    assert not params["b"].any()
    rng = np.random.default_rng(1)
    init.redraw(cell, start, rng, W_h=init.identity)
    blocks = [init.lecun(rng, (cell.D, cell.H)) for _ in range(len(params["b"]) // cell.H)]
    assert np.all(params["W_x"] == np.concatenate(blocks, axis=1).astype(dtype))
    kept = set(params) - {"W_h", "W_x", "b"}
    assert all(params[name] is start[name] for name in kept)


def test_peepholes_have_a_row_or_a_block_for_each_gate() -> None:
    diagonal, full = LSTMCell(2, 3, "diagonal"), LSTMCell(2, 3, True)
    asked: list[tuple[int, ...]] = []

    def rule(rng, shape):
        asked.append(shape)
        return np.full(shape, len(asked))

    rows = init.redraw(diagonal, diagonal.init(0), 0, w_c=rule)["w_c"]
    assert rows.tolist() == [[1.0] * 3, [2.0] * 3, [3.0] * 3]
    blocks = init.redraw(full, full.init(0), 0, W_c=rule)["W_c"]
    assert blocks[0].tolist() == [4.0] * 3 + [5.0] * 3 + [6.0] * 3
    assert asked == [(3,)] * 3 + [(3, 3)] * 3


def test_redraw_leaves_what_came_in() -> None:
    cell = LSTMCell(2, 3)
    params = cell.init(0)
    before = {name: p.copy() for name, p in params.items()}
    init.redraw(cell, params, 0, W_h=init.orthogonal)
    init.forget_bias(cell, params)
    assert all(np.all(params[name] == before[name]) for name in before)


def test_a_stack_is_redrawn_cell_by_cell() -> None:
    stack, rng = Stack([LSTMCell(2, 3), LSTMCell(3, 3)]), np.random.default_rng(0)
    params = [
        init.redraw(cell, p, rng, W_h=init.orthogonal)
        for cell, p in zip(stack.cells, stack.init(rng), strict=True)
    ]
    assert stack.unroll(params, np.ones((4, 1, 2))).outputs.shape == (4, 1, 3)


@given(cells(EVERY_CELL[1:]), st.sampled_from([-1.0, 0.0, 1.0, 5.0]))
def test_the_forget_bias_is_the_share_that_stays(cell, bias) -> None:
    """Without weights a step keeps σ(bias) of the memory."""
    zeros = {name: np.zeros(shape) for name, shape in cell.shapes.items()}
    params = init.forget_bias(cell, zeros, bias)
    memory = np.linspace(-2, 2, cell.H)[None]
    state = (np.zeros_like(memory), memory) if isinstance(cell, LSTMCell) else (memory,)
    after = cell.step(params, np.zeros((1, cell.D)), state)[-1]
    share = sigmoid(bias) if isinstance(cell, LSTMCell) else 1 - sigmoid(-bias)
    assert np.all(after == share * memory)


def test_refusals() -> None:
    cell = RNNCell(2, 3)
    params = cell.init(0)
    with pytest.raises(TypeError, match="RNNCell has no gate that decides what it forgets"):
        init.forget_bias(cell, params)
    with pytest.raises(ValueError, match=r"W_c is no parameter of RNNCell.*has W_x, W_h, b\."):
        init.redraw(cell, params, 0, W_c=init.orthogonal)
    with pytest.raises(ValueError, match=r"the rule for W_x must return \(2, 3\), got \(3, 2\)\."):
        init.redraw(cell, params, 0, W_x=lambda rng, shape: np.zeros(shape[::-1]))
    exact = {name: rational(p) for name, p in params.items()}
    with pytest.raises(TypeError, match="initial weights are floats, but W_h has dtype object"):
        init.redraw(cell, exact, 0, W_h=init.orthogonal)
    with pytest.raises(ValueError, match="v must not be zero"):
        init.householder(np.zeros(2), np.eye(2))
    with pytest.raises(ValueError, match=r"shape must be \(fan_in, fan_out\)"):
        init.redraw(cell, params, 0, b=partial(init.lecun, gain=1.0))
