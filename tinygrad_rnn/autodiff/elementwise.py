"""The rule table, first part: element-wise functions, each beside its partial derivatives.

A product may return the shape of the broadcast result: the backward sweep undoes broadcasting, in
one place for all rules (`sweeps.unbroadcast`). Rules are themselves written with functions of the
table, which is why derivatives can be differentiated again. No literal is a float, so a rule runs
on exact numbers as it stands.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from tinygrad_rnn import functions
from tinygrad_rnn.autodiff.rule import elementwise, rule
from tinygrad_rnn.autodiff.tensor import RULES, apply, raw
from tinygrad_rnn.composed import Function, composed, refuse_complex
from tinygrad_rnn.functions import Array


def _sign(y: Array, x: Array) -> Array:
    refuse_complex(x)
    return np.sign(x)


def _wins(compare: Function, second: bool = False) -> Function:
    """The partial derivative of a selection: 1 where this argument is the one selected.

    At a tie the first argument wins: an element of Clarke's subdifferential either way.
    """

    def partial(y: Array, a: Array, b: Array) -> Array:
        refuse_complex(a, b)
        return compare(a, b) != second

    return partial


def _power(y: Array, a: Array, b: Array) -> Array:
    if isinstance(b, (int, float)):  # keep a Python number: exact or weakly typed
        return b * a ** (b - 1) if b else np.zeros_like(a)
    return b * a ** np.where(b == 0, 0, b - 1)  # 0 · 0⁻¹ would be NaN


def _exponent(y: Array, a: Array, b: Array) -> Array:
    a = a + 0 * b  # in the number system and the precision of b: a may be a Python number
    return y * np.log(np.where(a == 0, 1, a))  # 0ᵇ = 0 for all b > 0


_fraction = np.frompyfunc(lambda e: Fraction(e) if type(e) is int else e, 1, 1)


def _exact(v: Array) -> Array:
    """Make Fractions of ints among exact numbers, where 1 / 3 would be a float, and 0 / 3 too."""
    return _fraction(v) if v.dtype.hasobject else v


sigmoid: Function  # used further up
# fmt: off
d_tanh     = elementwise(functions.d_tanh,     lambda y, x: -2 * np.tanh(x) * y)
d_sigmoid  = elementwise(functions.d_sigmoid,  lambda y, x: y * (1 - 2 * sigmoid(x)))
sigmoid    = elementwise(functions.sigmoid,    lambda y, x: d_sigmoid(x))
softplus   = elementwise(functions.softplus,   lambda y, x: sigmoid(x))
step       = elementwise(functions.step,       None)
relu       = elementwise(functions.relu,       lambda y, x: step(x))
leaky_step = elementwise(functions.leaky_step, None, keywords=("slope",))
leaky_relu = elementwise(functions.leaky_relu, lambda y, x, *slope, **k: leaky_step(x, *slope, **k),
                         keywords=("slope",))

elementwise(np.add,       1, 1)
elementwise(np.subtract,  1, -1)
elementwise(np.negative,  -1)
elementwise(np.positive,  1)
elementwise(np.multiply,  lambda y, a, b: b,              lambda y, a, b: a)
elementwise(np.power,     _power,                         _exponent)
elementwise(np.maximum,   _wins(np.greater_equal),        _wins(np.greater_equal, second=True))
elementwise(np.minimum,   _wins(np.less_equal),           _wins(np.less_equal, second=True))
elementwise(np.logaddexp, lambda y, a, b: sigmoid(a - b), lambda y, a, b: sigmoid(b - a))
elementwise(np.absolute,  _sign)
elementwise(np.square,    lambda y, x: 2 * x)
elementwise(np.sqrt,      lambda y, x: 1 / (2 * y))
elementwise(np.exp,       lambda y, x: y)
elementwise(np.expm1,     lambda y, x: np.exp(x))
elementwise(np.log,       lambda y, x: 1 / x)
elementwise(np.log1p,     lambda y, x: 1 / (1 + x))
elementwise(np.sin,       lambda y, x: np.cos(x))
elementwise(np.cos,       lambda y, x: -np.sin(x))
elementwise(np.sinh,      lambda y, x: np.cosh(x))
elementwise(np.cosh,      lambda y, x: np.sinh(x))
elementwise(np.tanh,      lambda y, x: d_tanh(x))

exact      = elementwise(_exact, 1)
_divide    = (lambda v, y, a, b: exact(v) / b, lambda v, y, a, b: -v * y / b)
rule(np.divide, _divide, _divide)
_where = (None,
          lambda v, y, mask, *ab: np.where(mask, v, 0),
          lambda v, y, mask, *ab: np.where(mask, 0, v))
rule(np.where, _where, _where)
# fmt: on


@composed(np.where)
def _where_or_nonzero(condition: Array, *branches: Array) -> Array:
    mask = raw(condition)
    return apply(RULES[np.where], (mask, *branches), {}) if branches else np.nonzero(mask)
