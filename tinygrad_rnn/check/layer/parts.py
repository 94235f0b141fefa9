"""Whole and parts: whether the backward pass is linear, and the sum of its sequences and steps.

None of these facts needs the true gradient: a layer is compared with itself. They tell a mistake
inside the step from one in how steps, or sequences, are put together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.conditions import shortest
from tinygrad_rnn.check.layer.naming import DIGITS, ratio_named
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.probe import Arrays, Probe
from tinygrad_rnn.check.layer.scene import COARSE
from tinygrad_rnn.check.layer.subject import Refusal
from tinygrad_rnn.check.layer.trials import Trial
from tinygrad_rnn.functions import Array

SWEEP = "the sweep over time:"


def laws(c: Conformance, witness: Trial) -> list[str]:
    """Return which laws of a gradient the layer breaks, each on two inputs."""
    plain = replace(witness, step=None, cotangents=Trial.cotangents, protocol="once", scale=1.0)
    try:
        with np.errstate(all="ignore"):
            for law in (_repeatable, _linear, _by_sequence, _of_last_state, _by_step):
                found = [law(Probe(c, replace(plain, seed=plain.seed + k))) for k in (0, 1)]
                if found[0] and found[1]:
                    return found[0]
    except Refusal:
        pass
    return []


def _differing(probe: Probe, a: Arrays, b: Arrays) -> str:
    """Name the gradients that differ; those that are no numbers do not."""
    names = []
    for n in a:
        most = COARSE * max(float(np.max(np.abs(a[n]))), float(np.max(np.abs(b[n]))))
        if np.isfinite(a[n] + b[n]).all() and not probe.near(a[n], b[n]):
            names += [n] if np.max(np.abs(a[n] - b[n])) > most else []
    return ", ".join(f"∂L/∂{n}" for n in names)


def _repeatable(probe: Probe) -> list[str]:
    d = probe.cotangents()
    first, second, third = (probe.gradient(probe.inputs, d) for _ in range(3))
    names = _differing(probe, first, second)
    if not names:
        return []
    steady = {n: 2 * second[n] - first[n] for n in first}
    if not _differing(probe, third, steady):
        return [
            f"{names} grows with every call: what earlier calls added is kept, not in the object"
        ]
    return [f"{names} differs between two equal calls: it is not deterministic"]


def _linear(probe: Probe) -> list[str]:
    """backward(λ d) = λ backward(d) for powers of two and −1, which are exact in floats."""
    d = probe.cotangents()

    def of(d: list[Array]) -> Arrays:
        return probe.gradient(probe.inputs, d)

    g, zero = of(d), of([0 * v for v in d])
    added = [n for n, v in zero.items() if np.any(v) and np.isfinite(v).all()]
    if added:
        decays = [_proportion(zero[n], probe.inputs[n]) for n in added]
        if all(decays):
            return [
                f"∂L/∂{n} has {k:.6g} times {n} added to it: weight decay"
                for n, k in zip(added, decays, strict=True)
            ]
        names = ", ".join(f"∂L/∂{n}" for n in added)
        return [f"{names} is not zero for cotangents of zero: something is added to it"]
    for times in (-1.0, 2.0**10, 2.0**-10, 2.0**-40):
        scaled = of([times * v for v in d])
        names = _differing(probe, scaled, {n: times * v for n, v in g.items()})
        if names:
            size = {2.0**-10: "2⁻¹⁰", 2.0**-40: "2⁻⁴⁰"}.get(times, f"{times:g}")
            limit = _limit(probe, scaled, of([2 * times * v for v in d])) if times > 1 else []
            return limit or [
                f"backward is not linear in the cotangent: {size} times the cotangents do not "
                f"give {size} times {names}"
            ]
    other = [v[::-1] for v in d]
    both, o = of([v + w for v, w in zip(d, other, strict=True)]), of(other)
    names = _differing(probe, both, {n: v + o[n] for n, v in g.items()})
    text = "backward is not linear in the cotangent: for a sum of cotangents, {} is not the sum"
    return [text.format(names)] if names else []


def _proportion(a: Array, to: Array) -> float:
    """Return k if a = k to, else 0."""
    k = float(np.vdot(a, to) / np.vdot(to, to))
    return k if np.max(np.abs(a - k * to)) <= COARSE * np.max(np.abs(a)) else 0.0


def _limit(probe: Probe, g: Arrays, of_larger: Arrays) -> list[str]:
    """Say whether large gradients are limited: each entry, or all of them together."""
    clipped = {}
    for n, v in g.items():
        most = float(np.max(np.abs(v), initial=0))
        if np.isfinite(most) and np.count_nonzero(np.abs(v) == most) > 1:
            clipped[n] = most
    if clipped:
        ends = {f"±{most:.6g}" for most in clipped.values()}
        names = ", ".join(f"∂L/∂{n}" for n in clipped)
        return [f"{names} never exceeds {' or '.join(sorted(ends))}: something is clipped"]
    still = [n for n, v in g.items() if np.any(v) and probe.near(v, of_larger[n])]
    names = ", ".join(f"∂L/∂{n}" for n in still)
    return [f"{names} does not grow with the cotangents: clipped by its norm"] if still else []


def _by_sequence(probe: Probe) -> list[str]:
    """The gradient of a batch is that of its sequences, one by one."""
    if probe.trial.N == 1:
        return []
    d = probe.cotangents()
    together, own = probe.gradient(probe.inputs, d), _owned(probe)
    total = {n: np.zeros_like(v) for n, v in together.items()}
    for k in range(probe.trial.N):
        one = {n: v[..., k : k + 1, :] if n in own else v for n, v in probe.inputs.items()}
        g = probe.gradient(one, [v[..., k : k + 1, :] for v in d])
        for n, v in g.items():
            if n in own:
                total[n][..., k : k + 1, :] = v
            else:
                total[n] += v
    names = _differing(probe, together, total)
    return (
        [f"sequences are mixed: for a batch, {names} is not that of its sequences"] if names else []
    )


def _of_last_state(probe: Probe) -> list[str]:
    """h_T is hs at the last step: a cotangent on either has the same gradient."""
    if probe.count == 1:
        return []
    d_hs, d_h, *rest = (0 * v for v in probe.cotangents())
    d_h = probe.cotangents()[1]
    at_end = d_hs.copy()
    at_end[-1] = d_h
    pair = (probe.gradient(probe.inputs, d) for d in ([d_hs, d_h, *rest], [at_end, 0 * d_h, *rest]))
    names = _differing(probe, *pair)
    text = f"the cotangent of h_T is not treated as that of hs at the last step, in {names}"
    return [text] if names else []


def _owned(probe: Probe) -> set[str]:
    """Name what each sequence has of its own."""
    return {"x", *(f"{s}0" for s in probe.cell.state_names)}


def _states(probe: Probe) -> Surgeon:
    """Run the cell, which the layer's forward pass agrees with."""
    surgeon, cell = Surgeon(probe.cell), probe.cell
    own = {n: probe.inputs[n] for n in probe.c.map.shapes(cell)}
    params = probe.c.map.canonical(cell, own)
    state = tuple(probe.inputs[f"{s}0"] for s in cell.state_names)
    for x in probe.inputs["x"]:
        state = surgeon.step(params, x, state)
    return surgeon


def _by_step(probe: Probe) -> list[str]:
    """The gradient of a sequence is put together from the layer's own gradients of its steps."""
    states = probe.cell.state_names
    if probe.count < 1 + len(states):
        return []  # what comes back through c cannot be handed to one step
    T = shortest(probe.c, probe.trial)
    trial = replace(probe.trial, T=max(T, 2))
    probe = Probe(probe.c, trial)
    d_hs, *d_last = probe.cotangents()
    whole = probe.gradient(probe.inputs, [d_hs, *d_last])
    names = _states(probe).names
    total = {n: np.zeros_like(v) for n, v in whole.items()}
    back = d_last
    for t in reversed(range(trial.T)):
        before = {f"{s}0": names[t][f"{s}_prev"] for s in states}
        step = {**probe.inputs, **before, "x": probe.inputs["x"][t : t + 1]}
        g = probe.gradient(step, [(d_hs[t] + back[0])[None], 0 * back[0], *back[1:]])
        total["x"][t] = g.pop("x")[0]
        back = [g.pop(f"{s}0") for s in states]
        for n, v in g.items():
            total[n] += v
    total |= {f"{s}0": v for s, v in zip(states, back, strict=True)}
    differing = _differing(probe, whole, total)
    if not differing:
        return []
    right = T > 1
    initial = {f"{s}0" for s in states}
    if not right and set(probe.c.run(trial).wrong) <= initial:
        wrong = ", ".join(f"∂L/∂{n}" for n in sorted(probe.c.run(trial).wrong))
        return [f"what goes back from step to step is right, {wrong} as it is returned is not"]
    found = [
        f"{SWEEP} {'each step alone is right, but ' if right else ''}"
        f"for T = {trial.T} {differing} is not what the layer's own single steps give together"
    ]
    return found + (_carries(probe) if right and T == 2 and "∂L/∂x" in differing else [])


def _carries(probe: Probe) -> list[str]:
    """Compare what reaches the state after step 1, found from the gradients of the initial one."""
    cell, names = probe.cell, probe.inputs
    own = {n: names[n] for n in probe.c.map.shapes(cell)}
    params, surgeon = probe.c.map.canonical(cell, own), _states(probe)
    pairs = [tuple(e[f"{s}_prev"] for s in cell.state_names) for e in surgeon.names]
    J = [cell.jacobian(params, names["x"][t], pairs[t]) for t in (0, 1)]
    found = []
    for k, s in enumerate(cell.state_names):
        d = probe.cotangents()
        d = [v if j == k + 1 else 0 * v for j, v in enumerate(d)]
        g = probe.gradient(names, d)
        arrived = np.concatenate([g[f"{n}0"] for n in cell.state_names], axis=1)
        got = np.stack([np.linalg.solve(A.T, v) for A, v in zip(J[0], arrived, strict=True)])
        sent = np.concatenate(d[1:], axis=1)
        true = np.einsum("ns,nst->nt", sent, J[1])
        values, earlier = (
            {n: v.ravel() for n, v in e.items() if v.shape == sent[:, : cell.H].shape}
            for e in surgeon.names[::-1]
        )
        for j, target in enumerate(cell.state_names):
            a, b = (np.split(v, len(cell.state_names), axis=1)[j].ravel() for v in (got, true))
            text = ratio_named([a], [b], [values], DIGITS, [earlier])
            if text is not None:
                what = f"what goes from {s} back to {target} of the step before"
                found.append(f"{what} {text or 'is wrong'}")
    return found
