"""A layer called once more, on one step of one sequence, with one cotangent at a time.

A backward pass is linear in the cotangents. On one step of one sequence it is therefore known from
its value on the unit vectors, and so is what it takes for the derivative by each preactivation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.scene import FREEDOM
from tinygrad_rnn.check.layer.subject import Refusal
from tinygrad_rnn.check.layer.trials import Trial, draw, draw_lengths, sized
from tinygrad_rnn.functions import Array

Arrays = dict[str, Array]


class Probe:
    """The inputs of a trial, and the layer's gradient on parts of them."""

    def __init__(self, c: Conformance, trial: Trial) -> None:
        self.c, self.trial, self.cell = c, trial, sized(c.cell, trial)
        self.inputs = draw(c.cell, c.map, trial, c.params)
        outcome = c.run(trial)
        self.count = len(outcome.outputs)
        self.digits = 0.0  # how far correct layers may lie apart, relative to the largest entry
        if outcome.reference is not None:
            for g in outcome.reference.gradients.values():
                most = max(float(np.max(np.abs(g.value))), float(np.finfo(float).tiny))
                self.digits = max(self.digits, FREEDOM * float(np.max(g.error)) / most)

    def cotangents(self, trial: Trial | None = None) -> list[Array]:
        """Draw cotangents for all outputs."""
        t = trial or self.trial
        rng = np.random.default_rng([t.seed + 3, t.T, t.N, t.H])
        shapes = [(t.T, t.N, t.H), *[(t.N, t.H)] * 2][: self.count]
        return [rng.uniform(0.5, 1.5, s) * rng.choice([-1.0, 1.0], s) for s in shapes]

    def gradient(self, inputs: Arrays, d: list[Array]) -> Arrays:
        """Return the layer's gradient; what it leaves out or misshapes is NaN."""
        subject = self.c.subject.anew()
        given = {k: np.array(v) for k, v in inputs.items()}
        _, form, cache = subject.forward(given, draw_lengths(self.trial))
        got = subject.backward([np.array(v) for v in d], form, cache)
        found = {}
        for name, v in inputs.items():
            g = np.asarray(got.get(name, np.nan))
            usable = g.shape == v.shape and g.dtype.kind == "f"
            found[name] = g.astype(float) if usable else np.full(v.shape, np.nan)
        return found

    def near(self, a: Array, b: Array) -> bool:
        """Return whether two arrays differ by rounding only."""
        most = max(float(np.max(np.abs(b), initial=0)), float(np.max(np.abs(a), initial=0)))
        return bool(np.max(np.abs(a - b), initial=0) <= FREEDOM * self.digits * most)


@dataclass
class Step:
    """What a layer makes of each unit cotangent on one step of one sequence.

    ``values`` are the arrays of the step by name. ``d_h`` and ``d_c`` are the cotangents, a row
    each; ``got`` has the gradients in the cell's layout, the cotangents along axis 0.
    """

    probe: Probe
    params: Arrays
    values: Arrays
    d_h: Array
    d_c: Array
    got: Arrays

    @property
    def gates(self) -> str:
        """Return the names of the gates, in their order."""
        variant = getattr(self.probe.cell, "variant", None)
        if variant is not None:
            return "zc" if variant == "minimal" else "rzc"
        return "h" if len(self.probe.cell.state_names) == 1 else "ifgo"

    def blocks(self, name: str, of: Any = None) -> Arrays:
        """Return a gradient, or a parameter, gate by gate."""
        whole = (self.got if of is None else of)[name]
        return dict(zip(self.gates, split(whole, len(self.gates)), strict=True))


def one_step(c: Conformance, trial: Trial) -> Step | None:
    """Measure a step; None if the layer does not answer."""
    probe = Probe(c, trial)
    cell, inputs, shapes = probe.cell, probe.inputs, c.map.shapes(probe.cell)
    own = {n: inputs[n] for n in shapes}
    params, pull = vjp(lambda p: c.map.canonical(cell, p), own)
    often = c.map.canonical(cell, pull({n: np.ones(np.shape(p)) for n, p in params.items()})[0])
    units = np.eye(cell.H)
    zero = np.zeros_like(units)
    d_h, d_c = units, zero
    if probe.count == 3:  # the layer returns c_T
        d_h, d_c = np.concatenate([units, zero]), np.concatenate([zero, units])
    rows = []
    for a, b in zip(d_h, d_c, strict=True):
        d = [a[None, None], 0 * a[None], b[None]][: probe.count]
        try:
            found = probe.gradient(inputs, d)
        except Refusal:
            return None
        g = c.map.canonical(cell, {n: found[n] for n in own})
        row = {n: g[n] / often[n] for n in g} | {"x": found["x"][0, 0]}
        rows.append(row | {f"{s}0": found[f"{s}0"][0] for s in cell.state_names})
    surgeon = Surgeon(cell)
    surgeon.step(params, inputs["x"][0], tuple(inputs[f"{s}0"] for s in cell.state_names))
    values = {n: v[0] for n, v in surgeon.names[0].items()}
    if "r" in values:
        values["u without b_h"] = values["h_prev"] @ split(params["W_h"], 3)[2]
    got = {n: np.stack([row[n] for row in rows]) for n in rows[0]}
    return Step(probe, params, values, d_h, d_c, got)
