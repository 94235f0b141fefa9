"""Every misuse of a Tensor, and what the engine says about it."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import Tensor, grad, hvp, jvp, vjp
from tinygrad_rnn.composed import public_name
from tinygrad_rnn.scalars import assert_exact, rational

Array = Any


def add_in_place(t: Tensor) -> None:
    a = np.ones(2)
    a += t


def assign_into_array(t: Tensor) -> None:
    a = np.ones(2)
    a[0] = t[0]


def assign(t: Tensor) -> None:
    t[0] = 1.0


MISUSES = [
    (assign, TypeError, r"cannot be changed in place.*np\.where"),
    (add_in_place, TypeError, r"np\.add on Tensors is a plain call.*a = a \+ t"),
    (lambda t: np.add(t, t, out=np.ones(2)), TypeError, r"no out="),
    (lambda t: np.add.reduce(t), TypeError, r"no \.reduce.*np\.sum"),
    (lambda t: np.exp(t, where=[True, False]), TypeError, r"where="),
    (float, TypeError, r"np\.sin, not math\.sin.*t\.item\(\)"),
    (int, TypeError, r"t\.item\(\)"),
    (complex, TypeError, r"t\.item\(\)"),
    (lambda t: math.sin(t[0]), TypeError, r"np\.sin, not math\.sin"),
    (lambda t: range(t[0]), TypeError, r"t\.item\(\)"),
    (np.asarray, TypeError, r"would lose its derivative.*t\.data"),
    (lambda t: np.array([t[0], t[1]]), TypeError, r"np\.stack"),
    (lambda t: np.sum([t[0], t[1]]), TypeError, r"np\.stack"),
    (lambda t: t.sort(), TypeError, r"cannot be changed in place.*t\[np\.argsort\(t\)\]"),
    (lambda t: t.fill(0), TypeError, r"cannot be changed in place.*np\.where"),
    (lambda t: np.ones(2).__setitem__(slice(2), t), TypeError, r"y\[i\] = t.*np\.stack.*np\.where"),
    (lambda t: np.pad(t, 1, "mean"), TypeError, "mode='mean'"),
    (lambda t: np.pad(t, 1, constant_values=1), TypeError, r"np\.pad.*'constant_values'"),
    (lambda t: t.data.__setitem__(0, 1.0), ValueError, "read-only"),
    (np.cbrt, TypeError, r"np\.cbrt has no rule.*tg\.differentiable.*np\.cbrt"),
    (np.linalg.svd, TypeError, r"np\.linalg\.svd has no rule"),
    (lambda t: np.sum(t, dtype=np.float32), TypeError, r"np\.sum on Tensors cannot take dtype="),
    (lambda t: np.sum(a=t, axis=0), TypeError, r"a="),
    (lambda t: np.mean(t, where=[True, False]), TypeError, r"np\.mean.*'where'"),
    (lambda t: np.einsum("...->...", t), TypeError, "no ellipsis"),
    (lambda t: np.einsum("i,j", t), TypeError, "one term an operand"),
    (lambda t: np.linalg.norm(t, 3), TypeError, "ord=3"),
    (lambda t: grad(lambda x: np.sum(x.ravel("A")))(np.ones(2)), TypeError, "order 'C' or 'F'"),
    (Tensor, TypeError, "Use it as it is"),
    (hash, TypeError, "unhashable"),
]  # fmt: skip


@pytest.mark.parametrize(("misuse", "error", "message"), MISUSES)
def test_misuse_is_named(misuse: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        misuse(Tensor([1.0, 2.0]))

    def inside(x: Array) -> Array:
        misuse(x)
        return np.sum(x)

    if misuse is not Tensor:
        with pytest.raises(error, match=message):
            grad(inside)(np.array([1.0, 2.0]))


def test_assigning_into_an_array_names_what_to_write_instead() -> None:
    """In the cause of NumPy's error, and in a transform also as its last line, once."""

    def filled(x: Array) -> Array:
        assign_into_array(x)
        return np.sum(x)

    for fill in (assign_into_array, grad(filled), grad(lambda x: np.sum(grad(filled)(x)))):
        with pytest.raises(ValueError, match="setting an array element") as caught:
            fill(Tensor([1.0, 2.0]) if fill is assign_into_array else np.ones(2))
        advice = str(caught.value.__cause__)
        assert "np.stack" in advice
        assert "np.where" in advice
        notes = [] if fill is assign_into_array else [advice]
        assert getattr(caught.value, "__notes__", []) == notes


def test_code_in_place_can_be_written_anew() -> None:
    """What docs/functions.md says to write instead, held against NumPy's own change in place."""
    x, v = np.array([3.0, -1.0, 2.0]), np.array(5.0)
    filled, masked, replaced, ordered = np.zeros(3), x.copy(), x.copy(), x.copy()
    for i in range(3):
        filled[i] = x[i] ** 2
    masked[x < 0] = 0
    replaced[0] = v
    ordered.sort()

    def anew(x: Array, v: Array) -> Array:
        return (
            np.stack([x[i] ** 2 for i in range(3)]),
            np.where(x < 0, 0, x),
            np.hstack([v, x[1:]]),
            x[np.argsort(x)],
        )

    values, pullback = vjp(anew, x, v)
    for value, expected in zip(values, (filled, masked, replaced, ordered), strict=True):
        assert value.tolist() == expected.tolist()
    by_x, by_v = pullback(tuple(np.array([1.0, 10.0, 100.0]) for _ in values))
    assert by_x.tolist() == [2 * 3 + 1 + 0 + 100, -2 * 10 + 0 + 10 + 1, 4 * 100 + 100 + 100 + 10]
    assert by_v == 1


def test_other_errors_get_no_advice() -> None:
    with pytest.raises(ValueError, match="broadcast") as caught:
        grad(lambda x: np.sum(x + np.ones(3)))(np.ones(2))
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("data", [1, [1, 2], True, "x", np.array([1, 2])])
def test_a_derivative_needs_a_continuum(data: Any) -> None:
    for make in (Tensor, grad(np.sum), lambda x: vjp(np.sum, x), lambda x: jvp(np.sum, (x,), (x,))):
        with pytest.raises(TypeError, match=r"floating-point numbers, got .*Write 2\.0 for 2"):
            make(data)


def test_a_tensor_may_not_outlive_its_transform() -> None:
    kept: list[Tensor] = []

    def f(x: Array) -> Array:
        kept.append(x)
        return np.sum(x * x)

    grad(f)(np.ones(2))
    for use in (
        np.sin,
        lambda t: t + 1,
        lambda t: t[0],
        lambda t: grad(lambda x: np.sum(x * t))(1.0),
    ):
        with pytest.raises(ValueError, match="a transform that has ended"):
            use(kept[0])


def test_exact_numbers_are_not_mixed_with_floats() -> None:
    x = rational([1, 2])
    for f in (
        lambda x: x * 0.5,
        lambda x: x + np.ones(2),
        lambda x: np.sum(x) * 0.5,
        lambda x: x[0] + np.float64(1),
        lambda x: np.where(x > 1, x, 0.0),
        lambda x: np.concatenate([x, np.zeros(1)]),
    ):
        with pytest.raises(TypeError, match=r"mixes Fractions with floats.*rational"):
            vjp(f, x)
    with pytest.raises(TypeError, match=r"float .co.tangent of exact numbers"):
        vjp(lambda x: x * x, x)[1](np.ones(2))
    with pytest.raises(TypeError, match=r"float .co.tangent of exact numbers"):
        jvp(lambda x: x * x, (x,), (np.ones(2),))


def test_exact_numbers_stay_exact() -> None:
    x = rational([[1, 2], [3, 5]]) / 7
    for f in (
        lambda x: np.mean(x) ** 2,
        lambda x: np.sum(x / 3) + np.sum(2 / x),
        lambda x: np.max(x * x @ x),
        lambda x: np.prod(tg.leaky_relu(x - 1, Fraction(1, 3))),
        lambda x: np.sum(np.clip(x, Fraction(1, 5), 1) * np.abs(x) * np.square(x)),
        lambda x: np.sum(x[0] * x[:, 1]) * np.trace(x) * np.einsum("ii,jk->", x, x),
    ):
        assert_exact(grad(f)(x))
        assert_exact(hvp(f, x, x))


def test_exact_powers_do_not_overflow() -> None:
    assert grad(lambda x: x**4)(rational(10**9)) == 4 * 10**27


def test_a_real_input_has_no_complex_derivative() -> None:
    with pytest.raises(TypeError, match=r"astype\(complex\)"):
        vjp(lambda x: x * 1j, np.ones(2))[1](np.ones(2, complex))
    assert vjp(lambda z: z * 1j, np.ones(2, complex))[1](np.ones(2))[0].tolist() == [1j, 1j]


def test_a_function_is_called_by_the_name_the_user_knows() -> None:
    assert public_name(np.tanh) == "np.tanh"
    assert public_name(np.linalg.solve) == "np.linalg.solve"
    assert public_name(tg.sigmoid) == "sigmoid"
