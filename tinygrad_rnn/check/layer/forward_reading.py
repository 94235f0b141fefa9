"""Reading a forward pass: which part of the first step differs, and what stands in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named
from tinygrad_rnn.check.layer.outcome import OUTPUTS, Conformance, Outcome, specification
from tinygrad_rnn.check.layer.probe import Arrays
from tinygrad_rnn.check.layer.scene import FREEDOM
from tinygrad_rnn.check.layer.subject import Refusal
from tinygrad_rnn.check.layer.trials import SHIFT, Trial, draw, draw_lengths, sized
from tinygrad_rnn.functions import Array


def forward_readings(c: Conformance, witness: Trial) -> list[str]:
    """Return what is wrong in one step, the same on two inputs."""
    if witness.protocol != "once":
        return []
    ignored = _by_zeros(c, witness, ("is ignored", "counts twice"))
    if ignored:
        return ignored
    one = replace(witness, T=1, step=None)
    outcomes = [c.run(replace(one, seed=one.seed + k)) for k in (0, 1)]
    if any(o.reference is None or "outputs" not in o.wrong for o in outcomes):
        return _by_zeros(c, witness)
    values = [_values(c, o) for o in outcomes]
    with np.errstate(all="ignore"):
        parts = [list(_parts(o, v)) for o, v in zip(outcomes, values, strict=True)]
        found = []
        for each in zip(*parts, strict=True):
            text = ratio_named([p[1] for p in each], [p[2] for p in each], values, DIGITS)
            if text:
                found.append(f"{each[0][0]} {text}")
        found.sort(key=lambda text: text.count("the term") + text.count("added"))
        return [*found[:1], *_last(outcomes), *([] if found else _by_zeros(c, replace(one, N=1)))]


def _values(c: Conformance, o: Outcome) -> Arrays:
    """Return the arrays of the first step by name, each as one row."""
    cell = sized(c.cell, o.trial)
    surgeon = Surgeon(cell)
    own = {n: o.inputs[n] for n in c.map.shapes(cell)}
    state = tuple(o.inputs[f"{s}0"] for s in cell.state_names)
    surgeon.step(c.map.canonical(cell, own), o.inputs["x"][0], state)
    width = o.outputs[0][0].shape
    values = {n: v.ravel() for n, v in surgeon.names[0].items() if v.shape == width}
    if "c" in values and "a_c" in values:  # a GRU: what its candidate sees of x, and of h
        U = split(c.map.canonical(cell, own)["W_h"], 2 + ("r" in values))[-1]
        e = surgeon.names[0]
        of_h = e["r"] * e["u"] if "u" in e else e.get("r ∘ h_prev", e["h_prev"]) @ U
        values |= {"of h": of_h.ravel(), "of x": values["a_c"] - of_h.ravel()}
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
        a = np.arctanh((h - kept) / v["z"])
        yield "what the candidate sees of x", a - v["of h"], v["of x"]
        yield "what the candidate sees of h_{t−1}", a - v["of x"], v["of h"]
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


def _by_zeros(c: Conformance, trial: Trial, said: tuple[str, ...] = ()) -> list[str]:
    """Say which inputs the layer ignores, or which must be zero for it to be right.

    Each is confirmed on two inputs. The last remark puts the preactivations into b: if that changes
    nothing, they are right, and what is made of them is not.
    """
    found: list[set[str]] = []
    for seed in (trial.seed, trial.seed + 1):
        own = replace(trial, seed=seed)
        try:
            with np.errstate(all="ignore"):
                found.append(set(_remarks(c, own)))
        except Refusal:
            return []
    both = found[0] & found[1]
    return sorted(t for t in both if not said or t.endswith(said))


def _remarks(c: Conformance, trial: Trial) -> Iterator[str]:
    cell, inputs = sized(c.cell, trial), draw(c.cell, c.map, trial, c.params)
    reference = c.run(trial).reference
    if reference is None:
        return
    spec = specification(cell, c.map, trial, len(reference.outputs))
    size = max(float(np.max(np.abs(b.value))) for b in reference.outputs)
    most = FREEDOM * max(float(np.max(b.error)) for b in reference.outputs) * max(1.0, 1 / size)

    def run(given: Arrays) -> list[Array]:
        return c.subject.anew().forward({k: np.array(v) for k, v in given.items()}, lengths)[0]

    def same(a: Sequence[Array], b: Sequence[Array]) -> bool:
        return all(bool(np.max(np.abs(p - q)) <= most) for p, q in zip(a, b, strict=True))

    lengths = draw_lengths(trial)
    got = run(inputs)
    if same(got, list(spec(inputs))):
        return
    for name, v in inputs.items():
        changed = inputs | {name: 0 * v}
        if trial.regime in SHIFT and v.ndim == 1:
            continue  # without the shift there is nothing saturated
        if same(got, list(spec(changed))):
            yield f"{name} is ignored"
        if same(got, list(spec(inputs | {name: 2 * v}))):
            yield f"{name} counts twice"
        if same(run(changed), list(spec(changed))):
            yield f"it is right where {name} is zero"
    shapes = c.map.shapes(cell)
    if trial.T > 1 or trial.N > 1:
        return
    own = {n: inputs[n] for n in shapes}
    params, pull = vjp(lambda p: c.map.canonical(cell, p), own)
    often = c.map.canonical(cell, pull({n: np.ones(np.shape(p)) for n, p in params.items()})[0])
    surgeon = Surgeon(cell)
    surgeon.step(params, inputs["x"][0], tuple(inputs[f"{s}0"] for s in cell.state_names))
    order = next(o for o in ("ifgo", "rzc", "zc", "h") if f"a_{o[0]}" in surgeon.names[0])
    a = np.concatenate([surgeon.names[0][f"a_{gate}"][0] for gate in order])
    zero = {n: 0 * p for n, p in params.items()}
    (in_b,) = pull({n: z / often[n] for n, z in (zero | {"b": a}).items()})
    if same(run(inputs | in_b), got):
        yield "the preactivations are right: an activation, or what is made of the gates, is wrong"
