"""The steps of the cells taken apart, so that a mistake can be built into any part of them.

A :class:`Surgeon` computes a step like the cell itself and keeps every intermediate array by its
name. A *cut* replaces the derivative of an operation, and leaves its value as it is. Differentiated
by the tape, the step then has exactly the gradient of a hand-written backward pass with that
mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.autodiff.tensor import raw
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.functions import Array

Names = dict[str, Array]
Replacement = Callable[[list[Names], int], Array]
SLOPES: dict[str, Callable[[Array], Array]] = {"σ": d_sigmoid, "tanh": d_tanh}
VALUES: dict[str, Callable[[Array], Array]] = {"σ": sigmoid, "tanh": np.tanh}


@dataclass(frozen=True)
class Cut:
    """Where derivatives are replaced, and by what.

    A place names an operation, as in "slope f"; what comes there is a function of the arrays of the
    clean run, ``names[t]``, and of the step t.
    """

    at: Mapping[str, Replacement]


@dataclass
class Surgeon:
    """Computes the steps of a cell, with a cut or without.

    ``clean`` holds the arrays of the run without a cut, ``names`` those of this run. ``kinds`` puts
    another activation in the place of a cell's; with ``late_peephole`` o sees c_{t−1}, and with
    ``other_reset`` a GRU has the derivatives of its other form of the reset gate. ``order`` says to
    the weights of which gate the derivative by a gate's preactivation goes.
    ``squashings``, ``products`` and ``affines`` list the places there are.
    """

    cell: Cell
    cut: Cut | None = None
    clean: list[Names] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    late_peephole: bool = False
    other_reset: bool = False
    order: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names: list[Names] = []
        self.squashings: dict[str, str] = {}
        self.products: dict[tuple[str, str], None] = {}
        self.affines: dict[str, str] = {}

    # -- the operations, each a place for a cut ----------------------------------------------------

    def _replacement(self, place: str) -> Array | None:
        if self.cut is None or place not in self.cut.at or self.clean is None:
            return None
        return self.cut.at[place](self.clean, len(self.names) - 1)

    def keep(self, name: str, value: Array) -> Array:
        """Remember an array under a name."""
        self.names[-1][name] = raw(value)
        return value

    def squash(self, name: str, kind: str, a: Array) -> Array:
        """Return σ(a) or another activation of ``a``, under a name."""
        kind = self.kinds.get(name, kind)
        self.squashings[name] = kind
        self.keep(f"a_{name}", a)
        y: Array = VALUES[kind](a) if kind in VALUES else ACTIVATIONS[kind].value(a)
        slope = self._replacement(f"slope {name}")
        return self.keep(name, y if slope is None else _instead(y, slope * a))

    def product(self, left: str, a: Array, right: str, b: Array) -> Array:
        """Return a ∘ b, the product of what has these names."""
        self.products[left, right] = None
        by_a = self._replacement(f"factor of {left} in {left} ∘ {right}")
        by_b = self._replacement(f"factor of {right} in {left} ∘ {right}")
        if by_a is None and by_b is None:
            return a * b
        by_a = raw(b) if by_a is None else by_a
        by_b = raw(a) if by_b is None else by_b
        return _instead(a * b, a * by_a + b * by_b)

    def affine(self, source: str, a: Array, gate: str, weight: str, W: Array) -> Array:
        """Return a @ W, what a gate sees of ``source``."""
        self.affines[f"{source} → {gate}"] = weight
        seen = self._replacement(f"input of ∂L/∂{weight} from {source}")
        if seen is None:
            seen = self._replacement(f"input of ∂L/∂{weight}{gate} from {source}")
        if seen is not None:
            return _instead(a @ W, a @ raw(W) + seen @ W)
        kept = self._replacement(f"path {source} → {gate}")
        if kept is None:
            kept = self._replacement(f"path {source}")
        if kept is not None:  # 0, 1 or −1 times; or a matrix in the place of Wᵀ
            through = a * kept if kept.ndim == 0 else a
            V = raw(W) if kept.ndim == 0 else raw(W).T
            return _instead(a @ W, through @ V + raw(a) @ W)
        return a @ W

    # -- the cells ------------------------------------------------------------------------------

    def step(self, params: Mapping[str, Array], x: Array, state: tuple[Array, ...]) -> Any:
        """Return the next state."""
        self.names.append({})
        self.keep("x", x)
        for name, value in zip(self.cell.state_names, state, strict=True):
            self.keep(f"{name}_prev", value)
        if isinstance(self.cell, RNNCell):
            new: tuple[Array, ...] = (self._rnn(self.cell, params, x, *state),)
        elif isinstance(self.cell, GRUCell):
            new = (self._gru(self.cell, params, x, *state),)
        else:
            new = self._lstm(self.cell, params, x, *state)  # type: ignore[arg-type]
        for name, value in zip(self.cell.state_names, new, strict=True):
            self.keep(name if name == "h" else f"{name}_t", value)
        return new

    def _seen(self, params: Any, x: Array, h: Array | None, gates: str) -> dict[str, Array]:
        """Return the preactivations of the gates."""
        count = len(gates)
        blocks = [split(params[name], count) for name in ("W_x", "W_h", "b")]
        seen = {}
        for gate, W_x, W_h, b in zip(gates, *blocks, strict=True):
            seen[gate] = self.affine("x", x, gate, "W_x", W_x) + b
            if h is not None:
                seen[gate] = seen[gate] + self.affine("h_prev", h, gate, "W_h", W_h)
        return seen

    def _sent(self, seen: dict[str, Array]) -> dict[str, Array]:
        return {
            k: _instead(v, seen[self.order[k]]) if k in self.order else v for k, v in seen.items()
        }

    def _rnn(self, cell: RNNCell, params: Any, x: Array, h: Array) -> Array:
        return self.squash("h", cell.activation, self._seen(params, x, h, "h")["h"])

    def _gru(self, cell: GRUCell, params: Any, x: Array, h: Array) -> Array:
        gates = "zc" if cell.variant == "minimal" else "rzc"
        a = self._seen(params, x, None, gates)
        W = dict(zip(gates, split(params["W_h"], len(gates)), strict=True))
        for gate in gates[:-1]:
            a[gate] = a[gate] + self.affine("h_prev", h, gate, "W_h", W[gate])
        a = self._sent(a)
        for gate in gates[:-1]:
            a[gate] = self.squash(gate, "σ", a[gate])
        if cell.variant == "minimal":
            a_c = a["c"] + self.affine("h_prev", h, "c", "W_h", W["c"])
        elif cell.variant == "reset_before":
            rh = self.keep("r ∘ h_prev", self.product("r", a["r"], "h_prev", h))
            seen = self.affine("r ∘ h_prev", rh, "c", "W_h", W["c"])
            a_c = a["c"] + (_instead(seen, a["r"] * (h @ W["c"])) if self.other_reset else seen)
        else:
            u = self.affine("h_prev", h, "c", "W_h", W["c"]) + params["b_h"]
            u = self.keep("u", u)
            seen, other = self.product("r", a["r"], "u", u), (a["r"] * h) @ W["c"] + params["b_h"]
            a_c = a["c"] + (_instead(seen, other) if self.other_reset else seen)
        c, z = self.squash("c", "tanh", a_c), a["z"]
        keep = self.keep("1 − z", 1 - z)
        return self.product("z", z, "c", c) + self.product("1 − z", keep, "h_prev", h)

    def _lstm(self, cell: LSTMCell, params: Any, x: Array, h: Array, c: Array) -> Any:
        a = self._sent(self._seen(params, x, h, "ifgo"))
        if cell.peephole:
            a["i"] = a["i"] + self._peep(cell, params, 0, "c_prev", c)
            a["f"] = a["f"] + self._peep(cell, params, 1, "c_prev", c)
        i, f = self.squash("i", "σ", a["i"]), self.squash("f", "σ", a["f"])
        g = self.squash("g", "tanh", a["g"])
        before, c = c, self.product("f", f, "c_prev", c) + self.product("i", i, "g", g)
        self.keep("c_t", c)
        if cell.peephole:
            seen = before if self.late_peephole else c
            a["o"] = a["o"] + self._peep(cell, params, 2, "c_t", seen)
        o = self.squash("o", "σ", a["o"])
        return self.product("o", o, "tanh(c_t)", self.squash("tanh(c_t)", "tanh", c)), c

    def _peep(self, cell: LSTMCell, params: Any, k: int, source: str, c: Array) -> Array:
        gate = "ifo"[k]
        if cell.peephole == "full":
            return self.affine(source, c, gate, "W_c", split(params["W_c"], 3)[k])
        return self.product(f"w_c{gate}", params["w_c"][k], source, c)


def _instead(value: Array, surrogate: Array) -> Array:
    """Return ``value`` with the derivative of ``surrogate``."""
    return surrogate + (raw(value) - raw(surrogate))
