"""Reading a forward pass: which part of the first step differs, and what stands in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named
from tinygrad_rnn.check.layer.outcome import OUTPUTS, Conformance, Outcome
from tinygrad_rnn.check.layer.probe import Arrays
from tinygrad_rnn.check.layer.trials import Trial, sized
from tinygrad_rnn.functions import Array


def forward_readings(c: Conformance, witness: Trial) -> list[str]:
    """Return what is wrong in one step, the same on two inputs."""
    one = replace(witness, T=1, step=None)
    outcomes = [c.run(replace(one, seed=one.seed + k)) for k in (0, 1)]
    if any(o.reference is None or "outputs" not in o.wrong for o in outcomes):
        return []
    values = [_values(c, o) for o in outcomes]
    with np.errstate(all="ignore"):
        parts = [list(_parts(o, v)) for o, v in zip(outcomes, values, strict=True)]
        found = []
        for each in zip(*parts, strict=True):
            text = ratio_named([p[1] for p in each], [p[2] for p in each], values, DIGITS)
            if text:
                found.append(f"{each[0][0]} {text}")
        return found[:1] + _last(outcomes)


def _values(c: Conformance, o: Outcome) -> Arrays:
    """Return the arrays of the first step by name, each as one row."""
    cell = sized(c.cell, o.trial)
    surgeon = Surgeon(cell)
    own = {n: o.inputs[n] for n in c.map.shapes(cell)}
    state = tuple(o.inputs[f"{s}0"] for s in cell.state_names)
    surgeon.step(c.map.canonical(cell, own), o.inputs["x"][0], state)
    width = o.outputs[0][0].shape
    values = {n: v.ravel() for n, v in surgeon.names[0].items() if v.shape == width}
    return {n: np.asarray(v, float) for n, v in values.items()}


def _parts(o: Outcome, v: Arrays) -> Iterator[tuple[str, Array, Array]]:
    """Yield terms of the step as the layer must have them if the rest is right, and as they are."""
    h = o.outputs[0][0].ravel()
    if "o" in v:  # an LSTM
        c = o.outputs[2].ravel() if len(o.outputs) == 3 else v["c_t"]
        kept, new = v["f"] * v["c_prev"], v["i"] * v["g"]
        yield "the term f c_{t−1} of c_t", c - new, kept
        yield "the term i g of c_t", c - kept, new
        yield "h_t", h, v["o"] * np.tanh(c)
    elif "z" in v:
        kept, new = (1 - v["z"]) * v["h_prev"], v["z"] * v["c"]
        yield "the term (1 − z) h_{t−1} of h_t", h - new, kept
        yield "the term z c of h_t", h - kept, new
    else:
        yield "h_t", h, v["h"]


def _last(outcomes: Sequence[Outcome]) -> list[str]:
    """Say which of the outputs is right, if not all are wrong."""
    right = []
    for o in outcomes:
        assert o.reference is not None
        pairs = zip(OUTPUTS, o.reference.outputs, o.outputs, strict=False)
        right.append({name for name, true, y in pairs if not true.wrong(y).any()})
    both = right[0] & right[1]
    return [f"{name} is right" for name in OUTPUTS if name in both]
