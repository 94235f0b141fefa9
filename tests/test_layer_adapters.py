"""Layers of other libraries are consistent, and pytest shows every designed input."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from test_layer import Layer

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer import jax_layer, layer_tests, torch_layer

torch = pytest.importorskip("torch")
MODULES = [
    (torch.nn.RNN, tg.RNNCell(3, 4)),
    (torch.nn.GRU, tg.GRUCell(3, 4, "reset_after")),
    (torch.nn.LSTM, tg.LSTMCell(3, 4)),
]


@pytest.mark.parametrize(("module", "cell"), MODULES, ids=lambda v: getattr(v, "__name__", ""))
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_modules_of_torch_are_consistent(module: Any, cell: Any, batch_first: bool) -> None:
    layer = torch_layer(module(3, 4, batch_first=batch_first))
    report = tg.check_layer(layer, cell, map=layer.map)
    assert report.verdict == "CONSISTENT", str(report)


class Squash(torch.autograd.Function):
    """tanh with the derivative 1 − y for 1 − y²."""

    @staticmethod
    def forward(ctx: Any, a: Any) -> Any:
        ctx.save_for_backward(torch.tanh(a))
        return torch.tanh(a)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (y,) = ctx.saved_tensors
        return g * (1 - y)


@pytest.mark.parametrize("squash", [torch.tanh, Squash.apply])
def test_a_function_of_torch(squash: Any) -> None:
    def rnn(p: Any, x: Any, h: Any) -> Any:
        hs = []
        for x_t in x:
            h = squash(x_t @ p["W_x"] + h @ p["W_h"] + p["b"])
            hs.append(h)
        return torch.stack(hs), h

    report = tg.check_layer(torch_layer(rnn), tg.RNNCell(3, 4))
    if squash is torch.tanh:
        assert report.verdict == "CONSISTENT", str(report)
    else:
        assert report.mistakes == ["∂L/∂a has 1 − h for 1 − h²"]


def test_a_scan_of_jax_is_consistent() -> None:
    jax = pytest.importorskip("jax")

    def rnn(p: Any, x: Any, h: Any) -> Any:
        def step(h: Any, x_t: Any) -> Any:
            h = jax.numpy.tanh(x_t @ p["W_x"] + h @ p["W_h"] + p["b"])
            return h, h

        last, hs = jax.lax.scan(step, h, x)
        return hs, last

    report = tg.check_layer(jax_layer(rnn), tg.RNNCell(3, 4), budget="quick")
    assert report.verdict == "CONSISTENT", str(report)


def test_a_jax_function_that_looks_at_values_is_run_as_it_is() -> None:
    """It cannot be compiled, and its gradient is that of the branch it takes."""
    jax = pytest.importorskip("jax")

    def rnn(p: Any, x: Any, h: Any) -> Any:
        hs = []
        for x_t in x:
            a = x_t @ p["W_x"] + h @ p["W_h"] + p["b"]
            h = jax.numpy.tanh(a) if (a > 0).any() else jax.numpy.tanh(a / 2 + a / 2)
            hs.append(h)
        return jax.numpy.stack(hs), h

    layer = jax_layer(rnn)
    inputs = {n: np.ones(s) for n, s in tg.RNNCell(1, 2).shapes.items()}
    (hs, h_T), cache = layer.forward(inputs, np.ones((3, 1, 1)), np.zeros((1, 2)))
    g = layer.backward((None, np.ones_like(h_T)), cache)
    run = tg.unroll(tg.RNNCell(1, 2), inputs, np.ones((3, 1, 1)), (np.zeros((1, 2)),))
    np.testing.assert_array_max_ulp(hs, run.outputs, 4)
    assert np.all(g["h0"] > 0)


@pytest.mark.parametrize(("adapter", "library"), [(torch_layer, "torch"), (jax_layer, "jax")])
def test_the_example_of_an_adapter(adapter: Any, library: str) -> None:
    """The block of the docstring runs, and what it asserts holds."""
    pytest.importorskip(library)
    block = inspect.getdoc(adapter).partition("::\n")[2]  # type: ignore[union-attr]
    assert "CONSISTENT" in block
    exec(textwrap.dedent(block), {})


def test_without_a_library_it_says_how_to_get_it(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match="jax_layer needs jax: pip install jax"):
        jax_layer(lambda: None)


def test_the_adapters_are_at_hand_after_one_import() -> None:
    code = "import tinygrad_rnn as tg; tg.check.torch_layer, tg.check.layer_tests"
    subprocess.run([sys.executable, "-c", code], check=True)


cell = tg.GRUCell(3, 4)
test_a_correct_layer = layer_tests(Layer(cell), cell, budget="quick")


def test_a_faulty_layer_fails_its_items() -> None:
    faulty = layer_tests(Layer(cell, lambda g: g.update(b=2 * g["b"])), cell, budget="quick")
    (mark,) = faulty.pytestmark  # type: ignore[attr-defined]
    with pytest.raises(pytest.fail.Exception, match="b differs: entry"):
        faulty(mark.args[1][0])
    assert np.unique([str(t) for t in mark.args[1]]).size == len(mark.args[1])
