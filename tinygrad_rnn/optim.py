"""Optimisers: stochastic gradient descent, with momentum, and Adam; learning-rate schedules.

An optimiser is a frozen dataclass and keeps nothing: its memory is a value that comes and goes::

    optimiser = tg.Adam(1e-3, clip=1.0)
    memory = optimiser.init(params)
    params, memory = optimiser.step(params, gradients, memory)

Parameters are nested dicts, tuples and lists of arrays; nothing is changed in place. The formulas
run on floats and on exact numbers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.cells.cell import check_numbers
from tinygrad_rnn.clip import _exact, _number, _root, clip_by_norm
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars.element import elementwise
from tinygrad_rnn.trees import flatten

__all__ = ["SGD", "Adam", "cosine", "exponential", "inverse_time", "warmup"]

Schedule = Callable[[int], Any]
Memory = dict[str, Any]


# ---- optimisers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Optimiser(ABC):
    """What optimisers share: the rate, clipping, and taking trees apart."""

    rate: Any
    _: KW_ONLY
    clip: Any = None

    @abstractmethod
    def _start(self, p: Array) -> tuple[Array, ...]:
        """Return what is remembered of an array before the first step."""

    @abstractmethod
    def _update(
        self, t: int, g: Array, memory: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        """Return the direction d of the t-th step, θ ← θ − η d, and what is remembered of it."""

    def init(self, params: Any) -> Memory:
        """Return the memory before the first step: the number of steps, and arrays of zeros.

        Parameters
        ----------
        params
            A nested dict, tuple or list of real arrays of one precision or number system.

        Raises
        ------
        TypeError
            For integers, complex numbers, Tensors, and mixed precision.
        ValueError
            For NaN and infinities.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> tg.SGD(0.1, momentum=0.9).init({"b": np.ones(2)})
        {'steps': 0, 'arrays': {'b': (array([0., 0.]),)}}
        """
        leaves, rebuild = flatten(params)
        leaves = _checked("parameter", leaves)
        return {"steps": 0, "arrays": rebuild([self._start(p) for p in leaves])}

    def step(self, params: Any, gradients: Any, memory: Memory) -> tuple[Any, Memory]:
        """Return the parameters after one step, and the memory for the next.

        Parameters
        ----------
        params
            As for :meth:`init`.
        gradients
            The gradient by each array, in the same nesting. Entries of dicts that are no parameters
            are passed over, as ``"x"`` and ``"state"`` of :func:`tinygrad_rnn.bptt`: they are not
            part of the norm that is clipped.
        memory
            From :meth:`init` or from the step before.

        Returns
        -------
        params, memory
            New trees; no array that came in is changed.

        Raises
        ------
        ValueError
            For gradients or a memory that do not fit the parameters, NaN and infinities, a rate
            that is not positive and finite, and where the step leaves the range of the floats.
        TypeError
            For integers, complex numbers, Tensors, and mixed precision.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> sgd, params = tg.SGD(0.5), {"b": np.array([1.0, 2.0])}
        >>> params, memory = sgd.step(params, {"b": np.array([2.0, 4.0])}, sgd.init(params))
        >>> params, memory["steps"]
        ({'b': array([0., 0.])}, 1)
        """
        if not isinstance(memory, dict) or memory.keys() != {"steps", "arrays"}:
            raise TypeError(
                f"memory must come from init(params) or the step before, got {memory!r:.60}."
            )
        leaves, rebuild = flatten(params)
        leaves = _checked("parameter", leaves)
        g = _checked("gradient", _fitting(params, gradients, "gradients"))
        arrays = _fitting(params, memory["arrays"], "the memory")
        for i, (p, d, kept) in enumerate(zip(leaves, g, arrays, strict=True)):
            if not p.dtype == d.dtype or not p.shape == d.shape:
                raise ValueError(
                    f"gradient {i} must be like its parameter, {p.dtype} of shape {p.shape}, got "
                    f"{d.dtype} of shape {d.shape}."
                )
            if [a.shape for a in kept] != [a.shape for a in self._start(p)]:
                raise ValueError(
                    f"the memory of parameter {i} is that of other parameters or of another "
                    "optimiser. Make it by init(params)."
                )
        if self.clip is not None:
            g = clip_by_norm(g, self.clip)
        t = memory["steps"]
        rate = _rate(self.rate(t) if callable(self.rate) else self.rate, t)
        moved, remembered = [], []
        with np.errstate(over="ignore", invalid="ignore"):  # refused below, with a sentence
            for p, d, kept in zip(leaves, g, arrays, strict=True):
                direction, kept = self._update(t + 1, d, kept)
                moved.append(np.asarray(p - _like(p, rate) * direction))
                remembered.append(tuple(map(np.asarray, kept)))
        for i, (p, kept) in enumerate(zip(moved, remembered, strict=True)):
            if any(a.dtype != object and not np.isfinite(a).all() for a in (p, *kept)):
                raise ValueError(
                    f"step {t + 1} of parameter {i} overflows. Use a smaller rate, or clip."
                )
        return rebuild(moved), {"steps": t + 1, "arrays": rebuild(remembered)}


@dataclass(frozen=True)
class SGD(_Optimiser):
    """Gradient descent, θ ← θ − η g; with momentum μ, v ← μ v + g and θ ← θ − η v.

    Parameters
    ----------
    rate
        η > 0, a number or a schedule: a function of the number of steps taken before. What follows
        is passed by name.
    clip
        θ > 0 clips all gradients together to this norm, see :func:`tinygrad_rnn.clip_by_norm`.
    momentum
        μ with 0 ≤ μ < 1.

    Raises
    ------
    ValueError
        For numbers out of range.

    References
    ----------
    Polyak 1964, *Some methods of speeding up the convergence of iteration methods*.

    Examples
    --------
    Two steps down x²/2:

    >>> import numpy as np, tinygrad_rnn as tg
    >>> sgd, x = tg.SGD(0.5, momentum=0.5), np.array([8.0])
    >>> memory = sgd.init(x)
    >>> for _ in range(2):
    ...     x, memory = sgd.step(x, x, memory)
    >>> x
    array([0.])
    """

    _: KW_ONLY
    momentum: Any = 0

    def __post_init__(self) -> None:
        _below_one("momentum", self.momentum)

    def _start(self, p: Array) -> tuple[Array, ...]:
        return (0 * p,) if self.momentum else ()

    def _update(
        self, t: int, g: Array, memory: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        if not memory:
            return g, ()
        velocity = _like(g, self.momentum) * memory[0] + g
        return velocity, (velocity,)


@dataclass(frozen=True)
class Adam(_Optimiser):
    """Adam: steps of about η in every coordinate, whatever the size of its gradient.

    m ← β₁ m + (1 − β₁) g and s ← β₂ s + (1 − β₂) g², entry by entry; at step t = 1, 2, …

    θ ← θ − η m̂/(√ŝ + ε) with m̂ = m/(1 − β₁ᵗ), ŝ = s/(1 − β₂ᵗ).

    Parameters
    ----------
    rate, clip
        As for :class:`SGD`.
    beta1, beta2
        0 ≤ β < 1.
    epsilon
        ε > 0.

    Raises
    ------
    ValueError
        For numbers out of range; from ``step`` also for Fractions where √ŝ is irrational, and where
        g² overflows.

    References
    ----------
    Kingma & Ba 2015, *Adam: a method for stochastic optimization*.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> adam, params = tg.Adam(0.125), {"b": np.zeros(2)}
    >>> gradients = {"b": np.array([1e-3, -1e3])}
    >>> params, memory = adam.step(params, gradients, adam.init(params))
    >>> params["b"].round(4).tolist()
    [-0.125, 0.125]
    """

    rate: Any = 1e-3
    _: KW_ONLY
    beta1: Any = 0.9
    beta2: Any = 0.999
    epsilon: Any = 1e-8

    def __post_init__(self) -> None:
        _below_one("beta1", self.beta1)
        _below_one("beta2", self.beta2)
        if not _number(self.epsilon, "epsilon") > 0:
            raise ValueError(f"epsilon must be positive, got {self.epsilon!r}.")

    def _start(self, p: Array) -> tuple[Array, ...]:
        return 0 * p, 0 * p

    def _update(
        self, t: int, g: Array, memory: tuple[Array, ...]
    ) -> tuple[Array, tuple[Array, ...]]:
        mean, square = memory
        β1, β2, ε = (_like(g, value) for value in (self.beta1, self.beta2, self.epsilon))
        mean = β1 * mean + (1 - β1) * g
        square = β2 * square + (1 - β2) * (g * g)
        root = _sqrt(square / (1 - β2**t))
        return mean / (1 - β1**t) / (root + ε), (mean, square)


# ---- schedules -----------------------------------------------------------------------------------


def exponential(rate: Any, factor: Any, every: int = 1) -> Schedule:
    """Multiply the rate by ``factor`` after every so many steps: η₀ fᵏ, k = ⌊t/every⌋.

    Examples
    --------
    >>> from tinygrad_rnn import optim
    >>> schedule = optim.exponential(0.5, factor=0.5, every=2)
    >>> [schedule(t) for t in range(5)]
    [0.5, 0.5, 0.25, 0.25, 0.125]
    """
    return lambda t: rate * factor ** (t // every)


def inverse_time(rate: Any, steps: int) -> Schedule:
    """Let the rate fall like 1/t: η₀/(1 + t/steps), whose sum diverges and whose squares' does not.

    References
    ----------
    Robbins & Monro 1951, *A stochastic approximation method*.

    Examples
    --------
    >>> from tinygrad_rnn import optim
    >>> schedule = optim.inverse_time(1.0, steps=2)
    >>> [schedule(t) for t in (0, 2, 6)]
    [1.0, 0.5, 0.25]
    """
    return lambda t: rate * steps / (steps + t)


def cosine(rate: float, steps: int, final: float = 0.0) -> Schedule:
    """Go from the rate to ``final`` on half a cosine, and stay there.

    References
    ----------
    Loshchilov & Hutter 2017, *SGDR: stochastic gradient descent with warm restarts*.

    Examples
    --------
    >>> from tinygrad_rnn import optim
    >>> schedule = optim.cosine(1.0, steps=4, final=0.5)
    >>> [round(schedule(t), 3) for t in (0, 2, 4, 5)]
    [1.0, 0.75, 0.5, 0.5]
    """
    return lambda t: final + (rate - final) * (1 + math.cos(math.pi * min(t, steps) / steps)) / 2


def warmup(schedule: Any, steps: int) -> Schedule:
    """Rise to a rate or a schedule in equal parts: (t + 1)/steps of it while t < steps.

    Examples
    --------
    >>> from tinygrad_rnn import optim
    >>> schedule = optim.warmup(1.0, steps=4)
    >>> [schedule(t) for t in range(6)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """

    def warm(t: int) -> Any:
        rate = schedule(t) if callable(schedule) else schedule
        return rate * (t + 1) / steps if t < steps else rate

    return warm


# ---- parts ---------------------------------------------------------------------------------------


def _checked(what: str, leaves: list[Any]) -> list[Array]:
    """Return the leaves as arrays of real numbers, finite and of one precision."""
    names = [f"{what} {i}" for i in range(len(leaves))]
    for name, leaf in zip(names, leaves, strict=True):
        if type(leaf) is Tensor:
            raise TypeError(f"{name} is a Tensor; optimisers take arrays. Pass its .data or .grad.")
    arrays = dict(zip(names, map(np.asarray, leaves), strict=True))
    arrays = dict(check_numbers(arrays))
    for name, a in arrays.items():
        if a.dtype.kind == "c":
            raise TypeError(f"{name} is complex; optimisers need real numbers.")
    return list(arrays.values())


def _fitting(params: Any, other: Any, name: str) -> list[Any]:
    """Return what ``other`` has in the places of the arrays of ``params``, in order."""
    if isinstance(params, dict):
        missing = [key for key in params if not isinstance(other, dict) or key not in other]
        if missing:
            raise ValueError(f"{name} must have an entry for {missing[0]!r}.")
        return [leaf for key in params for leaf in _fitting(params[key], other[key], name)]
    if isinstance(params, (tuple, list)):
        if not isinstance(other, (tuple, list)) or len(other) != len(params):
            raise ValueError(f"{name} must have a list of {len(params)} entries, as params has.")
        pairs = zip(params, other, strict=True)
        return [leaf for part in pairs for leaf in _fitting(*part, name)]
    return [] if params is None else [other]


def _like(a: Array, value: Any) -> Any:
    """Return a number that leaves the precision of ``a`` as it is."""
    return _exact(value) if a.dtype == object else float(value)


def _sqrt(a: Array) -> Array:
    """Return √a; of Fractions exactly, if it is rational."""
    return elementwise(_root, a) if a.dtype == object else np.sqrt(a)


def _rate(value: Any, t: int) -> Any:
    rate = _number(value, "rate")
    if not rate > 0:
        raise ValueError(f"rate must be positive, got {rate!r} at step {t + 1}.")
    return rate


def _below_one(name: str, value: Any) -> None:
    if not 0 <= _number(value, name) < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, got {value!r}.")
