"""Products of step Jacobians, ∂state_t/∂state_i = J_t ⋯ J_{i+1}, in log scale.

Where gradients vanish or explode the product leaves the range of floats long before T = 10⁶; its
norms, singular values and bounds are therefore logarithms, and the product itself is a matrix times
a power of two. The Jacobians are computed in the precision given, everything after them in double.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.bounds import growth, singular_value_bounds
from tinygrad_rnn.cells import Cell, LSTMCell, Params, RNNCell, State
from tinygrad_rnn.cells.problem import prepare
from tinygrad_rnn.functions import Array
from tinygrad_rnn.recurrent import unroll

__all__ = ["Chain", "jacobian_chain"]

NORMS = ("fro", 2)
BLOCK = 2**16  # numbers in the Jacobians that are in memory at once; at least one step
LN2 = math.log(2)
U = 2.0**-53


@dataclass(frozen=True, eq=False)
class Chain:
    """The products P_t = J_t ⋯ J_1 = ∂state_t/∂state_0 of one run; made by :func:`jacobian_chain`.

    S is the size of the state, H or 2H. For one sequence, (T, D), the axis N is absent everywhere.
    It keeps the trajectory, O(T·N·H) numbers, and recomputes the Jacobians block by block.

    Attributes
    ----------
    log_norm : array (T, N)
        log ‖P_t‖, t = 1 … T, in the norm chosen; −∞ for a product that is exactly zero.
    mantissa : array (N, S, S)
    exponent : array (N,) of int64
        P_T = mantissa · 2^exponent; the norm of the mantissa is 0 or between 2^−200 and 2^200.
    product : (array (N, S, S), array (N,))
        (M, l) with P_T = M exp(l): the mantissa, and the exponent times log 2.

    Notes
    -----
    Computed and exact product differ by at most ((1 + γ_S)^(t−1) − 1) Π‖J_k‖ in the Frobenius norm,
    γ_n = nu/(1 − nu) with u = 2⁻⁵³ (Higham 2002, *Accuracy and Stability of Numerical Algorithms*,
    §3.5). An entry smaller than the largest by 10⁻³⁰⁰ may be lost. The singular values do not go
    through the product.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
    >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
    >>> chain = tg.jacobian_chain(cell, params, np.ones((5000, 1)))
    >>> (np.log2(chain.mantissa) + chain.exponent).item()
    -5000.0
    """

    norm: str | int
    log_norm: Array
    mantissa: Array = field(repr=False)
    exponent: Array = field(repr=False)
    _steps: _Steps = field(repr=False)
    _single: bool = field(repr=False)

    @property
    def product(self) -> tuple[Array, Array]:
        """(M, l) with P_T = M exp(l)."""
        return self.mantissa, self.exponent * LN2

    def all_pairs(self) -> Array:
        """Return log ‖∂state_t/∂state_i‖ at [t, i], shape (T + 1, T + 1, N): T²/2 products.

        On the diagonal is the norm of the identity, above it −∞: the future has no influence.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=1, H=1, activation="identity")
        >>> params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 0.5), "b": np.zeros(1)}
        >>> chain = tg.jacobian_chain(cell, params, np.ones((2, 1)))
        >>> np.exp2(chain.all_pairs() / np.log(2)).tolist()
        [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
        """
        T, N = self._steps.x.shape[:2]
        pairs = np.full((T + 1, T + 1, N), -np.inf)
        for i in range(T):
            pairs[i + 1 :, i], _, _ = _multiply(self._steps, self.norm, i)
        diagonal = np.arange(T + 1)
        pairs[diagonal, diagonal] = self._log_norm_of_identity
        return _without(self._single, pairs, axis=2)

    def singular_values(self) -> Array:
        """Return the logarithms of the singular values of P_T, shape (N, S), the largest first.

        By Q_t R_t = J_t Q_{t−1}, once backwards for a Q_0 that orders them and once forwards, and
        Jacobi's method on R_T ⋯ R_1. They are those of a product of matrices J_t + E_t with ‖E_t‖
        a small multiple of u‖J_t‖. The formed product has lost all but the largest.

        References
        ----------
        Stewart 1994, *On graded QR decompositions of products of matrices*; Demmel and Veselić
        1992, *Jacobi's method is more accurate than QR*.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=1, H=2, activation="identity")
        >>> params = {"W_x": np.ones((1, 2)), "W_h": np.diag([0.5, 2.0]), "b": np.zeros(2)}
        >>> chain = tg.jacobian_chain(cell, params, np.zeros((3000, 1)))
        >>> (chain.singular_values() / np.log(2)).round(9).tolist()
        [3000.0, -3000.0]
        """
        from tinygrad_rnn.kernels.chain import log_singular_values, qr_steps

        Q = self._steps.identities()
        nothing = np.empty((0, 0, 0)), np.empty((0, 0), np.int64)
        R, exponent = self._steps.identities(), np.zeros(Q.shape[:2], np.int64)
        log_r = np.zeros(Q.shape[:2])
        with np.errstate(all="ignore"):
            for _, J in self._steps.jacobians(backwards=True):
                qr_steps(np.ascontiguousarray(J[::-1].swapaxes(2, 3)), Q, log_r, *nothing)
            for _, J in self._steps.jacobians():
                qr_steps(J, Q, log_r, R, exponent)
            logs = [log_singular_values(*pair) for pair in zip(R, exponent, strict=True)]
        return _without(self._single, np.array(logs), axis=0)

    def lyapunov(self) -> Array:
        """Return the Lyapunov exponents of the run, (N, S), the largest first.

        λ_i = 1/T · Σ_t log (R_t)_ii with Q_t R_t = J_t Q_{t−1}, Q_0 = I, (R_t)_ii ≥ 0. Their sum is
        1/T · Σ_t log |det J_t|; −∞ where a Jacobian has a row of zeros.

        Raises
        ------
        ValueError
            For T = 0, where there is no average.

        References
        ----------
        Engelken, Wolf and Abbott 2023, *Lyapunov spectra of chaotic recurrent neural networks*.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=1, H=2, activation="identity")
        >>> params = {"W_x": np.ones((1, 2)), "W_h": np.diag([0.5, 2.0]), "b": np.zeros(2)}
        >>> chain = tg.jacobian_chain(cell, params, np.zeros((3000, 1)))
        >>> (chain.lyapunov() / np.log(2)).round(9).tolist()
        [1.0, -1.0]
        """
        from tinygrad_rnn.kernels.chain import qr_steps

        T = len(self._steps.x)
        if T == 0:
            raise ValueError("Lyapunov exponents are averages over time and need T ≥ 1, got T = 0.")
        Q = self._steps.identities()
        log_r = np.zeros(Q.shape[:2])
        nothing = np.empty((0, 0, 0)), np.empty((0, 0), np.int64)
        with np.errstate(all="ignore"):
            for _, J in self._steps.jacobians():
                qr_steps(J, Q, log_r, *nothing)
        return _without(self._single, np.sort(log_r / T)[:, ::-1], axis=0)

    @cached_property
    def upper(self) -> Array:
        """An upper bound of the exact log ‖P_t‖ of these Jacobians: log Π σ_max(J_k), (T, N).

        In the Frobenius norm plus log √S. Certain, all rounding included.
        """
        return self._bounds[1]

    @cached_property
    def lower(self) -> Array:
        """A lower bound of the exact log ‖P_t‖ of these Jacobians: log Π σ_min(J_k), (T, N).

        In the Frobenius norm plus log √S. Certain, all rounding included.
        """
        return self._bounds[0]

    @cached_property
    def upper_global(self) -> Array:
        """An upper bound of the exact log ‖P_t‖ for all inputs x, (T, N): log ‖M_t ⋯ M_1‖.

        M_t is :func:`tinygrad_rnn.bounds.growth`, so that it is t log (γ‖W_h‖) for the RNN. For the
        gated cells a bound on the states follows from the initial state.
        """
        from tinygrad_rnn.kernels.chain import products

        cell, params, x, states = self._steps[:4]
        T, N = x.shape[:2]
        start = np.abs(states[-1][0]).max(axis=1).astype(np.float64)
        if isinstance(cell, LSTMCell):
            reach = start + np.arange(T)[:, None]
        else:
            reach = np.broadcast_to(np.maximum(start, 1), (T, N))
        M = growth(cell, params, reach)
        first = np.broadcast_to(np.eye(M.shape[-1]), (N, *M.shape[-2:]))
        _, exponent, squares = products(M, first, np.zeros(N, np.int64))
        # A step rounds sums of at most four nonnegative products.
        logs = _log_times(np.sqrt(squares), exponent[1:]) + 8 * U * np.arange(1, T + 1)[:, None]
        logs = logs + self._log_norm_of_identity
        return _without(self._single, logs + 8 * U * (np.abs(logs) + 1), axis=1)

    @cached_property
    def _bounds(self) -> list[Array]:
        """Sum up the logarithms of bounds of σ_min(J_t) and σ_max(J_t), rounding outwards."""
        low, high = np.empty((2, *self._steps.x.shape[:2]))
        for t, J in self._steps.jacobians():
            low[t : t + len(J)], high[t : t + len(J)] = singular_value_bounds(J)
        bounds = []
        for values, outwards in ((low, -1), (high, 1)):
            logs = _log_times(values, 0)
            # Logarithms and sums are off by at most 8 and t times u Σ|log|.
            size = np.cumsum(np.where(values > 0, np.abs(logs), 0), axis=0) + 1
            margin = 2 * U * (np.arange(len(logs))[:, None] + 16) * size
            total = self._log_norm_of_identity + np.cumsum(logs, axis=0) + outwards * margin
            bounds.append(_without(self._single, total, axis=1))
        return bounds

    @property
    def _log_norm_of_identity(self) -> float:
        return 0.0 if self.norm == 2 else math.log(self.mantissa.shape[-1]) / 2


def jacobian_chain(
    cell: Cell, params: Params, x: Array, state: State | None = None, norm: str | int = "fro"
) -> Chain:
    """Multiply the step Jacobians of a run: P_t = J_t ⋯ J_1, J_t = ∂state_t/∂state_{t−1}.

    Parameters
    ----------
    cell, params, x, state
        As for :func:`tinygrad_rnn.unroll`, in float32 or float64.
    norm
        ``"fro"``, the Frobenius norm, or ``2``, the largest singular value, which costs a singular
        value decomposition per step. ‖P‖₂ ≤ ‖P‖_F ≤ √S ‖P‖₂.

    Raises
    ------
    ValueError
        For wrong shapes, missing or unknown parameters, NaN or infinities, an unknown norm, and a
        trajectory that overflows.
    TypeError
        For integers, a mixture of precisions, and anything but float32 and float64.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> cell = tg.LSTMCell(D=2, H=3)
    >>> chain = tg.jacobian_chain(cell, cell.init(0), np.ones((100, 5, 2)))
    >>> chain.log_norm.shape, chain.product[0].shape, chain.singular_values().shape
    ((100, 5), (5, 6, 6), (5, 6))
    >>> bool((chain.lower <= chain.log_norm).all() and (chain.log_norm <= chain.upper).all())
    True
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be 'fro' or 2, got {norm!r}.")
    params, x, state, single = prepare(cell, params, x, state)
    arrays = (*params.values(), x, *state)
    number = None if any(type(a) is Tensor for a in arrays) else np.result_type(*arrays).type
    if number not in (np.float32, np.float64):
        got = "a Tensor" if number is None else np.dtype(number).name
        raise TypeError(
            f"jacobian_chain multiplies arrays of float32 or float64, got {got}. To differentiate "
            "through the Jacobians themselves, use cell.jacobian or tg.jacobian."
        )
    params = {name: np.asarray(p, number) for name, p in params.items()}  # of native byte order
    state = tuple(np.asarray(s, number) for s in state)
    steps = _Steps.of(cell, params, np.asarray(x, number), state)
    log_norm, mantissa, exponent = _multiply(steps, norm)
    return Chain(
        norm,
        _without(single, log_norm, axis=1),
        _without(single, mantissa, axis=0),
        _without(single, exponent, axis=0),
        steps,
        single,
    )


# ---- how --------------------------------------------------------------------------------------


class _Steps(NamedTuple):
    """A run and its Jacobians, block by block."""

    cell: Cell
    params: Params
    x: Array
    states: State
    slopes: Array | None  # f'(a_t) of an RNN

    @staticmethod
    def of(cell: Cell, params: dict[str, Array], x: Array, state: State) -> _Steps:
        """Run the cell over x (T, N, D)."""
        slopes = None
        with np.errstate(all="ignore"):
            if type(cell) is RNNCell:
                from tinygrad_rnn.kernels import chain, rnn

                active = np.full(len(x), x.shape[1])
                states, (a,) = rnn.forward(params, x, state, active, cell.activation)
                slopes = chain.slopes(cell.activation, a, cell.H)
            else:
                states = unroll(cell, params, x, state).states
        for s in states:
            if not np.isfinite(s).all():
                t = int(np.argwhere(~np.isfinite(s))[0, 0])
                raise ValueError(
                    f"the state overflows at step {t}, and the Jacobians after it do not exist. "
                    "Use fewer steps or smaller weights."
                )
        return _Steps(cell, params, x, tuple(states), slopes)

    def identities(self) -> Array:
        """Return N identity matrices of the size of the state."""
        N, S = self.x.shape[1], len(self.states) * self.cell.H
        return np.broadcast_to(np.eye(S), (N, S, S)).copy()

    def jacobians(self, start: int = 0, backwards: bool = False) -> Iterator[tuple[int, Array]]:
        """Yield t and J_{t+1}, J_{t+2}, … (B, N, S, S), the blocks in order or in reverse order."""
        T, N, D = self.x.shape
        S = len(self.states) * self.cell.H
        B = max(1, BLOCK // (N * S * S))
        blocks = range(start, T, B)
        for t in reversed(blocks) if backwards else blocks:
            before = tuple(s[t : min(t + B, T)].reshape(-1, self.cell.H) for s in self.states)
            J = self.cell.jacobian(self.params, self.x[t : t + B].reshape(-1, D), before)
            yield t, np.ascontiguousarray(J, np.float64).reshape(-1, N, S, S)


def _multiply(steps: _Steps, norm: str | int, start: int = 0) -> tuple[Array, Array, Array]:
    """Return log ‖J_t ⋯ J_{start+1}‖, t > start, and the last product: mantissa and exponent."""
    T, N = steps.x.shape[:2]
    if norm == "fro" and steps.slopes is not None and start < T:
        from tinygrad_rnn.kernels.chain import rnn_product

        P, squares, exponents = rnn_product(steps.params["W_h"], steps.slopes[start:])
        return _log_times(np.sqrt(squares), exponents), P, exponents[-1]
    from tinygrad_rnn.kernels.chain import products

    mantissa, exponent = steps.identities(), np.zeros(N, np.int64)
    log_norm = np.empty((T - start, N))
    for t, J in steps.jacobians(start):
        with np.errstate(all="ignore"):
            P, exponents, squares = products(J, mantissa, exponent)
        size = np.sqrt(squares) if norm == "fro" else np.linalg.norm(P[1:], 2, axis=(-2, -1))
        log_norm[t - start : t - start + len(J)] = _log_times(size, exponents[1:])
        mantissa, exponent = P[-1], exponents[-1]
    return log_norm, mantissa, exponent


def _log_times(size: Array, exponent: Array | int) -> Array:
    """Return log (size · 2^exponent)."""
    with np.errstate(divide="ignore"):
        return np.log(size) + np.asarray(exponent) * LN2


def _without(single: bool, array: Array, axis: int) -> Array:
    """Drop the axis N if the input had none."""
    return array.squeeze(axis) if single else array
