"""Reading a single step: which derivative of it is wrong, and what stands in its place.

The gradient of b, on one sequence, is the gradient δ by the preactivations as the layer has it; so
is that of W_x, divided by x. Each formula of the backward pass is then checked with the layer's own
numbers put in: a mistake in one of them does not hide the others. What is found is said only if it
is so on two inputs that were drawn independently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.probe import Arrays, Step, one_step
from tinygrad_rnn.check.layer.trials import Trial
from tinygrad_rnn.functions import Array

Cases = Sequence[tuple[Step, Arrays, Array, Arrays]]  # with δ, what arrives, what each gate sends
DIRECT = "the direct path to h_{t−1}"


@dataclass
class Equation:
    """got = source ∘ factor + rest, a cotangent in each row; ``sees`` names the source."""

    what: str
    got: Array
    source: Array
    factor: Array
    rest: Array | float = 0.0


def readings(c: Conformance, witness: Trial) -> list[str]:
    """Return what is wrong within one step, as far as one step shows it."""
    trial = replace(
        witness, T=1, N=1, step=None, cotangents=Trial.cotangents, protocol="once", scale=1.0
    )
    steps = [one_step(c, replace(trial, seed=trial.seed + k)) for k in (0, 1)]
    if any(s is None for s in steps):
        return []
    known = [s for s in steps if s is not None]
    with np.errstate(all="ignore"):
        deltas = [_deltas(s) for s in known]
        found = _elementwise(known, deltas)
        found += _weights(known, deltas)
        paths = _paths(known, deltas)
        if paths:  # they say why
            found = [text for text in found if text != f"{DIRECT} is wrong"]
        return found + paths


def _deltas(s: Step) -> Arrays:
    """Return δ by gate, each (cotangents, H): as ∂L/∂b has it, unless ∂L/∂W_x and ∂L/∂x do not."""
    x, W = s.values["x"], s.params["W_x"]
    from_b = s.got["b"]
    from_x = np.einsum("d,pdk->pk", x, s.got["W_x"]) / (x @ x)
    near = s.probe.near
    if not near(from_b, from_x) and near(s.got["x"], from_x @ W.T):
        from_b = from_x
    return s.blocks("b", {"b": from_b})


# ---- derivatives, entry by entry ----------------------------------------------------------------


def _elementwise(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    """Compare the factors; what is said of several equations in the same words is said once."""
    said: dict[str, list[str]] = {}
    all_of = list(zip(*(_equations(s, d) for s, d in zip(steps, deltas, strict=True)), strict=True))
    for each in all_of:
        for text in _about(each, steps, [e for e in all_of if e[0].what != each[0].what]):
            said.setdefault(text, []).append(each[0].what)
    return [f"{', '.join(what)} {text}" for text, what in said.items()]


def _about(
    each: Sequence[Equation], steps: Sequence[Step], others: Sequence[Sequence[Equation]]
) -> list[str]:
    """Say how the factor of an equation differs; if it must, for each cotangent by itself."""
    values, digits = [s.values for s in steps], max(s.probe.digits for s in steps) * 64
    if all(
        s.probe.near(e.got, e.source * e.factor + e.rest) for e, s in zip(each, steps, strict=True)
    ):
        return []
    H = len(each[0].factor)
    whole = slice(None)
    parts = [(whole, "")]
    if len(each[0].got) > H:
        parts = [
            (whole, ""),
            (slice(0, H), " in what comes from h"),
            (slice(H, None), " in what comes from c"),
        ]
    found = []
    for rows, where in parts:
        if not any(np.any(e.source[rows]) for e in each):
            if any(np.any(e.got[rows]) for e in each):
                found.append(f"must be zero{where}")
            continue
        fitted = [_fitted(e, rows, s) for e, s in zip(each, steps, strict=True)]
        factors = [f for f in fitted if f is not None]
        if len(factors) < len(fitted):
            if rows != whole or len(parts) == 1:
                found.append(f"is wrong{where}")
            continue
        text = ratio_named(factors, [e.factor for e in each], values, digits)
        if text is not None:
            same = [
                o[0].what
                for o in others
                if all(s.probe.near(f, e.factor) for f, e, s in zip(factors, o, steps, strict=True))
            ]
            text = text or _by_sign(factors, each, values, digits)
            text = f"is as {same[0]} should be" if same and " for " in text + " for " else text
            found.append(f"{text or 'has a wrong factor'}{where}")
        if rows == whole:
            break
    return found


def _by_sign(
    factors: Sequence[Array], each: Sequence[Equation], values: Sequence[Arrays], digits: float
) -> str:
    """Compare the factors where a plain cell's preactivation is negative, and where not."""
    if "a_h" not in values[0]:
        return ""
    found = []
    for negative in (True, False):
        a, b = (
            [x[(v["a_h"] < 0) == negative] for x, v in zip(which, values, strict=True)]
            for which in (factors, [e.factor for e in each])
        )
        text = ratio_named(a, b, [{}, {}], digits) if sum(map(len, a)) else None
        if text is not None:
            found.append(f"{text or 'has a wrong factor'} where a {'<' if negative else '>'} 0")
    return ", ".join(found)


def _fitted(e: Equation, rows: slice, s: Step) -> Array | None:
    """Return the factor with which the equation holds, None if there is none."""
    source, rest = e.source[rows], np.broadcast_to(e.rest, e.got.shape)[rows]
    got = e.got[rows]
    factor: Array = np.sum(source * (got - rest), axis=0) / np.sum(source * source, axis=0)
    return factor if s.probe.near(got, source * factor + rest) else None


def _equations(s: Step, delta: Arrays) -> list[Equation]:
    v, d = s.values, s.d_h
    if s.gates == "h":
        kind = s.probe.cell.activation  # type: ignore[attr-defined]
        slope = ACTIVATIONS[kind].derivative(v["a_h"])
        return [Equation("∂L/∂a", delta["h"], d, slope)]
    if s.gates == "ifgo":
        return _lstm(s, delta)
    c, z, h = v["c"], v["z"], v["h_prev"]
    found = [
        Equation("∂L/∂a_z", delta["z"], d, (c - h) * z * (1 - z)),
        Equation("∂L/∂a_c", delta["c"], d, z * (1 - c * c)),
    ]
    if s.gates == "rzc":
        r, U = v["r"], s.blocks("W_h", s.params)["c"]
        prime = r * (1 - r)
        if "u" in v:
            found.append(Equation("∂L/∂a_r", delta["r"], delta["c"], v["u"] * prime))
            found.append(Equation("∂L/∂b_h", s.got["b_h"], delta["c"], r))
        else:
            found.append(Equation("∂L/∂a_r", delta["r"], delta["c"] @ U.T, h * prime))
    terms, rest = _to_h(s, delta)
    return [*found, Equation(DIRECT, s.got["h0"], d, rest, sum(terms.values()))]


def _lstm(s: Step, delta: Arrays) -> list[Equation]:
    v = s.values
    i, f, g, o, y = (v[n] for n in ("i", "f", "g", "o", "tanh(c_t)"))
    back = {gate: _peep(s, delta[gate], k) for k, gate in enumerate("ifo")}
    d_c = s.d_c + s.d_h * o * (1 - y * y) + back["o"]
    return [
        Equation("∂L/∂a_o", delta["o"], s.d_h, y * o * (1 - o)),
        Equation("∂L/∂a_i", delta["i"], d_c, g * i * (1 - i)),
        Equation("∂L/∂a_f", delta["f"], d_c, v["c_prev"] * f * (1 - f)),
        Equation("∂L/∂a_g", delta["g"], d_c, i * (1 - g * g)),
        Equation("the carry to c_{t−1}", s.got["c0"], d_c, f, back["i"] + back["f"]),
    ]


def _peep(s: Step, delta: Array, k: int) -> Array | float:
    """Return what goes back to the memory through a peephole."""
    if "w_c" in s.params:
        peephole: Array = delta * s.params["w_c"][k]
        return peephole
    if "W_c" in s.params:
        return delta @ np.split(s.params["W_c"], 3, axis=1)[k].T
    return 0.0


def _to_h(s: Step, delta: Arrays) -> tuple[Arrays, Array]:
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


# ---- the gradients of the weights ---------------------------------------------------------------


def _weights(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    found: dict[str, list[str]] = {}
    for name in ("W_x", "W_h", "b"):
        for gate in steps[0].gates:
            text = _seen(name, gate, steps, deltas)
            if text:
                found.setdefault(f"of ∂L/∂{name} {text}", []).append(gate)
    all_of = len(steps[0].gates)
    return [
        (f"the block of {', '.join(gates)} " if all_of > 1 else "the sum over outer products ")
        + text
        for text, gates in found.items()
    ]


def _seen(name: str, gate: str, steps: Sequence[Step], deltas: Sequence[Arrays]) -> str:
    """Say what δ a block of a weight's gradient is multiplied with, and with which array."""
    arrays, right = [], []
    for s, delta in zip(steps, deltas, strict=True):
        v, block, d = s.values, s.blocks(name)[gate], delta[gate]
        if name == "b":
            block, true = block[:, None], np.ones(1)
        else:
            true = v["x"] if name == "W_x" else v["h_prev"]
        if name == "W_h" and gate == "c" and "u" in v:
            d = d * v["r"]
        elif name == "W_h" and gate == "c" and "r" in v:
            true = v["r"] * v["h_prev"]
        seen = np.einsum("pik,pk->i", block, d) / np.sum(d * d)
        if not s.probe.near(block, seen[:, None] * d[:, None]):
            return "is not its δ times what the gate sees" + _of_other(s, name, gate, delta, true)
        arrays.append(seen)
        right.append(true)
    digits = 64 * max(s.probe.digits for s in steps)
    if all(s.probe.near(a, b) for s, a, b in zip(steps, arrays, right, strict=True)):
        return ""
    if name != "W_h":
        text = ratio_named(arrays, right, [{}, {}], digits)
    else:
        text = ratio_named(arrays, right, [s.values for s in steps], digits)
    return text or "has another array for what the gate sees"


def _of_other(s: Step, name: str, gate: str, delta: Arrays, true: Array) -> str:
    block = s.blocks(name)[gate]
    block = block[:, None] if name == "b" else block
    for other, d in delta.items():
        if other != gate and s.probe.near(block, true[:, None] * d[:, None]):
            return f", but the δ of {other}"
    return ""


# ---- through the weights, back ------------------------------------------------------------------


def _paths(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    found = []
    for name, what in (("W_x", "x_t"), ("W_h", "h_{t−1}")):
        cases, right = [], True
        for s, delta in zip(steps, deltas, strict=True):
            if name == "W_x":
                W = s.blocks("W_x", s.params)
                terms, got = {k: delta[k] @ W[k].T for k in s.gates}, s.got["x"]
            else:
                terms, direct = _to_h(s, delta)
                got = s.got["h0"] - s.d_h * direct
            cases.append((s, delta, got, terms))
            right &= s.probe.near(got, sum(terms.values()))
        if not right:
            found += _regressed(name, what, cases)
    return found


def _regressed(name: str, what: str, cases: Cases) -> list[str]:
    """Explain a path by how often each gate goes through each gate's weights."""
    gates = cases[0][0].gates
    tables = [{f"{k} {k}": t[k] for k in gates} for _, _, _, t in cases]
    text = _solved(gates, what, cases, tables)
    if text:
        return text
    for gate in gates if name == "W_h" else ():
        text = _through_one(gate, what, cases)
        if text:
            return text
    if len(gates) > 1:
        wide = [
            {
                f"{a} {b}": t[b] if a == b else d[a] @ s.blocks(name, s.params)[b].T
                for a in gates
                for b in gates
            }
            for s, d, _, t in cases
        ]
        text = _solved(gates, what, cases, wide)
    return text


def _through_one(gate: str, what: str, cases: Cases) -> list[str]:
    """Explain a path by another δ of one gate: as the weights are square, it can be solved for."""
    arrived, true = [], []
    for s, d, got, terms in cases:
        U = s.blocks("W_h", s.params)[gate]
        rest = sum(t for k, t in terms.items() if k != gate)
        other = np.linalg.solve(U, (got - rest).T).T
        own = d[gate] * (s.values["r"] if gate == "c" and "r" in s.values else 1.0)
        e = Equation("", other, own, np.ones(own.shape[1]))
        fitted = _fitted(e, slice(None), s)
        if fitted is None:
            return []
        arrived.append(fitted)
        true.append(e.factor)
    values, digits = [s.values for s, *_ in cases], DIGITS
    text = ratio_named(arrived, true, values, digits)
    return [f"the δ of gate {gate} {text} on the way back to {what}"] if text else []


def _solved(
    gates: str,
    what: str,
    cases: Cases,
    tables: Sequence[Arrays],
) -> list[str]:
    names = list(tables[0])
    A = np.concatenate([np.stack([t[n].ravel() for n in names], axis=1) for t in tables])
    y = np.concatenate([got.ravel() for _, _, got, _ in cases])
    if not np.isfinite(y).all() or len(y) <= len(names):
        return []
    times = np.linalg.lstsq(A, y, rcond=None)[0]
    if not cases[0][0].probe.near(A @ times, y):
        return []
    found = []
    digits = 64 * cases[0][0].probe.digits
    crossed = {
        n.split()[0]
        for n, k in zip(names, times, strict=True)
        if len(set(n.split())) == 2 and abs(k) > digits * 64
    }
    for n, k in zip(names, times, strict=True):
        a, b = n.split()
        if abs(k - (a == b)) <= digits * 64 or (a == b and a in crossed):
            continue
        if a == b:
            how = "is missing" if abs(k) <= digits * 64 else f"counts {k:.9g} times"
            found.append(f"gate {a} {how} on the way back to {what}")
        else:
            found.append(f"the δ of {a} goes through the weights of {b} on the way back to {what}")
    if len(found) == len(gates) > 1 and len({t.split(" ", 2)[2] for t in found}) == 1:
        return [f"what goes back to {what} {found[0].split(' ', 2)[2].split(' on the way')[0]}"]
    return found
