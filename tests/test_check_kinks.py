"""At a kink every value between the one-sided derivatives is right, and none outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from handmade import Array, example

import tinygrad_rnn as tg

PASSES = ("PROVED", "CONSISTENT")

KINKED: dict[str, tuple[Callable[[Array], Array], float, float]] = {
    "relu": (tg.relu, 0.0, 1.0),
    "maximum": (lambda x: np.maximum(x, 0), 0.0, 1.0),
    "where": (lambda x: np.where(x > 0, x, 0 * x), 0.0, 1.0),
    "abs": (np.abs, -1.0, 1.0),
    "leaky": (lambda x: tg.leaky_relu(x, 0.25), 0.25, 1.0),
}


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_at_a_kink_every_clarke_element_passes(name: str, share: float, dtype: Any) -> None:
    f, left, right = KINKED[name]
    x = np.array([0.0, 1.0, -2.0], dtype)
    at_kink = left + share * (right - left)
    gradient = np.array([3 * at_kink, 3 * right, 3 * left], dtype)
    report = tg.check_gradients(lambda x: 3 * np.sum(f(x)), [x], gradient=lambda _: gradient)
    assert report.verdict in PASSES, str(report)


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("at_kink", [-1.125, 1.125])
def test_at_a_kink_nothing_else_passes(name: str, at_kink: float) -> None:
    f, left, right = KINKED[name]
    gradient = np.array([at_kink, right, left])
    x = np.array([0.0, 1.0, -2.0])
    report = tg.check_gradients(lambda x: np.sum(f(x)), [x], gradient=lambda _: gradient)
    assert report.verdict == "REFUTED"


@pytest.mark.parametrize("exponent", [-52, -50, -42, -30, -24])
@pytest.mark.parametrize("side", [-1, 1])
def test_the_side_of_a_kink_counts_as_soon_as_floats_can_tell(exponent: int, side: int) -> None:
    x = np.array([1.0])
    f = lambda x: np.sum(np.maximum(x - (1 - side * 2.0**exponent), 0))  # noqa: E731
    right, wrong = np.array([float(side > 0)]), np.array([float(side < 0)])
    assert tg.check_gradients(f, [x], gradient=lambda _: right).verdict in PASSES
    verdict = tg.check_gradients(f, [x], gradient=lambda _: wrong).verdict
    assert verdict == ("REFUTED" if exponent >= -42 else "CONSISTENT")


@pytest.mark.parametrize("ulps", [-4, -1, 0, 1, 4])
def test_a_relu_layer_whose_rounding_flips_a_unit_passes(ulps: int) -> None:
    """Preactivation 0.1 + 0.2 + … − b: within rounding distance of 0, on either side of it."""
    layer, args = example(activation="relu", T=1, N=1, gain=1.0)
    a = (layer.x[0] @ args[0] + args[3] @ args[1])[0]
    args[2] = -a + ulps * np.spacing(a)
    for mask in (0.0, 1.0):
        d_a = mask * layer.weights
        _, W_h, _, h0 = args
        gradient = (layer.x[0].T @ d_a, h0.T @ d_a, d_a[0], d_a @ W_h.T)
        report = tg.check_gradients(layer.loss, args, gradient=lambda *_, g=gradient: g)
        assert report.verdict != "REFUTED", str(report)
