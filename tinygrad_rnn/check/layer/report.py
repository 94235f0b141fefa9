"""What the check of a layer found, for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tinygrad_rnn.functions import Array


@dataclass(frozen=True, repr=False)
class LayerReport:
    """The outcome of :func:`check_layer` or :func:`check_backward`.

    Attributes
    ----------
    verdict : str
        ``"CONSISTENT"``, ``"REFUTED"`` or ``"INCONCLUSIVE"``: nothing could be compared, as when
        the layer raises on every input, or no correct digit was left.
    culprits : list of str
        The gradients that are wrong, by the layer's names; ``["outputs"]`` if the forward pass is.
    first_wrong_step : int or None
        The smallest s ≥ 1 such that a cotangent on h_s alone finds a wrong gradient: 1 for a wrong
        local term, 2 for a broken carry from step to step, k + 1 if the sweep is cut after k steps.
        For a wrong forward pass, the first step at which hs is wrong. None where the step plays no
        part; of :func:`check_backward`, also unless an input ``"x"`` of three axes and the first
        output have the same first two.
    conditions : list of str
        Under which conditions only it is wrong; empty if always.
    mistakes : list of str
        The likely mistakes. Each was confirmed by numbers, on two inputs: the specification with
        this mistake built in gives the layer's; or, where none does, what is measured is said: the
        formula of one step that fails with the layer's own numbers put in and the factor that
        stands in it, or the law of gradients that is broken. There ``∂L/∂a_f`` is the gradient by
        the preactivation of gate f, and δ that of all gates.
    details : dict
        For each culprit a sentence with its worst entry.
    trials : int
        How many designed inputs were tried.
    failures : list of str
        Those on which the layer failed, described.
    errors : dict
        For each gradient, its greatest relative error at each step with a cotangent of its own.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> class Layer:  # the linear layer h_t = h_{t−1} W_h + x_t W_x + b
    ...     def forward(self, p, x, h):
    ...         hs = [h]
    ...         for x_t in x:
    ...             hs.append(x_t @ p["W_x"] + hs[-1] @ p["W_h"] + p["b"])
    ...         return np.stack(hs[1:]), (p, x, hs)
    ...     def backward(self, d_hs, cache):
    ...         p, x, hs = cache
    ...         g, d_x, back = {k: 0 * v for k, v in p.items()}, 0 * x, 0
    ...         for t in reversed(range(len(x))):
    ...             d = d_hs[t] + back
    ...             g["W_x"] += x[t].T @ d
    ...             g["W_h"] += hs[t + 1].T @ d  # hs[t] would be right
    ...             g["b"] += d.sum(axis=0)
    ...             d_x[t], back = d @ p["W_x"].T, d @ p["W_h"].T
    ...         return {**g, "x": d_x, "h0": back}
    >>> report = tg.check_layer(Layer(), tg.RNNCell(D=3, H=4, activation="identity"))
    >>> report.verdict, report.culprits, report.first_wrong_step
    ('REFUTED', ['W_h'], 1)
    """

    verdict: str
    culprits: list[str] = field(default_factory=list)
    first_wrong_step: int | None = None
    conditions: list[str] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    details: dict[str, str] = field(default_factory=dict)
    trials: int = 0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: dict[str, list[float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        raise TypeError("a report is not a truth value: INCONCLUSIVE is neither. Read .verdict.")

    def __str__(self) -> str:
        if self.verdict == "CONSISTENT":
            lines = [
                f"CONSISTENT: forward and backward agree with the specification on {self.trials} "
                "designed inputs, to the last digit that rounding leaves."
            ]
        elif self.verdict == "INCONCLUSIVE":
            lines = ["INCONCLUSIVE"]
        else:
            lines = [f"REFUTED on {len(self.failures)} of {self.trials} designed inputs"]
            if self.culprits == ["outputs"]:
                lines.append("the forward pass is wrong")
            elif self.culprits:
                lines.append("wrong gradients: " + ", ".join(self.culprits))
            if self.first_wrong_step is not None:
                lines.append(f"first wrong step: {self.first_wrong_step}")
            lines += [f"condition: {text}" for text in self.conditions]
            lines += [f"likely mistake: {text}" for text in self.mistakes]
            lines += [f"{name}: {text}" for name, text in self.details.items()]
        return "\n".join([*lines, *[f"note: {text}" for text in self.notes]])

    def __repr__(self) -> str:
        return str(self)  # what pytest and a notebook show

    def to_json(self) -> str:
        """Return the report as JSON; numbers that are not finite become strings."""
        plain = dict(vars(self))
        plain["errors"] = {
            name: [e if math.isfinite(e) else str(e) for e in steps]
            for name, steps in self.errors.items()
        }
        return json.dumps(plain, allow_nan=False, ensure_ascii=False)

    def plot(self) -> Any:
        """Return a Matplotlib figure: relative error of each gradient by the cotangent's step.

        Raises
        ------
        ImportError
            If Matplotlib is not installed.
        ValueError
            If there is nothing to plot: only a refuted backward pass has errors.
        """
        if not self.errors:
            raise ValueError("there are no errors by step: the backward pass is not refuted.")
        try:
            figures = import_module("matplotlib.figure")
        except ImportError:
            raise ImportError("plot() draws with Matplotlib: pip install matplotlib") from None
        figure = figures.Figure(layout="constrained")
        axes = figure.subplots()
        for name, errors in self.errors.items():
            steps = range(1, len(errors) + 1)
            shown: list[Array] = [e if 0 < e < math.inf else math.nan for e in errors]
            axes.plot(steps, shown, marker="o", label=name)
        axes.set(xlabel="step of the cotangent", ylabel="relative error", yscale="log")
        axes.legend()
        return figure
