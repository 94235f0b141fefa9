"""Recurrent layers on top of each other, in one direction or in both.

Layer l reads the outputs of layer l − 1. With two directions a second cell of the same kind runs
over the reversed sequence, and the outputs of both stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.cells.cell import Cell, Params, State, value
from tinygrad_rnn.cells.problem import check_lengths
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import Run, bptt, unroll


@dataclass(frozen=True, eq=False)
class StackRun:
    """What a stack computes: ``outputs`` of its last layer, and the ``final`` state of each cell.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> stack = tg.Stack([tg.RNNCell(D=2, H=3), tg.RNNCell(D=3, H=4)])
    >>> run = stack.unroll(stack.init(0), np.ones((7, 5, 2)))
    >>> run.outputs.shape, [h.shape for (h,) in run.final]
    ((7, 5, 4), [(5, 3), (5, 4)])
    """

    outputs: Array
    final: tuple[State, ...]


@dataclass(frozen=True)
class Stack:
    """Layers of cells, layer l reading h_t of layer l − 1; ``bidirectional`` reads both ways.

    Forwards h_t = step(x_t, h_{t−1}), backwards h_t = step(x_t, h_{t+1}) with parameters of its
    own; the outputs (T, N, 2H) are the two side by side, so that the next cell has D = 2H.

    Parameters, states and gradients come in lists: layer by layer, forwards before backwards, as
    in PyTorch's ``h_n``.

    Parameters
    ----------
    cells
        One cell for each layer.
    bidirectional
        Whether each layer has a second cell of the same kind that starts at the end.

    Raises
    ------
    ValueError
        Without cells, and where a cell's D is not what the layer below it puts out.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cells = [tg.LSTMCell(D=2, H=3), tg.LSTMCell(D=6, H=3)]
    >>> stack = tg.Stack(cells, bidirectional=True)
    >>> params = stack.init(0)
    >>> len(params), stack.unroll(params, np.ones((7, 5, 2))).outputs.shape
    (4, (7, 5, 6))
    """

    cells: Sequence[Cell]
    bidirectional: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", tuple(self.cells))
        if not self.cells:
            raise ValueError("A stack needs at least one cell.")
        for layer, (below, cell) in enumerate(zip(self.cells, self.cells[1:], strict=False), 1):
            if self.directions * below.H != cell.D:
                raise ValueError(
                    f"cell {layer} must have D = {self.directions * below.H}, the width of what "
                    f"cell {layer - 1} puts out, got D = {cell.D}."
                )

    @property
    def directions(self) -> int:
        """Return 2 if ``bidirectional``, else 1."""
        return 2 if self.bidirectional else 1

    def init(self, rng: np.random.Generator | int, dtype: Any = np.float64) -> list[Params]:
        """Draw the parameters of every cell, see `Cell.init`.

        Examples
        --------
        >>> import tinygrad_rnn as tg
        >>> [p["W_x"].shape for p in tg.Stack([tg.RNNCell(2, 3), tg.RNNCell(3, 4)]).init(0)]
        [(2, 3), (3, 4)]
        """
        rng = np.random.default_rng(rng)
        return [cell.init(rng, dtype) for cell in self.cells for _ in range(self.directions)]

    def unroll(
        self,
        params: Sequence[Params],
        x: Array,
        state: Sequence[State] | None = None,
        method: str | None = None,
        lengths: Array | None = None,
    ) -> StackRun:
        """Run the stack over a sequence.

        Parameters
        ----------
        params
            The parameters of each cell.
        x, method
            As for :func:`tinygrad_rnn.unroll`.
        state
            The initial state of each cell, zero if left out.
        lengths
            The number of steps (N,) of each sequence, 0 … T. Backwards a sequence starts at its
            own last step; beyond its length the outputs are zero.

        Raises
        ------
        ValueError, TypeError
            As :func:`tinygrad_rnn.unroll`, for a list of the wrong length, and for lengths out of
            range.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> stack = tg.Stack([tg.RNNCell(D=1, H=1, activation="identity")], bidirectional=True)
        >>> one = {"W_x": np.ones((1, 1)), "W_h": np.ones((1, 1)), "b": np.zeros(1)}
        >>> x = np.array([[1.0], [2.0], [4.0], [8.0]])
        >>> stack.unroll([one, one], x, lengths=3).outputs.tolist()
        [[1.0, 7.0], [3.0, 6.0], [7.0, 4.0], [0.0, 0.0]]
        """
        time = _Time(x, lengths)
        final: list[State] = []
        for _, runs in self._layers(params, x, state, method, time):
            final += [time.final(run) for run in runs]
            outputs = time.join([run.outputs for run in runs])
        return StackRun(outputs, tuple(final))

    def bptt(
        self,
        params: Sequence[Params],
        x: Array,
        d_outputs: Array,
        state: Sequence[State] | None = None,
        method: str | None = None,
        lengths: Array | None = None,
        d_state: Sequence[tuple[Array | None, ...]] | None = None,
        checkpoint: int | str | None = None,
    ) -> dict[str, Any]:
        """Backpropagation through time and layers: the gradient of L(outputs, final states).

        Parameters
        ----------
        params, x, state, lengths
            As for :meth:`unroll`.
        d_outputs
            ∂L/∂outputs, of their shape.
        method, checkpoint
            As for :func:`tinygrad_rnn.bptt`.
        d_state
            ∂L/∂ of the final state of each cell, zero if left out.

        Returns
        -------
        dict
            ``"params"``, a list of the gradients of each cell's parameters; ``"x"``; and
            ``"state"``, a list of those of each cell's initial state.

        Raises
        ------
        ValueError, TypeError
            As :func:`tinygrad_rnn.bptt`, and for a list of the wrong length.

        Examples
        --------
        The output is x_1 w_1 w_2: its gradients are x_1 w_2 and x_1 w_1.

        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
        >>> zero = {"W_h": np.zeros((1, 1)), "b": np.zeros(1)}
        >>> params = [{"W_x": np.array([[w]]), **zero} for w in (2.0, 3.0)]
        >>> g = tg.Stack([cell, cell]).bptt(params, np.array([[5.0]]), np.array([[1.0]]))
        >>> [d["W_x"].item() for d in g["params"]], g["x"].item()
        ([15.0, 10.0], 6.0)
        """
        time, count = _Time(x, lengths), self.directions
        forward = "tape" if method == "chain" else method  # the chain has no trajectory of its own
        inputs = [read for read, _ in self._layers(params, x, state, forward, time)]
        states = self._each("state", state)
        d_states = self._each("d_state", d_state)
        found: list[dict[str, Any]] = []
        d: Array = np.asarray(d_outputs)
        shape = (*np.shape(x)[:-1], count * self.cells[-1].H)
        if d.shape != shape:
            raise ValueError(f"d_outputs must have shape {shape}, like the outputs, got {d.shape}.")
        for layer in reversed(range(len(self.cells))):
            cell, first = self.cells[layer], layer * count
            width = d.shape[-1] // count
            d_read = []
            for k in reversed(range(count)):
                g = bptt(
                    cell,
                    params[first + k],
                    time.turn(inputs[layer], k),
                    time.turn(d[..., k * width : (k + 1) * width], k),
                    states[first + k],
                    method,
                    lengths=lengths,
                    d_state=d_states[first + k],
                    checkpoint=checkpoint,
                )
                d_read.append(time.turn(g.pop("x"), k))
                found.insert(0, g)
            d = sum(d_read[1:], d_read[0])
        initial = [g.pop("state") for g in found]
        return {"params": found, "x": d, "state": initial}

    def _each(self, name: str, items: Sequence[Any] | None) -> Sequence[Any]:
        """Return one entry for each cell; None for each if ``items`` is None."""
        count = len(self.cells) * self.directions
        if items is None:
            return [None] * count
        if not isinstance(items, (list, tuple)) or len(items) != count:
            got = len(items) if isinstance(items, (list, tuple)) else type(items).__name__
            raise ValueError(
                f"{name} must be a list with an entry for each of {count} cells, layer by layer, "
                f"forwards before backwards, got {got}."
            )
        return items

    def _layers(
        self,
        params: Sequence[Params],
        x: Array,
        state: Sequence[State] | None,
        method: str | None,
        time: _Time,
    ) -> Iterator[tuple[Array, list[Run]]]:
        """Yield what each layer reads and the runs of its cells."""
        params, states = self._each("params", params), self._each("state", state)
        count, x = self.directions, time.cut(x if type(x) is Tensor else np.asarray(x))
        for layer, cell in enumerate(self.cells):
            runs = []
            for k in range(count):
                i = layer * count + k
                runs.append(unroll(cell, params[i], time.turn(x, k), states[i], method))
            yield x, runs
            x = time.join([run.outputs for run in runs])


class _Time:
    """The two directions of time, for sequences of length T or of the given lengths."""

    def __init__(self, x: Array, lengths: Array | None) -> None:
        x = value(x)
        self.whole = lengths is None or x.ndim not in (2, 3)  # of other shapes unroll will complain
        if self.whole:
            return
        single = x.ndim == 2
        x = x[:, None] if single else x
        lengths = check_lengths(lengths, x, single)
        t = np.arange(len(x))[:, None]
        inside = t < lengths
        turned = np.where(inside, lengths - 1 - t, t)
        rows = np.arange(len(lengths))
        self.last: Any = lengths[0] if single else (lengths, rows)
        self.turned: Any = turned[:, 0] if single else (turned, rows)
        self.inside = inside if single else inside[..., None]

    def turn(self, a: Array, direction: int) -> Array:
        """Reverse each sequence for direction 1; what is beyond its length stays in place."""
        if direction == 0:
            return a
        return a[::-1] if self.whole else a[self.turned]

    def cut(self, a: Array) -> Array:
        """Return ``a`` with zeros beyond the lengths."""
        return a if self.whole else np.where(self.inside, a, 0)

    def join(self, outputs: Sequence[Array]) -> Array:
        """Put the outputs of the directions side by side, in the order of time."""
        both = [self.turn(a, k) for k, a in enumerate(outputs)]
        return self.cut(np.concatenate(both, axis=-1))

    def final(self, run: Run) -> State:
        """Return the state after each sequence's own last step."""
        return run.final if self.whole else tuple(s[self.last] for s in run.states)
