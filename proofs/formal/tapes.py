"""The tape of Tape.v that the engine's record amounts to.

The record that a Tensor leaves is walked node by node. Each rule's own function runs on arrays of
`Cell`, which write down one instruction for each scalar operation; what only moves numbers about,
such as indexing, writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import bptt, unroll
from tinygrad_rnn.autodiff.sweeps import ancestors
from tinygrad_rnn.autodiff.tensor import Tensor, raw
from tinygrad_rnn.cells.cell import Cell as RecurrentCell
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars.element import Element, elementwise, lifted, number


class Tape(NamedTuple):
    """Numbers in the first cells, one instruction for each cell after them, and the result's."""

    inputs: list[Fraction]
    instructions: list[tuple[str, tuple[int, ...]]]
    output: int


@dataclass(eq=False)
class Cell(Element):
    """A number that is given, or the instruction that computes it from other cells."""

    tape: list[Cell]
    given: Fraction | None = None
    instruction: str = ""
    arguments: tuple[Cell, ...] = ()

    def __post_init__(self) -> None:
        self.tape.append(self)

    def _lift(self, other: Any) -> Any:
        if isinstance(other, Cell):
            return other
        return NotImplemented if isinstance(other, np.ndarray) else given(self.tape, other)

    def _write(self, instruction: str, *arguments: Cell) -> Cell:
        return Cell(self.tape, None, instruction, arguments)

    @lifted
    def __add__(self, other: Cell) -> Cell:
        return self._write("IAdd", self, other)

    @lifted
    def __sub__(self, other: Cell) -> Cell:
        return self._write("ISub", self, other)

    @lifted
    def __mul__(self, other: Cell) -> Cell:
        return self._write("IMul", self, other)

    @lifted
    def __radd__(self, other: Cell) -> Cell:
        return self._write("IAdd", other, self)

    @lifted
    def __rsub__(self, other: Cell) -> Cell:
        return self._write("ISub", other, self)

    @lifted
    def __rmul__(self, other: Cell) -> Cell:
        return self._write("IMul", other, self)

    def tanh(self) -> Cell:
        """Write tanh."""
        return self._write("ITanh", self)

    def sigmoid(self) -> Cell:
        """Write σ."""
        return self._write("ISigm", self)


def given(tape: list[Cell], value: Any) -> Cell:
    """Return a cell that holds a number, exactly."""
    return Cell(tape, Fraction(number(value)))


def recorded_tape(inputs: Iterable[Tensor], output: Tensor) -> Tape:
    """Return the tape of the scalar ``output`` as a function of the Tensors ``inputs``.

    The entries of ``inputs`` are the first cells, in order, then come the program's constants.

    Raises
    ------
    ValueError
        If ``output`` was computed from a Tensor that is not among ``inputs``.
    TypeError, AttributeError
        If the record holds an operation that Tape.v does not know.
    """
    written: list[Cell] = []
    cells = {t._serial: elementwise(lambda value: given(written, value), raw(t)) for t in inputs}
    for node in ancestors([output]):
        if node._serial in cells:
            continue
        if node._origin is None:
            raise ValueError(f"{node} is none of the inputs: pass it, too.")
        rule, values, keywords, parents = node._origin
        arguments = [
            value if parent is None else cells[parent._serial]
            for value, parent in zip(values, parents, strict=True)
        ]
        cells[node._serial] = np.asarray(rule.value(*arguments, **keywords), dtype=object)
    first = [c for c in written if c.given is not None]
    then = [c for c in written if c.given is None]
    index = {cell: i for i, cell in enumerate(first + then)}
    return Tape(
        [c.given for c in first if c.given is not None],
        [(c.instruction, tuple(index[a] for a in c.arguments)) for c in then],
        index[cells[output._serial].item()],
    )


# ---- networks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A cell unrolled over one sequence of numbers; the loss is the sum of its last output."""

    cell: RecurrentCell
    T: int

    def arrays(self) -> tuple[Array, dict[str, Array], tuple[Array, ...]]:
        """Return x, the parameters and the state before the first step."""
        rng = np.random.default_rng(self.T)
        state = self.cell.initial_state(1)
        x = rng.uniform(-1, 1, (self.T, 1, self.cell.D))
        return x, self.cell.init(rng), tuple(rng.uniform(-1, 1, s.shape) for s in state)

    def record(self) -> tuple[list[Tensor], Tensor]:
        """Run it on Tensors; return x, the parameters and the state, and the loss."""
        x, params, state = self.arrays()
        inputs = [Tensor(a) for a in (x, *params.values(), *state)]
        named = dict(zip(params, inputs[1:], strict=False))
        run = unroll(self.cell, named, inputs[0], tuple(inputs[1 + len(params) :]), method="tape")
        return inputs, np.sum(run.outputs[-1])

    def gradients(self) -> Iterator[tuple[str, list[float]]]:
        """Yield the float64 gradient by all inputs, in their order, by the engine and others."""
        inputs, loss = self.record()
        loss.backward()
        yield "engine", _entries(t.grad for t in inputs)
        x, params, state = self.arrays()
        d_outputs = np.zeros((self.T, 1, self.cell.H))
        d_outputs[-1] = 1
        for method in ("kernel", "chain"):
            found = bptt(self.cell, params, x, d_outputs, state, method=method)
            yield method, _entries([found["x"], *(found[p] for p in params), *found["state"]])


def _entries(arrays: Iterable[Any]) -> list[float]:
    return [float(v) for a in arrays for v in np.ravel(a)]
