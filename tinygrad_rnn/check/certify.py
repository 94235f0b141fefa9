"""Rigorous enclosures of a function's value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.check.problem import as_tuple, names_of, returned
from tinygrad_rnn.check.tape import operation, value_and_gradient
from tinygrad_rnn.scalars import Ball, Undecided, ball, encloses, precision
from tinygrad_rnn.trees import flatten

ACCURACY = 53  # right bits of every entry, after which the precision is not raised any more
LIMIT = 4096
DIGITS = 60  # of a number in print, at most

# Functions with a kink or a jump where their only argument is 0, or their two are equal.
KINKS_AT_ZERO = {"np.absolute", "relu", "leaky_relu", "step", "leaky_step"}
KINKS_AT_TIES = {"np.maximum", "np.minimum"}


class AtKink(Undecided):
    """A function has a kink exactly at the arguments: no precision helps."""


@dataclass(frozen=True)
class Enclosure:
    """Balls that certainly contain the value and the gradient of a function.

    Attributes
    ----------
    value : ndarray of Ball, of no axes
        The value.
    gradient : tuple
        One tree of arrays of balls for each argument.
    bits : int
        The precision that was used.
    names : list of str
        What to call the arrays of the gradient, in order.

    In print the numbers have up to 60 digits, all of them right: what is left out goes into the
    radius.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> enclosure = tg.certify(lambda x: x * x, [1.5])
    >>> enclosure.contains(2.25, (3.0,)), enclosure.contains(2.25, (3.5,))
    (True, False)
    """

    value: Any
    gradient: tuple[Any, ...]
    bits: int
    names: list[str]

    def contains(self, value: Any, gradient: Any) -> bool:
        """Return whether these numbers certainly lie in the enclosures, every one of them.

        A rounded result is off by some units in its last place, and sharp enclosures exclude it.

        Raises
        ------
        ValueError
            If ``gradient`` has not the structure and the shapes of the enclosure.
        """
        numbers, wanted = flatten((value, gradient))[0], flatten((self.value, self.gradient))[0]
        if [np.shape(n) for n in numbers] != [np.shape(w) for w in wanted]:
            raise ValueError(
                f"expected a value and a gradient of shapes {[np.shape(w) for w in wanted]}, got "
                f"{[np.shape(n) for n in numbers]}. The gradient is a tuple, one for each argument."
            )
        return all(bool(np.all(encloses(w, n))) for w, n in zip(wanted, numbers, strict=True))

    def __str__(self) -> str:
        digits = min(DIGITS, math.ceil(self.bits * math.log10(2)))
        lines = [f"value = {self.value.item().arb.str(digits)}"]
        for name, leaf in zip(self.names, flatten(self.gradient)[0], strict=True):
            shown = [e.arb.str(digits) for e in np.ravel(leaf)[:4]]
            more = ", …" if leaf.size > 4 else ""
            lines.append(f"gradient by {name} {leaf.shape}: {', '.join(shown)}{more}")
        return "\n".join([*lines, f"({self.bits} bits)"])


def certify(f: Callable[..., Any], args: Sequence[Any], *, bits: int | None = None) -> Enclosure:
    """Enclose the value of a scalar function and its gradient by all arguments, rigorously.

    Every operation of both sweeps runs on balls, midpoint and radius, that contain the exact
    result. What it assumes is that the engine's rules are right. Constants in f are the floats they
    are; what f computes of floats alone rounds as floats do. At a kink there is no gradient: abs,
    relu, maximum and minimum are refused there, while np.where, np.max and np.min follow the branch
    that f takes.

    Parameters
    ----------
    f
        A scalar function of arrays or trees of arrays, written in NumPy.
    args
        Floats, Fractions, or balls: given balls, the enclosure holds for everything in them.
    bits
        The precision. If left out it doubles from 64 until every entry has 53 right bits, or 4096
        is reached.

    Raises
    ------
    Undecided
        If a branch cannot be decided at the last precision, an enclosure is not finite, or f has a
        kink exactly at the arguments.
    TypeError
        If f uses a function that balls do not have, or turns them into floats; for integers; if
        ``args`` is not a list or tuple.
    ValueError
        If f is not scalar, or an argument is not finite.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> enclosure = tg.certify(lambda x: np.tanh(x), [0.5])
    >>> print(enclosure)
    value = [0.4621171572600097... +/- ...]
    gradient by x (): [0.786447732965927... +/- ...]
    (64 bits)
    """
    leaves, rebuild = flatten(as_tuple(args))
    names = names_of(f, tuple(args))
    for name, leaf in zip(names, leaves, strict=True):
        numbers = Tensor(leaf).data  # refuses integers
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise ValueError(f"{name} has NaN or infinite entries: no gradient exists there.")

    def at(precision_bits: int) -> Enclosure:
        with precision(precision_bits):
            value, parts = value_and_gradient(
                lambda *xs: returned(f(*rebuild(list(xs)))), list(map(ball, leaves)), _refuse_kink
            )
            return Enclosure(ball(value), rebuild(list(map(ball, parts))), precision_bits, names)

    if bits is not None:
        return _finite(at(bits))
    bits = 64
    while True:
        try:
            found = _finite(at(bits))
            if bits >= LIMIT or _is_sharp(found):
                return found
        except Undecided as error:
            if bits >= LIMIT or isinstance(error, AtKink):
                raise
        bits *= 2


def _entries(enclosure: Enclosure) -> list[Ball]:
    leaves = flatten((enclosure.value, enclosure.gradient))[0]
    return [e for leaf in leaves for e in np.ravel(leaf)]


def _refuse_kink(node: Tensor) -> None:
    """Refuse a function that is evaluated exactly at its kink."""
    name = operation(node)
    if name in KINKS_AT_ZERO and node._origin is not None:
        offset = node._origin[1][0]
    elif name in KINKS_AT_TIES and node._origin is not None:
        offset = np.subtract(*node._origin[1])
    else:
        return
    at_kink = sum(bool(e.arb.is_zero()) for e in np.ravel(ball(offset)))
    if at_kink:
        raise AtKink(
            f"{name} is exactly at its kink in {at_kink} of {np.size(offset)} entries, where it "
            "has no derivative. Move the arguments away from it."
        )


def _finite(enclosure: Enclosure) -> Enclosure:
    for name, leaf in zip(
        ["the value", *(f"the gradient by {name}" for name in enclosure.names)],
        flatten((enclosure.value, enclosure.gradient))[0],
        strict=True,
    ):
        if not all(e.is_finite for e in np.ravel(leaf)):
            raise Undecided(
                f"{name} is not finite at these arguments (with {enclosure.bits} bits): a function "
                "is evaluated where it or its derivative is undefined or infinite."
            )
    return enclosure


def _is_sharp(enclosure: Enclosure) -> bool:
    return all(e.arb.rel_accuracy_bits() >= ACCURACY for e in _entries(enclosure))
