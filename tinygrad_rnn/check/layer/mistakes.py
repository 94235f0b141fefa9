"""The likely mistake of a backward pass: the one that reproduces the layer's numbers.

Every candidate is a complete gradient with one mistake in it. It is named only if it agrees with
the layer in every array, on two inputs that were drawn independently. If none does, the layer is
compared with itself (:mod:`tinygrad_rnn.check.layer.parts`) and its step is read
(:mod:`tinygrad_rnn.check.layer.reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.autodiff.tensor import raw
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.arrays import after_first, on_arrays, on_precision
from tinygrad_rnn.check.layer.conditions import OTHERS, shortest
from tinygrad_rnn.check.layer.naming import ROUGH
from tinygrad_rnn.check.layer.outcome import Conformance, Outcome
from tinygrad_rnn.check.layer.parts import SWEEP, laws
from tinygrad_rnn.check.layer.reading import readings
from tinygrad_rnn.check.layer.scene import Candidate, Gradients, Scene
from tinygrad_rnn.check.layer.steps import on_factors, on_paths, on_slopes
from tinygrad_rnn.check.layer.sweeps import on_sweeps
from tinygrad_rnn.check.layer.trials import Trial
from tinygrad_rnn.functions import Array

MORE_STEPS = 4  # than it takes to fail


def likely_mistakes(c: Conformance, witness: Trial) -> list[str]:
    """Return what reproduces the wrong gradients of a failing trial, and of a second one."""
    if not isinstance(c.cell, (RNNCell, GRUCell, LSTMCell)):
        return []
    least = shortest(c, witness)
    if least + MORE_STEPS < witness.T:  # few steps are enough to see what happens at the first
        fewer = replace(witness, T=least + MORE_STEPS, step=None)
        witness = fewer if c.run(fewer).wrong else witness
    others = (replace(witness, seed=witness.seed + k) for k in range(1, 1 + OTHERS))
    outcomes = [c.run(witness), *[o for o in map(c.run, others) if o.wrong][:1]]
    if len(outcomes) < 2 or any(
        o.reference is None or not o.wrong or "outputs" in o.wrong for o in outcomes
    ):
        return []
    no_arrays = [f"∂L/∂{n}: {w.reason}" for n, w in outcomes[0].wrong.items() if not w.index]
    if no_arrays:
        return no_arrays
    scenes = [Scene(c, o) for o in outcomes]
    overflown = [n for n, g in scenes[0].got.items() if _overflown(g, scenes[0].true[n])]
    if overflown:
        names = ", ".join(f"∂L/∂{n}" for n in overflown)
        return [f"{names} is not finite: an overflow, or a division by zero"]
    culprits = list(outcomes[0].wrong)
    nearly = all(scene.explained_by(lambda s: s.true) for scene in scenes)
    possible = on_precision(culprits) if nearly else _candidates(scenes[0], culprits, least)
    for text, candidate in possible:
        if all(scene.explained_by(candidate) for scene in scenes):
            return [text]
    same_shape = all(s.got[culprits[0]].shape == s.true[culprits[0]].shape for s in scenes)
    if len(culprits) == 1 and same_shape:
        larger = c.run(replace(witness, scale=2.0**10))  # where no threshold hides the others
        if remark := _single_entry([*outcomes, larger], culprits[0]):
            return remark
    found = laws(c, witness)
    if not any("call" in text for text in found):
        found = _approximation(c, witness) or found
    if not found or found[0].startswith(SWEEP):  # one step may be wrong besides
        found += readings(c, witness)
    return found


def _overflown(got: Array, true: Array) -> bool:
    return got.shape == true.shape and bool((np.isfinite(true) & ~np.isfinite(got)).any())


def _single_entry(outcomes: list[Outcome], culprit: str) -> list[str]:
    """Return a remark if one entry of one gradient is wrong, the same on all inputs."""
    where = set()
    for o in outcomes:
        if o.reference is None or list(o.wrong) != [culprit]:
            return []
        wrong = np.argwhere(o.reference.gradients[culprit].wrong(o.got[culprit]))
        where |= {tuple(int(k) for k in index) for index in wrong}
    if len(where) > 1:
        return []
    return [f"only the entry {where.pop()} of ∂L/∂{culprit} is wrong"]


def _approximation(c: Conformance, witness: Trial) -> list[str]:
    """Say that all gradients are nearly right, and as nearly for larger cotangents."""
    off = []
    for scale in (1.0, 2.0**6):
        scene = Scene(c, c.run(replace(witness, scale=scale * witness.scale)))
        pairs = [(scene.got[n], v) for n, v in scene.true.items()]
        if any(g.shape != v.shape or not np.isfinite(g).all() for g, v in pairs):
            return []
        off.append(
            max(
                float(np.max(np.abs(g - v))) / max(float(np.max(np.abs(v))), 1e-300)
                for g, v in pairs
            )
        )
    if not 0 < max(off) <= ROUGH or min(off) < max(off) / 8:
        return []
    return [f"right to {max(off):.0e} of the largest entry: a lower precision, or an approximation"]


def _candidates(scene: Scene, culprits: list[str], least: int) -> Iterator[Candidate]:
    yield from on_arrays(scene, culprits)
    yield from _on_time(scene, culprits, least)
    yield from _on_cotangents(scene)
    yield from on_sweeps(scene)
    if "r" in scene.clean[0]:
        yield (
            "the reset gate is differentiated in its other form, before for after the product",
            lambda s: s.gradient(other_reset=True),
        )
    if least > 2:
        return  # a mistake inside the step shows within two
    yield from on_slopes(scene)
    yield from on_paths(scene)
    yield from on_factors(scene)


# ---- mistakes in the sweep over time ----------------------------------------------------------


def _on_time(scene: Scene, culprits: list[str], least: int) -> Iterator[Candidate]:
    T = scene.T

    def held(stop: Callable[[int, str], bool]) -> Callable[[Scene], Gradients]:
        return lambda s: s.gradient(carry=lambda t, n, v: raw(v) if stop(t, n) else v)

    params = [n for n in culprits if n in scene.params]
    if params == culprits:
        names = ", ".join(f"∂L/∂{n}" for n in culprits)
        kept: list[tuple[str, Callable[[int], bool]]] = [
            ("keeps the term of step 1 only: = for +=", lambda t: t == 0),
            ("keeps the term of the last step only", lambda t: t == T - 1),
            ("misses the term of step 1", lambda t: t > 0),
            ("misses the term of the last step", lambda t: t < T - 1),
        ]
        for text, keep in kept:
            yield (
                f"{names} {text}",
                lambda s, k=keep: s.gradient(  # type: ignore[misc]
                    weights=lambda t, n, v: v if n not in culprits or k(t) else raw(v)
                ),
            )
    for n in scene.cell.state_names:
        yield (
            f"nothing comes back through {n} from later steps",
            held(lambda t, name, n=n: t > 0 and name == n),  # type: ignore[misc]
        )
        yield (
            f"nothing comes back through {n}, neither from later steps nor from {n}_T",
            lambda s, n=n: s.gradient(  # type: ignore[misc]
                d=[
                    0 * c if k == 1 + s.cell.state_names.index(n) else c
                    for k, c in enumerate(s.cotangents())
                ],
                carry=lambda t, name, v: raw(v) if t > 0 and name == n else v,
            ),
        )
    yield "nothing comes back from later steps", held(lambda t, _: t > 0)
    yield "the sweep over time leaves out step 1", _without_first
    yield "the sweep over time leaves out the last step", _without_last
    if 1 < least <= T:
        yield f"BPTT cut after {least - 1} steps", lambda s: _windows(s, least - 1)
    for k in range(1, T):
        yield f"the state is detached before step {k + 1} of {T}", held(lambda t, _, k=k: t == k)  # type: ignore[misc]
    for k in range(2, T - 1):
        yield f"the state is detached every {k} steps", held(lambda t, _, k=k: t > 0 and t % k == 0)  # type: ignore[misc]
        for n in scene.cell.state_names if len(scene.cell.state_names) > 1 else ():
            yield (
                f"{n} is detached every {k} steps",
                held(lambda t, name, k=k, n=n: t > 0 and t % k == 0 and name == n),  # type: ignore[misc]
            )
    if culprits == ["x"]:
        yield (
            "∂L/∂x_t misses what comes back from later steps",
            lambda s: s.true | {"x": held(lambda t, _: t > 0)(s)["x"]},
        )


def _windows(s: Scene, k: int) -> Gradients:
    """Return truncated BPTT: the loss of each step goes back through k steps at most."""
    total: Gradients = {n: np.zeros(np.shape(g)) for n, g in s.true.items()}
    d_hs, *d_final = s.cotangents()
    for t in range(s.T):
        d = [np.zeros_like(d_hs), *[c if t == s.T - 1 else np.zeros_like(c) for c in d_final]]
        d[0][t] = d_hs[t]
        start = t + 1 - k
        part = s.gradient(
            d=d,
            carry=lambda step, _, v, b=start: raw(v) if step == b and b > 0 else v,
        )
        total = {n: total[n] + part[n] for n in total}
    return total


def _without_first(s: Scene) -> Gradients:
    """Return what a loop that stops before step 1 leaves: h0 gets what has come back so far."""
    found = s.gradient(weights=lambda t, n, v: raw(v) if t == 0 else v)
    found["x"][0] = 0
    after = after_first(s)
    after["h0"] = after["h0"] - s.cotangents()[0][0]
    return found | {f"{n}0": after[f"{n}0"] for n in s.cell.state_names}


def _without_last(s: Scene) -> Gradients:
    """Return what a loop that begins one step early leaves: h_T is taken for the state before."""
    zero = {n: np.zeros(np.shape(g)) for n, g in s.true.items()}
    if s.T == 1:
        final = dict(zip((f"{n}0" for n in s.cell.state_names), s.cotangents()[1:], strict=False))
        return zero | final
    inputs = {k: np.asarray(v, float) for k, v in s.inputs.items()}
    surgeon = Surgeon(s.cell)
    _, pull = vjp(lambda v: s.outputs(v | {"x": v["x"][:-1]}, surgeon), inputs)
    d_hs, *d_final = s.cotangents()
    found: Gradients = pull([d_hs[:-1], *d_final])[0]
    return found


# ---- mistakes with the cotangents of the outputs ----------------------------------------------


def _on_cotangents(scene: Scene) -> Iterator[Candidate]:
    outputs = ("hs", "h_T", "c_T")[: len(scene.outcome.outputs)]
    for k, name in enumerate(outputs):
        for factor, text in ((0.0, "is ignored"), (2.0, "is used twice")):
            yield (
                f"the cotangent of {name} {text}",
                lambda s, k=k, r=factor: s.gradient(  # type: ignore[misc]
                    d=[r * c if j == k else c for j, c in enumerate(s.cotangents())]
                ),
            )
    changes: list[tuple[str, Callable[[Array], Array]]] = [
        ("only the last step's cotangent of hs is used", lambda c: _only_last(c)),
        ("the cotangents of hs are reversed in time", lambda c: c[::-1]),
        ("the cotangents of hs are used one step too late", lambda c: _moved(c, 1)),
    ]
    if len(outputs) == 3:
        together: list[tuple[str, Callable[[Array, Array], list[Array]]]] = [
            ("the cotangent of c_T is added to that of h_T", lambda h, c: [h + c, 0 * c]),
            ("the cotangent of h_T is added to that of c_T", lambda h, c: [0 * h, h + c]),
            ("the cotangent of c_T is also added to that of h_T", lambda h, c: [h + c, c]),
            ("the cotangent of h_T is also added to that of c_T", lambda h, c: [h, h + c]),
            ("the cotangents of h_T and c_T are exchanged", lambda h, c: [c, h]),
        ]
        for text, merge in together:
            yield (
                text,
                lambda s, f=merge: s.gradient(d=[s.cotangents()[0], *f(*s.cotangents()[1:])]),  # type: ignore[misc]
            )
    yield "the cotangents of hs are used one step too early", _early
    for text, change in changes:
        yield (
            text,
            lambda s, f=change: s.gradient(d=[f(s.cotangents()[0]), *s.cotangents()[1:]]),  # type: ignore[misc]
        )


def _moved(c: Array, by: int) -> Array:
    """Give each step the cotangent of another; what falls off is lost."""
    moved = np.zeros_like(c)
    for t in range(len(c)):
        if 0 <= t - by < len(c):
            moved[t] = c[t - by]
    return moved


def _early(s: Scene) -> Gradients:
    """Return what it gives to add d_hs[t] to what comes out of step t: h0 gets the first."""
    d_hs, *d_final = s.cotangents()
    found = s.gradient(d=[_moved(d_hs, -1), *d_final])
    return found | {"h0": found["h0"] + d_hs[0]}


def _only_last(c: Array) -> Array:
    last = np.zeros_like(c)
    last[-1] = c[-1]
    return last
