"""Independent roads to a gradient; each says how far it can be from the truth.

An oracle returns for every variable an array of balls that contain the gradient's entries, or
raises :class:`Unavailable` with the reason why it says nothing about this function.

==================  ================================================================================
balls               The engine's tape over ball arithmetic, its precision raised until the balls are
                    small. Rigorous at these very arguments, provided the rules are right.
difference          Difference quotients over ball arithmetic, h near 2⁻¹⁰⁰. Uses no rule at all: it
                    confirms ``balls``, and replaces it where they differ.
exact               Dual numbers over Fractions: no error, for piecewise rational f of Fractions.
identity            The same over GF(2⁶¹ − 1) at a random point: a statement about all arguments.
complex step        Im φ(x + ih)/h in floats, where f is holomorphic; its error is that of any float
                    evaluation.
central difference  Difference quotients in floats with a measured error: the last resort, for
                    functions that run on nothing but floats.
==================  ================================================================================
"""

from __future__ import annotations

NAMES = ("balls", "difference", "exact", "identity", "complex step", "central difference")


class Unavailable(Exception):
    """An oracle cannot say anything; the message is the reason."""


class Contradiction(Exception):
    """Two roads that must agree do not."""
