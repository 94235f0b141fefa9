"""The registry of theorems: what is claimed, under which hypotheses, on whose word, and how tested.

A theorem's *claim* is a function written once, in NumPy, over any number system. It takes the
arrays of a case by name and yields comparisons::

    def product_bound(cell, params, x, state):
        yield at_most("‖P‖ ≤ Π‖J‖", norm(P), product_of_norms)

`evidence` evaluates it at each level: on floats with a derived tolerance, or in exact arithmetic,
finite fields or balls with none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from hypothesis.strategies import SearchStrategy

Case = dict[str, Any]
Claim = Callable[..., Iterator["Comparison"]]

CHAPTERS = {
    "activations": "Activations and losses",
    "jacobians": "Step Jacobians",
    "bptt": "Back-propagation through time",
    "bounds": "Bounds on products of Jacobians",
    "spectra": "Spectra of products",
    "vanishing": "Vanishing and exploding gradients",
    "gates": "Gated cells",
    "remedies": "Clipping and step sizes",
    "initialisation": "Initialisation",
    "numerics": "Floating point and differences",
}
LETTERS = {
    "A": "activations", "L": "activations", "J": "jacobians", "C": "bptt", "B": "bounds",
    "S": "spectra", "V": "vanishing", "G": "gates", "K": "remedies", "I": "initialisation",
    "N": "numerics",
}  # fmt: skip

SYSTEMS = {
    "float": "float64",
    "rational": "exact rationals",
    "field": "GF(2^61 − 1)",
    "ball": "balls",
}


@dataclass(frozen=True)
class Comparison:
    """``lhs = rhs`` or ``lhs ≤ rhs``, entry by entry."""

    label: str
    relation: str
    lhs: Any
    rhs: Any


def equal(label: str, lhs: Any, rhs: Any) -> Comparison:
    """Claim ``lhs = rhs``, entry by entry."""
    return Comparison(label, "=", lhs, rhs)


def at_most(label: str, lhs: Any, rhs: Any) -> Comparison:
    """Claim ``lhs ≤ rhs``, entry by entry."""
    return Comparison(label, "≤", lhs, rhs)


@dataclass(frozen=True)
class Necessity:
    """A stored case that meets all hypotheses but one, and on which the claim is false."""

    dropped: str
    case: Callable[[], Case]
    system: str = "rational"


@dataclass(frozen=True)
class Mistake:
    """A planted mistake that the theorem must catch.

    ``target`` is the dotted name of what is replaced; ``wrong`` makes the wrong version of it.
    """

    name: str
    target: str
    wrong: Callable[[Any], Any]


@dataclass(frozen=True)
class Theorem:
    """A theorem with everything its evidence needs.

    ``witness`` is the case on which a bound is known to be tightest; every search begins with it.
    ``false_alarm`` is the probability that a true statistical claim fails on one case; such a claim
    is tested and not certified.
    """

    id: str
    title: str
    chapter: str
    statement: str
    hypotheses: tuple[str, ...]
    proof: str
    sources: tuple[str, ...]
    claim: Claim
    cases: Callable[[str], SearchStrategy[Case]]
    systems: tuple[str, ...]
    necessity: tuple[Necessity, ...]
    sensitivity: tuple[Mistake, ...]
    witness: Callable[[], Case] | None = None
    false_alarm: float | None = None


THEOREMS: dict[str, Theorem] = {}


def theorem(
    id: str,
    title: str,
    *,
    statement: str,
    hypotheses: tuple[str, ...],
    proof: str,
    sources: tuple[str, ...],
    cases: Callable[[str], SearchStrategy[Case]],
    systems: tuple[str, ...],
    necessity: tuple[Necessity, ...] = (),
    sensitivity: tuple[Mistake, ...],
    witness: Callable[[], Case] | None = None,
    false_alarm: float | None = None,
) -> Callable[[Claim], Claim]:
    """Register the decorated claim as a theorem.

    Parameters
    ----------
    id, title
        ``"B-1"`` and what it says in one line.
    statement
        In LaTeX, with every hypothesis.
    hypotheses
        One by one; each has its counterexample in ``necessity``, unless it only fixes notation.
    proof
        A complete proof for a human reader.
    sources
        The notes' formulas (``"S2-3"``: file 2, formula 3 of the refereed list) and the literature.
    cases
        From the name of a number system to the Hypothesis strategy that draws the claim's
        arguments: a dict of arrays (drawn as floats that are exact in every system) and constants;
        an entry ``"family"`` is counted and not passed on.
    systems
        The number systems in which the claim is certified with no tolerance; none for a
        statistical claim.
    necessity, sensitivity
        See :class:`Necessity` and :class:`Mistake`.
    witness, false_alarm
        See :class:`Theorem`.
    """

    def register(claim: Claim) -> Claim:
        if id in THEOREMS:
            raise ValueError(f"Theorem {id} is registered twice.")
        THEOREMS[id] = Theorem(
            id, title, LETTERS[id[0]], cleandoc(statement), hypotheses, cleandoc(proof), sources,
            claim, cases, systems, tuple(necessity), tuple(sensitivity), witness, false_alarm,
        )  # fmt: skip
        return claim

    return register


def load() -> dict[str, Theorem]:
    """Import every chapter and return the registry, in the order of the chapters.

    A chapter is the modules of this package that its name begins: ``bounds``, ``bounds_entrywise``.
    """
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.partition("_")[0] in CHAPTERS:
            importlib.import_module(f"{__package__}.{module.name}")
    chapters, letters = list(CHAPTERS), list(LETTERS)

    def place(theorem: Theorem) -> tuple[int, int, int]:
        letter, _, number = theorem.id.partition("-")
        return chapters.index(theorem.chapter), letters.index(letter), int(number)

    return {t.id: t for t in sorted(THEOREMS.values(), key=place)}
