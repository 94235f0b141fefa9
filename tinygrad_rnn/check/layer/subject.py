"""The layer under test: called as its protocol says, in its own layout, and watched."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.functions import Array

Arrays = dict[str, Array]


class Refusal(Exception):
    """What a layer raised when it was called."""


@dataclass
class Answer:
    """What one forward and some backward calls gave, in the layout of the cell.

    ``changed`` names the inputs that a call wrote into; ``refusal`` is the error that ended it.
    """

    outputs: list[Array]
    gradients: Mapping[str, Any]
    changed: list[str]
    refusal: str = ""


def fresh(layer: Any) -> Any:
    """Return a layer in its initial condition: of a class an instance, of an instance a copy."""
    if inspect.isclass(layer):
        try:
            return layer()
        except TypeError:
            return layer  # its methods are static
    try:
        return deepcopy(layer)
    except Exception:  # a module, or something that holds a file or a lock
        return layer


def strided(a: Array) -> Array:
    """Return an equal array that is not contiguous."""
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


@dataclass
class Subject:
    """A layer with ``forward(params, x, *state)`` and ``backward(d_outputs, cache)``."""

    layer: Any
    map: LayerMap
    state_names: Sequence[str]

    def __post_init__(self) -> None:
        for method in ("forward", "backward"):
            if not callable(getattr(self.layer, method, None)):
                raise TypeError(
                    f"a layer needs forward(params, x, *state) and backward(d_outputs, cache); "
                    f"{self.layer!r} has no {method}."
                )
        self.layer = fresh(self.layer)

    def anew(self) -> Subject:
        """Return the subject before it was ever called."""
        return Subject(self.layer, self.map, self.state_names)

    def forward(self, inputs: Arrays, lengths: Array) -> tuple[list[Array], Any, Any]:
        """Return the outputs as a list and as they came, and the cache."""
        m = self.map
        special = {"x", *(f"{s}0" for s in self.state_names)}
        params = {k: v for k, v in inputs.items() if k not in special}
        state = [inputs[f"{s}0"] for s in self.state_names]
        keywords = {m.lengths: lengths.copy()} if m.lengths else {}
        arguments = params, m.sequence(inputs["x"]), *state
        result = _guarded("forward", self.layer.forward, *arguments, **keywords)
        if not isinstance(result, tuple) or len(result) != 2:
            raise Refusal("forward must return the pair (outputs, cache)")
        outputs, cache = result
        arrays = list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
        arrays = [np.asarray(a) for a in arrays]
        arrays[0] = m.sequence(arrays[0]) if arrays[0].ndim == 3 else arrays[0]
        return arrays, outputs, cache

    def backward(self, cotangents: Sequence[Array | None], form: Any, cache: Any) -> Any:
        """Return the gradient, by the names of the layer's parameters and of the cell's inputs."""
        given: list[Array | None] = [self.map.sequence(cotangents[0]), *cotangents[1:]]
        d_outputs = type(form)(given) if isinstance(form, (tuple, list)) else given[0]
        found = _guarded("backward", self.layer.backward, d_outputs, cache)
        if not isinstance(found, Mapping):
            raise Refusal(f"backward must return a dict, got {type(found).__name__}")
        result = dict(found)
        for name in ("x", *(f"{s}0" for s in self.state_names)):
            if self.map.name(name) in found:
                result[name] = found[self.map.name(name)]
        if result.get("x") is not None and np.ndim(result["x"]) == 3:
            result["x"] = self.map.sequence(np.asarray(result["x"]))
        # Results may be views of buffers that the next call overwrites.
        return {k: None if v is None else np.array(v) for k, v in result.items()}


def _guarded(what: str, call: Any, *args: Any, **keywords: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return call(*args, **keywords)
    except Exception as error:  # whatever a layer does wrong
        raise Refusal(f"{what} raises {type(error).__name__}: {error}") from error
