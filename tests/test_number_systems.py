"""The engine on other numbers than doubles, and on the doubles where care is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn import autodiff as ad
from tinygrad_rnn.autodiff import grad, jvp, vjp
from tinygrad_rnn.composed import public_name
from tinygrad_rnn.scalars import Ball, errors, precision, rational, rounded

Array = Any


# ---- kinks, and the far ends of the range ------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "at", "chosen"),
    [
        (ad.relu, 0.0, 0.0),
        (ad.step, 0.0, 0.0),
        (lambda x: ad.leaky_relu(x, 0.25), 0.0, 0.25),
        (np.abs, 0.0, 0.0),
        (lambda x: np.maximum(x, x), 1.0, 1.0),
        (lambda x: np.minimum(x, 1.0), 1.0, 1.0),
        (lambda x: np.minimum(1.0, x), 1.0, 0.0),
        (lambda x: np.clip(x, 0.0, 1.0), 0.0, 1.0),
        (lambda x: np.max(np.stack([x, x])), 1.0, 1.0),
        (lambda x: np.linalg.norm(np.stack([x, x])), 0.0, 0.0),
        (lambda x: np.std(np.stack([x, x])), 3.0, 0.0),
        (lambda x: x**0, 0.0, 0.0),
        (lambda x: x**1, 0.0, 1.0),
        (lambda x: x**2, 0.0, 0.0),
        (lambda x: x**2.0, 0.0, 0.0),
        (lambda x: x ** np.array([0, 1, 2]) @ np.array([1.0, 2.0, 3.0]), 0.0, 2.0),
        (lambda x: 0.0**x, 2.0, 0.0),
        (lambda x: np.prod(np.stack([x, 0.0, x])), 3.0, 0.0),
        (lambda x: np.prod(np.stack([x, 2.0, 3.0])), 0.0, 6.0),
    ],
)
def test_the_derivative_chosen_where_there_is_a_choice(f: Any, at: float, chosen: float) -> None:
    for x in (at, np.float32(at), np.array(at)):
        assert grad(f)(x) == chosen
        assert jvp(f, (x,), (1.0,))[1] == chosen
    assert np.isfinite(grad(grad(f))(at))


@pytest.mark.parametrize("n", [2, 2.5, -1, 0, 0.0])
def test_powers_keep_single_precision(n: float) -> None:
    x = np.array([0.5, 2.0], np.float32)
    assert jvp(lambda x: x**n, (x,), (x,))[1].dtype == np.float32
    assert jvp(lambda x: jvp(lambda x: x**n, (x,), (x,))[1], (x,), (x,))[1].dtype == np.float32


def test_a_power_of_zero_is_constant_everywhere() -> None:
    x = np.array([0.0, 1.0, np.inf])
    for zero in (0, 0.0, np.array(0.0), np.zeros(3)):
        assert grad(lambda x, z=zero: np.sum(x**z))(x).tolist() == [0, 0, 0]


def test_the_norm_at_zero() -> None:
    """A subgradient, and a second derivative that is not of the square."""
    x, v = np.zeros(2), np.ones(2)
    assert grad(np.linalg.norm)(x).tolist() == [0, 0]
    assert ad.hvp(np.linalg.norm, x, v).tolist() == [0, 0]


def test_the_exponent_has_a_derivative_at_zero() -> None:
    """(aˣ)' = log a at x = 0, also for an integer a."""
    for a in (2.0, 2, np.array(2.0), np.float32(2)):
        assert grad(lambda x, a=a: a**x)(0.0) == np.log(2.0)
    assert grad(lambda x: np.float32(2) ** x)(np.float32(0)).dtype == np.float32
    assert grad(lambda x: 0.0**x)(0.0) == 0


def test_ties_go_to_the_first() -> None:
    x = np.array([[1.0, 3.0, 3.0], [3.0, 0.0, 3.0]])
    assert grad(lambda x: np.max(x))(x).tolist() == [[0, 1, 0], [0, 0, 0]]
    assert grad(lambda x: np.sum(np.max(x, axis=1)))(x).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert grad(lambda x: np.sum(np.min(x, axis=0)))(x).tolist() == [[1, 0, 1], [0, 1, 0]]
    a, b = vjp(np.maximum, x, x)[1](np.ones_like(x))
    assert np.all(a == 1)
    assert np.all(b == 0)


@pytest.mark.parametrize(
    "f",
    [
        *(np.abs, np.max, np.min, np.linalg.norm, np.std, np.var),
        *(lambda z: np.clip(z, 0, 1), lambda z: np.maximum(0, z), lambda z: np.minimum(0, z)),
    ],
)
def test_what_is_not_holomorphic_has_no_complex_derivative(f: Any) -> None:
    with pytest.raises(TypeError, match="not holomorphic"):
        vjp(f, np.array([1 + 2j, 1j]))[1](np.ones_like(f(np.array([1 + 2j, 1j]))))


HOLOMORPHIC = [
    *(np.exp, np.expm1, np.sin, np.cos, np.sinh, np.cosh, np.tanh, np.log, np.log1p, np.sqrt),
    *(ad.sigmoid, ad.d_sigmoid, ad.d_tanh, ad.softplus, ad.relu, ad.leaky_relu, np.square),
]


@pytest.mark.parametrize("f", HOLOMORPHIC, ids=public_name)
def test_complex_step(f: Any) -> None:
    """Im f(x + ih)/h = f'(x) + O(h²): with h = 2⁻⁶⁰⁰ only the rounding of both sides is left."""
    h = 2.0**-600
    x = np.array([-3.0, -0.5, -0.125, 0.125, 0.75, 3.0])
    x = np.abs(x) if f in (np.log, np.sqrt, np.log1p) else x
    stepped = f(x + 1j * h).imag / h
    bound = rounded(x)
    derivative = jvp(f, (x,), (np.ones(6),))[1]
    limit = errors(jvp(f, (bound,), (rounded(np.ones(6)),))[1])
    # NumPy's complex functions are products of at most three real ones.
    assert np.all(np.abs(stepped - derivative) <= 8 * limit)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", ["d_tanh", "d_sigmoid"])
@given(data=st.data())
@settings(max_examples=200)
def test_relative_accuracy_over_the_whole_range(name: str, dtype: Any, data: Any) -> None:
    """Four ulps wherever the result is a normal number, and no warning anywhere."""
    width = 8 * np.dtype(dtype).itemsize
    x = dtype(
        data.draw(
            st.one_of(
                st.floats(width=width, allow_nan=False, allow_infinity=False), st.floats(-90, 90)
            )
        )
    )
    f = np.tanh if name == "d_tanh" else ad.sigmoid
    y = grad(f)(x)
    assert y.dtype == dtype
    normal = float(np.finfo(dtype).smallest_normal)
    with precision(128):
        truth = getattr(Ball(float(x)), name)()
        if y >= normal:
            assert abs(truth - float(y)) <= 4 * float(np.spacing(y))
        else:
            assert truth < 2 * normal


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "f", [np.tanh, ad.sigmoid, ad.softplus, ad.relu, ad.leaky_relu, ad.d_tanh, ad.d_sigmoid]
)
def test_the_ends_of_the_range_are_quiet(f: Any, dtype: Any) -> None:
    ends = np.array([-1, 1], dtype) * np.finfo(dtype).max
    y, dy = jvp(f, (ends,), (np.ones(2, dtype),))
    assert not np.isnan(y).any()
    assert np.isfinite(dy).all()
    assert np.isfinite(
        jvp(lambda x: jvp(f, (x,), (np.ones(2, dtype),))[1], (ends,), (ends * 0 + 1,))[1]
    ).all()


def test_exact_seeds() -> None:
    """A gradient over the rationals starts from 1, and stays rational through a division."""
    x = rational([1, 2, 4])
    assert grad(lambda x: np.sum(x[:2]) / 3)(x).tolist() == [rational(1) / 3, rational(1) / 3, 0]
    w = ad.Tensor(x)
    (np.sum(w[:2]) / 3).backward()
    assert w.grad.tolist() == [rational(1) / 3, rational(1) / 3, 0]
