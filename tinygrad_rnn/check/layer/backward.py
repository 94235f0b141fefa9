"""Checking the backward pass of anything that is not one cell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinygrad_rnn.check.layer.outcome import Wrong, wrong_gradients, wrong_outputs
from tinygrad_rnn.check.layer.report import LayerReport
from tinygrad_rnn.check.layer.rounding import differentiate
from tinygrad_rnn.check.layer.subject import strided
from tinygrad_rnn.functions import Array


@dataclass(frozen=True)
class _Case:
    """One way to call: ``only`` one output has a cotangent, at one ``step`` of its axis 0."""

    values: str = "given"
    only: int | None = None
    step: int | None = None
    dtype: str | None = None
    contiguous: bool = True
    protocol: str = "once"
    scale: float = 1.0

    def __str__(self) -> str:
        special = [
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if value != getattr(_Case, name)
        ]
        return ", ".join(special) or "the inputs as given"


@dataclass
class _Found:
    wrong: dict[str, Wrong] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    refusal: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.wrong or self.changed or self.refusal)


def check_backward(
    run: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Array],
    *,
    reference: Callable[..., Any],
    wrt: Sequence[str] | None = None,
    rng: int = 0,
) -> LayerReport:
    """Check a backward pass against a specification in plain NumPy, and name the wrong gradient.

    This is for stacks, bidirectional layers, masks, dropout with a given mask, heads, losses: what
    is not one cell (see :func:`check_layer`). The specification is differentiated by the engine in
    float64, with a bound for every entry on what rounding may do in the precision of the inputs.
    The inputs are taken as given, near by, in float32, and not contiguous; cotangents come on all
    outputs, on one, and at one step; calls are repeated and interleaved.

    Parameters
    ----------
    run
        ``run(inputs) -> (outputs, cache)``, a tuple of arrays and anything.
    backward
        ``backward(d_outputs, cache) -> dict``. An entry of the tuple ``d_outputs`` may be None.
    inputs
        Arrays by name. Those of integers and booleans are constants.
    reference
        ``reference(inputs) -> outputs`` in plain NumPy: the specification. For what is not a
        derivative, such as a truncated window, it cannot be written as one; compare with
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
        If a name in ``wrt`` is not that of a float array.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> def run(v):
    ...     return (np.tanh(v["x"] @ v["W"]),), v
    >>> def backward(d, v):
    ...     g = d[0] * (1 - np.tanh(v["x"] @ v["W"]) ** 2)
    ...     return {"x": g @ v["W"].T, "W": v["x"].T @ g[:1]}
    >>> inputs = {"x": np.ones((3, 1)), "W": np.ones((1, 2))}
    >>> report = tg.check_backward(run, backward, inputs, reference=lambda v: (
    ...     np.tanh(v["x"] @ v["W"]),))
    >>> report.verdict
    'REFUTED'
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
    reference: Callable[..., Any]
    names: list[str]
    seed: int
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def report(self) -> LayerReport:
        self.shapes = [np.shape(o) for o in self.reference(self._drawn(_Case()))]
        found = {case: self.find(case) for case in self._cases()}
        failed = {case: f for case, f in found.items() if f.failed}
        if not failed:
            return LayerReport("CONSISTENT", trials=len(found))
        wrong: dict[str, tuple[Wrong, _Case]] = {}
        for case, f in failed.items():
            for name, what in f.wrong.items():
                wrong.setdefault(name, (what, case))
        if "outputs" in wrong:
            wrong = {"outputs": wrong["outputs"]}
        first = min(
            failed, key=lambda case: sum(v != getattr(_Case, n) for n, v in vars(case).items())
        )
        return LayerReport(
            "REFUTED",
            [n for n in (*self.names, "outputs") if n in wrong],
            self._first_step(first) if "outputs" not in wrong else None,
            self._conditions(first, list(failed.values())),
            [],
            {name: what.describe(str(case)) for name, (what, case) in wrong.items()},
            len(found),
            [str(case) for case in failed],
            [f"{f.refusal}, at {case}" for case, f in failed.items() if f.refusal][:1],
        )

    def _cases(self) -> Iterator[_Case]:
        yield _Case()
        yield _Case(values="near by")
        for protocol in ("twice", "between"):
            yield _Case(protocol=protocol)
        for k in range(len(self.shapes)) if len(self.shapes) > 1 else ():
            yield _Case(only=k)
        yield from (_Case(only=0, step=s) for s in self._steps())
        yield _Case(contiguous=False)
        yield _Case(scale=2.0**10)
        yield _Case(scale=2.0**-40)
        yield _Case(dtype="float32")

    def _steps(self) -> range:
        return range(1, 1 + (self.shapes[0][0] if len(self.shapes[0]) > 1 else 0))

    def _drawn(self, case: _Case) -> dict[str, Array]:
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

    def _cotangents(self, case: _Case, outputs: Sequence[Array]) -> list[Array | None]:
        rng = np.random.default_rng([self.seed, 1])
        drawn: list[Array | None] = []
        for k, o in enumerate(outputs):
            d = rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1.0, 1.0], o.shape)
            if case.step is not None and k == 0:
                d[: case.step - 1] = d[case.step :] = 0
            d = np.asarray(case.scale * np.asarray(d, o.dtype), o.dtype)
            drawn.append(d if case.only in (None, k) else None)
        return drawn

    def find(self, case: _Case) -> _Found:
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
        except Exception as error:  # whatever the code under test does wrong
            return _Found(refusal=f"it raises {type(error).__name__}: {error}")
        changed = [k for k, a in drawn.items() if not np.array_equal(given[k], a)]
        pairs = [(a, b) for a, b in zip(drawn_d, d, strict=True) if a is not None and b is not None]
        if not all(np.array_equal(a, b) for a, b in pairs):
            changed.append("d_outputs")
        dtypes = [o.dtype for o in outputs] + [drawn[n].dtype for n in self.names]
        precision = max(dtypes, key=lambda dtype: float(np.finfo(dtype).eps))
        constants = {k: a for k, a in drawn.items() if k not in self.names}
        true = differentiate(
            lambda v: self.reference({**constants, **v}),
            {n: drawn[n] for n in self.names},
            lambda _: drawn_d,
            precision,
        )
        labels = [f"outputs[{k}]" for k in range(len(outputs))]
        wrong = wrong_outputs(outputs, true, labels) or wrong_gradients(dict(got), true)
        return _Found(wrong, changed)

    def _first_step(self, case: _Case) -> int | None:
        for s in self._steps():
            if self.find(replace(case, only=0, step=s)).wrong:
                return s
        return None

    def _conditions(self, first: _Case, failed: Sequence[_Found]) -> list[str]:
        changed = sorted({name for f in failed for name in f.changed})
        found = [f"its inputs are changed in place: {', '.join(changed)}"] if changed else []
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
        if first == _Case() and len(self.shapes) > 1:
            alone = [k for k in range(len(self.shapes)) if self.find(_Case(only=k)).failed]
            if len(alone) == 1:
                found.append(f"only with a cotangent on outputs[{alone[0]}]")
        return found
