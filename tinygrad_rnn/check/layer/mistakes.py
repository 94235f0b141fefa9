"""The likely mistake of a backward pass: the one that reproduces the layer's numbers.

Every candidate is a complete gradient with one mistake in it. It is named only if it agrees with
the layer in every array, on two inputs that were drawn independently. If none does, the layer is
compared with itself (:mod:`tinygrad_rnn.check.layer.parts`) and its step is read
(:mod:`tinygrad_rnn.check.layer.reading`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.autodiff.tensor import raw
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.conditions import OTHERS, shortest
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.parts import SWEEP, laws
from tinygrad_rnn.check.layer.reading import readings
from tinygrad_rnn.check.layer.scene import Candidate, Gradients, Scene
from tinygrad_rnn.check.layer.steps import on_factors, on_paths, on_slopes
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
    for text, candidate in _candidates(scenes[0], list(outcomes[0].wrong), least):
        if all(scene.explained_by(candidate) for scene in scenes):
            return [text]
    culprits = list(outcomes[0].wrong)
    same_shape = all(s.got[culprits[0]].shape == s.true[culprits[0]].shape for s in scenes)
    if len(culprits) == 1 and same_shape and (remark := _single_entry(scenes, culprits[0])):
        return remark
    found = laws(c, witness)
    if not found or found[0].startswith(SWEEP):  # one step may be wrong besides
        found += readings(c, witness)
    return found


def _single_entry(scenes: list[Scene], culprit: str) -> list[str]:
    """Return a remark if one entry of one gradient is wrong, the same on both inputs."""
    where = set()
    for s in scenes:
        reference = s.outcome.reference
        assert reference is not None
        wrong = np.argwhere(reference.gradients[culprit].wrong(s.got[culprit]))
        where |= {tuple(int(k) for k in index) for index in wrong}
    if len(where) > 1:
        return []
    return [f"only the entry {where.pop()} of ∂L/∂{culprit} is wrong"]


def _candidates(scene: Scene, culprits: list[str], least: int) -> Iterator[Candidate]:
    yield from _on_arrays(scene, culprits)
    yield from _on_time(scene, culprits, least)
    yield from _on_cotangents(scene)
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


# ---- mistakes in finished arrays --------------------------------------------------------------


def _on_arrays(scene: Scene, culprits: list[str]) -> Iterator[Candidate]:
    names = ", ".join(f"∂L/∂{n}" for n in culprits)

    def each(change: Callable[[Scene, str], Array]) -> Callable[[Scene], Gradients]:
        return lambda s: s.true | {n: change(s, n) for n in culprits}

    def times(ratio: Callable[[Scene], float]) -> Callable[[Scene], Gradients]:
        return each(lambda s, n: ratio(s) * s.true[n])

    yield f"{names} is zero", times(lambda s: 0.0)
    yield f"{names} has the wrong sign", times(lambda s: -1.0)
    yield f"{names} is divided by N: a mean over the batch for a sum", times(lambda s: 1 / s.N)
    yield f"{names} is divided by T: a mean over time for a sum", times(lambda s: 1 / s.T)
    yield f"{names} is divided by T N", times(lambda s: 1 / (s.T * s.N))
    for ratio in (2.0, 0.5, 3.0, 4.0):
        yield f"{names} is {ratio:g} times what it must be", times(lambda s, r=ratio: r)  # type: ignore[misc]
    first = culprits[0]
    if scene.got[first].shape == scene.true[first].shape and np.any(scene.true[first]):
        ratio = np.vdot(scene.got[first], scene.true[first]) / np.vdot(
            scene.true[first], scene.true[first]
        )
        yield f"{names} is {ratio:.9g} times what it must be", times(lambda s: float(ratio))
    for other in scene.true:
        if len(culprits) == 1 and other != first and other.endswith("0") == first.endswith("0"):
            yield (
                f"∂L/∂{first} is ∂L/∂{other}",
                lambda s, m=other: s.true | {first: s.true[m]},  # type: ignore[misc]
            )
    if "x" in culprits and len(culprits) == 1:
        for shift in (1, -1):
            yield (
                f"∂L/∂x is shifted by {abs(shift)} step {'later' if shift > 0 else 'earlier'}",
                each(lambda s, n, k=shift: np.roll(s.true[n], k, axis=0)),  # type: ignore[misc]
            )
        yield "∂L/∂x is reversed in time", each(lambda s, n: s.true[n][::-1])
    if set(culprits) <= {"h0", "c0"}:
        yield (
            f"{names} is summed over the batch",
            each(lambda s, n: np.broadcast_to(s.true[n].sum(axis=0), s.true[n].shape)),
        )
        yield (
            f"{names} is the gradient of the state after step 1, not before it",
            lambda s: s.true | {n: _after_first(s)[n] for n in culprits},
        )
    if culprits == ["c0"]:
        yield (
            "∂L/∂c0 misses the factor f of step 1",
            lambda s: s.true | {"c0": s.true["c0"] / s.clean[0]["f"]},
        )
    if culprits == ["b_h"] and "b" in scene.true:
        yield (
            "∂L/∂b_h misses the factor r",
            lambda s: s.true | {"b_h": s.true["b"][-s.cell.H :]},
        )
    if set(culprits) == {"h0", "c0"}:
        yield (
            "∂L/∂h0 and ∂L/∂c0 are exchanged",
            lambda s: s.true | {"h0": s.true["c0"], "c0": s.true["h0"]},
        )
    if all(n in scene.params for n in culprits):
        yield f"{names} is transposed", each(_transposed)
        yield f"{names} is that of diagonal weights", each(_diagonal)
        for n, sequence in ((0, "first"), (-1, "last")):
            yield (
                f"{names} counts the {sequence} sequence of the batch only",
                lambda s, k=n: s.true | {m: _of_sequence(s, k)[m] for m in culprits},  # type: ignore[misc]
            )
        count = scene.cell.shapes["W_h"][1] // scene.cell.H
        for order in list(permutations(range(count)))[1:]:
            yield (
                f"the gates' blocks in {names} are in another order",
                each(lambda s, n, o=order: _reordered(s, n, o)),  # type: ignore[misc]
            )


def _blockwise(s: Scene, name: str, change: Callable[[list[Array]], list[Array]]) -> Array:
    """Change the list of the gates' blocks of a parameter's gradient."""
    g = s.true[name].T if s.map.transposed else s.true[name]
    H = s.cell.H
    if g.shape[-1] % H:
        return s.true[name]
    g = np.concatenate(change(np.split(g, g.shape[-1] // H, axis=-1)), axis=-1)
    return g.T if s.map.transposed else g


def _transposed(s: Scene, name: str) -> Array:
    """Transpose every square block."""
    return _blockwise(s, name, lambda blocks: [_if_square(b, b.T) for b in blocks])


def _diagonal(s: Scene, name: str) -> Array:
    """Keep the diagonal of every square block."""
    return _blockwise(s, name, lambda blocks: [_if_square(b, b * np.eye(*b.shape)) for b in blocks])


def _if_square(block: Array, instead: Array) -> Array:
    return instead if block.ndim == 2 and block.shape[0] == block.shape[1] else block


def _reordered(s: Scene, name: str, order: tuple[int, ...]) -> Array:
    return _blockwise(
        s, name, lambda blocks: [blocks[k] for k in order] if len(blocks) == len(order) else blocks
    )


def _after_first(s: Scene) -> Gradients:
    """Return the gradients of the state after step 1, under the names of the initial one."""
    extra = {f"{n}0": np.zeros((s.N, s.cell.H)) for n in s.cell.state_names}

    def outputs(added: Any) -> list[Array]:
        at = {f"{n}0": n for n in s.cell.state_names}
        back = {v: k for k, v in at.items()}
        return s.outputs(
            s.inputs,
            Surgeon(s.cell),
            carry=lambda t, name, v: v + added[back[name]] if t == 1 else v,
        )

    _, pull = vjp(outputs, extra)
    found: Gradients = pull(s.cotangents())[0]
    found["h0"] = found["h0"] + s.cotangents()[0][0]
    return found


def _of_sequence(s: Scene, n: int) -> Gradients:
    """Return the gradient of one sequence of the batch."""
    d = []
    for c in s.cotangents():
        one = np.zeros_like(c)
        one[..., n, :] = c[..., n, :]
        d.append(one)
    return s.gradient(d=d)


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
        yield f"the state is detached before step {k + 1}", held(lambda t, _, k=k: t == k)  # type: ignore[misc]
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
    after = _after_first(s)
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
