"""One trial of a layer against the cell: what is wrong, entry by entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinygrad_rnn.cells import Cell
from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.check.layer.rounding import Bounded, Function, Reference, differentiate
from tinygrad_rnn.check.layer.subject import Arrays, Refusal, Subject, strided
from tinygrad_rnn.check.layer.trials import Trial, draw, draw_cotangents, draw_lengths, sized
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import unroll

OUTPUTS = ("hs", "h_T", "c_T")


@dataclass(frozen=True)
class Wrong:
    """What is wrong with one array: a sentence, or its worst entry.

    ``relative`` is |got − expected| / |expected| there.
    """

    reason: str
    index: tuple[int, ...] = ()
    got: float = np.nan
    expected: float = np.nan
    relative: float = np.inf

    def describe(self, trial: str) -> str:
        """Say what is wrong, and where."""
        if not self.index:
            return f"{self.reason}, at {trial}"
        where = ", ".join(map(str, self.index))
        size = f" (off by {self.relative:.2g} times its size)" if self.relative < np.inf else ""
        return (
            f"{self.reason}: entry [{where}] is {self.got:.9g}, expected {self.expected:.9g}"
            f"{size}, at {trial}"
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: the wrong arrays by name, and the numbers themselves."""

    trial: Trial
    wrong: dict[str, Wrong] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    refusal: str = ""
    inputs: Arrays = field(default_factory=dict)
    got: dict[str, Any] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)
    cotangents: list[Array | None] = field(default_factory=list)
    reference: Reference | None = None

    @property
    def failed(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.wrong or self.changed or self.refusal)

    def relative_error(self, name: str) -> float:
        """Return the greatest |got − expected| / |expected| of a gradient, 0 where it is right."""
        got = self.got.get(name)
        if self.reference is None or got is None:
            return np.inf
        true = self.reference.gradients[name]
        if np.shape(got) != true.value.shape:
            return np.inf
        with np.errstate(all="ignore"):
            relative = np.abs(got - true.value) / np.abs(true.value)
        return float(np.max(np.where(true.wrong(got), relative, 0.0)))


def specification(cell: Cell, map: LayerMap, trial: Trial, count: int) -> Function:
    """Return the first ``count`` outputs of the cell as a function of the layer's inputs."""
    going = (np.arange(trial.T)[:, None] < draw_lengths(trial))[..., None]

    def stopping(inputs: Any) -> tuple[Array, ...]:
        params = map.canonical(cell, inputs)
        state, hs = tuple(inputs[f"{s}0"] for s in cell.state_names), []
        for on, x in zip(going, inputs["x"], strict=True):
            new = cell.step(params, x, state)
            state = tuple(np.where(on, n, s) for n, s in zip(new, state, strict=True))
            hs.append(np.where(on, state[0], 0.0) if map.padding == "zeros" else state[0])
        return (np.stack(hs), *state)[:count]

    def outputs(inputs: Any) -> tuple[Array, ...]:
        state = tuple(inputs[f"{s}0"] for s in cell.state_names)
        run = unroll(cell, map.canonical(cell, inputs), inputs["x"], state, method="tape")
        return (run.outputs, *run.final)[:count]

    return stopping if map.lengths else outputs


class Conformance:
    """A layer, the cell it claims to be, and the trials so far; a trial is run once."""

    def __init__(
        self, subject: Subject, cell: Cell, map: LayerMap, params: Arrays | None = None
    ) -> None:
        self.subject, self.cell, self.map, self.params = subject, cell, map, params
        self.known: dict[Trial, Outcome] = {}
        self.notes: list[str] = []
        self.by_numbers = False  # whether a change of inputs alone is no failure

    def run(self, trial: Trial) -> Outcome:
        """Return the outcome of a trial."""
        if trial not in self.known:
            self.known[trial] = self._run(trial)
        return self.known[trial]

    def fails(self, trial: Trial) -> bool:
        """Return whether a trial fails."""
        o = self.run(trial)
        return bool(o.wrong or o.refusal) if self.by_numbers else o.failed

    def repeats(self, trial: Trial) -> bool:
        """Return whether equal calls on new objects give equal gradients."""
        a, b = (
            {n: np.asarray(g, float) for n, g in self._run(trial).got.items() if g is not None}
            for _ in range(2)
        )
        return all(n in b and np.array_equal(v, b[n], equal_nan=True) for n, v in a.items())

    def _run(self, trial: Trial) -> Outcome:
        inputs = draw(self.cell, self.map, trial, self.params)
        given = {k: np.array(v) if trial.contiguous else strided(v) for k, v in inputs.items()}
        subject = self.subject.anew()
        try:
            if trial.protocol == "after":
                self._other_call(subject, trial, backward=True)
            outputs, form, cache = subject.forward(given, draw_lengths(trial))
            changed = [k for k, v in inputs.items() if not np.array_equal(given[k], v)]
            complaint = self._misshapen(trial, outputs)
            if complaint:
                return Outcome(trial, {"outputs": Wrong(complaint)}, tuple(changed))
            if trial.protocol.startswith("between"):
                self._other_call(subject, trial, backward=False)
            drawn = draw_cotangents(trial, outputs)
            if all(c is None for c in drawn):  # the layer does not return those outputs
                return Outcome(trial)
            d = [
                None if c is None else np.array(c) if trial.contiguous else strided(c)
                for c in drawn
            ]
            got = subject.backward(d, form, cache)
            if trial.protocol == "twice":
                got = subject.backward(d, form, cache)
        except Refusal as refusal:
            return Outcome(trial, refusal=str(refusal))
        changed += [k for k, v in inputs.items() if not np.array_equal(given[k], v)]
        changed += [
            f"d_{name}"
            for name, before, after in zip(OUTPUTS, drawn, d, strict=False)
            if before is not None and after is not None and not np.array_equal(before, after)
        ]
        cell = sized(self.cell, trial)
        precision = max(
            [np.dtype(trial.dtype), *(o.dtype for o in outputs if o.dtype.kind == "f")],
            key=lambda dtype: float(np.finfo(dtype).eps),
        )
        reference = differentiate(
            specification(cell, self.map, trial, len(outputs)), inputs, lambda _: drawn, precision
        )
        wrong = wrong_outputs(outputs, reference, OUTPUTS)
        if not wrong and not set(reference.gradients) & set(got):
            expected = ", ".join(reference.gradients)
            named = ", ".join(map(str, got)) or "none"
            complaint = f"backward must return the gradients {expected}, got {named}"
            return Outcome(trial, refusal=complaint)
        wrong = wrong or wrong_gradients(got, reference)
        side_effects = tuple(dict.fromkeys(changed))
        return Outcome(trial, wrong, side_effects, "", inputs, got, outputs, drawn, reference)

    def _other_call(self, subject: Subject, trial: Trial, backward: bool) -> None:
        longer = 2 if trial.protocol.endswith("longer") else 0
        other = replace(trial, seed=trial.seed + 100, T=trial.T + longer)
        inputs = draw(self.cell, self.map, other, None)
        outputs, form, cache = subject.forward(inputs, draw_lengths(other))
        if backward:
            subject.backward(draw_cotangents(other, outputs), form, cache)

    def _misshapen(self, trial: Trial, outputs: list[Array]) -> str:
        states = self.cell.state_names
        if not 1 <= len(outputs) <= 1 + len(states):
            return (
                f"outputs must be hs or the tuple (hs, {', '.join(f'{s}_T' for s in states)}), "
                f"got {len(outputs)} arrays"
            )
        small = (trial.N, trial.H)
        for name, value in zip(OUTPUTS, outputs, strict=False):
            shape = (trial.T, *small) if name == "hs" else small
            if value.shape != shape:
                one = name == "hs" and value.shape == small
                hint = ". A layer that returns one state only is for check_backward" if one else ""
                return f"{name} must have shape {shape}, got {value.shape}{hint}"
            if value.dtype.kind != "f":
                return f"{name} must hold floats, got {value.dtype}"
        return ""


def wrong_outputs(
    outputs: Sequence[Array], reference: Reference, names: Sequence[str]
) -> dict[str, Wrong]:
    """Return what is wrong with the forward pass, under the name of its first wrong array."""
    for name, got, true in zip(names, outputs, reference.outputs, strict=False):
        wrong = true.wrong(got)
        if wrong.any():
            return {"outputs": _worst(f"{name} is wrong", got, true, wrong)}
    return {}


def wrong_gradients(got: dict[str, Any], reference: Reference) -> dict[str, Wrong]:
    """Return what is wrong with each gradient."""
    found = {}
    for name, true in reference.gradients.items():
        value = got.get(name)
        if value is None:
            unknown = [repr(n) for n in got if n not in reference.gradients]
            but = f", but one of {', '.join(unknown)}" if unknown else ""
            found[name] = Wrong(f"backward returns no gradient {name!r}{but}")
        elif np.shape(value) != true.value.shape:
            found[name] = Wrong(f"its shape must be {true.value.shape}, got {np.shape(value)}")
        else:
            wrong = true.wrong(value)
            if wrong.any():
                found[name] = _worst("differs", value, true, wrong)
    return found


def _worst(reason: str, got: Array, true: Bounded, wrong: Array) -> Wrong:
    with np.errstate(all="ignore"):
        excess = np.where(wrong, np.abs(got - true.value) / true.error, -1.0)
        excess = np.where(np.isnan(excess), np.inf, excess)
        at = np.unravel_index(int(np.argmax(excess)), excess.shape)
        relative = float(np.abs(got[at] - true.value[at]) / np.abs(true.value[at]))
    return Wrong(reason, tuple(int(k) for k in at), float(got[at]), float(true.value[at]), relative)
