"""Checking recurrent layers: correct ones are left alone, mistakes are found and described."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.check.layer.conform import pose

CELLS = [
    *(tg.RNNCell(3, 4, f) for f in ("tanh", "relu", "leaky_relu", "sigmoid", "identity")),
    *(tg.GRUCell(3, 4, v) for v in ("minimal", "reset_before", "reset_after")),
    *(tg.LSTMCell(3, 4, p) for p in (False, "diagonal", "full")),
]


class Layer:
    """A layer by the closed-form Jacobians, with places to go wrong."""

    def __init__(self, cell: Any, spoil: Callable[[dict[str, Any]], Any] = lambda g: None) -> None:
        self.cell, self.spoil = cell, spoil

    def forward(self, params: Any, x: Any, *state: Any) -> tuple[Any, Any]:
        cell = replace(self.cell, D=x.shape[2], H=state[0].shape[1])
        run = tg.unroll(cell, params, x, state, method="tape")
        return (run.outputs, *run.final), (cell, params, x, state)

    def backward(self, d_outputs: Any, cache: Any) -> dict[str, Any]:
        cell, params, x, state = cache
        d_hs, *d_state = d_outputs
        if d_hs is None:
            d_hs = np.zeros((*x.shape[:2], cell.H), x.dtype)
        g = self.gradient(cell, params, x, d_hs, state, tuple(d_state))
        g.update(zip(("h0", "c0"), g.pop("state"), strict=False))
        self.spoil(g)
        return g

    def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
        params, x, d_hs, state, d_state = arguments
        return tg.bptt(cell, params, x, d_hs, state, method="chain", d_state=d_state)


def spoiled(cell: Any, spoil: Callable[[dict[str, Any]], Any]) -> tg.LayerReport:
    return tg.check_layer(Layer(cell, spoil), cell, budget="quick")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_correct_layer_is_consistent(cell: Any) -> None:
    report = tg.check_layer(Layer(cell), cell)
    assert report.verdict == "CONSISTENT", str(report)


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_each_gradient_is_named(cell: Any) -> None:
    """A relative error of 2⁻³⁰ in one entry of one gradient, and nothing else."""

    def spoil(name: str) -> Callable[[dict[str, Any]], Any]:
        def change(g: dict[str, Any]) -> None:
            g[name] = np.array(g[name])
            g[name][(0,) * g[name].ndim] *= 1 + g[name].dtype.type(2.0**-20)

        return change

    for name in (*cell.layout, "x", *(f"{s}0" for s in cell.state_names)):
        # The trials alone: looking for the likely mistake takes longer than finding that it is one.
        c, _, trials = pose(Layer(cell, spoil(name)), cell, None, None, 0, "quick")
        assert {wrong for trial in trials for wrong in c.run(trial).wrong} == {name}
    report = spoiled(cell, spoil("W_h"))
    assert (report.verdict, report.culprits) == ("REFUTED", ["W_h"])


def test_a_window_is_found_where_gradients_vanish() -> None:
    class Windowed(Layer):
        def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
            params, x, d_hs, state, d_state = arguments
            return tg.bptt(cell, params, x, d_hs, state, truncate=9, d_state=d_state)

    cell = tg.RNNCell(3, 4)
    report = tg.check_layer(Windowed(cell), cell)
    assert report.verdict == "REFUTED"
    assert report.first_wrong_step == 10
    assert "only T ≥ 10" in report.conditions


def test_a_missing_and_a_misshapen_gradient_are_named() -> None:
    cell = tg.LSTMCell(3, 4)
    assert spoiled(cell, lambda g: g.pop("c0")).culprits == ["c0"]
    assert spoiled(cell, lambda g: g.update(b=g["b"][None])).culprits == ["b"]


def test_a_forward_error_is_told_apart() -> None:
    cell = tg.GRUCell(3, 4)

    class Late(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> tuple[Any, Any]:
            (hs, *final), cache = super().forward(params, x, *state)
            hs = np.array(hs)
            hs[3:] *= 1 + hs.dtype.type(2.0**-20)
            return (hs, *final), cache

    report = tg.check_layer(Late(cell), cell, budget="quick")
    assert (report.culprits, report.first_wrong_step) == (["outputs"], 4)


def test_a_kink_is_nobodys_mistake() -> None:
    """Where relu's argument is zero every derivative in [0, 1] is right; 2 is not."""
    cell = tg.RNNCell(3, 4, "relu")

    class AtZero(Layer):
        slope = 1.0

        def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
            params, x, d_hs, (h,), (d_h,) = arguments
            hs = [h]
            for x_t in x:
                (h,) = cell.step(params, x_t, (h,))
                hs.append(h)
            g = {name: 0 * p for name, p in params.items()} | {"x": 0 * x}
            back = 0 * h if d_h is None else d_h
            for t in reversed(range(len(x))):
                a = x[t] @ params["W_x"] + hs[t] @ params["W_h"] + params["b"]
                d = (d_hs[t] + back) * np.where(a == 0, self.slope, a > 0).astype(a.dtype)
                g["W_x"] += x[t].T @ d
                g["W_h"] += hs[t].T @ d
                g["b"] += d.sum(axis=0)
                g["x"][t], back = d @ params["W_x"].T, d @ params["W_h"].T
            return g | {"state": (back,)}

    class TooSteep(AtZero):
        slope = 2.0

    assert tg.check_layer(AtZero(cell), cell).verdict == "CONSISTENT"
    report = tg.check_layer(TooSteep(cell), cell)
    assert report.verdict == "REFUTED"
    assert "only at kinks" in report.conditions


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_is_held_to_its_own_precision(dtype: Any) -> None:
    """A layer that computes in float32 throughout is right; one that only answers so is not."""
    cell = tg.GRUCell(3, 4)

    class Single(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> tuple[Any, Any]:
            single = {k: np.float32(v) for k, v in params.items()}
            outputs, cache = super().forward(single, np.float32(x), *map(np.float32, state))
            return tuple(o.astype(dtype) for o in outputs), cache

        def gradient(self, cell: Any, *arguments: Any) -> dict[str, Any]:
            params, x, d_hs, state, d_state = arguments
            d_state = tuple(None if d is None else np.float32(d) for d in d_state)
            return super().gradient(cell, params, x, np.float32(d_hs), state, d_state)

    verdict = tg.check_layer(Single(cell), cell).verdict
    assert verdict == ("CONSISTENT" if dtype is np.float32 else "REFUTED")


def test_a_layer_of_one_size_is_checked_at_its_size() -> None:
    cell = tg.RNNCell(2, 6)

    class Fixed(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> tuple[Any, Any]:
            params["W_x"].reshape(2, 6)
            return super().forward(params, x, *state)

    assert tg.check_layer(Fixed(cell), cell, budget="quick").verdict == "CONSISTENT"
    params = cell.init(0)
    assert tg.check_layer(Fixed(cell), cell, params=params, budget="quick").verdict == "CONSISTENT"


@pytest.mark.parametrize("count", [1, 2])
def test_a_layer_need_not_return_the_last_states(count: int) -> None:
    cell = tg.LSTMCell(3, 4)

    class Fewer(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> tuple[Any, Any]:
            outputs, cache = super().forward(params, x, *state)
            return (outputs[:count] if count > 1 else outputs[0]), cache

        def backward(self, d_outputs: Any, cache: Any) -> dict[str, Any]:
            given = d_outputs if count > 1 else (d_outputs,)
            return super().backward((*given, *[None] * (3 - count)), cache)

    report = tg.check_layer(Fewer(cell), cell)
    assert report.verdict == "CONSISTENT", str(report)


def test_an_exception_is_a_refutation_that_says_when() -> None:
    cell = tg.RNNCell(3, 4)

    def refuse(g: dict[str, Any]) -> None:
        if len(g["x"]) == 1:
            raise IndexError("no second step")

    report = tg.check_layer(Layer(cell, refuse), cell)
    assert (report.verdict, report.culprits) == ("REFUTED", [])
    assert "only T = 1" in report.conditions
    assert "backward raises IndexError: no second step" in str(report)


def test_the_report_reads_and_travels() -> None:
    cell = tg.LSTMCell(3, 4)
    report = spoiled(cell, lambda g: g.update(c0=2 * g["c0"]))
    assert "wrong gradients: c0" in str(report)
    assert json.loads(report.to_json())["culprits"] == ["c0"]
    assert len(report.errors["c0"]) == 6
    with pytest.raises(TypeError, match=r"Read \.verdict"):
        bool(report)


def test_misuse_is_explained() -> None:
    cell = tg.RNNCell(3, 4)
    with pytest.raises(ValueError, match="budget must be one of quick, default, deep"):
        tg.check_layer(Layer(cell), cell, budget="huge")
    with pytest.raises(TypeError, match="has no forward"):
        tg.check_layer(3, cell)
    with pytest.raises(ValueError, match="must have the shapes"):
        tg.check_layer(Layer(cell), cell, params={"W": np.ones(3)})


def test_the_picture_has_a_line_for_each_wrong_gradient(tmp_path: Any) -> None:
    def halved(g: dict[str, Any]) -> None:
        g["W_h"] = g["W_h"] / 2

    report = tg.check_layer(Layer(CELLS[0], halved), CELLS[0], budget="quick")
    figure = report.plot()
    figure.savefig(tmp_path / "errors.svg")
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == report.culprits == ["W_h"]


def test_there_is_no_picture_of_a_correct_layer() -> None:
    with pytest.raises(ValueError, match="not refuted"):
        tg.check_layer(Layer(CELLS[0]), CELLS[0], budget="quick").plot()


# ---- sequences of unequal lengths ---------------------------------------------------------------


class WithLengths:
    """A layer that takes ``lengths`` and pads hs with zeros, or with the last state."""

    def __init__(self, cell: Any, padding: str, knows: bool = True) -> None:
        self.cell, self.padding, self.knows = cell, padding, knows

    def forward(self, params: Any, x: Any, *state: Any, lengths: Any) -> tuple[Any, Any]:
        cell = replace(self.cell, D=x.shape[2], H=state[0].shape[1])
        run = tg.unroll(cell, params, x, state, method="tape")
        going = np.arange(len(x))[:, None, None] < lengths[:, None]
        final = tuple(s[lengths, np.arange(len(lengths))] for s in run.states)
        rest = 0 * run.outputs if self.padding == "zeros" else final[0]
        hs = np.where(going, run.outputs, rest)
        return (hs, *final), (cell, params, x, state, lengths, going)

    def backward(self, d_outputs: Any, cache: Any) -> dict[str, Any]:
        cell, params, x, state, lengths, going = cache
        zero = np.zeros((*x.shape[:2], cell.H), x.dtype)
        d_hs, *d_state = (zero if d is None else d for d in d_outputs)
        d_state = [zero[0] if d.ndim == 3 else d for d in d_state]
        if self.padding == "state":
            d_state[0] = d_state[0] + np.where(going, 0 * d_hs, d_hs).sum(axis=0)
        d_hs = np.where(going, d_hs, zero)
        g = tg.bptt(
            cell, params, x, d_hs, state, d_state=tuple(d_state), method="chain",
            lengths=lengths if self.knows else None,
        )  # fmt: skip
        return {**g, **dict(zip(("h0", "c0"), g.pop("state"), strict=False))}


@pytest.mark.parametrize("padding", ["zeros", "state"])
@pytest.mark.parametrize("cell", [tg.RNNCell(3, 4), tg.LSTMCell(3, 4)], ids=str)
def test_lengths(cell: Any, padding: str) -> None:
    map = {"lengths": "lengths", "padding": padding}
    report = tg.check_layer(WithLengths(cell, padding), cell, map=map)
    assert report.verdict == "CONSISTENT", str(report)
    report = tg.check_layer(WithLengths(cell, padding, knows=False), cell, map=map)
    assert report.verdict == "REFUTED"
    assert "only T ≥ 2" in report.conditions
    other = {"lengths": "lengths", "padding": "zeros" if padding == "state" else "state"}
    assert tg.check_layer(WithLengths(cell, padding), cell, map=other).culprits == ["outputs"]
