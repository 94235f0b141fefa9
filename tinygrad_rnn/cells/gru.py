"""The gated recurrent unit, in the three forms in use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells.cell import Cell, Letters, Params, State, diag, rows, split
from tinygrad_rnn.functions import Array

VARIANTS = ("minimal", "reset_before", "reset_after")


@dataclass(frozen=True)
class GRUCell(Cell):
    r"""The gated recurrent unit of Cho et al. (2014).

    With update gate z, reset gate r and candidate c,

    z = σ(x_t W_xz + h_{t−1} W_hz + b_z),  r likewise,  h_t = z ∘ c + (1 − z) ∘ h_{t−1}, and

    - ``minimal``: c = tanh(x_t W_xc + h_{t−1} W_hc + b_c), without r;
    - ``reset_before``: c = tanh(x_t W_xc + (r ∘ h_{t−1}) W_hc + b_c), as in the paper;
    - ``reset_after``: c = tanh(x_t W_xc + b_c + r ∘ (h_{t−1} W_hc + b_h)), as in cuDNN and PyTorch.

    Parameters ``W_x (D, 3H)``, ``W_h (H, 3H)``, ``b (3H,)``, gates side by side in the order
    r, z, c (``minimal``: 2H, in the order z, c). ``reset_after`` has one more recurrent bias inside
    the reset product, ``b_h (H,)``, PyTorch's ``b_hn``. State ``(h,)``.

    Here z multiplies the *candidate*. PyTorch's z multiplies the old state: its z is our 1 − z, so
    the two agree when W_xz, W_hz and b_z change sign.

    Raises
    ------
    ValueError
        For a size that is not a positive integer or an unknown variant.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.GRUCell(D=2, H=3, variant="reset_after")
    >>> cell.shapes
    {'W_x': (2, 9), 'W_h': (3, 9), 'b': (9,), 'b_h': (3,)}
    """

    variant: str = "reset_before"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}.")

    @property
    def layout(self) -> dict[str, Letters]:
        """Return each parameter's shape in letters."""
        wide = "2H" if self.variant == "minimal" else "3H"
        layout: dict[str, Letters] = {"W_x": ("D", wide), "W_h": ("H", wide), "b": (wide,)}
        if self.variant == "reset_after":
            layout["b_h"] = ("H",)
        return layout

    def _gates(self, params: Params, x_t: Array, h: Array) -> tuple[Array, Array, Array, Array]:
        """Return the preactivations of r, z, c, and u = h W_hc + b_h, which r multiplies.

        Where a variant has no r, or no u, the entry is None.
        """
        W_h = params["W_h"]
        a = x_t @ params["W_x"] + params["b"]
        if self.variant == "minimal":
            a_z, a_c = split(a + h @ W_h, 2)
            return None, a_z, a_c, None
        H = self.H
        if self.variant == "reset_before":
            a_r, a_z = split(a[:, : 2 * H] + h @ W_h[:, : 2 * H], 2)
            return a_r, a_z, a[:, 2 * H :] + (sigmoid(a_r) * h) @ W_h[:, 2 * H :], None
        a_r, a_z, a_c = split(a, 3)
        u_r, u_z, u_c = split(h @ W_h, 3)
        a_r, u = a_r + u_r, u_c + params["b_h"]
        return a_r, a_z + u_z, a_c + sigmoid(a_r) * u, u

    def step(self, params: Params, x_t: Array, state: State) -> State:
        """Return (h_t,) with h_t = z ∘ c + (1 − z) ∘ h_{t−1}.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.GRUCell(D=2, H=3)
        >>> (h,) = cell.step(cell.init(0), np.ones((5, 2)), cell.initial_state(5))
        >>> h.shape
        (5, 3)
        """
        (h,) = state
        _, a_z, a_c, _ = self._gates(params, x_t, h)
        z = sigmoid(a_z)
        return (z * np.tanh(a_c) + (1 - z) * h,)

    def jacobian(self, params: Params, x_t: Array, state: State) -> Array:
        """Return ∂h_t/∂h_{t−1}, shape (N, H, H).

        diag(1 − z) + diag(z c') K + diag((c − h_{t−1}) z') W_hzᵀ, where K = ∂a_c/∂h_{t−1} is

        - ``minimal``: W_hcᵀ;
        - ``reset_before``: W_hcᵀ [diag(r) + diag(h_{t−1} r') W_hrᵀ];
        - ``reset_after``: diag(r) W_hcᵀ + diag(u r') W_hrᵀ with u = h_{t−1} W_hc + b_h.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.GRUCell(D=2, H=3)
        >>> J = cell.jacobian(cell.init(0), np.ones((5, 2)), cell.initial_state(5))
        >>> J.shape
        (5, 3, 3)
        """
        (h,) = state
        a_r, a_z, a_c, u = self._gates(params, x_t, h)
        *W_hr, W_hz, W_hc = split(params["W_h"], 2 if self.variant == "minimal" else 3)
        if self.variant == "minimal":
            K = W_hc.T
        elif self.variant == "reset_before":
            K = W_hc.T @ (diag(sigmoid(a_r)) + rows(h * d_sigmoid(a_r), W_hr[0].T))
        else:
            K = rows(sigmoid(a_r), W_hc.T) + rows(u * d_sigmoid(a_r), W_hr[0].T)
        z, c = sigmoid(a_z), np.tanh(a_c)
        return diag(1 - z) + rows(z * d_tanh(a_c), K) + rows((c - h) * d_sigmoid(a_z), W_hz.T)

    def local(self, params: Params, x_t: Array, state: State, d_state: State) -> dict[str, Array]:
        """Return ∂⁺ of every parameter and of x, through δ = ∂L/∂a for the preactivations a.

        δ_c = ∂L/∂h_t ∘ z ∘ c', δ_z = ∂L/∂h_t ∘ (c − h_{t−1}) ∘ z', and δ_r through a_c.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.GRUCell(D=2, H=3)
        >>> state = cell.initial_state(5)
        >>> g = cell.local(cell.init(0), np.ones((5, 2)), state, (np.ones((5, 3)),))
        >>> {name: d.shape for name, d in g.items()}
        {'W_x': (2, 9), 'W_h': (3, 9), 'b': (9,), 'x': (5, 2)}
        """
        (h,), (d_h,) = state, d_state
        a_r, a_z, a_c, u = self._gates(params, x_t, h)
        d_c = d_h * sigmoid(a_z) * d_tanh(a_c)
        d_z = d_h * (np.tanh(a_c) - h) * d_sigmoid(a_z)
        gradients: dict[str, Array] = {}
        if self.variant == "minimal":
            d = np.concatenate([d_z, d_c], axis=1)
            gradients["W_h"] = h.T @ d
        elif self.variant == "reset_before":
            r, W_hc = sigmoid(a_r), split(params["W_h"], 3)[2]
            d_r = (d_c @ W_hc.T) * h * d_sigmoid(a_r)
            d = np.concatenate([d_r, d_z, d_c], axis=1)
            gradients["W_h"] = np.concatenate([h.T @ d_r, h.T @ d_z, (r * h).T @ d_c], axis=1)
        else:
            d_u = d_c * sigmoid(a_r)
            d_r = d_c * u * d_sigmoid(a_r)
            d = np.concatenate([d_r, d_z, d_c], axis=1)
            gradients["W_h"] = h.T @ np.concatenate([d_r, d_z, d_u], axis=1)
            gradients["b_h"] = d_u.sum(axis=0)
        gradients |= {"W_x": x_t.T @ d, "b": d.sum(axis=0), "x": d @ params["W_x"].T}
        return {name: gradients[name] for name in (*self.layout, "x")}
