"""The likely mistake of a backward pass of which only the inputs and outputs are known.

A candidate is a complete gradient with one mistake in it, as in
:mod:`tinygrad_rnn.check.layer.mistakes`; it is named if it gives the numbers on two inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_rnn.check.layer.arrays import on_any_arrays
from tinygrad_rnn.check.layer.layout import other_padding
from tinygrad_rnn.check.layer.outcome import OUTPUTS, Conformance, Outcome, specification
from tinygrad_rnn.check.layer.probe import Probe
from tinygrad_rnn.check.layer.rounding import Reference, differentiate
from tinygrad_rnn.check.layer.scene import FREEDOM
from tinygrad_rnn.check.layer.subject import Refusal
from tinygrad_rnn.check.layer.trials import Trial, draw_lengths, sized
from tinygrad_rnn.functions import Array

Arrays = dict[str, Array]
Cotangents = Sequence[Array | None]
Candidate = tuple[str, Callable[["Call"], Mapping[str, Array]]]


@dataclass
class Call:
    """One call of a backward pass: what it got, what it gave, and what it had to give.

    ``again`` is the backward pass itself, ``truth`` the right gradient, for other cotangents.
    """

    inputs: Arrays
    cotangents: Cotangents
    got: Arrays
    true: Reference
    again: Callable[[Cotangents], Arrays]
    truth: Callable[[Cotangents], Arrays]

    def __post_init__(self) -> None:
        self.right = {n: g.value for n, g in self.true.gradients.items()}

    def near(self, name: str, a: Array, b: Array) -> bool:
        """Return whether two gradients by an input differ by rounding only."""
        bound = self.true.gradients[name]
        most = float(np.max(np.abs(bound.value), initial=0)) or 1.0
        digits = FREEDOM * float(np.max(bound.error, initial=0)) / most
        size = max(float(np.max(np.abs(v), initial=0)) for v in (a, b))
        return a.shape == b.shape and bool(np.max(np.abs(a - b), initial=0) <= digits * size)

    def explained_by(self, candidate: Callable[[Call], Mapping[str, Array]]) -> bool:
        """Return whether a candidate gives every gradient."""
        predicted = candidate(self)
        return all(self.near(n, self.got[n], np.asarray(predicted[n])) for n in self.right)


def likely_mistakes(calls: Sequence[Call], culprits: list[str]) -> list[str]:
    """Return what explains the numbers of all calls."""
    if not all(
        c.got[n].shape == v.shape and np.isfinite(c.got[n]).all()
        for c in calls
        for n, v in c.right.items()
    ):
        return []
    if all(c.explained_by(lambda s: s.right) for c in calls):
        return []  # as far as these numbers are known
    for text, candidate in _candidates(calls[0], culprits):
        if all(c.explained_by(candidate) for c in calls):
            return [text]
    observed = [_observations(c, culprits) for c in calls]
    return observed[0] if all(o == observed[0] for o in observed) else []


def likely_mistakes_with_lengths(c: Conformance, witness: Trial) -> list[str]:
    """Return what explains a layer of a cell, of which the lengths leave no simple step."""
    outcomes = [c.run(replace(witness, seed=witness.seed + k)) for k in (0, 1)]
    if any(o.reference is None or not o.wrong for o in outcomes):
        return []
    try:
        calls = [_call(c, o) for o in outcomes]
        found = likely_mistakes(calls, list(outcomes[0].wrong))
        found = found or _after_the_end(c, [o.trial for o in outcomes], calls)
    except Refusal:
        return []
    for k, name in enumerate(OUTPUTS):
        found = [text.replace(f"outputs[{k}]", name) for text in found]
    return found


def _after_the_end(c: Conformance, trials: Sequence[Trial], calls: Sequence[Call]) -> list[str]:
    """Say what is wrong with the steps after a sequence's end."""
    map = replace(c.map, padding=other_padding(c.map))
    references = [Conformance(c.subject, c.cell, map, c.params).run(t).reference for t in trials]
    for s, reference in zip(calls, references, strict=True):
        gradients = reference.gradients if reference else {}
        if not all(n in gradients and s.near(n, v, gradients[n].value) for n, v in s.got.items()):
            break
    else:
        how = {"zeros": "used, though hs is zero there", "state": "ignored"}[c.map.padding]
        return [f"the cotangents of hs after a sequence's end are {how}"]
    for s in calls:
        over = np.arange(len(s.right["x"]))[:, None] >= s.inputs[c.map.lengths]
        if s.got["x"].shape != s.right["x"].shape or not np.any(np.abs(s.got["x"][over]) > 0):
            return []
    return ["∂L/∂x is not zero after a sequence's end: the backward pass needs the mask too"]


def _call(c: Conformance, o: Outcome) -> Call:
    probe, trial = Probe(c, o.trial), o.trial
    spec = specification(sized(c.cell, trial), c.map, trial, len(o.outputs))

    def full(d: Cotangents) -> list[Array]:
        return [
            np.zeros(y.shape) if v is None else np.asarray(v)
            for v, y in zip(d, o.outputs, strict=True)
        ]

    def truth(d: Cotangents) -> Arrays:
        found = differentiate(spec, o.inputs, lambda _: full(d), np.dtype(float))
        return {n: g.value for n, g in found.gradients.items()}

    assert o.reference is not None
    got = {n: np.asarray(o.got.get(n, np.nan), float) for n in o.reference.gradients}
    inputs = o.inputs | {c.map.lengths: draw_lengths(trial)}
    again = lambda d: probe.gradient(o.inputs, full(d))  # noqa: E731
    return Call(inputs, o.cotangents, got, o.reference, again, truth)


def _candidates(c: Call, culprits: list[str]) -> Iterator[Candidate]:
    for k in range(len(c.cotangents)):
        yield f"the cotangent of outputs[{k}] is taken for 1", _with_cotangent(k, np.ones_like)
    yield from _on_arrays(c, culprits)
    yield from _on_cotangents(c)


def _with_cotangent(
    k: int, change: Callable[[Array], Array]
) -> Callable[[Call], Mapping[str, Array]]:
    def candidate(s: Call) -> Mapping[str, Array]:
        d = list(s.cotangents)
        v = d[k]
        d[k] = None if v is None else change(v)
        return s.truth(d)

    return candidate


def _on_arrays(c: Call, culprits: list[str]) -> Iterator[Candidate]:
    names = ", ".join(f"∂L/∂{n}" for n in culprits)

    def each(change: Callable[[Array], Array]) -> Callable[[Call], Mapping[str, Array]]:
        return lambda s: s.right | {n: change(s.right[n]) for n in culprits}

    for text, change in on_any_arrays(c.got, c.right, culprits):
        yield text, lambda s, f=change: f(s.right)  # type: ignore[misc]
    if len(culprits) > 1:
        return
    (culprit,) = culprits
    for axis in range(c.right[culprit].ndim):
        where = f"along its axis {axis}"
        yield f"{names} is reversed {where}", each(lambda v, a=axis: np.flip(v, a))  # type: ignore[misc]
        yield (
            f"{names} is summed {where}",
            each(lambda v, a=axis: np.broadcast_to(v.sum(a, keepdims=True), v.shape)),  # type: ignore[misc]
        )
        for by in (1, -1):
            yield (
                f"{names} is shifted by {by} {where}",
                each(lambda v, a=axis, k=by: np.roll(v, k, a)),  # type: ignore[misc]
            )
    if c.right[culprit].ndim == 2 and len(set(c.right[culprit].shape)) == 1:
        yield f"{names} is transposed", each(np.transpose)


def _on_cotangents(c: Call) -> Iterator[Candidate]:
    """Treat the cotangents of the outputs in another way."""
    shapes = [() if v is None else v.shape for v in c.cotangents]
    for k, shape in enumerate(shapes):
        of = f"the cotangent of outputs[{k}]"
        yield f"{of} is ignored", _with_cotangent(k, lambda v: 0 * v)
        yield f"{of} is used twice", _with_cotangent(k, lambda v: 2 * v)
        for axis in range(len(shape)):
            where = f"along its axis {axis}"
            yield f"{of} is reversed {where}", _with_cotangent(k, lambda v, a=axis: np.flip(v, a))  # type: ignore[misc]
            marks = {
                name: a == a.max()
                for name, a in c.inputs.items()
                if a.dtype.kind in "iu" and a.shape == shape[axis : axis + 1] and a.size
            }
            for which, at in (("last", -1), ("first", 0)):
                also = [
                    f", where {n} is greatest" for n, m in marks.items() if m[at] and sum(m) == 1
                ]
                yield (
                    f"of {of} only the {which} slice {where} is used{''.join(also)}",
                    _with_cotangent(k, lambda v, a=axis, at=at: _only(v, a, at)),  # type: ignore[misc]
                )
            for name in marks:
                yield f"{of} is used only where {name} is greatest", _where_greatest(k, axis, name)
        for j in range(k):
            if shapes[j] == shape:
                yield (
                    f"the cotangents of outputs[{j}] and outputs[{k}] are exchanged",
                    lambda s, j=j, k=k: s.truth(_exchanged(s.cotangents, j, k)),  # type: ignore[misc]
                )


def _where_greatest(k: int, axis: int, name: str) -> Callable[[Call], Mapping[str, Array]]:
    def candidate(s: Call) -> Mapping[str, Array]:
        a = s.inputs[name]

        def masked(v: Array) -> Array:
            return v * (a == a.max()).reshape(-1, *[1] * (v.ndim - axis - 1))

        return _with_cotangent(k, masked)(s)

    return candidate


def _only(v: Array, axis: int, at: int) -> Array:
    kept = np.zeros_like(v)
    np.moveaxis(kept, axis, 0)[at] = np.moveaxis(v, axis, 0)[at]
    return kept


def _exchanged(d: Cotangents, j: int, k: int) -> Cotangents:
    changed = list(d)
    changed[j], changed[k] = d[k], d[j]
    return changed


def _observations(c: Call, culprits: list[str]) -> list[str]:
    """Return which laws of a gradient are broken, or which rows of it are wrong."""

    def times(k: float) -> Arrays:
        return c.again([None if v is None else k * np.asarray(v) for v in c.cotangents])

    zero, larger = times(0.0), times(2.0**10)
    added = [n for n in c.right if np.any(zero[n])]
    if added:
        names = ", ".join(f"∂L/∂{n}" for n in added)
        return [f"{names} is not zero for cotangents of zero: something is added to it"]
    bent = [n for n in c.right if not c.near(n, larger[n], 2.0**10 * c.got[n])]
    if bent:
        names = ", ".join(f"∂L/∂{n}" for n in bent)
        most = {f"{np.max(np.abs(larger[n])):.6g}" for n in bent}
        if len(most) == 1:
            return [f"{names} never exceeds ±{most.pop()}: something is clipped"]
        return [f"backward is not linear in the cotangent, in {names}"]
    return _rows(c, culprits[0]) if len(culprits) == 1 else []


def _rows(c: Call, culprit: str) -> list[str]:
    """Say whether the wrong rows are those which an input of integers names more than once."""
    v = c.true.gradients[culprit]
    wrong = set(np.flatnonzero(v.wrong(c.got[culprit]).reshape(len(v.value), -1).any(axis=1)))
    for name, indices in c.inputs.items():
        if indices.dtype.kind in "iu" and indices.size and indices.max() < len(v.value):
            rows, counts = np.unique(indices, return_counts=True)
            if wrong <= set(rows[counts > 1]) and (counts == 1).any():
                return [
                    f"only rows of ∂L/∂{culprit} that {name} names more than once are wrong: "
                    "their terms must be added up, as by np.add.at"
                ]
    return []
