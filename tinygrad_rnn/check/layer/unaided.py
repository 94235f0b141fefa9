"""The truth about a backward pass when the only specification is the forward pass itself.

A forward pass that is plain NumPy is differentiated by the engine, like any specification. One that
is not (it writes into buffers, calls other libraries) is a black box, and its Jacobian is measured:
by the complex step where it is holomorphic, else by difference quotients at the best of many steps.
Both come with a measured error, and so does the backward pass: how far its results lie apart for
inputs that differ by rounding only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.check.layer.rounding import Bounded, Reference
from tinygrad_rnn.functions import Array

Arrays = dict[str, Array]
Outputs = Callable[[Arrays], list[Array]]

STEP = 2.0**-60  # of the complex step, relative: its square is far below rounding
STEPS = 2.0 ** -np.arange(3, 43, 3)  # of the difference quotients, relative
MARGIN = 16  # how many times a measured error is trusted
JITTERS = (1, -2, 3)  # in units of rounding
SINGLE, DOUBLE = 2.0**-24, 2.0**-53


class Jacobian:
    """∂outputs/∂input of a black box, each entry with its error: (outputs…, input…)."""

    def __init__(self, run: Outputs, inputs: Arrays, names: Sequence[str]) -> None:
        self.run, self.inputs, self.names = run, inputs, list(names)
        self.outputs = [np.asarray(o) for o in run(inputs)]  # a loss may be a Python float
        single = all((o == np.float32(o)).all() for o in self.outputs)
        self.u = SINGLE if single else DOUBLE  # what the forward pass rounds to
        try:
            by_step = self._measured(self._complex_step)
        except Exception:  # whatever code does when it meets complex numbers
            by_step = None
        agree = by_step is not None and self._agrees(by_step)
        by_difference = None if agree else self._measured(self._quotient)
        self.how = "the complex step" if by_difference is None else "difference quotients"
        self.entries: dict[str, tuple[Array, Array]] = by_difference or by_step or {}

    def reference(self, cotangents: Sequence[Array | None], got: Sequence[Arrays]) -> Reference:
        """Return the gradient Σ c ∂out/∂in, to be compared with ``got[0]``.

        The other ``got`` are gradients at inputs that differ by rounding only.
        """
        c = np.concatenate(
            [
                np.zeros(o.size) if c is None else np.ravel(c).astype(float)
                for c, o in zip(cotangents, self.outputs, strict=True)
            ]
        )
        gradients = {}
        for name in self.names:
            J, error = self.entries[name]
            shape, size = self.inputs[name].shape, np.abs(c) @ np.abs(J)
            spread = np.zeros(shape)
            values = [np.asarray(g.get(name)) for g in got]
            if values and all(v.shape == shape for v in values):
                spread = np.max([np.abs(v - values[0]) for v in values], axis=0)
            # Besides, a sum of that many terms is rounded.
            total = np.abs(c) @ error + 4 * len(c) * DOUBLE * size
            gradients[name] = Bounded(
                (c @ J).reshape(shape), total.reshape(shape) + MARGIN * spread
            )
        return Reference([], gradients)

    def close_by(self) -> list[Arrays]:
        """Return inputs that differ from the given ones by rounding only."""
        return [
            {n: a * (1 + 2 * j * self.u) if n in self.names else a for n, a in self.inputs.items()}
            for j in JITTERS
        ]

    # ---- how -------------------------------------------------------------------------------------

    def _flat(self, inputs: Arrays) -> Array:
        return np.concatenate([np.ravel(o) for o in self.run(inputs)])

    def _measured(self, column: Any) -> dict[str, tuple[Array, Array]]:
        """Return the Jacobian column by column."""
        found = {}
        for name in self.names:
            x = self.inputs[name]
            columns = [column(name, i) for i in np.ndindex(x.shape)]
            empty = np.zeros((sum(o.size for o in self.outputs), 0))
            J = np.stack([v for v, _ in columns], axis=1) if columns else empty
            found[name] = J, np.stack([e for _, e in columns], axis=1) if columns else empty
        return found

    def _complex_step(self, name: str, i: tuple[int, ...]) -> tuple[Array, Array]:
        """Return ∂outputs/∂x_i, and how much it changes with the step and with rounding."""

        def column(jitter: int, step: float) -> Array:
            z = {n: a.astype(complex) for n, a in self.inputs.items() if a.dtype.kind == "f"}
            h = step * (abs(float(self.inputs[name][i])) or 1.0)
            z = {n: a * (1 + 2 * jitter * self.u) for n, a in z.items()}
            z[name][i] += 1j * h
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # an imaginary part that is thrown away
                return np.asarray(self._flat({**self.inputs, **z}).imag / h)

        first = column(0, STEP)
        others = [column(0, STEP / 1024), *(column(jitter, STEP) for jitter in JITTERS)]
        spread = np.max([np.abs(other - first) for other in others], axis=0)
        return first, MARGIN * spread + 8 * self.u * np.abs(first)

    def _quotient(self, name: str, i: tuple[int, ...]) -> tuple[Array, Array]:
        """Return ∂outputs/∂x_i by (out(x + h) − out(x − h)) / 2h at the best of many h.

        The error is the larger change from one h to the next, plus noise/h, and what it takes to
        contain the others that contradict it: where a forward pass rounds more than it should,
        quotients of small h agree with each other, and all are zero.
        """
        x = float(self.inputs[name][i])
        scale = abs(x) or 1.0

        def at(value: float) -> Array:
            moved = self.inputs[name].copy()
            moved[i] = value
            return self._flat({**self.inputs, name: moved})

        center = at(x)
        jitters = [at(x + 2 * j * self.u * scale) for j in JITTERS]
        noise = np.max([np.abs(y - center) for y in jitters], axis=0) + 8 * self.u * np.abs(center)
        hs = scale * STEPS
        q = np.stack([(at(x + h) - at(x - h)) / ((x + h) - (x - h)) for h in hs])
        changes = np.abs(np.diff(q, axis=0))
        errors = np.maximum(changes[:-1], changes[1:]) + noise / hs[1:-1, None]
        q, errors = q[1:-1], MARGIN * np.where(np.isfinite(errors), errors, np.inf)
        best = np.argmin(errors, axis=0), np.arange(len(center))
        gap = np.abs(q - q[best])
        contrary = np.isfinite(errors) & (gap > errors + errors[best])
        return q[best], np.maximum(errors[best], np.where(contrary, gap + errors, 0).max(axis=0))

    def _agrees(self, entries: dict[str, tuple[Array, Array]]) -> bool:
        """Whether difference quotients confirm the complex step.

        Through |x|, max(x, 0) or a conjugate the complex step is wrong without a word.
        """
        for name, (J, error) in entries.items():
            shape = self.inputs[name].shape
            for k in range(int(np.prod(shape))):
                q, other = self._quotient(name, tuple(map(int, np.unravel_index(k, shape))))
                if not (np.abs(q - J[:, k]) <= other + error[:, k]).all():
                    return False
        return True
