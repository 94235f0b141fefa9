"""Reasons why a check may see less than it seems: arguments at which mistakes do not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.tape import record
from tinygrad_rnn.functions import Array

CUSTOMARY_ATOL = 1e-5  # of torch.autograd.gradcheck and jax.test_util.check_grads in float64


def warnings(problem: Problem, truth: Sequence[Array] | None) -> list[str]:
    """Return a sentence for each way in which these arguments hide mistakes."""
    found = [
        f"f changes {name} in place: write x = x + 1 for x += 1. It was called on copies."
        for name in problem.changed
    ]
    for name, v in zip(problem.names, problem.variables, strict=True):
        if v.size and not np.any(v != 0):
            found.append(
                f"{name} is all zero: what multiplies it cannot be seen. Try random numbers."
            )
        if v.ndim >= 2 and v.shape[-1] == v.shape[-2] > 1 and np.all(v == np.swapaxes(v, -1, -2)):
            found.append(f"{name} is symmetric: a missing or needless transpose cannot be seen.")
    for name, g in zip(problem.names, truth or (), strict=bool(truth)):
        if g.size and all(e == 0 for e in map(_exactly, g.flat)):
            found.append(f"the gradient by {name} is zero: a missing one cannot be seen.")
    return found + _dead_units(problem)


def _exactly(e: Any) -> float:
    """Return the number if it is known exactly, else NaN."""
    known = not hasattr(e, "arb") or e.arb.is_exact()
    return float(e) if known else np.nan


def _dead_units(problem: Problem) -> list[str]:
    """Warn of units (the last axis) that no relu lets through at any time."""
    alive: dict[int, Array] = {}
    try:
        nodes = record(problem, problem.variables)
    except Exception:  # no record, no units to look at
        return []
    for node in nodes:
        if node._origin and node._origin[0].name in ("relu", "np.maximum") and node.ndim:
            units = np.any(node._value > 0, axis=tuple(range(node.ndim - 1)))
            alive[units.size] = alive.get(units.size, False) | units
    return [
        f"{np.count_nonzero(~units)} of {n} relu units are never active: their gradients are zero."
        for n, units in alive.items()
        if not units.all()
    ]


def infos(problem: Problem, truth: Sequence[Array] | None, verdict: str) -> list[str]:
    """Return what a checker with a customary tolerance, or this one in float64, would see."""
    found = []
    sizes = np.concatenate([np.zeros(0), *(np.ravel(abs(g.astype(float))) for g in truth or ())])
    below = int(np.count_nonzero(sizes < CUSTOMARY_ATOL))
    if below:
        found.append(
            f"{below} of {sizes.size} entries are smaller than {CUSTOMARY_ATOL:g}: a checker with "
            "that absolute tolerance accepts anything of this size there, zero included."
        )
    coarse = [v.dtype for v in problem.variables if v.dtype.kind == "f" and v.dtype.itemsize < 8]
    if coarse and verdict == "CONSISTENT":
        finer = np.finfo(max(coarse, key=lambda d: np.finfo(d).eps)).eps / np.finfo(float).eps
        found.append(
            f"the arguments are {min(coarse, key=lambda d: d.itemsize)}: with float64 arguments "
            f"errors show that are {float(finer):.2g} times smaller."
        )
    return found
