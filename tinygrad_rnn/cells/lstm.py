"""The long short-term memory, with optional peepholes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells.cell import Cell, Letters, Params, State, diag, rows, split
from tinygrad_rnn.functions import Array

PEEPHOLES = (False, "diagonal", "full")


@dataclass(frozen=True)
class LSTMCell(Cell):
    """The LSTM of Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000).

    i, f, o = σ(x_t W_x + h_{t−1} W_h + b),  g = tanh(x_t W_x + h_{t−1} W_h + b), one block each;
    c_t = f ∘ c_{t−1} + i ∘ g,  h_t = o ∘ tanh(c_t).

    Parameters ``W_x (D, 4H)``, ``W_h (H, 4H)``, ``b (4H,)``, gates side by side in the order
    i, f, g, o (PyTorch's). State ``(h, c)``.

    Peepholes let the gates see the memory: i and f read c_{t−1}, and o reads c_t.
    ``peephole="diagonal"`` adds c ∘ w with ``w_c (3, H)``, rows i, f, o, as Gers and Schmidhuber
    (2000) do; ``peephole="full"``, or ``True``, adds c W with ``W_c (H, 3H)``, blocks i, f, o.

    Raises
    ------
    ValueError
        For a size that is not a positive integer or an unknown kind of peephole.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> tg.LSTMCell(D=2, H=3, peephole="diagonal").shapes
    {'W_x': (2, 12), 'W_h': (3, 12), 'b': (12,), 'w_c': (3, 3)}
    """

    peephole: bool | str = False

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.peephole is True:
            object.__setattr__(self, "peephole", "full")
        if self.peephole not in PEEPHOLES:
            raise ValueError(
                f"peephole must be False, True, 'diagonal' or 'full', got {self.peephole!r}."
            )

    @property
    def layout(self) -> dict[str, Letters]:
        """Return each parameter's shape in letters."""
        layout: dict[str, Letters] = {"W_x": ("D", "4H"), "W_h": ("H", "4H"), "b": ("4H",)}
        if self.peephole == "diagonal":
            layout["w_c"] = ("3", "H")
        if self.peephole == "full":
            layout["W_c"] = ("H", "3H")
        return layout

    def _peep(self, params: Params, gate: int, c: Array) -> Array:
        """Return what gate 0, 1, 2 = i, f, o sees of the memory c."""
        if self.peephole == "diagonal":
            return c * params["w_c"][gate]
        return c @ params["W_c"][:, gate * self.H : (gate + 1) * self.H]

    def _peep_matrices(self, params: Params) -> list[Array]:
        """Return V_i, V_f, V_o with _peep(c) = c V."""
        if self.peephole == "diagonal":
            return [np.diag(w) for w in params["w_c"]]
        return split(params["W_c"], 3)

    def _forward(
        self, params: Params, x_t: Array, state: State
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return the preactivations of i, f, g, o, and c_t."""
        h, c = state
        a_i, a_f, a_g, a_o = split(x_t @ params["W_x"] + h @ params["W_h"] + params["b"], 4)
        if self.peephole:
            a_i = a_i + self._peep(params, 0, c)
            a_f = a_f + self._peep(params, 1, c)
        c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
        if self.peephole:
            a_o = a_o + self._peep(params, 2, c)
        return a_i, a_f, a_g, a_o, c

    def step(self, params: Params, x_t: Array, state: State) -> State:
        """Return (h_t, c_t) with c_t = f ∘ c_{t−1} + i ∘ g and h_t = o ∘ tanh(c_t).

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.LSTMCell(D=2, H=3)
        >>> h, c = cell.step(cell.init(0), np.ones((5, 2)), cell.initial_state(5))
        >>> h.shape, c.shape
        ((5, 3), (5, 3))
        """
        _, _, _, a_o, c = self._forward(params, x_t, state)
        return sigmoid(a_o) * np.tanh(c), c

    def jacobian(self, params: Params, x_t: Array, state: State) -> Array:
        """Return ∂(h_t, c_t)/∂(h_{t−1}, c_{t−1}), shape (N, 2H, 2H).

        [[E A + G, E F], [A, F]], with c_- = c_{t−1} and every W meaning its block of W_h:

        - F = ∂c_t/∂c_- = diag(f) + diag(c_- f') V_fᵀ + diag(g i') V_iᵀ;
        - A = ∂c_t/∂h_{t−1} = diag(c_- f') W_fᵀ + diag(g i') W_iᵀ + diag(i g') W_gᵀ;
        - E = ∂h_t/∂c_t = diag(o tanh'(c_t)) + diag(tanh(c_t) o') V_oᵀ;
        - G = ∂⁺h_t/∂h_{t−1} = diag(tanh(c_t) o') W_oᵀ.

        The V are the peepholes' matrices, absent without them.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.LSTMCell(D=2, H=3)
        >>> cell.jacobian(cell.init(0), np.ones((5, 2)), cell.initial_state(5)).shape
        (5, 6, 6)
        """
        c_prev = state[1]
        a_i, a_f, a_g, a_o, c = self._forward(params, x_t, state)
        W_i, W_f, W_g, W_o = split(params["W_h"], 4)
        by_f = c_prev * d_sigmoid(a_f)
        by_i = np.tanh(a_g) * d_sigmoid(a_i)
        by_g = sigmoid(a_i) * d_tanh(a_g)
        by_o = np.tanh(c) * d_sigmoid(a_o)
        by_c = sigmoid(a_o) * d_tanh(c)
        F = diag(sigmoid(a_f))
        A = rows(by_f, W_f.T) + rows(by_i, W_i.T) + rows(by_g, W_g.T)
        G = rows(by_o, W_o.T)
        if not self.peephole:
            return np.block([[rows(by_c, A) + G, rows(by_c, F)], [A, F]])
        V_i, V_f, V_o = self._peep_matrices(params)
        F = F + rows(by_f, V_f.T) + rows(by_i, V_i.T)
        E = diag(by_c) + rows(by_o, V_o.T)
        return np.block([[E @ A + G, E @ F], [A, F]])

    def local(self, params: Params, x_t: Array, state: State, d_state: State) -> dict[str, Array]:
        """Return ∂⁺ of every parameter and of x, with h_{t−1} and c_{t−1} held fixed.

        δ_o = ∂L/∂h_t ∘ tanh(c_t) ∘ o';  δ_{c_t} = ∂L/∂c_t + ∂L/∂h_t ∘ o ∘ tanh'(c_t) + δ_o V_oᵀ;
        δ_f = δ_{c_t} ∘ c_{t−1} ∘ f',  δ_i = δ_{c_t} ∘ g ∘ i',  δ_g = δ_{c_t} ∘ i ∘ g'.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.LSTMCell(D=2, H=3, peephole=True)
        >>> state = cell.initial_state(5)
        >>> g = cell.local(cell.init(0), np.ones((5, 2)), state, (np.ones((5, 3)),) * 2)
        >>> {name: d.shape for name, d in g.items()}
        {'W_x': (2, 12), 'W_h': (3, 12), 'b': (12,), 'W_c': (3, 9), 'x': (5, 2)}
        """
        (h, c_prev), (d_h, d_c) = state, d_state
        a_i, a_f, a_g, a_o, c = self._forward(params, x_t, state)
        d_o = d_h * np.tanh(c) * d_sigmoid(a_o)
        d_c = d_c + d_h * sigmoid(a_o) * d_tanh(c)
        if self.peephole:
            d_c = d_c + d_o @ self._peep_matrices(params)[2].T
        d_i = d_c * np.tanh(a_g) * d_sigmoid(a_i)
        d_f = d_c * c_prev * d_sigmoid(a_f)
        d_g = d_c * sigmoid(a_i) * d_tanh(a_g)
        d = np.concatenate([d_i, d_f, d_g, d_o], axis=1)
        gradients = {"W_x": x_t.T @ d, "W_h": h.T @ d, "b": d.sum(axis=0)}
        seen = ((c_prev, d_i), (c_prev, d_f), (c, d_o))
        if self.peephole == "diagonal":
            gradients["w_c"] = np.stack([(m * d_k).sum(axis=0) for m, d_k in seen])
        if self.peephole == "full":
            gradients["W_c"] = np.concatenate([m.T @ d_k for m, d_k in seen], axis=1)
        gradients["x"] = d @ params["W_x"].T
        return gradients
