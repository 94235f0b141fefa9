from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.activations import ACTIVATIONS, activation
from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.scalars import assert_exact, ball, ladder, rational

points = st.floats(-700, 700) | st.sampled_from([0.0, -0.0, 19.5, -19.5, 1e-300])


def test_the_table_has_the_five_names() -> None:
    assert set(ACTIVATIONS) == {"tanh", "sigmoid", "relu", "leaky_relu", "identity"}
    assert all(activation(name).name == name for name in ACTIVATIONS)


@pytest.mark.parametrize("f", ACTIVATIONS.values(), ids=lambda f: f.name)
@given(x=points)
def test_derivative_is_what_the_engine_differentiates(f, x) -> None:
    a = np.array([x])
    _, pullback = vjp(f.value, a)
    assert pullback(np.ones(1))[0] == f.derivative(a)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
@given(x=points.filter(bool))
def test_lipschitz_bounds_the_derivative_off_the_supremum(name, x) -> None:
    f = activation(name)
    assert ladder(lambda: f.derivative(ball([x])).item() < f.lipschitz)
    assert ladder(lambda: f.derivative(ball([x])).item() > 0)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "identity"])
@given(x=points)
def test_lipschitz_bounds_the_derivative(name, x) -> None:
    f = activation(name)
    assert 0 <= f.derivative(rational([x])).item() <= f.lipschitz


@pytest.mark.parametrize("f", ACTIVATIONS.values(), ids=lambda f: f.name)
def test_lipschitz_is_attained(f) -> None:
    at = 1.0 if f.name in ("relu", "leaky_relu") else 0.0
    assert f.derivative(np.array(at)) == f.lipschitz
    assert isinstance(f.lipschitz, (int, Fraction))


def test_values() -> None:
    x = rational([-2, 0, 3])
    slope = Fraction(0.01)
    assert activation("relu").value(x).tolist() == [0, 0, 3]
    assert activation("leaky_relu").value(x).tolist() == [-2 * slope, 0, 3]
    assert activation("leaky_relu").derivative(x).tolist() == [slope, slope, 1]
    assert activation("identity").value(x) is x
    assert activation("identity").derivative(x).tolist() == [1, 1, 1]
    assert activation("tanh").value(np.zeros(1)) == 0
    assert activation("sigmoid").value(np.zeros(1)) == Fraction(1, 2)
    for name in ("relu", "leaky_relu", "identity"):
        assert_exact(activation(name).value(x))
        assert_exact(activation(name).derivative(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("f", ACTIVATIONS.values(), ids=lambda f: f.name)
def test_precision_is_kept(f, dtype) -> None:
    x = np.array([-1, 0, 2], dtype)
    assert f.value(x).dtype == dtype
    assert f.derivative(x).dtype == dtype


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of tanh, sigmoid, relu, leaky_relu, identity, got"):
        activation("gelu")
