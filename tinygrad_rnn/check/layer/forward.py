"""The likely mistake of a forward pass: the cell with this mistake gives the layer's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np

from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.declared import backward_of_that
from tinygrad_rnn.check.layer.forward_reading import forward_readings
from tinygrad_rnn.check.layer.outcome import OUTPUTS, Conformance, Outcome
from tinygrad_rnn.check.layer.rounding import differentiate
from tinygrad_rnn.check.layer.trials import Trial, sized
from tinygrad_rnn.functions import Array

Params = dict[str, Array]
State = tuple[Array, ...]
Outputs = list[Array]
GATES = {"GRUCell": "rzc", "LSTMCell": "ifgo", "RNNCell": "h"}


def likely_forward_mistakes(c: Conformance, witness: Trial) -> list[str]:
    """Return what reproduces the outputs of a failing trial, and of a second one.

    A second line says whether the backward pass is the gradient of that.
    """
    if not isinstance(c.cell, (RNNCell, GRUCell, LSTMCell)):
        return []
    outcomes = [c.run(witness), c.run(replace(witness, seed=witness.seed + 1))]
    if any(not o.outputs or "outputs" not in o.wrong for o in outcomes):
        return []
    if overflow := [text for text in map(_not_finite, outcomes) if text]:
        return overflow[:1]
    for text, alternative in _alternatives(c.cell):
        if all(_agree(c, o, alternative) for o in outcomes):
            wrong = sorted({n for o in outcomes for n in _wrong_gradients(c, o, alternative)})
            return [f"forward: {text}", backward_of_that(wrong)]
    return [f"forward: {text}" for text in forward_readings(c, witness)]


def _not_finite(o: Outcome) -> str:
    """Name the outputs that are not finite, though they must be."""
    assert o.reference is not None
    pairs = zip(OUTPUTS, o.outputs, o.reference.outputs, strict=False)
    bad = [n for n, y, true in pairs if (np.isfinite(true.value) & ~np.isfinite(y)).any()]
    what = ", ".join(bad)
    return f"forward: {what} is not finite: an overflow, or a division by zero" if bad else ""


Alternative = Callable[[Any, Params, Array, State], Outputs]


def _specification(c: Conformance, o: Outcome, alternative: Alternative) -> Any:
    cell = sized(c.cell, o.trial)

    def outputs(inputs: Any) -> Outputs:
        state = tuple(inputs[f"{s}0"] for s in cell.state_names)
        found = alternative(cell, c.map.canonical(cell, inputs), inputs["x"], state)
        return found[: len(o.outputs)]

    return outputs


def _agree(c: Conformance, o: Outcome, alternative: Alternative) -> bool:
    """Return whether the outputs are those of an alternative, up to rounding."""
    inputs = {k: np.asarray(v, float) for k, v in o.inputs.items()}
    with np.errstate(all="ignore"):
        quick = _specification(c, o, alternative)(inputs)
    reference = o.reference
    assert reference is not None
    allowed = [8 * np.max(b.error) for b in reference.outputs]
    return all(
        got.shape == np.shape(other) and bool(np.max(np.abs(got - other)) <= most)
        for got, other, most in zip(o.outputs, quick, allowed, strict=True)
    )


def _wrong_gradients(c: Conformance, o: Outcome, alternative: Alternative) -> list[str]:
    f = _specification(c, o, alternative)
    reference = differentiate(f, o.inputs, lambda _: o.cotangents, o.outputs[0].dtype)
    return [
        name
        for name, true in reference.gradients.items()
        if np.shape(o.got.get(name, ())) != true.value.shape or true.wrong(o.got[name]).any()
    ]


def _run(cell: Any, params: Params, x: Array, state: State, **options: Any) -> Outputs:
    """Run the cell with a Surgeon's options; return (hs, h_T[, c_T])."""
    surgeon, hs = Surgeon(cell, **options), []
    for t in range(len(x)):
        state = surgeon.step(params, x[t], state)
        hs.append(state[0])
    return [np.stack(hs), *state]


def _alternatives(cell: Any) -> Iterator[tuple[str, Alternative]]:
    yield from _of_activations(cell)
    yield from _of_parameters(cell)
    yield from _of_sequences(cell)
    if isinstance(cell, GRUCell):
        yield from _of_variants(cell)


def _of_activations(cell: Any) -> Iterator[tuple[str, Alternative]]:
    names = {"RNNCell": "h", "GRUCell": "rzc", "LSTMCell": "ifgo"}[type(cell).__name__]
    usual = getattr(cell, "activation", None)
    for name in [*names, *(["tanh(c_t)"] if isinstance(cell, LSTMCell) else [])]:
        own = usual or ("tanh" if name in ("c", "g", "tanh(c_t)") else "sigmoid")
        for other in ("tanh", "sigmoid", "relu", "identity"):
            if other != own:
                kinds = {name: {"sigmoid": "σ"}.get(other, other)}
                text = f"{_letter(other)} for {_letter(own)}"
                where = "" if name == "h" else f" at {name}"
                yield (
                    text + where,
                    lambda cell, p, x, s, kinds=kinds: _run(cell, p, x, s, kinds=kinds),  # type: ignore[misc]
                )


def _letter(activation: str) -> str:
    return {"sigmoid": "σ", "identity": "nothing"}.get(activation, activation)


def _of_parameters(cell: Any) -> Iterator[tuple[str, Alternative]]:
    def with_params(change: Callable[[Any, Params], Params]) -> Alternative:
        return lambda cell, p, x, s: _run(cell, {**p, **change(cell, p)}, x, s)

    gates = GATES[type(cell).__name__]
    if getattr(cell, "variant", "") == "minimal":
        gates = "zc"
    yield "the bias is missing", with_params(lambda cell, p: {"b": 0 * p["b"]})
    yield "the bias is added twice", with_params(lambda cell, p: {"b": 2 * p["b"]})
    yield (
        "W_h is transposed",
        with_params(
            lambda cell, p: {
                "W_h": np.concatenate([B.T for B in split(p["W_h"], len(gates))], axis=1)
            }
        ),
    )
    for k, gate in enumerate(gates) if len(gates) > 1 else ():
        for one in (1.0, -1.0):
            yield (
                f"{one:g} is added to the preactivation of {gate}",
                with_params(lambda cell, p, k=k, a=one: {"b": p["b"] + a * _block(cell, p, k)}),  # type: ignore[misc]
            )
        yield f"gate {gate} is always 1", with_params(lambda cell, p, k=k: _always_one(cell, p, k))  # type: ignore[misc]
        for name in ("W_x", "W_h", "b"):
            yield (
                f"{name} of gate {gate} is missing",
                with_params(
                    lambda cell, p, k=k, n=name: {n: p[n] * (1 - _block(cell, p, k))}  # type: ignore[misc]
                ),
            )
    for which in (("W_x", "W_h", "b"), ("b",), ("W_h",), ("W_x",), ("W_x", "W_h")):
        for k in range(len(gates)):
            rest = [j for j in range(len(gates)) if j != k]
            for size in range(1, len(gates)):
                for others in combinations(rest, size):
                    named = ", ".join(gates[j] for j in others)
                    order = tuple(k if j in others else j for j in range(len(gates)))
                    yield (
                        f"{', '.join(which)} of gate {gates[k]} is used for {named} too",
                        with_params(
                            lambda cell, p, which=which, o=order: {  # type: ignore[misc]
                                n: np.concatenate([split(p[n], len(o))[j] for j in o], axis=-1)
                                for n in which
                            }
                        ),
                    )
        for order in list(permutations(range(len(gates))))[1:]:
            yield (
                f"the gates of {', '.join(which)} are in the order "
                + "".join(gates[k] for k in order),
                with_params(
                    lambda cell, p, which=which, o=order: {n: _reordered(p[n], o) for n in which}  # type: ignore[misc]
                ),
            )
    for name in [n for n in ("w_c", "W_c", "b_h") if n in cell.layout]:
        what = "the recurrent bias b_h is" if name == "b_h" else "the peepholes are"
        yield f"{what} missing", with_params(lambda cell, p, n=name: {n: 0 * p[n]})  # type: ignore[misc]
    if "b_h" in cell.layout:
        yield (
            "b_h is outside the product with the reset gate",
            with_params(
                lambda cell, p: {
                    "b_h": 0 * p["b_h"],
                    "b": np.concatenate([p["b"][: 2 * cell.H], p["b"][2 * cell.H :] + p["b_h"]]),
                }
            ),
        )


def _always_one(cell: Any, p: Params, k: int) -> Params:
    """Return parameters with which gate k is σ(10³) = 1."""
    mask = _block(cell, p, k)
    return {
        "W_x": p["W_x"] * (1 - mask),
        "W_h": p["W_h"] * (1 - mask),
        "b": p["b"] * (1 - mask) + 1e3 * mask,
    }


def _block(cell: Any, params: Params, k: int) -> Array:
    """Return 1 at the k-th gate's entries of the bias, else 0."""
    mask = np.zeros(params["b"].shape)
    mask[k * cell.H : (k + 1) * cell.H] = 1
    return mask


def _reordered(a: Array, order: tuple[int, ...]) -> Array:
    """Read the blocks of ``a`` as if the k-th were gate order[k]."""
    blocks = split(a, len(order))
    return np.concatenate([blocks[order.index(k)] for k in range(len(order))], axis=-1)


def _of_sequences(cell: Any) -> Iterator[tuple[str, Alternative]]:
    for k, name in enumerate(cell.state_names):
        yield (
            f"{name}0 is ignored",
            lambda cell, p, x, s, k=k: _run(  # type: ignore[misc]
                cell, p, x, tuple(0 * v if j == k else v for j, v in enumerate(s))
            ),
        )
    yield (
        "the initial state is ignored",
        lambda cell, p, x, s: _run(cell, p, x, tuple(0 * v for v in s)),
    )
    yield "the sequence is read backwards", lambda cell, p, x, s: _run(cell, p, x[::-1], s)

    def after(change: Callable[[Outputs, State], Outputs]) -> Alternative:
        return lambda cell, p, x, s: change(_run(cell, p, x, s), s)

    yield "every step starts from the initial state", _all_from_initial
    yield "hs is reversed in time", after(lambda o, s: [o[0][::-1], *o[1:]])
    yield "h_T is the first state", after(lambda o, s: [o[0], o[0][0], *o[2:]])
    yield (
        "hs is one step late: it begins with h0",
        after(lambda o, s: [np.concatenate([s[0][None], o[0][:-1]]), *o[1:]]),
    )
    if len(cell.state_names) == 2:
        yield "the c_T that is returned is h_T", after(lambda o, s: [o[0], o[1], o[1]])
        yield "h_T and c_T are exchanged", after(lambda o, s: [o[0], o[2], o[1]])
        yield "c_T is tanh(c_T)", after(lambda o, s: [*o[:2], np.tanh(o[2])])
        yield "h0 and c0 are exchanged", lambda cell, p, x, s: _run(cell, p, x, s[::-1])
        if cell.peephole:
            yield (
                "the output gate's peephole sees c_{t−1}",
                lambda cell, p, x, s: _run(cell, p, x, s, late_peephole=True),
            )


def _all_from_initial(cell: Any, p: Params, x: Array, state: State) -> Outputs:
    steps = [_run(cell, p, x_t[None], state) for x_t in x]
    return [np.concatenate([o[0] for o in steps]), *steps[-1][1:]]


def _of_variants(cell: GRUCell) -> Iterator[tuple[str, Alternative]]:
    """Apply the reset gate at the other place, with no b_h; see declared.py for the variants."""

    def mirrored(cell: GRUCell, p: Params) -> Params:
        count = 2 if cell.variant == "minimal" else 3
        signs = np.repeat([-1.0 if k == count - 2 else 1.0 for k in range(count)], cell.H)
        return {n: a if n == "b_h" else a * signs for n, a in p.items()}

    if cell.variant != "minimal":
        other = "reset_after" if cell.variant == "reset_before" else "reset_before"
        when = other.replace("reset_", "")

        def changed(cell: GRUCell, p: Params) -> Params:
            rest = {n: a for n, a in p.items() if n != "b_h"}
            return {**rest, "b_h": np.zeros(cell.H)} if when == "after" else rest

        for flip in (False, True):
            also = ", and the update gate is mirrored" if flip else ""
            yield (
                f"the reset gate is applied {when} the product with W_h{also}",
                lambda cell, p, x, s, flip=flip: _run(  # type: ignore[misc]
                    replace(cell, variant=other),
                    changed(cell, mirrored(cell, p) if flip else p),
                    x,
                    s,
                ),
            )
