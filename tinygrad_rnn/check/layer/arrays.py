"""Mistakes in a finished gradient: the whole of it scaled, moved, exchanged or cut down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.scene import COARSE, Candidate, Gradients, Scene
from tinygrad_rnn.functions import Array


def on_any_arrays(
    got: Gradients, true: Gradients, culprits: list[str]
) -> Iterator[tuple[str, Callable[[Gradients], Gradients]]]:
    """Say how the culprits may come from a right gradient, of a cell or not, and change it so."""
    names = ", ".join(f"∂L/∂{n}" for n in culprits)

    def times(k: float) -> Callable[[Gradients], Gradients]:
        return lambda g: g | {n: k * g[n] for n in culprits}

    yield f"{names} is zero", times(0.0)
    yield f"{names} has the wrong sign", times(-1.0)
    ours, right = (np.concatenate([np.ravel(g[n]) for n in culprits]) for g in (got, true))
    largest = np.argmax(np.abs(right))  # where a ratio neither over- nor underflows
    ratio = float(ours[largest]) / (float(right[largest]) or np.inf)
    if COARSE < abs(ratio - 1) < np.inf:  # else it is an approximation
        yield f"{names} is {ratio:.6g} times what it must be", times(ratio)
    for other in true if len(culprits) == 1 else ():
        if other != culprits[0] and true[other].shape == true[culprits[0]].shape:
            yield f"{names} is ∂L/∂{other}", lambda g, o=other: g | {culprits[0]: g[o]}  # type: ignore[misc]


def on_arrays(scene: Scene, culprits: list[str]) -> Iterator[Candidate]:
    """Change the culprits of the right gradient of a cell."""
    names = ", ".join(f"∂L/∂{n}" for n in culprits)

    def each(change: Callable[[Scene, str], Array]) -> Callable[[Scene], Gradients]:
        return lambda s: s.true | {n: change(s, n) for n in culprits}

    for text, k in (
        ("N: a mean over the batch for a sum", scene.N),
        ("T: a mean over time for a sum", scene.T),
        ("T N", scene.T * scene.N),
    ):
        yield f"{names} is divided by {text}", each(lambda s, n, k=k: s.true[n] / k)  # type: ignore[misc]
    for text, change in on_any_arrays(scene.got, scene.true, culprits):
        yield text, lambda s, f=change: f(s.true)  # type: ignore[misc]
    yield from on_precision(culprits)
    if "x" in culprits and len(culprits) == 1:
        for shift in (1, -1):
            yield (
                f"∂L/∂x is shifted by {abs(shift)} step {'later' if shift > 0 else 'earlier'}",
                each(lambda s, n, k=shift: np.roll(s.true[n], k, axis=0)),  # type: ignore[misc]
            )
        yield (
            "∂L/∂x_t is that of step t + 1, but at the last step",
            each(lambda s, n: np.concatenate([s.true[n][1:], s.true[n][-1:]])),
        )
        yield (
            "∂L/∂x_t is that of step t − 1, but at the first step",
            each(lambda s, n: np.concatenate([s.true[n][:1], s.true[n][:-1]])),
        )
        yield "∂L/∂x is reversed in time", each(lambda s, n: s.true[n][::-1])
    if set(culprits) <= {"h0", "c0"}:
        yield (
            f"{names} is summed over the batch",
            each(lambda s, n: np.broadcast_to(s.true[n].sum(axis=0), s.true[n].shape)),
        )
        yield (
            f"{names} is the gradient of the state after step 1, not before it",
            lambda s: s.true | {n: after_first(s)[n] for n in culprits},
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
    if len(culprits) == 1 and culprits[0] in ("w_c", "W_c"):
        axis = 0 if culprits[0] == "w_c" else 1
        for order in list(permutations(range(3)))[1:]:
            yield (
                f"the gates' blocks in {names} are in the order "
                + " ".join("ifo"[k] for k in order),
                each(
                    lambda s, n, o=order: np.concatenate(  # type: ignore[misc]
                        [np.split(s.true[n], 3, axis=axis)[k] for k in o], axis=axis
                    )
                ),
            )
    if all(n in scene.params for n in culprits):
        yield f"{names} is transposed", each(_transposed)
        yield f"{names} is that of diagonal weights", each(_diagonal)
        for n, sequence in ((0, "first"), (-1, "last")):
            yield (
                f"{names} counts the {sequence} sequence of the batch only",
                lambda s, k=n: s.true | {m: _of_sequence(s, k)[m] for m in culprits},  # type: ignore[misc]
            )
        for how, over in (("summed", np.sum), ("averaged", np.mean)):
            yield (
                f"each gate's block of {names} is {how} over the units",
                each(
                    lambda s, n, f=over: _blockwise(  # type: ignore[misc]
                        s, n, lambda bs: [0 * b + f(b, axis=-1, keepdims=True) for b in bs]
                    )
                ),
            )
        count = scene.cell.shapes["W_h"][1] // scene.cell.H
        for order in list(permutations(range(count)))[1:]:
            yield (
                f"the gates' blocks in {names} are in another order",
                each(lambda s, n, o=order: _reordered(s, n, o)),  # type: ignore[misc]
            )


def on_precision(culprits: list[str]) -> Iterator[Candidate]:
    """Round the culprits of a right gradient."""
    names = ", ".join(f"∂L/∂{n}" for n in culprits)
    for kind in (np.float16, np.float32):
        yield (
            f"{names} is rounded to {kind.__name__}",
            lambda s, k=kind: s.true | {n: _rounded(s, n, k) for n in culprits},  # type: ignore[misc]
        )


def _rounded(s: Scene, name: str, kind: Any) -> Array:
    """Return what the layer has, if it is as exact as numbers of this kind can be, and no more."""
    got, true = s.got[name], s.true[name]
    if got.shape != true.shape or not np.array_equal(got, got.astype(kind)):
        return 0 * true
    most = 2 * float(np.finfo(kind).eps) * np.abs(true) + float(np.finfo(kind).smallest_subnormal)
    return np.where(np.abs(got - true) <= most, got, 0.0)


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


def after_first(s: Scene) -> Gradients:
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
