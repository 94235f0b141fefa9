"""The plain recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass

from tinygrad_rnn.activations import ACTIVATIONS, activation
from tinygrad_rnn.cells.cell import Cell, Letters, Params, State, rows
from tinygrad_rnn.functions import Array


@dataclass(frozen=True)
class RNNCell(Cell):
    """The recurrent cell of Elman (1990).

    a_t = x_t W_x + h_{t−1} W_h + b,  h_t = f(a_t).

    Parameters ``W_x (D, H)``, ``W_h (H, H)``, ``b (H,)``; state ``(h,)``; ``activation`` is a name
    of :data:`tinygrad_rnn.activations.ACTIVATIONS`.

    Raises
    ------
    ValueError
        For a size that is not a positive integer or an unknown activation.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
    >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> cell.step(params, np.array([[3.0]]), (np.array([[2.0]]),))
    (array([[4.]]),)
    """

    activation: str = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.activation)

    @property
    def layout(self) -> dict[str, Letters]:
        """Return each parameter's shape in letters."""
        return {"W_x": ("D", "H"), "W_h": ("H", "H"), "b": ("H",)}

    def _preactivation(self, params: Params, x_t: Array, h: Array) -> Array:
        return x_t @ params["W_x"] + h @ params["W_h"] + params["b"]

    def step(self, params: Params, x_t: Array, state: State) -> State:
        """Return (h_t,) = (f(x_t W_x + h_{t−1} W_h + b),).

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=2, H=3)
        >>> (h,) = cell.step(cell.init(0), np.ones((5, 2)), cell.initial_state(5))
        >>> h.shape
        (5, 3)
        """
        (h,) = state
        return (ACTIVATIONS[self.activation].value(self._preactivation(params, x_t, h)),)

    def jacobian(self, params: Params, x_t: Array, state: State) -> Array:
        """Return ∂h_t/∂h_{t−1} = diag(f'(a_t)) W_hᵀ, shape (N, H, H).

        The transpose belongs to row vectors; the literature's column form is diag(f') W.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=1, H=2, activation="identity")
        >>> params = {"W_x": np.ones((1, 2)), "W_h": np.array([[1.0, 2], [3, 4]]), "b": np.ones(2)}
        >>> cell.jacobian(params, np.ones((1, 1)), cell.initial_state(1))[0].tolist()
        [[1.0, 3.0], [2.0, 4.0]]
        """
        (h,) = state
        f = ACTIVATIONS[self.activation]
        return rows(f.derivative(self._preactivation(params, x_t, h)), params["W_h"].T)

    def local(self, params: Params, x_t: Array, state: State, d_state: State) -> dict[str, Array]:
        """Return ∂⁺ of every parameter and of x.

        With δ = ∂L/∂h_t ∘ f'(a_t): x_tᵀ δ for W_x, h_{t−1}ᵀ δ for W_h, Σ_n δ for b, δ W_xᵀ for x.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=2, H=3)
        >>> state = cell.initial_state(5)
        >>> g = cell.local(cell.init(0), np.ones((5, 2)), state, (np.ones((5, 3)),))
        >>> {name: d.shape for name, d in g.items()}
        {'W_x': (2, 3), 'W_h': (3, 3), 'b': (3,), 'x': (5, 2)}
        """
        (h,), (d_h,) = state, d_state
        f = ACTIVATIONS[self.activation]
        d = d_h * f.derivative(self._preactivation(params, x_t, h))
        return {"W_x": x_t.T @ d, "W_h": h.T @ d, "b": d.sum(axis=0), "x": d @ params["W_x"].T}
