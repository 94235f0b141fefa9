"""How a layer's arrays are laid out, declared as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell
from tinygrad_rnn.functions import Array

WEIGHTS = ("W_x", "W_h", "W_c")


@dataclass(frozen=True)
class LayerMap:
    """How a layer's parameters and sequences differ from the cell's.

    Attributes
    ----------
    names : dict
        The layer's name for a parameter of the cell, or for ``"x"``, ``"h0"``, ``"c0"`` in the
        gradient; a tuple of names if the layer keeps every gate in an array of its own, in the
        order of ``gates``. What is not mentioned has the cell's name.
    gates : str
        The order of the gates in the layer; ``""`` for the cell's: rzc (minimal: zc) for the GRU,
        ifgo for the LSTM.
    transposed : bool
        Whether weights have the shape (out, in) and multiply from the left.
    stacked : str
        ``"xh"`` or ``"hx"`` if ``W_x`` and ``W_h`` are one matrix, for the inputs [x, h] or [h, x];
        it has the name of ``W_x``. ``""`` if they are not.
    second_bias : str or tuple of str
        The name of a second bias that is added to ``b``. For the GRU ``reset_after`` its block of
        the candidate is ``b_h``, as in PyTorch.
    mirrored : bool
        Whether the GRU's update gate multiplies the old state, as in PyTorch, and not the
        candidate.
    batch_first : bool
        Whether sequences are (N, T, ·).
    lengths : str
        The keyword of ``forward`` for the lengths (N,) of the sequences, integers from 1 to T;
        ``""`` if it has none. After its length a sequence keeps its state.
    padding : str
        What hs holds after a sequence's length: ``"state"`` or ``"zeros"``.

    Examples
    --------
    A layer with PyTorch's parameters:

    >>> import tinygrad_rnn as tg
    >>> names = {"W_x": "weight_ih", "W_h": "weight_hh", "b": "bias_ih"}
    >>> map = tg.LayerMap(names, transposed=True, second_bias="bias_hh")
    >>> map.shapes(tg.LSTMCell(D=2, H=3))
    {'weight_ih': (12, 2), 'weight_hh': (12, 3), 'bias_ih': (12,), 'bias_hh': (12,)}
    """

    names: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    gates: str = ""
    transposed: bool = False
    stacked: str = ""
    second_bias: str | tuple[str, ...] = ""
    mirrored: bool = False
    batch_first: bool = False
    lengths: str = ""
    padding: str = "state"

    def check(self, cell: Cell) -> None:
        """Refuse a map that does not fit the cell.

        Raises
        ------
        ValueError
            Saying which of its fields, and what is possible.
        """
        known = {*cell.layout, "x", *(f"{s}0" for s in cell.state_names)}
        if unknown := set(self.names) - known:
            fields = ", ".join(sorted(unknown & set(LayerMap.__dataclass_fields__)))
            raise ValueError(
                f"names maps {', '.join(sorted(unknown))}, which {type(cell).__name__} does not "
                f"have; it has {', '.join(sorted(known))}."
                + (f" In TOML, write the options {fields} above [names]." if fields else "")
            )
        for canonical, names in (*self.names.items(), ("b", self.second_bias)):
            many = len(gates(cell, canonical))
            if isinstance(names, tuple) and len(names) != many:
                possible = f"one name or {many}, one for each gate" if many else "one name"
                raise ValueError(f"for {canonical} there must be {possible}, got {names}.")
        own = gates(cell)
        if self.gates and sorted(self.gates) != sorted(own):
            raise ValueError(f"gates must be an order of {own!r}, got {self.gates!r}.")
        if self.stacked not in ("", "xh", "hx"):
            raise ValueError(f'stacked must be "", "xh" or "hx", got {self.stacked!r}.')
        if self.padding not in ("state", "zeros"):
            raise ValueError(f'padding must be "state" or "zeros", got {self.padding!r}.')
        if self.mirrored and not isinstance(cell, GRUCell):
            raise ValueError(f"mirrored is about the GRU's update gate, not {type(cell).__name__}.")

    def name(self, canonical: str) -> str:
        """Return what the layer calls ``"x"``, ``"h0"`` or ``"c0"``."""
        return str(self.names.get(canonical, canonical))

    def shapes(self, cell: Cell) -> dict[str, tuple[int, ...]]:
        """Return the shape of every parameter of the layer."""
        found: dict[str, tuple[int, ...]] = {}
        shapes = dict(cell.shapes)
        if self.second_bias:
            shapes.pop("b_h", None)
        if self.stacked:
            wide = shapes["W_x"][1]
            shapes["W_x"] = (cell.D + cell.H, wide)
            del shapes["W_h"]
        for canonical, shape in shapes.items():
            biases = [self.second_bias] if canonical == "b" and self.second_bias else []
            for names in (self.names.get(canonical, canonical), *biases):
                if isinstance(names, tuple) and canonical == "w_c":
                    shape = shape[1:]  # it has a row for each gate
                elif isinstance(names, tuple):
                    shape = (*shape[:-1], shape[-1] // len(names))
                flip = self.transposed and canonical in WEIGHTS
                for name in names if isinstance(names, tuple) else (names,):
                    found[name] = shape[::-1] if flip else shape
        return found

    def canonical(self, cell: Cell, params: Mapping[str, Array]) -> dict[str, Array]:
        """Return the cell's parameters as a (linear) function of the layer's, also on Tensors."""
        result = {}
        for name in cell.layout:
            if (name == "W_h" and self.stacked) or (name == "b_h" and self.second_bias):
                continue
            whole = self._gathered(cell, name, self.names.get(name, name), params)
            if name == "b" and self.second_bias:
                second = self._gathered(cell, name, self.second_bias, params)
                if "b_h" in cell.layout:
                    result["b_h"] = second[2 * cell.H :]
                    second = np.concatenate([second[: 2 * cell.H], np.zeros(cell.H)])
                whole = whole + second
            result[name] = whole
        if self.stacked:
            both = result["W_x"]
            first = cell.D if self.stacked == "xh" else cell.H
            parts = both[:first], both[first:]
            result["W_x"], result["W_h"] = parts if self.stacked == "xh" else parts[::-1]
        if self.mirrored:
            result = {k: self._with_z_negated(cell, k, v) for k, v in result.items()}
        return result

    def _gathered(
        self, cell: Cell, canonical: str, names: str | tuple[str, ...], params: Mapping[str, Array]
    ) -> Array:
        """Return one parameter of the cell, its gates side by side in the cell's order."""
        flip = self.transposed and canonical in WEIGHTS
        parts = [
            np.transpose(params[n]) if flip else params[n]
            for n in (names if isinstance(names, tuple) else (names,))
        ]
        own = gates(cell, canonical)
        order = [g for g in self.gates or own if g in own]
        if len(parts) == 1:
            if canonical in ("w_c", "b_h") or "".join(order) == own:
                return parts[0]
            H = parts[0].shape[-1] // len(own)
            parts = [parts[0][..., k * H : (k + 1) * H] for k in range(len(own))]
        join = np.stack if canonical == "w_c" else partial(np.concatenate, axis=-1)
        return join([parts[order.index(gate)] for gate in own])

    def _with_z_negated(self, cell: Cell, name: str, value: Array) -> Array:
        """1 − σ(a) = σ(−a): the mirrored update gate is ours with its parameters negated."""
        if name == "b_h":
            return value
        signs = np.repeat([-1.0 if gate == "z" else 1.0 for gate in gates(cell)], cell.H)
        return value * signs

    def sequence(self, a: Array | None) -> Array | None:
        """Turn (T, N, ·) into the layer's layout, or back."""
        return a if a is None or not self.batch_first else np.swapaxes(a, 0, 1)


def gates(cell: Cell, parameter: str = "W_x") -> str:
    """Return the order of a cell's gates, a letter each, as far as they have the parameter."""
    if parameter in ("w_c", "W_c"):
        return "ifo"
    if parameter not in ("W_x", "W_h", "b"):
        return ""
    if isinstance(cell, GRUCell):
        return "zc" if cell.variant == "minimal" else "rzc"
    return "ifgo" if isinstance(cell, LSTMCell) else "h"


def other_padding(map: LayerMap) -> str:
    """Return what the outputs may hold after a sequence's end, instead of what is declared."""
    return "zeros" if map.padding == "state" else "state"


def as_map(map: LayerMap | Mapping[str, Any] | None) -> LayerMap:
    """Return a LayerMap for its fields as a dict, such as a TOML file holds."""
    if isinstance(map, LayerMap):
        return map
    fields: dict[str, Any] = dict(map or {})
    if unknown := set(fields) - set(LayerMap.__dataclass_fields__):
        known = ", ".join(LayerMap.__dataclass_fields__)
        raise ValueError(f"map has the unknown fields {sorted(unknown)}; there are {known}.")
    fields["names"] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in fields.get("names", {}).items()
    }
    if isinstance(fields.get("second_bias"), list):
        fields["second_bias"] = tuple(fields["second_bias"])
    return LayerMap(**fields)
