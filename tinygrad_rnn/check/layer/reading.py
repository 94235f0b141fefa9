"""Reading a single step: which derivative of it is wrong, and what stands in its place.

The gradient of b, on one sequence, is the gradient δ by the preactivations as the layer has it; so
is that of W_x, divided by x. Each formula of the backward pass is then checked with the layer's own
numbers put in: a mistake in one of them does not hide the others. What is found is said only if it
is so on two inputs that were drawn independently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.check.layer.equation import Equation, fitted
from tinygrad_rnn.check.layer.naming import ratio_named
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.paths import paths, to_h
from tinygrad_rnn.check.layer.probe import Arrays, Step, one_step
from tinygrad_rnn.check.layer.trials import Trial
from tinygrad_rnn.functions import Array

DIRECT = "the direct path to h_{t−1}"


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
        ways = paths(known, deltas)
        if ways:  # they say why
            found = [text for text in found if not text.endswith(f"{DIRECT} is wrong")]
        return found + ways


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
        found_factors = [fitted(e, rows, s) for e, s in zip(each, steps, strict=True)]
        factors = [f for f in found_factors if f is not None]
        if len(factors) < len(found_factors):
            if rows != whole or len(parts) == 1:
                found.append(_from_other(each, steps, digits) or f"is wrong{where}")
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
    texts = {text.partition(" in what comes from ")[0] for text in found}
    return [*texts] if len(found) == 2 and len(texts) == 1 else found


def _from_other(each: Sequence[Equation], steps: Sequence[Step], digits: float) -> str:
    """Say from which other source it comes, and with which factor."""
    for name in each[0].others:
        own = [replace(e, source=e.others[name]) for e in each]
        fits = [fitted(e, slice(None), s) for e, s in zip(own, steps, strict=True)]
        factors = [f for f in fits if f is not None]
        if len(factors) == len(own):
            values = [s.values for s in steps]
            text = ratio_named(factors, [e.factor for e in each], values, digits)
            if text != "":
                return f"comes from {name}" + (f", and {text}" if text else "")
    return ""


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
        before = delta["c"] / (1 - c * c)
        through = {
            "the δ of c itself": delta["c"],
            "the δ of c through W_h": delta["c"] @ U.T,
            "the δ of c through W_h not transposed": delta["c"] @ U,
            "the derivative by c, without its tanh', through W_h": before @ U.T,
            "the derivative by c, without its tanh'": before,
            "the cotangent of h through W_h": d @ U.T,
        }
        if "u" in v:
            factor = v["u"] * prime
            found.append(Equation("∂L/∂a_r", delta["r"], delta["c"], factor, others=through))
            found.append(Equation("∂L/∂b_h", s.got["b_h"], delta["c"], r))
        else:
            source = through["the δ of c through W_h"]
            found.append(Equation("∂L/∂a_r", delta["r"], source, h * prime, others=through))
    terms, rest = to_h(s, delta)
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


# ---- the gradients of the weights ---------------------------------------------------------------


def _weights(steps: Sequence[Step], deltas: Sequence[Arrays]) -> list[str]:
    gates = steps[0].gates
    blocks = [(name, gate) for name in ("W_x", "W_h", "b") for gate in gates]
    blocks += [(name, gate) for name in ("w_c", "W_c") if name in steps[0].got for gate in "ifo"]
    found: dict[str, list[str]] = {}
    for name, gate in blocks:
        text = _seen(name, gate, steps, deltas)
        if text:
            found.setdefault(f"of ∂L/∂{name} {text}", []).append(gate)
    return [
        f"{'the block of ' + ', '.join(which) if len(gates) > 1 else 'the term'} {text}"
        for text, which in found.items()
    ]


def _seen(name: str, gate: str, steps: Sequence[Step], deltas: Sequence[Arrays]) -> str:
    """Say what δ a block of a weight's gradient is multiplied with, and with which array."""
    arrays, right, factors = [], [], []
    for s, delta in zip(steps, deltas, strict=True):
        d, true = delta[gate], _source(name, gate, s)
        if name == "W_h" and gate == "c" and "u" in s.values:
            d = d * s.values["r"]
        if name in ("w_c", "W_c"):
            block = np.split(s.got[name], 3, axis=1 if name == "w_c" else 2)["ifo".index(gate)]
        else:
            block = s.blocks(name)[gate]
        if name == "w_c":  # entry by entry
            block = block[:, 0]
            seen = np.sum(block * d, axis=0) / np.sum(d * d, axis=0)
            as_product = seen * d
        else:
            block = block[:, None] if name == "b" else block
            seen = np.einsum("pik,pk->i", block, d) / np.sum(d * d)
            as_product = seen[:, None] * d[:, None]
        if not s.probe.near(block, as_product):
            text = "is not its δ times what the gate sees"
            others = {f"the δ of {k}": v for k, v in delta.items() if k != gate}
            for what, other in (others | {"the cotangent of h": s.d_h}).items():
                if name != "w_c" and s.probe.near(block, true[:, None] * other[:, None]):
                    return f"{text}, but {what}"
            factor = (
                np.einsum("pik,i,pk->k", block, true, d) / np.sum(d * d, axis=0) / (true @ true)
            )
            if name == "w_c" or not s.probe.near(block, true[:, None] * (d * factor)[:, None]):
                return text
            factors.append(factor)
        arrays.append(seen)
        right.append(true)
    if factors:
        each = [s.values for s in steps]
        ones = [np.ones(len(f)) for f in factors]
        digits = 64 * max(s.probe.digits for s in steps)
        named = ratio_named(factors, ones, each, digits) if len(factors) == len(steps) else ""
        return f"has a δ that {named or 'has a wrong factor'}"
    if all(s.probe.near(a, b) for s, a, b in zip(steps, arrays, right, strict=True)):
        return ""
    values: list[Arrays] = [{}, {}] if name in ("W_x", "b") else [s.values for s in steps]
    digits = 64 * max(s.probe.digits for s in steps)
    return ratio_named(arrays, right, values, digits) or "has another array for what the gate sees"


def _source(name: str, gate: str, s: Step) -> Array:
    """Return what a gate's block of a weight is multiplied with in the forward pass."""
    v = s.values
    if name == "b":
        return np.ones(1)
    if name == "W_x":
        return v["x"]
    if name in ("w_c", "W_c"):
        return v["c_t"] if gate == "o" else v["c_prev"]
    return v["r"] * v["h_prev"] if gate == "c" and "r" in v and "u" not in v else v["h_prev"]
