"""The comparison: each entry of a gradient against the truth and what rounding explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.check.report import Entry
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars import Ball, precision

KINKED = 1024  # bounds that neighbours differ by only across a kink: see roundoff.neighbours
BLIND = "no entry has a correct digit, and rounding alone could explain that"
MANY_KINKS = "several kinks meet within rounding distance of these arguments"
COMPARE = 2048  # bits for a difference of numbers that are exact floats and balls


def judge(
    name: str,
    got: Array,
    truth: Array,
    bounds: Array,
    sides: Sequence[Array],
    oracle: str,
    confirmed: bool,
) -> Entry:
    """Compare one argument's gradient with balls that contain the true one.

    Parameters
    ----------
    name, oracle
        The argument, and where ``truth`` comes from.
    got
        The gradient under test, of the argument's dtype.
    truth
        Its enclosure.
    bounds
        What rounding may do to each entry.
    sides
        Gradients at arguments within rounding distance.
    confirmed
        Whether a second road confirmed the truth.
    """
    if got.size == 0:
        return Entry(name, "PROVED", "it has no entries", oracle=oracle)
    with precision(COMPARE):
        found = [
            _compare(got[i], truth[i], float(bounds[i]), [float(s[i]) for s in sides])
            for i in np.ndindex(got.shape)
        ]
    states = [state for state, _ in found]
    worst = max(range(got.size), key=lambda k: (RANK.index(states[k]), found[k][1]))
    index = tuple(int(i) for i in np.unravel_index(worst, got.shape))
    verdict, reason = _summary(states, [e.arb.contains(0) for e in truth.flat], confirmed)
    expected = float(truth[index])
    error = abs(float(got[index]) - expected)
    spacing = float(np.spacing(np.abs(got.dtype.type(expected))))
    return Entry(
        name,
        verdict,
        reason,
        index,
        float(got[index]),
        expected,
        float(bounds[index]) + truth[index].rad.upper,
        error / spacing,
        error / abs(expected) if expected else None,
        oracle,
    )


# From best to worst: what can be said about one entry.
RANK = (
    "faithful", "close", "at a kink", "blind", "overflow", "beside a kink", "wrong", "not finite"
)  # fmt: skip


def _compare(got: Any, truth: Ball, bound: float, sides: list[float]) -> tuple[str, float]:
    """Return an entry's state, and how many bounds it is off."""
    if not np.isfinite(got):
        largest = float(np.finfo(got.dtype).max)
        overflows = not abs(truth).arb <= largest
        return ("overflow" if overflows else "not finite"), math.inf
    gap = abs(Ball(float(got)) - truth)
    off = gap.upper / bound if bound > 0 else float(gap.upper > 0)
    if _is_faithful(got, truth):
        return "faithful", off
    if gap.arb > bound:
        kinked = _patterns(sides, KINKED * bound) > 1
        low, high = min([*sides, float(truth)]), max([*sides, float(truth)])
        if kinked and low - bound <= got <= high + bound:
            return "at a kink", off
        if kinked and _patterns(sides, KINKED * bound) > 2:
            return "beside a kink", off
        return "wrong", off
    size = abs(truth)
    blind = bool(not size.arb > gap.arb * 2) and not size.arb.is_zero()
    return ("blind" if blind else "close"), off


def _is_faithful(got: Any, truth: Ball) -> bool:
    """Return whether ``got`` is the truth, or one of the two floats around it."""
    if truth.arb.is_exact() and truth.arb == float(got):
        return True
    below, above = (float(np.nextafter(got, got.dtype.type(s * np.inf))) for s in (-1, 1))
    return bool(truth.arb > below and truth.arb < above)


def _patterns(values: list[float], gap: float) -> int:
    """Count the clusters of values: two of them are the two sides of one kink."""
    ordered = np.sort(values)
    return 1 + int(np.count_nonzero(np.diff(ordered) > gap))


def _summary(states: list[str], zeros: list[bool], confirmed: bool) -> tuple[str, str]:
    n, wrong = len(states), states.count("wrong")
    if "not finite" in states:
        return "REFUTED", f"{states.count('not finite')} of {n} entries are not finite"
    if wrong:
        return "REFUTED", f"{wrong} of {n} entries differ by more than rounding explains"
    if "beside a kink" in states:
        return "INCONCLUSIVE", MANY_KINKS
    if "overflow" in states:
        return "INCONCLUSIVE", "the true gradient is too large for its dtype"
    nonzero = [s for s, zero in zip(states, zeros, strict=True) if not zero]
    if nonzero and all(s == "blind" for s in nonzero):
        return "INCONCLUSIVE", BLIND
    if confirmed and all(s == "faithful" for s in states):
        return "PROVED", "every entry is the exact derivative or a float next to it"
    blind, kinked = states.count("blind"), states.count("at a kink")
    notes = [f"{blind} of {n} have no correct digit, which rounding explains"] * bool(blind)
    notes += [f"{kinked} of {n} lie between the one-sided derivatives at a kink"] * bool(kinked)
    return "CONSISTENT", "; ".join(["no entry differs by more than rounding explains", *notes])


def judge_exactly(name: str, got: Array, truths: Sequence[Array]) -> Entry:
    """Compare a gradient of Fractions with the exact one, or with those that meet at a kink."""
    wrong = []
    for i in np.ndindex(got.shape):
        values = [truth[i] for truth in truths]
        if not min(values) <= got[i] <= max(values):
            wrong.append((i, values))
    if not wrong and len(truths) == 1:
        return Entry(name, "PROVED", "every entry is equal to the exact derivative", oracle="exact")
    if not wrong:
        reason = "every entry lies between the one-sided derivatives at a kink"
        return Entry(name, "CONSISTENT", reason, oracle="exact")
    i, values = max(wrong, key=lambda pair: -len(set(pair[1])))
    verdict, reason = "REFUTED", f"{len(wrong)} of {got.size} entries are not the exact derivative"
    if len(set(values)) > 2:
        verdict, reason = "INCONCLUSIVE", MANY_KINKS
    gap = min(abs(got[i] - value) for value in values)
    nearest = next(value for value in values if abs(got[i] - value) == gap)
    relative = float(gap / abs(nearest)) if nearest else None
    return Entry(
        name, verdict, reason, i, float(got[i]), float(nearest), 0.0, None, relative, "exact"
    )
