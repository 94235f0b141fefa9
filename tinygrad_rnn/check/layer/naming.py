"""Names for numbers: a measured factor as a product of the arrays of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement

import numpy as np

from tinygrad_rnn.check.layer.probe import Arrays
from tinygrad_rnn.functions import Array

GATES = ("i", "f", "o", "r", "z")
SIGNED = ("g", "c", "h", "h_prev", "c_prev", "c_t", "tanh(c_t)", "u", "u without b_h")
DIGITS = 2.0**-26  # half of those of float64: what is solved for loses some
ROUGH = 2.0**-8  # relative: a half precision's worth, and an epsilon's
SLACK = 2.0**-20  # in the logarithm of one number
PRETTY = {
    "h_prev": "h_{t−1}",
    "c_prev": "c_{t−1}",
    "h": "h_t",
    "r ∘ h_prev": "r h_{t−1}",
    "u": "(h_{t−1} W_h + b_h)",
    "u without b_h": "(h_{t−1} W_h)",
}


def pretty(name: str) -> str:
    """Write the name of an array as in formulas."""
    return PRETTY.get(name, name)


def factors(values: Arrays) -> Arrays:
    """Return the factors that derivatives of a step are made of, by name."""
    found: Arrays = {}
    for n in (*GATES, *SIGNED):
        if n in values:
            v, p = values[n], pretty(n)
            found |= {p: v, f"(1 − {p})": 1 - v, f"(1 − {p}²)": 1 - v * v, f"(1 + {p})": 1 + v}
    for n in (*GATES, *SIGNED):
        if f"a_{n}" in values:
            a = values[f"a_{n}"]
            found |= {f"a_{n}": a, f"(1 − a_{n})": 1 - a, f"(1 − a_{n}²)": 1 - a * a}
    for n in GATES:  # of an array that holds the gate, not its preactivation
        if n in values:
            v = 1 / (1 + np.exp(-values[n]))
            found |= {f"σ({n})": v, f"(1 − σ({n}))": 1 - v}
    for n in SIGNED:
        if n in values and not n.startswith("tanh"):
            v = np.tanh(values[n])
            found |= {f"tanh({pretty(n)})": v, f"tanh'({pretty(n)})": 1 - v * v}
    if "z" in values:
        c, before, after = values["c"], values["h_prev"], values["h"]
        found |= {"(c − h_{t−1})": c - before, "(c − h_t)": c - after, "(c + h_{t−1})": c + before}
    return found


def ratio_named(
    got: Sequence[Array],
    true: Sequence[Array],
    values: Sequence[Arrays],
    digits: float,
    before: Sequence[Arrays] = (),
) -> str | None:
    """Say how measured factors differ from the true ones, the same on several inputs.

    None if they do not, "" if nothing that is known says it.
    """
    a, b = np.concatenate(got), np.concatenate(true)

    def near(p: Array, q: Array) -> bool:
        return bool((np.abs(p - q) <= digits * (np.abs(p) + np.abs(q))).all())

    with np.errstate(all="ignore"):
        if near(a, b):
            return None
        if np.max(np.abs(a)) <= digits * np.max(np.abs(b)):
            return "is zero"
        rho = a / b
        if near(rho, np.full_like(rho, rho[0])):
            if abs(rho[0] + 1) <= digits:
                return "has the wrong sign"
            return f"is {rho[0]:.9g} times what it must be"
        each = [factors(v) for v in values]
        for f, v in zip(each, before, strict=False):
            f |= {f"{n} of the step before": w for n, w in factors(v).items()}
        table = {n: np.concatenate([f[n] for f in each]) for n in each[0]}
        units = np.reshape(rho, (len(got), -1))
        dead = np.flatnonzero((units == 0).all(axis=0))
        if near(np.where(units == 0, 1.0, units), np.ones_like(units)) and len(dead):
            return f"is zero in the units {', '.join(map(str, dead))}"
        if np.max(np.abs(rho - 1)) <= ROUGH:
            return "is right but for rounding: a lower precision, or an approximation"
        if not table:
            return ""
        return (
            _monomial(rho, table, near) or _term(a - b, table, near) or _with_constant(rho, table)
        )


def _monomial(rho: Array, table: Arrays, near: Callable[[Array, Array], bool]) -> str:
    """Write ρ as a product of at most two factors over at most two."""
    names = list(table)
    logs = np.log(np.abs([table[n] for n in names]))
    target = np.log(np.abs(rho))
    sets: list[tuple[int, ...]] = [()]
    for size in (1, 2):
        sets += combinations_with_replacement(range(len(names)), size)
    sums = np.array([logs[list(s)].sum(axis=0) for s in sets])
    # The first number finds the few pairs that are possible, all of them decide.
    order = np.argsort(sums[:, 0])
    rough = sums[order, 0]
    slack = SLACK * (1 + abs(target[0]))
    best: tuple[int, str] | None = None
    for up, total in zip(sets, sums[:, 0] - target[0], strict=True):
        low, high = np.searchsorted(rough, [total - slack, total + slack])
        for down in (sets[j] for j in order[low:high]):
            if best is not None and len(up) + len(down) >= best[0]:
                continue
            a, b = (np.prod([table[names[m]] for m in s], axis=0) for s in (up, down))
            for sign in (1, -1):
                if near(sign * a, rho * b):
                    text = _said(sign, [names[m] for m in up], [names[m] for m in down])
                    best = len(up) + len(down), text
    return best[1] if best else ""


def _term(d: Array, table: Arrays, near: Callable[[Array, Array], bool]) -> str:
    """Write a difference as a constant, or as plus or minus a product of at most three factors."""
    if near(d, np.full_like(d, d[0])):
        return f"has {d[0]:.9g} added to it"
    names = list(table)
    with np.errstate(all="ignore"):
        logs = np.log(np.abs([table[n][0] for n in names]))
        for size in (1, 2, 3):
            sums = sum(np.ix_(*[logs] * size), np.zeros((len(names),) * size))
            for index in np.argwhere(np.abs(sums - np.log(np.abs(d[0]))) <= SLACK):
                factors_there = [names[k] for k in sorted(index)]
                whole = np.prod([table[n] for n in factors_there], axis=0)
                if near(whole, d):
                    return f"has the term {' '.join(factors_there)} too much"
                if near(whole, -d):
                    return f"misses the term {' '.join(factors_there)}"
    return ""


def _with_constant(rho: Array, table: Arrays) -> str:
    """Write ρ as a constant times at most one factor over at most two."""
    names = list(table)
    logs = np.log(np.abs([table[n] for n in names]))
    downs = [s for k in (1, 2) for s in combinations_with_replacement(range(len(names)), k)]
    sums = np.array([logs[list(s)].sum(axis=0) for s in downs])
    for up in (None, *range(len(names))):
        rest = np.log(np.abs(rho)) + sums - (0 if up is None else logs[up])
        for k in np.flatnonzero(np.ptp(rest, axis=1) <= SLACK):
            down = [names[m] for m in downs[k]]
            above = np.ones(len(rho)) if up is None else table[names[up]]
            c = rho * np.prod([table[n] for n in down], axis=0) / above
            if np.ptp(c) <= SLACK * abs(c[0]):
                over = "" if up is None else f" {names[up]}"
                return f"has {c[0]:.6g}{over} for {' '.join(down)}"
    return ""


def _said(sign: int, up: list[str], down: list[str]) -> str:
    minus = "" if sign > 0 else ", with the wrong sign"
    if not up and len(down) == 2 and down[0] == down[1]:
        return f"misses the factor {down[0]} twice: perhaps it is divided by it{minus}"
    if not up and down:
        return f"misses the factor {' '.join(down)}{minus}"
    if not down:
        return f"has the factor {' '.join(up)} too much{minus}"
    return f"has {' '.join(up)} for {' '.join(down)}{minus}"
