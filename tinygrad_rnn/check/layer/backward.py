"""Checking the backward pass of anything that is not one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinygrad_rnn.check.layer.cases import Case, described
from tinygrad_rnn.check.layer.outcome import Wrong, wrong_gradients, wrong_outputs
from tinygrad_rnn.check.layer.report import LayerReport
from tinygrad_rnn.check.layer.rounding import Reference, differentiate
from tinygrad_rnn.check.layer.subject import strided
from tinygrad_rnn.check.layer.unaided import Jacobian
from tinygrad_rnn.check.layer.whole import Call, likely_mistakes
from tinygrad_rnn.functions import Array


@dataclass
class _Found:
    wrong: dict[str, Wrong] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    refusal: str = ""
    unseen: list[str] = field(default_factory=list)
    call: Call | None = None

    @property
    def failed(self) -> bool:
        return bool(self.wrong or self.changed or self.refusal)


def check_backward(
    run: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Array],
    *,
    reference: Callable[..., Any] | None = None,
    wrt: Sequence[str] | None = None,
    rng: int = 0,
) -> LayerReport:
    """Check a backward pass against a specification, and name the wrong gradient.

    This is for stacks, bidirectional layers, masks, dropout with a given mask, heads, losses: what
    is not one cell (see :func:`check_layer`). The specification is plain NumPy, differentiated by
    the engine in float64, with a bound for every entry on what rounding may do in the precision of
    the inputs.
    The inputs are taken as given, near by, in float32, and not contiguous; cotangents come on all
    outputs, on one, and at one step; calls are repeated and interleaved.

    Parameters
    ----------
    run
        ``run(inputs) -> (outputs, cache)``, a tuple of arrays and anything: a single output y is
        ``(y,)``.
    backward
        ``backward(d_outputs, cache) -> dict``. An entry of the tuple ``d_outputs`` may be None.
    inputs
        Arrays by name. Those of integers and booleans are constants.
    reference
        ``reference(inputs) -> outputs`` in plain NumPy: the specification. Without it, ``run`` is:
        differentiated by the engine if it is plain NumPy, else measured by the complex step or by
        difference quotients, in float64, as precisely as these allow; a note says which. For what
        is not a derivative, such as a truncated window, neither can say anything; compare with
        :func:`tinygrad_rnn.bptt` or :mod:`tinygrad_rnn.clip` instead.
    wrt
        Which inputs have a gradient; all floats, if left out.
    rng
        The seed of all randomness.

    Raises
    ------
    ValueError
        If there is nothing to differentiate by.
    TypeError
        If a name in ``wrt`` is not that of a float array, or if ``run`` or ``reference`` returns
        something else than a tuple of outputs.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> def run(v):
    ...     return (np.tanh(v["x"] @ v["W"]),), v
    >>> def backward(d, v):
    ...     g = d[0] * (1 - np.tanh(v["x"] @ v["W"]) ** 2)
    ...     return {"x": g @ v["W"].T, "W": v["x"][:1].T @ g[:1]}
    >>> inputs = {"x": np.ones((3, 1)), "W": np.ones((1, 2))}
    >>> report = tg.check_backward(run, backward, inputs, reference=lambda v: (
    ...     np.tanh(v["x"] @ v["W"]),))
    >>> report.verdict, report.culprits
    ('REFUTED', ['W'])
    """
    arrays = {name: np.asarray(a) for name, a in inputs.items()}
    floats = [name for name, a in arrays.items() if a.dtype.kind == "f"]
    names = list(floats if wrt is None else wrt)
    if not names:
        raise ValueError("inputs must hold at least one array of floats to differentiate by.")
    if unknown := [n for n in names if n not in floats]:
        raise TypeError(f"wrt names {unknown}, which are not arrays of floats among the inputs.")
    check = _Check(run, backward, arrays, reference, names, rng)
    return check.report()


@dataclass
class _Check:
    run: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: dict[str, Array]
    reference: Callable[..., Any] | None
    names: list[str]
    seed: int
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    jacobians: dict[str, Jacobian] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def report(self) -> LayerReport:
        try:
            made = self.run(self._drawn(Case()))
        except Exception as error:  # whatever the code under test does wrong
            return LayerReport(
                "INCONCLUSIVE", notes=[f"run raises {type(error).__name__}: {error}"]
            )
        if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], (tuple, list)):
            raise TypeError(f"run must return (outputs,), cache, got {described(made)}.")
        if self.reference is None and self._is_plain_numpy():
            self.reference = self._outputs
            self.notes.append("the specification is the forward pass itself")
        outputs = made[0] if self.reference is None else self.reference(self._drawn(Case()))
        if not isinstance(outputs, (tuple, list)):
            raise TypeError(f"reference must return (outputs,), got {described(outputs)}.")
        self.shapes = [np.shape(o) for o in outputs]
        found = {case: self.find(case) for case in self._cases()}
        failed = {case: f for case, f in found.items() if f.failed}
        if all(f.refusal for f in found.values()):
            why = f"no gradient came that could be refuted: {found[Case()].refusal}"
            return LayerReport("INCONCLUSIVE", trials=len(found), notes=[why, *self.notes])
        self.notes += [
            f"the specification is the forward pass itself, by {how}: give reference= for more"
            for how in {j.how for j in self.jacobians.values()}
        ]
        if not failed:
            unseen = found[Case()].unseen
            self.notes += [f"differences cannot see the gradient of {name}" for name in unseen]
            verdict = "INCONCLUSIVE" if unseen else "CONSISTENT"
            return LayerReport(verdict, trials=len(found), notes=self.notes)
        wrong: dict[str, tuple[Wrong, Case]] = {}
        for case, f in failed.items():
            for name, what in f.wrong.items():
                wrong.setdefault(name, (what, case))
        if "outputs" in wrong:
            wrong = {"outputs": wrong["outputs"]}
        numbers = [case for case, f in failed.items() if f.wrong or f.refusal] or list(failed)
        first = min(
            numbers, key=lambda case: sum(v != getattr(Case, n) for n, v in vars(case).items())
        )
        remembers = (first != Case() and self.find(Case()).failed) or not self._repeats(first)
        return LayerReport(
            "REFUTED",
            [n for n in (*self.names, "outputs") if n in wrong],
            self._first_step(first) if "outputs" not in wrong else None,
            self._conditions(first, list(failed.values()), remembers),
            [] if "outputs" in wrong or remembers else self._mistakes(first),
            {name: what.describe(str(case)) for name, (what, case) in wrong.items()},
            len(found),
            [str(case) for case in failed],
            [f"{f.refusal}, at {case}" for case, f in failed.items() if f.refusal][:1] + self.notes,
        )

    def _outputs(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(self.run(inputs)[0])

    def _is_plain_numpy(self) -> bool:
        """Whether the engine can differentiate the forward pass."""
        drawn = self._drawn(Case())
        try:
            outputs = [np.asarray(o) for o in self._outputs(drawn)]
            cotangents = self._cotangents(Case(), outputs)
            true = self._by_engine(self._outputs, drawn, cotangents, outputs)
        except Exception:  # whatever code does when it meets Tensors
            return False
        reached = any(np.any(g.value != 0) for g in true.gradients.values())
        return reached and not wrong_outputs(outputs, true, [""] * len(outputs))

    def _cases(self) -> Iterator[Case]:
        yield Case()
        yield Case(values="near by")
        for protocol in ("twice", "between"):
            yield Case(protocol=protocol)
        for k in range(len(self.shapes)) if len(self.shapes) > 1 else ():
            yield Case(only=k)
        yield from (Case(only=0, row=k) for k in self._rows())
        yield Case(contiguous=False)
        yield Case(scale=2.0**10)
        yield Case(scale=2.0**-40)
        if self.reference is not None:  # differences have errors of their own, far above these
            yield Case(dtype="float32")

    def _rows(self) -> range:
        return range(1, 1 + (self.shapes[0][0] if len(self.shapes[0]) > 1 else 0))

    def _drawn(self, case: Case) -> dict[str, Array]:
        rng = np.random.default_rng(self.seed)
        drawn = dict(self.inputs)
        for name in self.names:
            a = drawn[name].astype(case.dtype or drawn[name].dtype)
            if case.values != "given":
                a = a * rng.uniform(0.5, 1.5, a.shape).astype(a.dtype)
            drawn[name] = a
        for name, a in drawn.items():
            if a.dtype.kind == "f" and case.dtype:
                drawn[name] = a.astype(case.dtype)
        return drawn

    def _cotangents(self, case: Case, outputs: Sequence[Array]) -> list[Array | None]:
        rng = np.random.default_rng([self.seed, 1])
        drawn: list[Array | None] = []
        for k, o in enumerate(outputs):
            d = rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1.0, 1.0], o.shape)
            if case.row is not None and k == 0:
                d[: case.row - 1] = d[case.row :] = 0
            d = np.asarray(case.scale * np.asarray(d, o.dtype), o.dtype)
            drawn.append(d if case.only in (None, k) else None)
        return drawn

    def find(self, case: Case) -> _Found:
        """Call once, and compare."""
        drawn = self._drawn(case)
        given = {
            k: np.array(a) if case.contiguous or not a.ndim else strided(a)
            for k, a in drawn.items()
        }
        try:
            with np.errstate(all="ignore"):
                outputs, cache = self.run(given)
                outputs = [np.asarray(o) for o in outputs]
                if [o.shape for o in outputs] != self.shapes:
                    shapes = [o.shape for o in outputs]
                    what = f"the outputs must have the shapes {self.shapes}, got {shapes}"
                    return _Found({"outputs": Wrong(what)})
                if case.protocol == "between":
                    self.run(self._drawn(replace(case, values="near by")))
                drawn_d = self._cotangents(case, outputs)
                d = tuple(None if c is None else np.array(c) for c in drawn_d)
                got = self.backward(d, cache)
                if case.protocol == "twice":
                    got = self.backward(d, cache)
            if not isinstance(got, Mapping):
                return _Found(refusal=f"backward must return a dict, got {type(got).__name__}")
        except Exception as error:  # whatever the code under test does wrong
            return _Found(refusal=f"it raises {type(error).__name__}: {error}")
        changed = [k for k, a in drawn.items() if not np.array_equal(given[k], a)]
        pairs = [(a, b) for a, b in zip(drawn_d, d, strict=True) if a is not None and b is not None]
        if not all(np.array_equal(a, b) for a, b in pairs):
            changed.append("d_outputs")
        if self.reference is None:
            try:
                true = self._by_differences(case, drawn, drawn_d, dict(got))
            except Exception as error:  # whatever the code under test does wrong
                what = f"{type(error).__name__}: {error}"
                return _Found(refusal=f"near the inputs, where it is measured, it raises {what}")
        else:
            true = self._by_engine(self.reference, drawn, drawn_d, outputs)
        labels = [f"outputs[{k}]" for k in range(len(outputs))]
        wrong = wrong_outputs(outputs, true, labels)
        if not wrong and not set(self.names) & set(got):
            expected, named = ", ".join(self.names), ", ".join(map(str, got)) or "none"
            complaint = f"backward must return the gradients {expected}, got {named}"
            return _Found(refusal=complaint)
        wrong = wrong or wrong_gradients(dict(got), true)
        unseen = [
            name
            for name, g in true.gradients.items()
            if self.reference is None
            and np.any(got.get(name))
            and (np.abs(g.value) <= g.error).all()
        ]
        known = Reference([], {n: true.gradients[n] for n in self.names})
        call = Call(
            drawn,
            drawn_d,
            self._arrays(got),
            known,
            lambda d: self._arrays(self.backward(tuple(d), self.run(drawn)[1])),
            lambda d: self._true_for(case, drawn, d, outputs),
        )
        return _Found(wrong, changed, unseen=unseen, call=call)

    def _arrays(self, got: Mapping[str, Array]) -> dict[str, Array]:
        """Return the gradients as floats; what is none is NaN."""
        found = {n: np.asarray(got.get(n, np.nan)) for n in self.names}
        nothing = np.full((), np.nan)
        return {n: a.astype(float) if a.dtype.kind in "fiu" else nothing for n, a in found.items()}

    def _true_for(
        self,
        case: Case,
        drawn: dict[str, Array],
        cotangents: Sequence[Array | None],
        outputs: Sequence[Array],
    ) -> dict[str, Array]:
        if self.reference is None:
            true = self.jacobians[case.values].reference(cotangents, [])
        else:
            true = self._by_engine(self.reference, drawn, cotangents, outputs)
        return {n: true.gradients[n].value for n in self.names}

    def _by_engine(
        self,
        f: Callable[..., Any],
        drawn: dict[str, Array],
        cotangents: Sequence[Array | None],
        outputs: Sequence[Array],
    ) -> Reference:
        dtypes = [o.dtype for o in outputs] + [drawn[n].dtype for n in self.names]
        precision = max(dtypes, key=lambda dtype: float(np.finfo(dtype).eps))
        constants = {k: a for k, a in drawn.items() if k not in self.names}
        chosen = {n: drawn[n] for n in self.names}
        return differentiate(
            lambda v: f({**constants, **v}), chosen, lambda _: cotangents, precision
        )

    def _by_differences(
        self,
        case: Case,
        drawn: dict[str, Array],
        cotangents: Sequence[Array | None],
        got: dict[str, Array],
    ) -> Reference:
        if case.values not in self.jacobians:
            self.jacobians[case.values] = Jacobian(self._outputs, drawn, self.names)
        J = self.jacobians[case.values]
        close = [dict(self.backward(tuple(cotangents), self.run(v)[1])) for v in J.close_by()]
        return J.reference(cotangents, [got, *close])

    def _first_step(self, case: Case) -> int | None:
        if not self._has_steps():
            return None
        for s in self._rows():
            if self.find(replace(case, only=0, row=s)).wrong:
                return s
        return None

    def _has_steps(self) -> bool:
        """Whether axis 0 of the first output is time: that of an x (T, N, D), and N after it."""
        x = np.shape(self.inputs.get("x", 0.0))
        return len(x) == 3 and x[:2] == self.shapes[0][:2]

    def _repeats(self, case: Case) -> bool:
        a, b = (self.find(case).call for _ in range(2))
        return (
            a is None
            or b is None
            or all(np.array_equal(a.got[n], b.got[n], equal_nan=True) for n in self.names)
        )

    def _mistakes(self, first: Case) -> list[str]:
        found = [self.find(replace(first, values=v)) for v in ("given", "near by")]
        calls = [f.call for f in found if f.call is not None]
        if len(calls) < len(found) or not found[0].wrong:
            return []
        try:
            return likely_mistakes(calls, list(found[0].wrong))
        except Exception:  # whatever the code under test does with other cotangents
            return []

    def _conditions(self, first: Case, failed: Sequence[_Found], remembers: bool) -> list[str]:
        changed = sorted({name for f in failed for name in f.changed})
        found = [f"its inputs are changed in place: {', '.join(changed)}"] if changed else []
        if remembers:
            return [*found, "only on the second call: equal calls give different gradients"]
        if first.protocol != "once":
            when = (
                "backward is called twice"
                if first.protocol == "twice"
                else "another run is between"
            )
            found.append(f"only on the second call: when {when}")
        if first.dtype:
            found.append(f"only {first.dtype}")
        if not first.contiguous:
            found.append("only for arrays that are not contiguous")
        if first.scale != 1:
            found.append(f"only for {'large' if first.scale > 1 else 'small'} cotangents")
        if first == Case() and len(self.shapes) > 1:
            alone = [k for k in range(len(self.shapes)) if self.find(Case(only=k)).failed]
            if len(alone) == 1:
                found.append(f"only with a cotangent on outputs[{alone[0]}]")
        return found
