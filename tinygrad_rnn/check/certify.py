"""Rigorous enclosures of a function's value and gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.check.tape import value_and_gradient
from tinygrad_rnn.scalars import Ball, Undecided, ball, encloses, precision
from tinygrad_rnn.trees import flatten

ACCURACY = 53  # right bits of every entry, after which the precision is not raised any more
LIMIT = 4096


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
        lines = [f"value = {self.value.item().arb.str(17)}"]
        for i, part in enumerate(self.gradient):
            for leaf in flatten(part)[0]:
                shown = [e.arb.str(8) for e in np.ravel(leaf)[:4]]
                more = ", …" if leaf.size > 4 else ""
                lines.append(f"gradient[{i}] {leaf.shape}: {', '.join(shown)}{more}")
        return "\n".join([*lines, f"({self.bits} bits)"])


def certify(f: Callable[..., Any], args: Sequence[Any], *, bits: int | None = None) -> Enclosure:
    """Enclose the value of a scalar function and its gradient by all arguments, rigorously.

    Every operation of both sweeps runs on balls, midpoint and radius, that contain the exact
    result. What it assumes is that the engine's rules are right. Constants in f are the floats they
    are.

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
        If a branch cannot be decided at the last precision, or an enclosure is not finite.
    TypeError
        If f uses a function that balls do not have, or turns them into floats.
    ValueError
        If f is not scalar.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> enclosure = tg.certify(np.tanh, [0.5])
    >>> print(enclosure)
    value = [0.46211715726000976 +/- 1.55e-18]
    gradient[0] (): [0.78644773 +/- 2.97e-9]
    (64 bits)
    """
    leaves, rebuild = flatten(tuple(args))

    def at(precision_bits: int) -> Enclosure:
        with precision(precision_bits):
            value, parts = value_and_gradient(
                lambda *xs: f(*rebuild(list(xs))), list(map(ball, leaves))
            )
            return Enclosure(ball(value), rebuild(list(map(ball, parts))), precision_bits)

    if bits is not None:
        return _finite(at(bits))
    bits = 64
    while True:
        try:
            found = _finite(at(bits))
            if bits >= LIMIT or _is_sharp(found):
                return found
        except Undecided:
            if bits >= LIMIT:
                raise
        bits *= 2


def _entries(enclosure: Enclosure) -> list[Ball]:
    leaves = flatten((enclosure.value, enclosure.gradient))[0]
    return [e for leaf in leaves for e in np.ravel(leaf)]


def _finite(enclosure: Enclosure) -> Enclosure:
    if all(e.is_finite for e in _entries(enclosure)):
        return enclosure
    raise Undecided(
        f"an enclosure is not finite at {enclosure.bits} bits: raise the precision, or the "
        "function has no derivative at these arguments."
    )


def _is_sharp(enclosure: Enclosure) -> bool:
    return all(e.arb.rel_accuracy_bits() >= ACCURACY for e in _entries(enclosure))
