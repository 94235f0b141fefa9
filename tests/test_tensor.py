"""Tensors and their record: backward(), cost in time and memory, and every misuse by name."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import Tensor, grad, hvp, jvp, vjp
from tinygrad_rnn.autodiff.tensor import RULES, Rule

Array = Any


@contextmanager
def calls_of(f: Any, products: str) -> Iterator[list[None]]:
    """Count the uses of a rule's value, jvps or vjps."""
    count: list[None] = []
    rule = RULES[f]

    def counted(g: Any) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            count.append(None)
            return g(*args, **keywords)

        return call

    old = getattr(rule, products)
    new = tuple(map(counted, old)) if isinstance(old, tuple) else counted(old)
    RULES[f] = Rule(**{k: new if k == products else getattr(rule, k) for k in FIELDS})
    try:
        yield count
    finally:
        RULES[f] = rule


FIELDS = ("value", "jvps", "vjps", "keywords")


# ---- backward() --------------------------------------------------------------------------------


def test_backward_sets_and_does_not_accumulate() -> None:
    w = Tensor([1.0, 2.0])
    loss = np.sum(w**2)
    assert w.grad is None
    loss.backward()
    loss.backward()
    assert w.grad.tolist() == [2, 4]
    np.sum(3 * w).backward()
    assert w.grad.tolist() == [3, 3]


def test_backward_from_an_array_takes_a_seed() -> None:
    w = Tensor([1.0, 2.0])
    (w * w).backward(np.array([1.0, 10.0]))
    assert w.grad.tolist() == [2, 40]
    with pytest.raises(ValueError, match=r"from shape \(2,\) needs a seed .* got none"):
        (w * w).backward()
    with pytest.raises(ValueError, match=r"from shape \(2,\) needs a seed .* got shape \(3,\)"):
        (w * w).backward(np.ones(3))
    with pytest.raises(ValueError, match=r"from shape \(\) needs a seed .* got shape \(2,\)"):
        np.sum(w).backward(np.ones(2))


def test_backward_reaches_leaves_only_through_derivatives() -> None:
    """A leaf that only a constant function has seen gets zeros, not an old gradient."""
    w, v = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    np.sum(w * v).backward()
    np.sum(tg.step(w) * v).backward()
    assert w.grad.tolist() == [0, 0]
    assert v.grad.tolist() == [1, 1]


def test_a_leaf_is_its_own_gradient() -> None:
    w = Tensor(2.0)
    w.backward()
    assert w.grad == 1


def test_gradients_are_arrays_of_their_own() -> None:
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    seed = np.ones(2)
    (a + b).backward(seed)
    for g in (a.grad, grad(np.sum)(np.ones(3)), jvp(lambda x: x, (seed,), (seed,))[1]):
        g *= 2
    assert b.grad.tolist() == seed.tolist() == [1, 1]


def test_backward_belongs_outside_of_transforms() -> None:
    def f(x: Array) -> Array:
        y = np.sum(x * x)
        y.backward()
        return y

    with pytest.raises(ValueError, match="return the loss"):
        grad(f)(np.ones(2))


# ---- the record --------------------------------------------------------------------------------


def test_a_tensor_tells_what_it_is() -> None:
    t = Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 2), 2, 4, np.float64, 2)
    assert np.all(t.T.data == t.data.T)
    assert repr(t) == "Tensor([[1. 2.]\n [3. 4.]], shape=(2, 2), dtype=float64)"
    assert repr(np.sum(t)) == "Tensor(10.0, shape=(), dtype=float64, from np.sum)"
    assert f"{np.sum(t):.1f}" == "10.0"
    assert f"{np.sum(t)}" == repr(np.sum(t))
    assert np.sum(t).item() == 10
    assert [row.data.tolist() for row in t] == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match=r"len\(\) of unsized"):
        len(np.sum(t))


def test_a_tensor_copies_its_data() -> None:
    a = np.ones(2)
    t = Tensor(a)
    a[0] = 5
    assert t.data.tolist() == [1, 1]


def test_comparisons_and_questions_give_plain_arrays() -> None:
    t = Tensor([1.0, -2.0])
    assert (t > 0).tolist() == [True, False]
    assert (np.zeros(2) < t).tolist() == [True, False]
    assert (t == t).all()
    assert (t != 1).tolist() == [False, True]
    assert (t >= 1).tolist() == [True, False] == (t <= -1).tolist()[::-1]
    assert np.argmax(t) == t.argmax() == t.argsort()[-1] == 0
    assert t.argmin() == 1
    assert np.sign(t).tolist() == [1, -1]
    assert np.zeros_like(t).tolist() == [0, 0]
    assert np.where(t > 0)[0].tolist() == [0] == np.where(t + 2)[0].tolist()[:1]
    assert bool(t[0])


METHODS = [
    ("sum", ()), ("sum", (0,)), ("mean", ()), ("prod", ()), ("cumsum", (1,)), ("max", ()),
    ("min", (0,)), ("clip", (-1, 1)), ("dot", (np.ones((3, 1)),)), ("trace", ()), ("ravel", ()),
    ("swapaxes", (0, 1)), ("squeeze", ()), ("flatten", ()), ("reshape", (3, 2)),
    ("reshape", ((3, 2),)), ("reshape", (-1,)), ("transpose", ()), ("transpose", (1, 0)),
    ("transpose", ((1, 0),)), ("astype", (np.float32,)), ("__getitem__", (0,)), ("__neg__", ()),
    ("__pos__", ()), ("__abs__", ()), ("copy", ()), ("var", (0,)), ("std", ()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), METHODS)
def test_methods_are_those_of_arrays(name: str, args: tuple[Any, ...]) -> None:
    a = np.arange(6.0).reshape(2, 3) - 2
    result = getattr(Tensor(a), name)(*args)
    expected = np.asarray(getattr(a, name)(*args))
    assert type(result) is Tensor
    assert result.dtype == expected.dtype
    assert np.array_equal(result.data, expected)


@pytest.mark.parametrize("f", [np.var, np.std])
@pytest.mark.parametrize("ddof", [0, 1, 2, 5])
def test_a_variance_divides_by_what_numpy_does(f: Any, ddof: int) -> None:
    """By 0, with a warning, where there are no degrees of freedom."""
    a = np.array([[1.0, 3.0], [2.0, 6.0]])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for axis in (None, 0, (0, 1)):
            result = f(Tensor(a), axis, ddof=ddof).data
            assert np.array_equal(result, f(a, axis, ddof=ddof), equal_nan=True)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "truediv", "pow", "matmul"])
def test_operators_work_from_both_sides(op: str) -> None:
    a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[2.0, 1.0], [0.5, 3.0]])
    for x, y in ((Tensor(a), b), (a, Tensor(b)), (Tensor(a), Tensor(b)), (Tensor(a), b.tolist())):
        z = getattr(type(x), f"__{op}__")(x, y)
        z = getattr(y, f"__r{op}__")(x) if z is NotImplemented else z
        assert np.array_equal(z.data, getattr(a, f"__{op}__")(b))
    if op != "matmul":
        for left in (2, 2.0, np.float64(2), np.array(2.0)):
            z = getattr(Tensor(a), f"__r{op}__")(left)
            assert np.array_equal(z.data, getattr(a, f"__r{op}__")(2))


def test_lists_count_as_arrays() -> None:
    x, rows = np.array([1.0, 2.0]), [[1.0, 2.0], [3.0, 4.0]]
    assert grad(lambda x: np.sum(rows @ x))(x).tolist() == [4, 6]
    assert grad(lambda x: np.sum(x @ rows))(x).tolist() == [3, 7]
    assert grad(lambda x: np.sum(np.concatenate([x, [1.0]]) * 2))(x).tolist() == [2, 2]
    assert grad(lambda x: np.sum(x * [1.0, 3.0]))(x).tolist() == [1, 3]


def test_precision_is_that_of_numpy() -> None:
    x = np.ones(2, np.float32)
    assert grad(lambda x: np.sum(2.5 * x / 3 + 1 - x**2 + x**0.5))(x).dtype == np.float32
    assert vjp(lambda x: 2.5 * x, x)[0].dtype == np.float32
    assert vjp(lambda x: np.float64(2.5) * x, x)[0].dtype == np.float64  # NumPy's own choice
    assert grad(lambda x: np.sum(np.float64(2.5) * x))(x).dtype == np.float32
    assert jvp(np.sin, (x,), (np.array([1, 2]),))[1].dtype == np.float32
    y, pullback = vjp(lambda x: x.astype(np.float64), x)
    assert (y.dtype, pullback(np.ones(2))[0].dtype) == (np.float64, np.float32)


def test_an_array_overwritten_after_use_changes_the_derivative() -> None:
    """The record refers to the arrays it was given: what `Tensor` warns of."""

    def f(x: Array) -> Array:
        buffer = np.array([2.0])
        y = x * buffer
        buffer[:] = 5
        return np.sum(y)

    assert tg.value_and_grad(f)(np.ones(1)) == (2, 5)


def test_the_array_that_was_passed_in_may_be_overwritten() -> None:
    x = np.array([2.0])
    _, pullback = vjp(np.square, x)
    x[:] = 7
    assert pullback(np.ones(1))[0] == 4


# ---- cost --------------------------------------------------------------------------------------


def test_a_shared_node_costs_once() -> None:
    """2⁶⁰ paths, 60 nodes."""

    def f(x: Array) -> Array:
        for _ in range(60):
            x = np.add(x, x)
        return x

    with calls_of(np.add, "vjps") as vjps, calls_of(np.add, "jvps") as jvps:
        assert grad(f)(1.0) == jvp(f, (1.0,), (1.0,))[1] == 2**60
    assert len(vjps) == len(jvps) == 2 * 60


def test_what_is_not_needed_is_not_computed() -> None:
    with calls_of(np.exp, "vjps") as vjps:
        grad(lambda x: np.sum(x) + np.exp(x * 0.0)[0] * 0 + np.sum(np.exp(np.ones(3))))(np.ones(2))
    assert len(vjps) == 1


def test_many_operations() -> None:
    """No recursion, which 8 MB of stack would not hold: not in the sweeps, nor as all is freed."""
    x = Tensor(1.0)
    y = x
    for _ in range(100_000):
        y = -y
    y.backward()
    assert x.grad == 1
    del y
    gc.collect()
    assert x.grad == 1


def test_grad_frees_the_record_as_it_sweeps() -> None:
    size, steps = 100_000, 50
    peak_at_the_end = 0

    def f(x: Array) -> Array:
        nonlocal peak_at_the_end
        for _ in range(steps):
            x = np.sin(x)
        y = np.sum(x)
        peak_at_the_end = tracemalloc.get_traced_memory()[1]
        return y

    x = np.ones(size)
    tracemalloc.start()
    grad(f)(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_at_the_end > steps * x.nbytes
    assert peak - peak_at_the_end < 6 * x.nbytes  # a few arrays, however many steps


def largest_total(f: Any, T: int) -> int:
    """Bytes that the sweep of ``f`` allocates for cotangents of x, summed over all of them."""
    total = 0
    zeros = np.zeros

    def counting(shape: Any, *args: Any, **keywords: Any) -> Array:
        nonlocal total
        a = zeros(shape, *args, **keywords)
        total += a.nbytes
        return a

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "zeros", counting)
        f(np.ones((T, 3)))
    return total


def over_time(x: Array) -> Array:
    h = np.ones(3)
    for t in range(len(x)):
        h = np.tanh(h * x[t])
    return np.sum(h)


def over_rows(x: Array) -> Array:
    h = np.ones(3)
    for row in x:
        h = np.tanh(h * row)
    return np.sum(h)


@pytest.mark.parametrize("loop", [over_time, over_rows])
@pytest.mark.parametrize(
    "derivative",
    [grad, lambda f: lambda x: hvp(f, x, x), lambda f: grad(lambda x: np.sum(grad(f)(x)))],
)
def test_a_loop_over_time_is_linear_in_time(loop: Any, derivative: Any) -> None:
    short, long = (largest_total(derivative(loop), T) for T in (50, 100))
    assert 0 < long <= 2 * short


def test_threads_do_not_meet() -> None:
    def f(x: Array) -> Array:
        for _ in range(200):
            x = np.sin(x) * x
        return np.sum(x)

    inputs = [np.linspace(0.1, 1, 5) * k for k in range(1, 5)]
    alone = [grad(f)(x) for x in inputs]
    together: dict[int, Array] = {}

    def work(k: int) -> None:
        together[k] = [grad(f)(inputs[k]) for _ in range(10)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k, expected in enumerate(alone):
        assert all(np.array_equal(g, expected) for g in together[k])
