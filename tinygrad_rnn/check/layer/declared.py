"""Another declaration of a layer: the cell or the layout with which its forward pass is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from typing import Any

from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell
from tinygrad_rnn.cells.gru import VARIANTS
from tinygrad_rnn.cells.lstm import PEEPHOLES
from tinygrad_rnn.check.layer.layout import LayerMap, gates, other_padding
from tinygrad_rnn.check.layer.outcome import Conformance
from tinygrad_rnn.check.layer.subject import Subject
from tinygrad_rnn.check.layer.trials import Trial


def declared_otherwise(c: Conformance, trial: Trial) -> tuple[list[str], list[str]]:
    """Return what a layer is whose outputs are not the cell's, and how to declare that.

    The declaration gives the outputs of the trial and of a second one, with as few changes as
    possible. Two empty lists if there is none.
    """
    trials = [trial, replace(trial, seed=trial.seed + 1)]
    for cell, map in _declarations(c.cell, c.map):
        if c.params is not None and map.shapes(cell) != c.map.shapes(c.cell):
            continue
        subject = Subject(c.subject.layer, map, cell.state_names)
        other = Conformance(subject, cell, map, c.params)
        if all(_forward_is_right(other, t) for t in trials):
            wrong = sorted({name for t in trials for name in other.run(t).wrong})
            return [f"forward: {_said(c, other)}", backward_of_that(wrong)], [_advice(c, other)]
    return [], []


def backward_of_that(wrong: list[str]) -> str:
    """Say whether the backward pass belongs to the forward pass that was found."""
    if wrong:
        return f"backward: besides, ∂L/∂{', ∂L/∂'.join(wrong)} is not the gradient of that"
    return "backward: it is the gradient of that forward pass"


def _forward_is_right(c: Conformance, trial: Trial) -> bool:
    o = c.run(trial)
    return o.reference is not None and "outputs" not in o.wrong


def _declarations(cell: Cell, map: LayerMap) -> Iterator[tuple[Cell, LayerMap]]:
    """Yield the other variants of the cell in other layouts, the fewest changes first."""
    cells: list[Cell] = [cell]
    if isinstance(cell, GRUCell):
        cells += [replace(cell, variant=v) for v in VARIANTS if v != cell.variant]
    if isinstance(cell, LSTMCell):
        cells += [replace(cell, peephole=p) for p in PEEPHOLES if p != cell.peephole]
    if any(isinstance(names, tuple) for names in (*map.names.values(), map.second_bias)):
        cells = [other for other in cells if len(gates(other)) == len(gates(cell))]
    mirror = [False, True] if isinstance(cell, GRUCell) else [False]
    flips = [
        {"mirrored": m, "transposed": t, "batch_first": b}
        for m, t, b in product(mirror, (False, True), (False, True))
    ]
    changes: list[dict[str, Any]] = [
        {name: not getattr(map, name) for name, on in flip.items() if on} for flip in flips
    ]
    if map.lengths:
        changes += [change | {"padding": other_padding(map)} for change in changes]
    choices = [(other, change) for other in cells for change in changes]
    for other in cells:  # orders of gates only with what belongs to the same equations
        own = gates(other)
        for order in ("".join(p) for p in permutations(own)):
            if order != (map.gates or own):
                few = [c for c in changes if not c.keys() - {"mirrored"}]
                choices += [(other, c | {"gates": order}) for c in few]
    for other, change in sorted(choices, key=lambda choice: (choice[0] != cell) + len(choice[1])):
        if other != cell or change:
            yield other, replace(map, **change)


def _changes(c: Conformance, other: Conformance) -> dict[str, bool | str]:
    names = ("mirrored", "transposed", "batch_first", "gates", "padding")
    return {n: getattr(other.map, n) for n in names if getattr(c.map, n) != getattr(other.map, n)}


def _said(c: Conformance, other: Conformance) -> str:
    said = {
        ("mirrored", True): "the update gate is mirrored: z multiplies the old state",
        ("mirrored", False): "the update gate is not mirrored: z multiplies the candidate",
        ("transposed", True): "weights have the shape (out, in)",
        ("transposed", False): "weights have the shape (in, out)",
        ("batch_first", True): "sequences are (N, T, ·)",
        ("batch_first", False): "sequences are (T, N, ·)",
        ("padding", "zeros"): "after a sequence's end the outputs are zero",
        ("padding", "state"): "after a sequence's end the outputs hold the state",
    }
    texts = [
        f"the gates of W_x, W_h, b are in the order {value}"
        if name == "gates"
        else said[name, value]
        for name, value in _changes(c, other).items()
    ]
    if other.cell != c.cell:
        variant = getattr(other.cell, "variant", "")
        reset = f"; the reset gate is applied {variant[6:]} the product with W_h"
        texts.insert(0, f"it is that of {other.cell}{reset if variant[:6] == 'reset_' else ''}")
    return "; ".join(texts)


def _advice(c: Conformance, other: Conformance) -> str:
    """Say what to write, if what differs is meant."""
    parts = []
    if other.cell != c.cell:
        parts.append(f"your layer is {other.cell}: pass that as the cell")
    if changes := _changes(c, other):
        fields = [f"{name}={value!r}" for name, value in changes.items()]
        rest = [] if c.map == LayerMap() else ["…"]
        parts.append(f"declare it: map=tg.LayerMap({', '.join([*rest, *fields])})")
    return "; and ".join(parts)
