"""What goes back through the weights of one step: which δ, through whose weights, how often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.check.layer.equation import Equation, fitted
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named
from tinygrad_rnn.check.layer.probe import Arrays, Step
from tinygrad_rnn.functions import Array

Case = tuple[Step, Arrays, Array, Arrays]  # with δ, what arrives, what each gate sends
Column = tuple[str, float, Array]  # a term, how often it must count, its numbers


def to_h(s: Step, delta: Arrays) -> tuple[Arrays, Array]:
    """Return what each gate sends back to h_{t−1}, and the direct path's factor."""
    U = s.blocks("W_h", s.params)
    if s.gates in ("h", "ifgo"):
        return {k: delta[k] @ U[k].T for k in s.gates}, np.zeros(len(s.values["h"]))
    through = {k: delta[k] @ U[k].T for k in s.gates}
    if "u" in s.values:
        through["c"] = (delta["c"] * s.values["r"]) @ U["c"].T
    elif "r" in s.values:
        through["c"] = through["c"] * s.values["r"]
    return through, 1 - s.values["z"]


def paths(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    """Explain ∂L/∂x and ∂L/∂h0 by the layer's own δ."""
    found = _to_product(steps, deltas)
    for name, what in (("W_x", "x_t"), ("W_h", "h_{t−1}")):
        cases: list[Case] = []
        for s, delta in zip(steps, deltas, strict=True):
            if name == "W_x":
                W = s.blocks("W_x", s.params)
                cases.append((s, delta, s.got["x"], {k: delta[k] @ W[k].T for k in s.gates}))
            else:
                terms, direct = to_h(s, delta)
                cases.append((s, delta, s.got["h0"] - s.d_h * direct, terms))
        if name == "W_h" and all(_but_for_factors(case) for case in cases):
            continue
        if not all(s.probe.near(got, sum(terms.values())) for s, _, got, terms in cases):
            where = f"on the way back to {what}"
            found += [f"{text} {where}" for text in _explained(name, cases)] or [
                f"∂L/∂{'x' if name == 'W_x' else 'h0'} is not what the δ give through {name}"
            ]
    return found


def _but_for_factors(case: Case) -> bool:
    """Whether a GRU's direct path has another factor, or r ∘ h_{t−1} another gradient, only."""
    s, delta, got, terms = case
    if "z" not in s.values:
        return False
    direct = Equation("", got, s.d_h, np.zeros(len(s.values["z"])), sum(terms.values()))
    if fitted(direct, slice(None), s) is not None:
        return True
    if s.gates != "rzc" or "u" in s.values:
        return False
    own = terms | {"c": to_product(s, delta) * s.values["r"]}
    return s.probe.near(got, sum(own.values()))


def to_product(s: Step, delta: Arrays) -> Array:
    """Return what goes back to r ∘ h_{t−1} as the layer has it, from its δ of r."""
    v = s.values
    return delta["r"] / (v["h_prev"] * v["r"] * (1 - v["r"]))


def _to_product(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    """Explain what goes back from the candidate to r ∘ h_{t−1}, where a GRU has this product."""
    if steps[0].gates != "rzc" or "u" in steps[0].values:
        return []
    cases: list[Case] = []
    columns: list[list[Column]] = []
    for s, delta in zip(steps, deltas, strict=True):
        W, d = s.blocks("W_h", s.params), delta["c"]
        cases.append((s, delta, to_product(s, delta), {"c": d @ W["c"].T}))
        own: list[Column] = [("the δ of c through its own weights", 1.0, d @ W["c"].T)]
        own += [(f"the δ of c through the weights of {k}", 0.0, d @ W[k].T) for k in "rz"]
        columns.append([*own, ("the δ of c through W_h not transposed", 0.0, d @ W["c"])])
    return [f"{text} on the way back to r ∘ h_{{t−1}}" for text in _solved(cases, columns)]


def _explained(name: str, cases: Sequence[Case]) -> list[str]:
    own = [_own(case) for case in cases]
    text = _solved(cases, own)
    for gate in cases[0][0].gates:
        text = text or _through_one(name, gate, cases)
    text = text or _solved(
        cases, [c + _strange(name, case) for c, case in zip(own, cases, strict=True)]
    )
    return text or _as_a_whole(cases)


def _as_a_whole(cases: Sequence[Case]) -> list[str]:
    """Explain a path by a factor of all that goes back."""
    found = []
    for s, _, got, terms in cases:
        whole = sum(terms.values())
        found.append(fitted(Equation("", got, whole, np.ones(got.shape[1])), slice(None), s))
    factors = [f for f in found if f is not None]
    if len(factors) < len(cases) or len(factors[0]) != len(cases[0][0].values["h_prev"]):
        return []
    text = ratio_named(
        factors, [np.ones(len(f)) for f in factors], [s.values for s, *_ in cases], DIGITS
    )
    return [f"all that goes back {text}"] if text else []


def _own(case: Case) -> list[Column]:
    s, _, _, terms = case
    return [(f"gate {k}" if len(s.gates) > 1 else "the term", 1.0, terms[k]) for k in s.gates]


def _strange(name: str, case: Case) -> list[Column]:
    """Return what has no business there."""
    s, d, _, _ = case
    W = s.blocks(name, s.params)
    found = [
        (f"the δ of {a} through the weights of {b}", 0.0, d[a] @ W[b].T)
        for a in s.gates
        for b in s.gates
        if a != b
    ]
    found += [(f"the cotangent of h through the weights of {k}", 0.0, s.d_h @ W[k].T) for k in W]
    if name == "W_h":
        found += [(f"the δ of {k} through W_h not transposed", 0.0, d[k] @ W[k]) for k in W]
        found += [(f"the δ of {k} itself", 0.0, d[k]) for k in W]
        found.append(("the cotangent of h itself", 0.0, s.d_h))
    return found


def _solved(cases: Sequence[Case], columns: Sequence[Sequence[Column]]) -> list[str]:
    """Say how often the terms count, if there is one answer, the same on all inputs."""
    A = np.concatenate([np.stack([v.ravel() for *_, v in c], axis=1) for c in columns])
    y = np.concatenate([got.ravel() for _, _, got, _ in cases])
    if not np.isfinite(y).all() or not np.isfinite(A).all() or len(y) <= A.shape[1]:
        return []
    times, _, rank, _ = np.linalg.lstsq(A, y, rcond=None)
    if rank < A.shape[1] or not cases[0][0].probe.near(A @ times, y):
        return []
    found = []
    known = [k for (_, true, _), k in zip(columns[0], times, strict=True) if true]
    if len(known) > 1 and max(known) - min(known) <= DIGITS and abs(known[0] - 1) > DIGITS:
        found = [f"everything counts {np.mean(known):.9g} times"]
        columns = [[(text, k, v) for (text, _, v), k in zip(columns[0], times, strict=True)]]
    for (text, true, _), k in zip(columns[0], times, strict=True):
        if abs(k - true) <= DIGITS:
            continue
        if abs(k) <= DIGITS:
            found.append(f"{text} is missing")
        elif abs(k - 1) <= DIGITS:
            found.append(f"there is {text}")
        else:
            found.append(f"{text} counts {k:.9g} times")
    return found


def _through_one(name: str, gate: str, cases: Sequence[Case]) -> list[str]:
    """Explain a path by another δ of one gate, times a factor that is solved for."""
    arrived = []
    for s, d, got, terms in cases:
        W = s.blocks(name, s.params)[gate]
        own = d[gate] * (
            s.values["r"] if name == "W_h" and gate == "c" and "r" in s.values else 1.0
        )
        columns = (own[:, None, :] * W).reshape(got.size, -1)
        rest = (got - sum(t for k, t in terms.items() if k != gate)).ravel()
        if not np.isfinite(rest).all() or not np.isfinite(columns).all():
            return []
        factor, _, rank, _ = np.linalg.lstsq(columns, rest, rcond=None)
        if rank < len(factor) or not s.probe.near(columns @ factor, rest):
            return []
        arrived.append(factor)
    true = [np.ones(len(a)) for a in arrived]
    text = ratio_named(arrived, true, [s.values for s, *_ in cases], DIGITS)
    who = f"the δ of gate {gate}" if len(cases[0][0].gates) > 1 else "the δ"
    return [f"{who} {text}"] if text else []
