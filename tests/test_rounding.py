"""Rounded: no float evaluation of a formula leaves its error bound, and the bound is of use."""

from __future__ import annotations

import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import functions
from tinygrad_rnn.scalars import (
    ULPS,
    Undecided,
    ball,
    errors,
    precision,
    rational,
    rounded,
    values,
)

NUMPY = "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "sinh", "cosh", "tanh"
OURS = "d_tanh", "sigmoid", "d_sigmoid", "softplus", "relu"
FUNCTIONS = {n: getattr(np, n) for n in NUMPY} | {n: getattr(functions, n) for n in OURS}


def _fma(a, b, c):
    return type(a)(float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))))


def _forward(terms):
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _pairwise(terms):
    half = len(terms) // 2
    return terms[0] if not half else _pairwise(terms[:half]) + _pairwise(terms[half:])


ORDERS = {
    "forward": _forward,
    "backward": lambda terms: _forward(terms[::-1]),
    "pairwise": _pairwise,
    "ascending": lambda terms: _forward(sorted(terms, key=abs)),
    "descending": lambda terms: _forward(sorted(terms, key=abs, reverse=True)),
    "fsum": lambda terms: terms[0].dtype.type(math.fsum(map(float, terms))),
}


def _fused(xs, ys):
    total = xs[0] * ys[0]
    for x, y in zip(xs[1:], ys[1:], strict=True):
        total = _fma(x, y, total)
    return total


def _distance(x, truth: Fraction) -> Fraction:
    return abs(Fraction(float(x)) - truth)


sizes = st.floats(-4, 4).flatmap(
    lambda m: st.sampled_from([0, 0, 3, -20, -60, -160, -540, 40]).map(lambda k: math.ldexp(m, k))
)
dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@dtypes
@given(pairs=st.lists(st.tuples(sizes, sizes), min_size=1, max_size=12))
def test_every_order_of_a_dot_product_is_within_the_error(dtype, pairs):
    xs, ys = np.array(pairs, dtype).T.copy()
    exact = rational(xs) @ rational(ys)
    x, y = rounded(xs, dtype), rounded(ys, dtype)
    for bound in (x @ y, (x * y)[::-1].sum(), y[::-1] @ x[::-1], _pairwise(list(x * y))):
        assert _distance(bound.value, exact) <= bound.error
        for order in ORDERS.values():
            assert _distance(order(list(xs * ys)), exact) <= bound.error
        for result in (
            xs @ ys,
            np.einsum("i,i", xs, ys),
            _fused(xs, ys),
            _fused(ys[::-1], xs[::-1]),
        ):
            assert _distance(result, exact) <= bound.error
        # Not vacuous: n products and n − 1 additions cost γ_2n of the magnitudes, to first order
        # in u, and one subnormal each.
        n, info = len(xs), np.finfo(dtype)
        magnitude = abs(rational(xs)) @ abs(rational(ys))
        budget = 2 * n * magnitude * Fraction(float(info.eps)) + 64 * n * Fraction(
            float(info.smallest_subnormal)
        )
        assert bound.error <= budget


@dtypes
def test_the_error_does_not_depend_on_the_order_of_the_terms(dtype):
    """A hundred terms below half an ulp of 1, then 1: the order that starts with 1 loses them all.

    Charging each addition u times the magnitude so far allows one rounding of 1, not a hundred.
    """
    u = float(np.finfo(dtype).eps) / 2
    terms = np.array([0.75 * u] * 100 + [1], dtype)
    exact = sum(rational(terms))
    lost = _distance(_forward(terms[::-1]), exact)
    assert lost == 75 * Fraction(u)
    for bound in (rounded(terms, dtype).sum(), _pairwise(list(rounded(terms, dtype)))):
        assert lost <= bound.error <= 102 * u


UNARY = {
    **FUNCTIONS,
    "neg": np.negative,
    "abs": np.abs,
    "square": np.square,
    "cube": lambda x: x**3,
    "inverse": lambda x: 1 / x,
    "one_minus": lambda x: 1 - x,
    "tenth": lambda x: x * 0.1,
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
}
whereabouts = st.tuples(
    st.floats(-4, 4),
    st.floats(0, 2).flatmap(lambda e: st.sampled_from([e, e / 64, 0])),
    st.sampled_from([-1, 1, 1, 0]),
    st.sampled_from([-1, 1, 1, 0]),
)


def _evaluation(x, e, s, t):
    """Return an element, an exact value T = x + se within its error, and an x̂ within e of T."""
    exact = Fraction(x) + s * Fraction(e)
    hat = float(exact + t * Fraction(e))
    while abs(Fraction(hat) - exact) > e:
        hat = math.nextafter(hat, float(exact))
    return rounded([x])[0]._known(x, e), exact, np.array([hat])


@pytest.mark.parametrize("name", [*UNARY, *BINARY, "step"])
@given(data=st.lists(whereabouts, min_size=2, max_size=2))
def test_a_known_error_is_propagated_to_every_evaluation(name, data):
    bounds, exacts, hats = zip(*(_evaluation(*d) for d in data), strict=True)
    if name in BINARY:
        function, n = BINARY[name], 2
    else:
        function, n = {**UNARY, "step": functions.step}[name], 1
    with np.errstate(all="ignore"), precision(3000):
        bound = function(*(np.array([b]) for b in bounds[:n]))[0]
        result = function(*hats[:n])[0]
        if math.isfinite(bound.error):
            truth = function(*(ball([exact]) for exact in exacts[:n]))[0]
            assert abs(truth - result) <= bound.error
            assert abs(truth - bound.value) <= bound.error


@given(whereabouts, whereabouts)
def test_a_decided_comparison_is_decided_so_in_every_evaluation(one, two):
    (x, X, x_hat), (y, Y, y_hat) = _evaluation(*one), _evaluation(*two)
    for compare in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq):
        try:
            decided = compare(x, y)
        except Undecided:
            continue
        assert decided == compare(X, Y) == compare(x_hat[0], y_hat[0])


instructions = st.tuples(
    st.sampled_from([*UNARY, *BINARY, "sum", "dot"]),
    st.lists(st.integers(0, 20), min_size=4, max_size=4),
)


def _run(program, inputs, total):
    """Interpret a random straight-line program; ``total`` says in which order sums are taken."""
    registers = [inputs[i : i + 1] for i in range(len(inputs))]
    for name, operands in program:
        a, b, c, d = (registers[i % len(registers)] for i in operands)
        if name in UNARY:
            registers.append(UNARY[name](a))
        elif name in BINARY:
            registers.append(BINARY[name](a, b))
        else:
            registers.append(total([a, b, c, d] if name == "sum" else [a * b, c * d, a * d]))
    return np.concatenate(registers)


@dtypes
@given(
    program=st.lists(instructions, min_size=1, max_size=12),
    inputs=st.lists(st.one_of(sizes, st.sampled_from([0, 1, -1])), min_size=2, max_size=4),
)
def test_every_evaluation_of_a_random_formula_is_within_the_error(dtype, program, inputs):
    x = np.array(inputs, dtype)
    with precision(2000), np.errstate(all="ignore"):
        bounds = _run(program, rounded(x, dtype), _forward)
        truth = _run(program, ball(x), _forward)
        results = [values(bounds)]
        for name in ("forward", "backward", "pairwise"):
            result = _run(program, x, ORDERS[name])
            assert result.dtype == dtype
            results.append(result)
        for i, bound in enumerate(bounds):
            if math.isfinite(bound.error):
                for result in results:
                    assert abs(truth[i] - result[i]) <= bound.error


@dtypes
@given(seed=st.integers(0, 99), gain=st.sampled_from([0.3, 0.8, 3.0]))
def test_a_long_tanh_chain_and_its_gradient_stay_within_the_error(dtype, seed, gain):
    T, D, H = 30, 2, 4
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    inputs = draw(T, D), draw(D, H), draw(H, H) * dtype(gain / 2), draw(H)

    def chain(x, W_x, W_h, b, order=slice(None)):
        h, pre = 0 * b, []
        for x_t in x:
            pre.append(x_t @ W_x + (h[order] @ W_h[order] + b))
            h = np.tanh(pre[-1])
        g = h[:1] ** 2 * (1 + 0 * b)
        for a in pre[::-1]:
            g = W_h[:, order] @ (g * functions.d_tanh(a))[order]
        return np.concatenate([h, g])

    bounds = chain(*(rounded(a, dtype) for a in inputs))
    assert np.all(np.isfinite(errors(bounds)))
    with precision(400):
        truth = chain(*map(ball, inputs))
        for order in (slice(None), slice(None, None, -1), rng.permutation(H)):
            result = chain(*inputs, order=order)
            assert result.dtype == dtype
            assert np.all(abs(truth - result) <= errors(bounds))
        if gain < 0.5 and dtype is np.float64:  # contractive: not vacuous
            assert np.all(abs(truth[:H]) > errors(bounds)[:H])


SATURATED = [0.0, 1e-300, 1e-30, 1e-9, 0.5, 1, 9, 17, 19, 37, 80, 300, 700, 740, 745, 1e4, 1e30]


@dtypes
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementary_functions_err_by_at_most_ULPS(name, dtype):
    """The one assumption of Rounded that the platform must keep."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    x = np.concatenate([SATURATED, rng.uniform(0, 20, 2000), np.exp2(rng.uniform(-40, 7, 400))])
    x = x.astype(dtype)
    if name == "log1p":
        x = np.concatenate([x, -1 / (1 + x[x > 0])])
    elif name not in ("log", "sqrt"):
        x = np.concatenate([x, -x])
    with np.errstate(all="ignore"):
        y = FUNCTIONS[name](x)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    with precision(500):
        truth = FUNCTIONS[name](ball(x))
        allowed = ULPS * (float(info.eps) * abs(truth) + float(info.smallest_subnormal))
        assert np.all(abs(truth - y) <= allowed)


def test_rounded_inputs_are_exact_where_the_dtype_holds_them():
    assert errors(rounded([1, 0.1, Fraction(3, 8), -0.0])).tolist() == [0, 0, 0, 0]
    assert errors(rounded([1, 0.5], np.float32)).tolist() == [0, 0]
    for value, dtype in ((0.1, np.float32), (Fraction(1, 3), np.float64), (2**60 + 1, np.float64)):
        bound = rounded(value, dtype).item()
        assert 0 < _distance(dtype(value), Fraction(value)) <= bound.error
        assert bound.error < abs(value) * np.finfo(dtype).eps
    for lost in (1e39, math.inf, math.nan):
        assert rounded(lost, np.float32).item().error == math.inf
    assert errors(0) == 0
    assert values(rounded([[1, 2]]))[0].tolist() == [1, 2]
    with pytest.raises(TypeError, match="float64 or float32"):
        rounded([1], np.float16)
    with pytest.raises(TypeError):
        rounded([1.0]) + rounded([1.0], np.float32)


@given(sizes, sizes, st.sampled_from([0, 1, 3]))
def test_rounded_comparisons_hold_for_every_evaluation_or_raise(a, b, roundings):
    x, y = rounded(a).item(), rounded(b).item()
    for _ in range(roundings):
        x, y = x * 1.5, y * 1.5
    reach, gap = (
        2 * Fraction(x.error) + 2 * Fraction(y.error),
        Fraction(y.value) - Fraction(x.value),
    )
    if abs(gap) > reach * (1 + Fraction(1, 2**40)) or gap == reach == 0:
        assert [x < y, x <= y, x == y] == [gap > 0, gap >= 0, gap == 0]
    elif abs(gap) <= reach:
        for compare in (x.__lt__, x.__gt__, x.__eq__):
            with pytest.raises(Undecided):
                compare(y)


def test_what_may_fail_in_floats_has_no_finite_error():
    tiny, huge = rounded(1e-200).item(), rounded(1e200).item()
    near_zero = rounded(1).item() / 3 * 3 - 1
    with np.errstate(all="ignore"):
        for risky in (
            huge * huge,
            1 / (tiny * tiny),
            1 / near_zero,
            near_zero.sqrt(),
            near_zero.log(),
            (near_zero - 1).log1p(),
            rounded(1000).item().exp(),
            huge / 0,
            huge + 1.7e308 + 1.7e308 - 1.7e308,
            (huge * huge) * 0 + 1,
        ):
            assert risky.error == math.inf
            with pytest.raises(Undecided):
                _ = risky > 0
    assert near_zero.step().error == 1
    assert near_zero.relu().error >= near_zero.error
    assert (near_zero - 1).relu().error == (near_zero - 1).step().error == 0
