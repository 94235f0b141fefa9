"""A failing trial, on which likely mistakes are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.autodiff.tensor import raw
from tinygrad_rnn.check.layer.anatomy import Cut, Names, Replacement, Surgeon
from tinygrad_rnn.check.layer.outcome import Conformance, Outcome
from tinygrad_rnn.check.layer.trials import sized
from tinygrad_rnn.functions import Array

Gradients = dict[str, Array]
Candidate = tuple[str, Callable[["Scene"], Gradients]]
COARSE = 2.0**-16  # relative: what single precision does is less
FREEDOM = 64.0  # a wrong gradient may be a sum of larger terms than the right one


class Scene:
    """A failing trial on which candidates are tried: its inputs, cotangents and gradients."""

    def __init__(self, c: Conformance, outcome: Outcome) -> None:
        assert outcome.reference is not None
        self.map, self.cell = c.map, sized(c.cell, outcome.trial)
        self.inputs, self.outcome = outcome.inputs, outcome
        self.T, self.N = outcome.trial.T, outcome.trial.N
        self.true = {k: v.value for k, v in outcome.reference.gradients.items()}
        self.got = {k: np.asarray(outcome.got.get(k, np.nan), float) for k in self.true}
        self.digits = {
            k: FREEDOM * np.max(v.error) / max(float(np.max(np.abs(v.value))), np.finfo(float).tiny)
            for k, v in outcome.reference.gradients.items()
        }
        self.params = [k for k in self.true if k in c.map.shapes(self.cell)]
        self.surgeon = Surgeon(self.cell)
        self.outputs(self.inputs, self.surgeon)
        self.clean: list[Names] = self.surgeon.names
        self.pulls: list[Any] = []  # of the single steps, for those who need them

    def same(self, name: str, predicted: Array) -> bool:
        """Return whether the layer's gradient is the predicted one, up to rounding."""
        got = self.got[name]
        if got.shape != np.shape(predicted) or not np.isfinite(predicted).all():
            return False
        return bool(
            np.max(np.abs(got - predicted)) <= self.digits[name] * np.max(np.abs(predicted))
        )

    def explained_by(self, candidate: Callable[[Scene], Gradients]) -> bool:
        """Return whether a candidate gives the layer's gradient in every array."""
        with np.errstate(all="ignore"):
            predicted = candidate(self)
            return all(self.same(name, predicted[name]) for name in self.got)

    def outputs(
        self,
        inputs: Any,
        surgeon: Surgeon,
        carry: Callable[[int, str, Array], Array] = lambda t, name, value: value,
        weights: Callable[[int, str, Array], Array] = lambda t, name, value: value,
    ) -> list[Array]:
        """Run the cell; ``carry`` may change the states on the way, ``weights`` the parameters."""
        state = tuple(inputs[f"{s}0"] for s in self.cell.state_names)
        hs = []
        for t in range(len(raw(inputs["x"]))):
            own = {k: weights(t, k, inputs[k]) for k in self.params}
            state = tuple(carry(t, s, v) for s, v in zip(self.cell.state_names, state, strict=True))
            state = surgeon.step(self.map.canonical(self.cell, own), inputs["x"][t], state)
            hs.append(state[0])
        return [np.stack(hs), *state][: len(self.outcome.outputs)]

    def gradient(
        self,
        cut: Cut | None = None,
        d: Any = None,
        other_reset: bool = False,
        order: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Gradients:
        """Return the gradient with a cut, with other cotangents ``d``, or with changed states."""
        surgeon = Surgeon(self.cell, cut, self.clean, other_reset=other_reset, order=order or {})
        inputs = {k: np.asarray(v, float) for k, v in self.inputs.items()}
        _, pull = vjp(lambda v: self.outputs(v, surgeon, **changes), inputs)
        found: Gradients = pull([np.asarray(a, float) for a in d or self.cotangents()])[0]
        return found

    def cotangents(self) -> list[Array]:
        """Return the trial's cotangents, zero for None."""
        return [
            np.zeros(o.shape) if c is None else np.asarray(c, float)
            for o, c in zip(self.outcome.outputs, self.outcome.cotangents, strict=True)
        ]


def cut(places: str | Iterable[str], text: str, by: Replacement) -> Candidate:
    """Return the mistake that replaces the derivative at some places of the step."""
    at = dict.fromkeys([places] if isinstance(places, str) else places, by)
    return text, lambda s: s.gradient(Cut(at))
