"""The designed inputs: what is drawn for a trial, and which trials make a battery."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_rnn.cells import Cell
from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.check.layer.subject import Arrays
from tinygrad_rnn.functions import Array

GAIN = {"contractive": 0.3, "critical": 1.0, "expanding": 2.5}
SHIFT = {"saturated": 20.0, "logits of ±200": 200.0, "logits of ±800": 800.0}
PROTOCOLS = ("once", "twice", "after", "between", "between longer")
BUDGETS = ("quick", "default", "deep")


@dataclass(frozen=True)
class Trial:
    """One way to call a layer.

    ``cotangents`` says which outputs have one: hs, h_T, c_T; the others have None. ``step`` is the
    only step with a cotangent on hs, from 1; None for all. ``protocol``: backward is called once,
    or twice on one cache, or after another call with other weights on the same object, or with
    another forward call between forward and backward, of as many steps or of more. ``scale``
    multiplies the cotangents.
    """

    T: int = 6
    N: int = 5
    D: int = 3
    H: int = 4
    regime: str = "critical"
    zero_state: tuple[str, ...] = ()
    cotangents: tuple[str, ...] = ("hs", "h_T", "c_T")
    step: int | None = None
    dtype: str = "float64"
    contiguous: bool = True
    protocol: str = "once"
    scale: float = 1.0
    seed: int = 0

    def __str__(self) -> str:
        sizes = f"T={self.T}, N={self.N}, D={self.D}, H={self.H}, {self.dtype}, {self.regime}"
        special = [
            f"{name}={getattr(self, name)!r}"
            for name in ("zero_state", "cotangents", "step", "contiguous", "protocol", "scale")
            if getattr(self, name) != getattr(Trial, name)
        ]
        return ", ".join([sizes, *special])


def sized(cell: Cell, trial: Trial) -> Cell:
    """Return the cell of the trial's sizes."""
    return replace(cell, D=trial.D, H=trial.H)


def draw(cell: Cell, map: LayerMap, trial: Trial, params: Arrays | None = None) -> Arrays:
    """Draw the layer's parameters, ``"x"`` and the initial state, rounded to the trial's dtype.

    ``params`` takes the place of the regime ``"given"``.
    """
    rng = np.random.default_rng([trial.seed, trial.T, trial.N, trial.D, trial.H])
    cell = sized(cell, trial)
    if trial.regime == "given" and params is not None:
        inputs = {name: np.array(p) for name, p in params.items()}
    else:
        inputs = {
            name: _parameter(rng, shape, trial.regime) for name, shape in map.shapes(cell).items()
        }
    inputs["x"] = rng.standard_normal((trial.T, trial.N, trial.D))
    for s in cell.state_names:
        inputs[f"{s}0"] = rng.uniform(-0.9, 0.9, (trial.N, trial.H))
    if trial.regime == "kinks":  # sums of small integers are often exactly zero
        inputs = {k: rng.integers(-1, 2, v.shape).astype(float) for k, v in inputs.items()}
    if trial.regime == "badly scaled":
        inputs["x"] *= 10.0 ** rng.integers(-6, 4, inputs["x"].shape)
    for s in trial.zero_state:
        inputs[f"{s}0"] = np.zeros((trial.N, trial.H))
    return {name: np.asarray(v, trial.dtype) for name, v in inputs.items()}


def _parameter(rng: np.random.Generator, shape: tuple[int, ...], regime: str) -> Array:
    """Draw weights of a gain, and biases that are never small against them."""
    if len(shape) == 1:
        shift = SHIFT.get(regime, 0.0) * np.resize([1.0, -1.0], shape)
        return rng.uniform(0.2, 0.8, shape) * rng.choice([-1.0, 1.0], shape) + shift
    gain = GAIN.get(regime, 1.0)
    return gain * rng.standard_normal(shape) / np.sqrt(min(shape))


def draw_lengths(trial: Trial) -> Array:
    """Draw the lengths of the sequences, T, T − 1, … in no order."""
    order = np.random.default_rng([trial.seed + 2, trial.N]).permutation(trial.N)
    return np.asarray(trial.T - order % trial.T)


def draw_cotangents(trial: Trial, outputs: list[Array]) -> list[Array | None]:
    """Draw the cotangents of (hs, h_T, c_T), None where the trial has none."""
    rng = np.random.default_rng([trial.seed + 1, trial.T, trial.N, trial.D, trial.H])
    drawn: list[Array | None] = []
    for name, value in zip(("hs", "h_T", "c_T"), outputs, strict=False):
        d = rng.uniform(0.5, 1.5, value.shape) * rng.choice([-1.0, 1.0], value.shape)
        if name == "hs" and trial.step is not None:
            d[: trial.step - 1] = d[trial.step :] = 0
        d = np.asarray(trial.scale * np.asarray(d, trial.dtype), trial.dtype)
        drawn.append(d if name in trial.cotangents else None)
    return drawn


def battery(cell: Cell, budget: str, base: Trial, fixed: bool = False) -> Iterator[Trial]:
    """Yield the trials of a budget, the plain one first; ``fixed`` keeps D and H."""
    yield base
    yield replace(base, cotangents=("hs",))
    yield replace(base, cotangents=("h_T",))
    if "c" in cell.state_names:
        yield replace(base, cotangents=("c_T",))
    yield replace(base, cotangents=("hs",), step=base.T)
    for protocol in PROTOCOLS[1:]:
        yield replace(base, protocol=protocol)
    yield replace(base, dtype="float32", T=4)
    yield replace(base, regime="saturated")
    yield replace(base, T=1)
    yield replace(base, N=1)
    yield replace(base, T=24, N=2, cotangents=("hs",), step=24, regime="contractive")
    if budget == "quick":
        return
    yield replace(base, zero_state=tuple(cell.state_names))
    yield replace(base, cotangents=("hs",), step=1)
    yield replace(base, cotangents=("hs",), step=base.T // 2)
    yield replace(base, T=2)
    yield replace(base, T=1, N=1)
    yield replace(base, contiguous=False)
    yield replace(base, scale=2.0**10)
    yield replace(base, scale=2.0**-40)
    for regime in ("contractive", "expanding", *list(SHIFT)[1:], "badly scaled", "kinks"):
        yield replace(base, regime=regime)
    for regime in ("saturated", "logits of ±200", "kinks"):
        yield replace(base, regime=regime, dtype="float32", T=4)
    if not fixed:
        yield replace(base, H=1)
        yield replace(base, D=1)
        yield replace(base, T=1, N=1, H=1, D=1)
        yield replace(base, D=4, H=2, N=7, T=5)
    yield replace(base, T=24, N=2, seed=base.seed + 1)
    if budget == "deep":
        for seed in range(1, 9):
            for regime in GAIN:
                yield replace(base, seed=base.seed + seed, regime=regime, T=9)
        yield replace(base, T=64, N=2, cotangents=("hs",), step=64, regime="contractive")
