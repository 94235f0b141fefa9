"""grad, vjp, jvp, jacobian, hvp, checkpoint: trees, nesting, and what they refuse."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import checkpoint, differentiable, grad, hvp, jacobian, jvp, vjp
from tinygrad_rnn.autodiff.tensor import RULES
from tinygrad_rnn.scalars import GF, field
from tinygrad_rnn.trees import flatten

Array = Any
seeds = st.integers(0, 2**32 - 1)
State = namedtuple("State", "h c")


def cubic(W: Array, x: Array) -> Array:
    """Some polynomial whose derivatives of every order mix all entries."""
    h = x @ W + x * x
    return np.sum(h * h[::-1]) + np.sum(W @ h) * np.sum(x)


def problem(seed: int, n: int = 3) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    return field((n, n), rng), *field((3, n), rng)


# ---- any order of nesting, exactly: over a finite field ----------------------------------------


@given(seeds)
def test_every_road_to_the_second_derivative(seed: int) -> None:
    W, x, v, u = problem(seed)

    def f(x: Array) -> Array:
        return cubic(W, x)

    H = jacobian(grad(f))(x)
    assert np.all(H == H.T)
    Hv = H @ v
    roads = {
        "hvp": hvp(f, x, v),
        "jvp∘grad": jvp(grad(f), (x,), (v,))[1],
        "grad∘jvp": grad(lambda x: jvp(f, (x,), (v,))[1])(x),
        "grad∘grad": grad(lambda x: np.sum(grad(f)(x) * v))(x),
        "jvp∘vjp": jvp(lambda x: vjp(f, x)[1](GF(1))[0], (x,), (v,))[1],
        "vjp∘grad": vjp(grad(f), x)[1](v)[0],
    }
    for name, road in roads.items():
        assert np.all(road == Hv), name
    assert jvp(lambda x: jvp(f, (x,), (v,))[1], (x,), (u,))[1] == u @ Hv


@given(seeds)
def test_third_derivatives_are_symmetric(seed: int) -> None:
    W, x, v, u = problem(seed)

    def along(g: Any, t: Array) -> Any:
        return lambda W, x: jvp(lambda x: g(W, x), (x,), (t,))[1]

    orders = [
        grad(along(along(cubic, v), u), 1)(W, x),
        jvp(lambda x: hvp(lambda x: cubic(W, x), x, u), (x,), (v,))[1],
        grad(lambda x: np.sum(grad(lambda x: np.sum(grad(cubic, 1)(W, x) * v))(x) * u))(x),
    ]
    assert np.all(orders[0] == orders[1])
    assert np.all(orders[0] == orders[2])


@given(seeds)
def test_gradients_by_several_arguments(seed: int) -> None:
    W, x, v, _ = problem(seed)
    by_W, by_x = grad(cubic, (0, 1))(W, x)
    assert np.all(by_W == grad(cubic)(W, x))
    assert np.all(by_x == grad(cubic, 1)(W, x))
    assert np.all(by_x == grad(cubic, -1)(W, x))
    swapped = grad(cubic, (1, 0))(W, x)
    assert np.all(swapped[0] == by_x)
    assert np.all(swapped[1] == by_W)
    assert np.all(jacobian(lambda W, x: W @ x, -1)(W, x) == W)
    by_x, by_W = jacobian(grad(cubic), (1, 0))(W, x)
    assert np.all(by_x == jacobian(grad(cubic), 1)(W, x))
    assert np.all(by_W == jacobian(grad(cubic))(W, x))
    mixed = jacobian(lambda W: grad(cubic, 1)(W, x))(W)
    assert np.all(np.tensordot(v, mixed, 1) == grad(lambda W: np.sum(grad(cubic, 1)(W, x) * v))(W))


def forward(f: Any) -> Any:
    return lambda x: jvp(f, (x,), (1.0,))[1]


@pytest.mark.parametrize("outer", [grad, forward])
@pytest.mark.parametrize("inner", [grad, forward])
def test_perturbations_are_not_confused(outer: Any, inner: Any) -> None:
    """d/dx [x · d/dy (x + y)] = d/dx x = 1, where one level taken for another gives 2."""
    assert outer(lambda x: x * inner(lambda y: x + y)(1.0))(3.0) == 1
    assert outer(lambda x: x * inner(lambda y: x * y)(2.0))(3.0) == 6
    assert outer(lambda x: inner(lambda y: x * y * y)(x))(3.0) == 12
    # The inner derivative of what does not depend on y is 0, also when x does.
    assert outer(lambda x: x + inner(lambda y: x * x)(1.0))(3.0) == 1


def test_a_pullback_may_be_used_inside_another_transform() -> None:
    _, pullback = vjp(lambda x: x**3, 2.0)
    assert grad(lambda g: pullback(g)[0] ** 2)(5.0) == 2 * 5 * 12**2


def test_a_pullback_may_be_used_again() -> None:
    _, pullback = vjp(lambda x: x * x, np.array([1.0, 2.0]))
    for g in ([1.0, 0.0], [0.0, 1.0], [1.0, 0.0]):
        assert pullback(np.array(g))[0].tolist() == [2 * g[0], 4 * g[1]]


# ---- trees -------------------------------------------------------------------------------------


def test_parameters_and_results_may_be_trees() -> None:
    params = {"W": np.array([[2.0]]), "state": State(np.array([3.0]), [np.array(4.0), None])}

    def f(p: Any) -> Any:
        h, (c, _) = p["state"]
        return {"out": (h @ p["W"] * c, c), "none": None}

    value, pullback = vjp(f, params)
    assert value == {"out": (24.0, 4.0), "none": None}
    (g,) = pullback({"out": (np.array([1.0]), np.array(1.0)), "none": None})
    assert g == {"W": [[12.0]], "state": State(8.0, [7.0, None])}
    assert type(g["state"]) is State
    assert type(g["state"].c) is list
    assert jvp(f, (params,), (g,))[1] == {"out": (12 * 12 + 8 * 8 + 7 * 6.0, 7.0), "none": None}


def test_dicts_are_matched_by_name() -> None:
    def f(p: Any) -> Any:
        return {"x": p["a"] * 2, "y": p["b"] * 3}

    a, b = np.array([1.0]), np.array([1.0])
    pullback = vjp(f, {"a": a, "b": b})[1]
    assert pullback({"y": b, "x": 0 * a})[0] == {"a": 0, "b": 3}
    tangent = jvp(f, ({"a": a, "b": b},), ({"b": b, "a": 0 * a},))[1]
    assert tangent == {"x": 0, "y": 3}
    nested = vjp(lambda p: [(p["a"], {"x": p["a"], "y": p["b"]})], {"a": a, "b": b})[1]
    assert nested([(a, {"y": 0 * b, "x": a})])[0] == {"a": 2, "b": 0}


@pytest.mark.parametrize(
    "wrong", [{"x": np.ones(2)}, np.ones(3), (np.ones(2),), {"y": np.ones(3)}, None]
)
def test_a_cotangent_has_the_structure_of_its_value(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"cotangent must have the shape of its value, .*\(3,\)"):
        vjp(lambda x: {"x": x}, np.ones(3))[1](wrong)
    with pytest.raises(ValueError, match=r"tangent must have the shape of its value"):
        jvp(lambda x: x["x"], ({"x": np.ones(3)},), (wrong,))


def test_jacobian_of_trees_and_empty_arrays() -> None:
    J = jacobian(lambda p: p["a"] * p["b"])({"a": np.array([1.0, 2.0]), "b": np.array(3.0)})
    assert J["a"].tolist() == [[3, 0], [0, 3]]
    assert J["b"].tolist() == [1, 2]
    assert jacobian(lambda x: x[:0])(np.ones((2, 3))).shape == (0, 3, 2, 3)
    assert jacobian(lambda x: x @ np.ones((0, 2)))(np.ones(0)).shape == (2, 0)
    assert jacobian(np.sum)(np.ones((2, 3))).shape == (2, 3)
    assert np.all(jacobian(lambda x: np.ones(2))(np.ones(3)) == np.zeros((2, 3)))


def test_what_does_not_depend_has_derivative_zero() -> None:
    x = np.ones(2)
    assert grad(lambda x: 1.0)(x).tolist() == [0, 0]
    assert jvp(lambda x: np.ones(3), (x,), (x,))[1].tolist() == [0, 0, 0]
    assert grad(lambda x, y: np.sum(x))(x, x).tolist() == [1, 1]
    assert grad(lambda x, y: np.sum(x), 1)(x, x).tolist() == [0, 0]
    assert grad(lambda x, flag: np.sum(x * x) if flag else x[0])(x, flag=True).tolist() == [2, 2]


# ---- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result",
    [lambda x: x, lambda x: {"loss": x[0]}, lambda x: (x[0],), lambda x: None, lambda x: ()],
)
def test_a_gradient_is_of_a_scalar(result: Any) -> None:
    with pytest.raises(ValueError, match=r"grad needs a scalar, got (shape|None)"):
        grad(result)(np.ones(2))


@pytest.mark.parametrize("result", [lambda x: (x, x), lambda x: {"y": x}, lambda x: None])
def test_a_jacobian_is_of_one_array(result: Any) -> None:
    with pytest.raises(ValueError, match="jacobian needs one array as the result"):
        jacobian(result)(np.ones(2))


@pytest.mark.parametrize("argnums", [1, -2, (0, 1), np.int64(1), "x"])
@pytest.mark.parametrize("transform", [grad, jacobian])
def test_argnums_are_in_range(transform: Any, argnums: Any) -> None:
    with pytest.raises(ValueError, match="argnums must be positions among 1 arguments"):
        transform(np.sum, argnums)(np.ones(2))


@pytest.mark.parametrize("transform", [grad, jacobian])
def test_what_is_differentiated_is_passed_by_position(transform: Any) -> None:
    with pytest.raises(ValueError, match=r"0 arguments.*by position, not by name: tg\.grad"):
        transform(lambda w: np.sum(w))(w=np.ones(2))


# ---- checkpoint --------------------------------------------------------------------------------


def step(p: Any, h: Array, c: Array) -> Any:
    c = np.tanh(h @ p["W"]) * c
    return {"h": np.sin(c) + p["b"], "c": (c,)}


def run(cell: Any) -> Any:
    def loss(p: Any, h: Array) -> Array:
        state = {"h": h, "c": (h * h,)}
        for _ in range(5):
            state = cell(p, state["h"], state["c"][0])
        return np.sum(state["h"] * state["c"][0])

    return loss


def test_checkpoint_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    p, h = {"W": rng.normal(size=(3, 3)), "b": rng.normal(size=3)}, rng.normal(size=(2, 3))
    v = rng.normal(size=(2, 3))
    plain = run(step)
    for cell in (checkpoint(step), checkpoint(checkpoint(step))):
        saved = run(cell)
        for transform in (
            lambda f: tg.value_and_grad(f, (0, 1))(p, h),
            lambda f: jvp(f, (p, h), (p, v)),
            lambda f: hvp(lambda h: f(p, h), h, v),
        ):
            for a, b in zip(
                flatten(transform(plain))[0], flatten(transform(saved))[0], strict=True
            ):
                assert np.array_equal(a, b)
    assert saved(p, h) == plain(p, h)


def test_checkpoint_keeps_only_the_ends() -> None:
    lengths: list[int] = []

    def inner(x: Array) -> Array:
        for _ in range(10):
            x = np.sin(x)
        return x

    def outer(x: Array) -> Array:
        y = checkpoint(inner)(x)
        z = y
        while z._origin is not None:
            lengths.append(1)
            z = next(p for p in z._origin[3] if p is not None)
        return y

    grad(outer)(1.0)
    assert len(lengths) < 5


def test_checkpoint_differentiates_tensors_and_leaves_the_rest_alone() -> None:
    f = checkpoint(lambda x, n, scale: x**n * scale)
    assert grad(f)(3.0, 2, np.array(5)) == 30
    assert f(3.0, 2, 5) == 45


def test_checkpoint_refuses_what_it_would_lose() -> None:
    def loss(w: Array) -> Array:
        return checkpoint(lambda x: x * w)(2.0 * w)

    with pytest.raises(ValueError, match="uses a Tensor it was not given"):
        grad(loss)(3.0)


def test_checkpoint_leaves_nothing_behind() -> None:
    before = len(RULES)
    grad(checkpoint(np.sin))(1.0)
    assert len(RULES) == before


# ---- differentiable ----------------------------------------------------------------------------


def teach(**how: Any) -> Any:
    """Teach a function and have it forgotten again at the end of the test."""

    def decorate(f: Any) -> Any:
        taught = differentiable(**how)(f)
        del RULES[f]
        return taught

    return decorate


def test_functions_can_be_taught() -> None:
    x, t = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    cube = teach(partials=[lambda y, x: 3 * x**2])(lambda x: x**3)
    double = teach(transpose=lambda g, x: 2 * g)(lambda x: 2 * x)
    dot = teach(
        jvp=(lambda t, y, a, b: np.sum(t * b), lambda t, y, a, b: np.sum(a * t)),
        vjp=(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    )(lambda a, b: np.asarray(a @ b))
    scaled = teach(partials=[lambda y, x, by=2: by])(lambda x, by=2: by * x)
    f = lambda x: dot(cube(x), double(scaled(x, by=3)))  # noqa: E731
    assert grad(f)(x).tolist() == (24 * x**3).tolist()
    assert jvp(f, (x,), (t,))[1] == np.sum(24 * x**3 * t)
    assert hvp(f, x, t).tolist() == (72 * x**2 * t).tolist()
    assert cube(2.0) == 8
    with pytest.raises(TypeError, match=r"cannot take wrong= \(it takes: x, by\)"):
        grad(lambda x: scaled(x, wrong=1))(1.0)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"jvp": (None,)},
        {"vjp": (None,)},
        {"partials": [None], "transpose": len},
        {"partials": [None], "jvp": (None,)},
    ],
)
def test_a_rule_is_stated_in_one_way(how: Any) -> None:
    with pytest.raises(TypeError, match="partials=, or transpose=, or both"):
        differentiable(**how)
