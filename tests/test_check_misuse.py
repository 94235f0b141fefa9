"""Misuse is answered with a sentence, and a report says neither too little nor anything twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from handmade import Array, example

import tinygrad_rnn as tg

PASSES = ("PROVED", "CONSISTENT")
X = np.array([1.0, 2.0])


def squares(x: Array) -> Array:
    return np.sum(x * x)


def test_a_forgotten_return_is_said() -> None:
    with pytest.raises(ValueError, match=r"returned None\. Did you forget `return`"):
        tg.check_gradients(lambda x: None, [X])
    report = tg.check_gradients(lambda x, y: np.sum(x * y), [X, X], gradient=lambda x, y: None)
    assert report.culprits == ["x", "y"]
    assert "forget `return`" in report.entries[0].reason


def test_the_callers_arrays_stay_as_they_are() -> None:
    def f(x: Array, shift: Array) -> Array:
        x += shift
        shift -= 1
        return np.sum(x * x)

    def gradient(x: Array, shift: Array) -> Array:
        x += shift
        return (2 * x,)

    x, shift = X.copy(), np.array([1, 2])
    report = tg.check_gradients(f, [x, shift], gradient=gradient)
    assert x.tolist() == X.tolist()
    assert shift.tolist() == [1, 2]
    assert any("f changes x in place" in line for line in report.warnings)
    pure = tg.check_gradients(squares, [X])
    assert not any("in place" in line for line in pure.warnings)


@pytest.mark.parametrize("extra", [X, None])
def test_a_surplus_gradient_is_refuted(extra: Any) -> None:
    f = lambda x, y: np.sum(x * y)  # noqa: E731
    report = tg.check_gradients(f, [X, X], gradient=lambda x, y: (y, x, extra))
    assert report.culprits == ["x", "y"]
    assert "one tree for each of the 2 checked arguments, got 3" in report.entries[0].reason
    alone = tg.check_gradients(f, [X, X], gradient=lambda x, y: np.stack([y, x]))
    assert "got one ndarray" in alone.entries[0].reason


def test_a_wider_gradient_is_judged_as_it_is() -> None:
    x = X.astype(np.float32)
    f = lambda x: np.sum(np.sin(x))  # noqa: E731
    wide = lambda x: np.cos(x.astype(np.float64))  # noqa: E731
    assert tg.check_gradients(f, [x], gradient=wide).verdict in PASSES
    report = tg.check_gradients(f, [x], gradient=lambda x: wide(x) * (1 + 2.0**-10))
    assert report.verdict == "REFUTED"


def test_a_random_function_is_not_judged() -> None:
    draw = np.random.default_rng(0)
    report = tg.check_gradients(lambda x: squares(x) + draw.random(), [X])
    assert report.verdict == "INCONCLUSIVE"
    assert "different values for the same arguments" in report.entries[0].reason


def test_a_gradient_that_cannot_be_called_is_said() -> None:
    with pytest.raises(TypeError, match=r"gradient\(\*args, c\), with a cotangent c"):
        tg.check_gradients(np.square, [X], gradient=lambda x: 2 * x)
    with pytest.raises(TypeError, match=r"gradient\(\*args\): missing"):
        tg.check_gradients(squares, [X], gradient=lambda x, c: 2 * x * c)


def test_arguments_come_as_a_list() -> None:
    for args in (X, {"x": X}, 1.0):
        with pytest.raises(TypeError, match="Write \\[x\\] for x"):
            tg.check_gradients(squares, args)  # type: ignore[arg-type]


def test_one_oracle_may_be_named_alone() -> None:
    with pytest.raises(ValueError, match=r"unknown oracles \['complex'\]"):
        tg.check_gradients(squares, [X], oracles="complex")
    report = tg.check_gradients(squares, [X], oracles="complex step")
    assert report.entries[0].oracle == "complex step"


# ---- the report -------------------------------------------------------------------------------


def test_a_verdict_is_said_once() -> None:
    f = lambda x, y: np.sum(x * y)  # noqa: E731
    for gradient in (lambda x, y: (y, x), lambda x, y: (y, 2 * x), lambda x, y: (2 * y, x)):
        report = tg.check_gradients(f, [X, X], gradient=gradient)
        first, second, *_ = str(report).splitlines()
        assert first.startswith(report.verdict)
        assert not second.startswith(report.verdict)


def test_distances_are_relative_where_ulps_say_nothing() -> None:
    near = tg.check_gradients(squares, [X], gradient=lambda x: np.nextafter(2 * x, 9))
    far = tg.check_gradients(squares, [X], gradient=lambda x: 3 * x)
    assert "1 ulp apart" in str(near)
    assert "ulp" not in str(far)
    assert "relative error 0.5" in str(far)
    zero = tg.check_gradients(lambda x: np.sum(0 * x), [X], gradient=lambda x: x)
    assert "ulp" not in str(zero)


def test_float32_is_told_what_float64_would_show() -> None:
    layer, args = example(dtype=np.float32)
    report = tg.check_gradients(layer.loss, args, gradient=layer.backward)
    assert any("with float64 arguments errors show" in note for note in report.infos)
    proved = tg.check_gradients(squares, [X.astype(np.float32)])
    assert (proved.verdict, proved.infos) == ("PROVED", [])
