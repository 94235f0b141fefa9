"""The likely mistake is the one that reproduces the layer's numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_layer import CELLS, Layer

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.check.layer.outcome import specification
from tinygrad_rnn.check.layer.rounding import differentiate
from tinygrad_rnn.check.layer.trials import Trial, draw, draw_cotangents


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_step_taken_apart_is_the_cells_step(cell: Any) -> None:
    """Outputs and gradients of the surgeon are the cell's, within its rounding bounds."""
    trial = Trial()
    inputs = draw(cell, LayerMap(), trial)
    count = 1 + len(cell.state_names)

    def taken_apart(v: Any) -> list[Any]:
        surgeon, hs = Surgeon(cell), []
        state = tuple(v[f"{s}0"] for s in cell.state_names)
        for t in range(trial.T):
            state = surgeon.step(v, v["x"][t], state)
            hs.append(state[0])
        return [np.stack(hs), *state]

    def both(f: Any) -> Any:
        return differentiate(f, inputs, lambda o: draw_cotangents(trial, o), np.dtype(float))

    ours, true = both(taken_apart), both(specification(cell, LayerMap(), trial, count))
    for got, expected in zip(ours.outputs, true.outputs, strict=True):
        assert not expected.wrong(got.value).any()
    for name, expected in true.gradients.items():
        assert not expected.wrong(ours.gradients[name].value).any()


def swap_gates(name: str) -> Callable[[dict[str, Any]], Any]:
    def spoil(g: dict[str, Any]) -> None:
        i, f, a, o = np.split(g[name], 4, axis=-1)
        g[name] = np.concatenate([i, f, o, a], axis=-1)

    return spoil


def one_entry(g: dict[str, Any]) -> None:
    g["W_h"][1, 2] *= 1.5


LSTM = [
    (lambda g: g.update(h0=0 * g["h0"]), "∂L/∂h0 is zero"),
    (lambda g: g.update(b=-g["b"]), "∂L/∂b has the wrong sign"),
    (lambda g: g.update(W_x=g["W_x"] / g["x"].shape[1]), "∂L/∂W_x is divided by N"),
    (lambda g: g.update(x=np.roll(g["x"], 1, axis=0)), "∂L/∂x is shifted by 1 step later"),
    (lambda g: g.update(h0=g["c0"], c0=g["h0"]), "∂L/∂h0 and ∂L/∂c0 are exchanged"),
    (swap_gates("b"), "the gates' blocks in ∂L/∂b are in another order"),
    (one_entry, "only the entry (1, 2) of ∂L/∂W_h is wrong"),
]


@pytest.mark.parametrize(("spoil", "expected"), LSTM, ids=[text for _, text in LSTM])
def test_a_mistake_in_a_finished_array(spoil: Any, expected: str) -> None:
    cell = tg.LSTMCell(3, 4)
    report = tg.check_layer(Layer(cell, spoil), cell, budget="quick")
    (mistake,) = report.mistakes
    assert mistake.startswith(expected)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cut_window_is_recognised(cell: Any) -> None:
    class Windowed(Layer):
        def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
            params, x, d_hs, state, d_state = arguments
            return tg.bptt(cell, params, x, d_hs, state, truncate=3, d_state=d_state)

    report = tg.check_layer(Windowed(cell), cell, budget="quick")
    assert report.mistakes == ["BPTT cut after 3 steps"]
    assert report.first_wrong_step == 4


def test_a_missing_derivative_is_named() -> None:
    """The gradient of the cell with another activation at the same values."""

    class Linear(Layer):
        def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
            params, x, d_hs, (h,), (d_h,) = arguments
            hs = [h]
            for x_t in x:
                hs.append(*cell.step(params, x_t, (hs[-1],)))
            back, g = 0 * h if d_h is None else d_h, {k: 0 * v for k, v in params.items()}
            d_x = 0 * x
            for t in reversed(range(len(x))):
                d = d_hs[t] + back
                g["W_x"] += x[t].T @ d
                g["W_h"] += hs[t].T @ d
                g["b"] += d.sum(axis=0)
                d_x[t], back = d @ params["W_x"].T, d @ params["W_h"].T
            return {**g, "x": d_x, "state": (back,)}

    cell = tg.RNNCell(3, 4)
    assert tg.check_layer(Linear(cell), cell).mistakes == ["∂L/∂a misses the factor 1 − h²"]
    right = tg.RNNCell(3, 4, "identity")
    assert tg.check_layer(Linear(right), right).verdict == "CONSISTENT"


def test_another_forward_pass_is_recognised() -> None:
    class Mirrored(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> Any:
            signs = np.repeat(np.asarray([1, -1, 1], x.dtype), state[0].shape[1])
            return super().forward({k: v * signs for k, v in params.items()}, x, *state)

    cell = tg.GRUCell(3, 4)
    report = tg.check_layer(Mirrored(cell), cell, budget="quick")
    assert report.culprits == ["outputs"]
    assert report.mistakes[0] == "forward: the update gate is mirrored: z multiplies the old state"
    assert "is not the gradient of that" in report.mistakes[1]  # of the weights of z
    mirrored = tg.check_layer(Mirrored(cell), cell, map=LayerMap(mirrored=True), budget="quick")
    assert "outputs" not in mirrored.culprits
    assert "∂L/∂a_z has the wrong sign" in mirrored.mistakes
