"""Checking a recurrent layer against the cell that it claims to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_rnn.cells import Cell
from tinygrad_rnn.check.layer.conditions import LONGEST_SCAN, conditions, first_wrong_step
from tinygrad_rnn.check.layer.declared import declared_otherwise
from tinygrad_rnn.check.layer.forward import likely_forward_mistakes
from tinygrad_rnn.check.layer.layout import LayerMap, as_map
from tinygrad_rnn.check.layer.mistakes import likely_mistakes
from tinygrad_rnn.check.layer.outcome import Conformance, Outcome
from tinygrad_rnn.check.layer.report import LayerReport
from tinygrad_rnn.check.layer.subject import Subject
from tinygrad_rnn.check.layer.trials import BUDGETS, Trial, battery, draw
from tinygrad_rnn.check.layer.whole import likely_mistakes_with_lengths
from tinygrad_rnn.functions import Array


def check_layer(
    layer: Any,
    cell: Cell,
    *,
    params: Mapping[str, Array] | None = None,
    map: LayerMap | Mapping[str, Any] | None = None,
    rng: int = 0,
    budget: str = "default",
) -> LayerReport:
    """Check anybody's recurrent layer against a cell, and name the wrong gradient.

    The layer is called on inputs that are designed to bring mistakes to light: sizes that differ
    from each other and degenerate ones, random initial states, cotangents on all outputs or on
    one, at all steps or at one, saturated and badly scaled weights, float32, repeated calls, …
    Its outputs and gradients are compared with the unrolled cell and its gradient in float64. An
    entry is wrong if it is off by more than rounding explains in the layer's own precision; that
    bound is derived for each entry (see :mod:`tinygrad_rnn.check.layer.rounding`) and in proportion
    to the terms it is the sum of, so that a gradient of 1e-30 is checked as well as one of 1.

    Parameters
    ----------
    layer
        Has ``forward(params, x, *state) -> (outputs, cache)`` and ``backward(d_outputs, cache) ->
        dict``. ``params`` is a dict of arrays, ``x`` is (T, N, D), ``state`` is h0, or h0 and c0.
        ``outputs`` is hs (T, N, H) or the tuple (hs, h_T) or (hs, h_T, c_T); ``d_outputs`` mirrors
        it, and in a tuple any entry may be None. The dict has the gradient of every parameter,
        ``"x"``, ``"h0"`` and ``"c0"``. An object is copied before it is called, of a class an
        instance is made.
    cell
        What it claims to be. A layer that refuses other sizes is checked at the cell's.
    params
        Parameters in the layer's layout; if given, the trials use them, and only T and N vary.
    map
        How the layer's layout differs from the cell's; a :class:`LayerMap`, or a dict of its
        fields.
    rng
        The seed of all randomness.
    budget
        ``"quick"``, ``"default"`` or ``"deep"``: how many inputs.

    Raises
    ------
    ValueError
        If the map or ``params`` do not fit the cell, or the budget is unknown.
    TypeError
        If the layer lacks one of the two methods.

    Examples
    --------
    A layer that forgets what comes back from later steps:

    >>> import numpy as np, tinygrad_rnn as tg
    >>> class Forgetful:
    ...     def forward(self, params, x, h):
    ...         cell = tg.RNNCell(*params["W_x"].shape)
    ...         return tg.unroll(cell, params, x, (h,)).outputs, (cell, params, x, h)
    ...     def backward(self, d_hs, cache):
    ...         cell, params, x, h = cache
    ...         g = tg.bptt(cell, params, x, d_hs, (h,), truncate=1)
    ...         return {**g, "h0": g.pop("state")[0]}
    >>> report = tg.check_layer(Forgetful(), tg.RNNCell(D=3, H=4), budget="quick")
    >>> report.verdict, report.first_wrong_step, report.conditions
    ('REFUTED', 2, ['only T ≥ 2'])
    """
    c, base, trials = pose(layer, cell, params, map, rng, budget)
    outcomes = [c.run(trial) for trial in trials]
    failed = [o for o in outcomes if o.failed]
    if not failed:
        return _unrefuted(c, outcomes)
    unanswered = _unanswered(c, base, outcomes, failed) if c.run(base).refusal else None
    return _refuted(c, base, outcomes, failed) if unanswered is None else unanswered


def pose(
    layer: Any,
    cell: Cell,
    params: Mapping[str, Array] | None,
    map: LayerMap | Mapping[str, Any] | None,
    rng: int,
    budget: str,
) -> tuple[Conformance, Trial, list[Trial]]:
    """Check the arguments of :func:`check_layer`; return the plain trial and the battery."""
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {budget!r}.")
    layout = as_map(map)
    layout.check(cell)
    base = Trial(seed=rng)
    if params is not None:
        _check_params(layout, cell, params)
        base = replace(base, regime="given", D=cell.D, H=cell.H)
    subject = Subject(layer, layout, cell.state_names)
    c = Conformance(subject, cell, layout, None if params is None else dict(params))
    own = replace(base, D=cell.D, H=cell.H)
    fixed = params is not None or (
        not c.run(own).refusal
        and any(c.run(t).refusal for t in (base, replace(base, D=cell.D + 1, H=cell.H + 2)))
    )
    if fixed:
        c.notes.append(f"checked at D = {cell.D} and H = {cell.H} only")
    base = own if fixed else base
    return c, base, list(battery(cell, budget, base, fixed))


def _check_params(layout: LayerMap, cell: Cell, params: Mapping[str, Array]) -> None:
    expected = layout.shapes(cell)
    got = {name: np.shape(p) for name, p in params.items()}
    if got != expected:
        raise ValueError(
            f"params of this layout must have the shapes {expected}, got {got}. "
            "Describe another layout with map=."
        )


def _unrefuted(c: Conformance, outcomes: Sequence[Outcome]) -> LayerReport:
    """Nothing is wrong; say whether every gradient had digits that could have been."""
    blind = set(outcomes[0].reference.gradients) if outcomes[0].reference else set()
    for o in outcomes:
        if o.reference is not None:
            for name, true in o.reference.gradients.items():
                known = true.error < np.abs(true.value)
                if known.any() and (known | (true.value == 0)).all():
                    blind.discard(name)
    if blind:
        notes = [f"no input left a correct digit of the gradient of {n}" for n in sorted(blind)]
        return LayerReport("INCONCLUSIVE", trials=len(outcomes), notes=[*notes, *c.notes])
    return LayerReport("CONSISTENT", trials=len(outcomes), notes=c.notes)


def _unanswered(
    c: Conformance, base: Trial, outcomes: Sequence[Outcome], failed: Sequence[Outcome]
) -> LayerReport | None:
    """The layer raises on the plain input: say so, unless that is a finding.

    It is none under another declaration, or if the layer gives no numbers that are wrong and there
    are no conditions under which it raises.
    """
    advice = declared_otherwise(c, base)[1]
    wrong = any(o.wrong or o.changed for o in failed)
    if not advice and (wrong or conditions(c, base, failed)[0]):
        return None
    notes = [
        f"nothing is refuted, for nothing can be compared: {c.run(base).refusal}, on "
        f"{len(failed)} of {len(outcomes)} designed inputs",
        *question_of_layout(c, base),
        *(f"another declaration gives its outputs: {how}" for how in advice),
    ]
    failures = [str(f.trial) for f in failed]
    return LayerReport(
        "INCONCLUSIVE", trials=len(outcomes), failures=failures, notes=[*notes, *c.notes]
    )


def question_of_layout(c: Conformance, trial: Trial) -> list[str]:
    """Say which arrays a layer is given that raises, and how to change that."""
    shapes = {name: v.shape for name, v in draw(c.cell, c.map, trial, c.params).items()}
    params = [f"{n} {shapes[n]}" for n in c.map.shapes(c.cell)]
    rest = [f"{n} {shape}" for n, shape in shapes.items() if n not in c.map.shapes(c.cell)]
    return [
        f"it was given the parameters {', '.join(params)}, and {', '.join(rest)}",
        f"does the layer's layout differ from that of {c.cell}? map=tg.LayerMap(names=…) says how",
    ]


def _refuted(
    c: Conformance, base: Trial, outcomes: Sequence[Outcome], failed: Sequence[Outcome]
) -> LayerReport:
    wrong: dict[str, Any] = {}
    for o in failed:
        for name, what in o.wrong.items():
            wrong.setdefault(name, (what, o.trial))
    if "outputs" in wrong:
        wrong = {"outputs": wrong["outputs"]}
    c.by_numbers = any(o.wrong or o.refusal for o in failed)
    found, witness = conditions(c, base, [o for o in failed if c.fails(o.trial)])
    if not c.repeats(witness):  # then anything else is chance
        found = ["equal calls give different gradients, though the layer is made anew"]
    mistakes, advice = declared_otherwise(c, witness) if "outputs" in wrong else ([], [])
    meant = [f"if that is meant, {how}" for how in advice]
    changed = sorted({name for o in failed for name in o.changed})
    if changed:
        found.insert(0, f"its inputs are changed in place: {', '.join(changed)}")
    refusals = {o.refusal: o.trial for o in reversed(failed) if o.refusal}
    order = [*c.map.shapes(c.cell), "x", *(f"{s}0" for s in c.cell.state_names), "outputs"]
    culprits = [name for name in order if name in wrong]
    return LayerReport(
        "REFUTED",
        culprits,
        # Cotangents that the first call changed are not those of one step any more.
        None if witness.protocol == "twice" and changed else first_wrong_step(c, witness),
        found,
        mistakes or _mistakes(c, witness, forward="outputs" in wrong),
        {name: wrong[name][0].describe(str(wrong[name][1])) for name in culprits},
        len(outcomes),
        [str(o.trial) for o in failed],
        [*(f"{text}, at {trial}" for text, trial in refusals.items()), *meant, *c.notes],
        {} if "outputs" in wrong else _errors(c, witness, culprits),
    )


def _mistakes(c: Conformance, witness: Trial, forward: bool) -> list[str]:
    if c.map.lengths:  # the anatomy of a cell has none
        return [] if forward else likely_mistakes_with_lengths(c, witness)
    return (likely_forward_mistakes if forward else likely_mistakes)(c, witness)


def _errors(c: Conformance, witness: Trial, culprits: Sequence[str]) -> dict[str, list[float]]:
    """Return the greatest relative error of each wrong gradient, for a cotangent at each step."""
    errors: dict[str, list[float]] = {name: [] for name in culprits}
    T = min(witness.T, LONGEST_SCAN)
    for s in range(1, T + 1):
        o = c.run(replace(witness, T=T, step=s, cotangents=("hs",)))
        for name in culprits:
            errors[name].append(o.relative_error(name))
    return errors
