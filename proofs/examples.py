"""The worked examples of the notes, computed by every road there is.

Each road to a gradient is taken in floats, in `Rounded` numbers and in balls. The balls of all
roads must agree to ``EQUAL_BITS`` bits; every float must lie within the rounding error derived for
its own road of what the balls enclose; and that error must be smaller than the number itself, so
that zero does not pass for a gradient that has all but vanished. The powers are exact rationals, by
which the decimals that the notes print are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import scalars
from tinygrad_rnn.cells import RNNCell

from .catalogue import Case, Comparison, at_most, equal
from .evidence import EQUAL_BITS, Violated, decide, lifted

Array = Any
Gradient = dict[str, Array]
Roads = dict[str, Gradient]

FORWARD = "forward mode, in floats the complex step"


@dataclass(frozen=True)
class Example:
    """A worked example: what each road gives, and whether they agree.

    ``verdict`` is CERTIFIED (exact, or enclosed), REFUTED, or INCONCLUSIVE where balls overlap at
    every precision.
    """

    id: str
    title: str
    sources: tuple[str, ...]
    roads: dict[str, Any]
    verdict: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the example as the report holds it."""
        return {**asdict(self), "sources": list(self.sources)}


EXAMPLES: dict[str, Callable[[], Example]] = {}


def run() -> list[Example]:
    """Compute every example."""
    return [example() for example in EXAMPLES.values()]


def _judged(
    id: str,
    title: str,
    sources: tuple[str, ...],
    compute: Callable[[dict[str, Any]], str],
) -> None:
    """Register an example; ``compute`` fills in the roads and returns the detail, or raises."""

    def example() -> Example:
        roads: dict[str, Any] = {}
        try:
            verdict, detail = "CERTIFIED", compute(roads)
        except Violated as violated:
            verdict, detail = "REFUTED", str(violated)
        except scalars.Undecided as undecided:
            verdict, detail = "INCONCLUSIVE", str(undecided)
        except Exception as error:  # a road that breaks off does not arrive
            verdict, detail = "REFUTED", repr(error)
        return Example(id, title, sources, roads, verdict, detail)

    EXAMPLES[id] = example


# ---- roads that must agree ----------------------------------------------------------------------


def _comparisons(balls: Roads, floats: Roads, bounds: Roads) -> Iterator[Comparison]:
    first, *others = balls
    for name, truth in balls[first].items():
        for road in others:
            yield equal(f"{name} by {road} and by {first}", balls[road][name], truth)
        for road in floats:
            gap, bound = np.abs(truth - floats[road][name]), bounds[road][name]
            yield at_most(f"{name} by {road}: distance from the enclosure", gap, bound)
            yield at_most(f"{name} by {road}: rounding error", bound, np.abs(truth))


def _agree(roads_of: Callable[..., Roads], case: Case, words: str, roads: dict[str, Any]) -> str:
    """Take every road in three number systems and decide whether they agree."""
    floats = roads_of(**lifted(case, "float"))
    bounds = {
        road: {name: scalars.errors(d) for name, d in gradient.items()}
        for road, gradient in roads_of(**lifted(case, "rounded")).items()
    }
    roads.update({road: _readable(gradient) for road, gradient in floats.items()})

    def enclose() -> Gradient:
        balls = roads_of(**lifted(case, "ball"))
        roads["balls"] = _readable(next(iter(balls.values())))
        decide(_comparisons(balls, floats, bounds), "ball")
        return next(iter(balls.values()))

    truth = scalars.ladder(enclose, start=2 * EQUAL_BITS)
    off = {road: {n: truth[n] - g[n] for n in truth} for road, g in floats.items()}
    return (
        f"{words} {len(floats)} roads agree to {EQUAL_BITS} bits in balls. In floats an entry is "
        f"off by at most {_largest(off, truth):.1e} of itself, where rounding allows "
        f"{_largest(bounds, truth):.1e}."
    )


def _largest(errors: Roads, truth: Gradient) -> float:
    """Return the largest relative error of any entry by any road."""
    size = {name: np.abs(scalars.values(d)) for name, d in truth.items()}
    return max(
        float((np.abs(scalars.values(e[name])) / size[name]).max())
        for e in errors.values()
        for name in size
    )


def _readable(gradient: Gradient) -> dict[str, Any]:
    """Return the entries as floats, and of balls as decimals with their radius."""
    read = np.frompyfunc(lambda e: e.arb.str(20) if isinstance(e, scalars.Ball) else float(e), 1, 1)
    return {name: np.asarray(read(d), dtype=object).tolist() for name, d in gradient.items()}


def _forward(loss: Callable[[Any], Any], params: Gradient) -> Gradient:
    """Differentiate by one entry at a time: in floats by the complex step, elsewhere forward.

    The complex step is forward mode with the tangent in the imaginary part. It leaves out
    h²/6 times the third derivative, and h² is 2⁻¹⁰⁰⁰.
    """
    h = 2.0**-500
    gradient = {}
    for name, p in params.items():
        gradient[name] = 0 * p
        for at in np.ndindex(p.shape):
            unit = {n: 0 * q for n, q in params.items()}
            unit[name][at] = unit[name][at] + 1
            if p.dtype == object:
                derivative = tg.jvp(loss, (params,), (unit,))[1]
            else:
                derivative = loss({n: q + 1j * h * unit[n] for n, q in params.items()}).imag / h
            gradient[name][at] = np.asarray(derivative)[()]
    return gradient


# ---- many to one: the sentences and the bits ----------------------------------------------------


def _many_to_one(params: Gradient, x: Array) -> tuple[Any, Array, Array]:
    """Return the run over x (T, N, D), o_T (N, H), and the logits o_T w_o (N,)."""
    recurrent = {"W_x": params["w_i"], "W_h": params["w_h"], "b": 0 * params["w_h"][0]}
    D, H = params["w_i"].shape
    outputs = tg.unroll(RNNCell(D, H), recurrent, x).outputs
    return recurrent, outputs, (outputs[-1] @ params["w_o"])[:, 0]


def _loss(params: Gradient, x: Array, y: Array) -> Any:
    return tg.binary_cross_entropy(_many_to_one(params, x)[2], y)


def _as_the_notes_sum(params: Gradient, x: Array, y: Array) -> Gradient:
    """Write out Σ_j ∂L/∂ŷ ∂ŷ/∂o_T ∂o_T/∂o_{T−1} ⋯ ∂o_{j+1}/∂o_j ∂⁺o_j/∂w, example by example."""
    w_i, w_h, w_o = params["w_i"], params["w_h"], params["w_o"]
    total = {name: 0 * p for name, p in params.items()}
    for n, label in enumerate(y.tolist()):
        o = [0 * w_h[0]]
        for x_t in x[:, n]:
            o.append(np.tanh(x_t @ w_i + o[-1] @ w_h))
        T = len(x)
        ŷ = tg.sigmoid(o[T] @ w_o)
        dL_dŷ = -label / ŷ + (1 - label) / (1 - ŷ)
        total["w_o"] = total["w_o"] + np.outer(o[T], dL_dŷ * ŷ * (1 - ŷ))
        for j in range(1, T + 1):
            term = dL_dŷ * (ŷ * (1 - ŷ)) * w_o[:, 0]
            for t in range(T, j, -1):
                term = term * (1 - o[t] * o[t]) @ w_h.T
            term = term * (1 - o[j] * o[j])
            total["w_i"] = total["w_i"] + np.outer(x[j - 1, n], term)
            total["w_h"] = total["w_h"] + np.outer(o[j - 1], term)
    return total


def _gradients(params: Gradient, x: Array, y: Array) -> Roads:
    """Take every road to ∂L/∂w_i, ∂L/∂w_h and ∂L/∂w_o."""
    recurrent, outputs, logits = _many_to_one(params, x)
    d_logits = (tg.sigmoid(logits) - y)[:, None]
    d_outputs = 0 * outputs
    d_outputs[-1] = d_logits @ params["w_o"].T
    problem = (RNNCell(*params["w_i"].shape), recurrent, x, d_outputs)

    def by(recurrent_gradient: Gradient) -> Gradient:
        return {
            "w_i": recurrent_gradient["W_x"],
            "w_h": recurrent_gradient["W_h"],
            "w_o": outputs[-1].T @ d_logits,
        }

    terms = tg.contributions(*problem)
    return {
        "the notes' sum over j": _as_the_notes_sum(params, x, y),
        "tape": tg.grad(_loss)(params, x, y),
        "closed-form Jacobians": by(tg.bptt(*problem, method="chain")),
        "contributions of the steps": by({name: d.sum(axis=0) for name, d in terms.items()}),
        FORWARD: _forward(partial(_loss, x=x, y=y), params),
    }


VOCABULARY = ("cat", "mat", "rat")
SENTENCES = {"cat mat cat": 1, "rat rat mat": 1, "mat mat cat": 0}
BITS = {"101": 1, "001": 0, "000": 0, "111": 1}


def _one_hot(sentences: Any) -> Array:
    words = [[VOCABULARY.index(word) for word in s.split()] for s in sentences]
    return np.eye(len(VOCABULARY))[np.transpose(words)]


_judged(
    "E-1",
    "Three sentences over cat, mat and rat, many to one",
    ("S1-1", "S1-2", "S1-3", "S1-4", "S1-8", "S1-13", "S1-14", "S1-16"),
    partial(
        _agree,
        _gradients,
        {
            "params": {
                "w_i": np.array([[0.5, -0.25], [-0.75, 0.5], [0.25, 1.0]]),
                "w_h": np.array([[0.5, -0.75], [0.25, 0.625]]),
                "w_o": np.array([[0.75], [-1.25]]),
            },
            "x": _one_hot(SENTENCES),
            "y": np.array([*SENTENCES.values()]),
        },
        "The first sentence is read as the words say, cat mat cat; its codes in the notes, 100 010 "
        "001, are cat mat rat. The recurrent weight is w_h, where the notes once write w_o.",
    ),
)

_judged(
    "E-2",
    "Four rows of three bits, many to one",
    ("S1-20", "S1-21"),
    partial(
        _agree,
        _gradients,
        {
            "params": {
                "w_i": np.array([[0.75]]),
                "w_h": np.array([[0.5]]),
                "w_o": np.array([[1.25]]),
            },
            "x": np.array([[float(bit) for bit in row] for row in BITS]).T[:, :, None],
            "y": np.array([*BITS.values()]),
        },
        "One unit.",
    ),
)


# ---- the chain of a hundred steps ---------------------------------------------------------------


def _chain(params: Gradient, x: Array, h: Array) -> Roads:
    """Take every road to ∂o_100/∂o_1 = ∏_{t=2}^{100} tanh'(x_t w_in + o_{t−1} w_h) w_h."""
    cell = RNNCell(1, 1)

    def last(start: Gradient) -> Any:
        return tg.unroll(cell, params, x[1:], (start["o_1"],)).final[0].sum()

    w_in, w_h = params["W_x"][0, 0], params["W_h"][0, 0]
    o = np.tanh(x[0, 0, 0] * w_in + h[0, 0] * w_h)
    start = {"o_1": np.array([[o]], dtype=h.dtype)}
    written_out = 1
    for x_t in x[1:, 0, 0]:
        written_out = written_out * ((1 - np.tanh(x_t * w_in + o * w_h) ** 2) * w_h)
        o = np.tanh(x_t * w_in + o * w_h)
    closed = np.eye(1, dtype=int)
    for x_t, before in zip(x[1:], tg.unroll(cell, params, x, (h,)).outputs[:-1], strict=True):
        closed = cell.jacobian(params, x_t, (before,))[0] @ closed
    return {
        "the notes' product": {"o_1": np.array([[written_out]], dtype=h.dtype)},
        "tape": tg.grad(last)(start),
        "closed-form Jacobians": {"o_1": closed},
        FORWARD: _forward(last, start),
    }


_judged(
    "E-3",
    "The chain of a hundred steps: ∂o_100/∂o_1",
    ("S0-7", "S1-22", "S1-27", "S1-28", "S1-29"),
    partial(
        _agree,
        _chain,
        {
            "params": {
                "W_x": np.array([[0.25]]),
                "W_h": np.array([[0.5]]),
                "b": np.zeros(1),
            },
            "x": np.array([(7 * t % 16 - 8) / 8 for t in range(1, 101)])[:, None, None],
            "h": np.zeros((1, 1)),
        },
        "99 derivatives of steps, whose product any customary absolute tolerance takes for zero.",
    ),
)


# ---- the powers ---------------------------------------------------------------------------------


def printed_as(value: Fraction, printed: str) -> str:
    """Say whether decimals are the number rounded to so many places, or cut off.

    Raises
    ------
    Violated
        If they are neither.

    Examples
    --------
    >>> from fractions import Fraction
    >>> printed_as(Fraction(2, 3), "0.67"), printed_as(Fraction(2, 3), "0.66")
    ('rounded', 'cut off; rounded it is 0.67')
    """
    places = len(printed.partition(".")[2])
    unit, claimed = Fraction(1, 10**places), Fraction(printed)
    if 2 * abs(value - claimed) <= unit:
        return "rounded"
    rounded = f"{float(round(value, places)):.{places}f}"
    if 0 <= value - claimed < unit:
        return f"cut off; rounded it is {rounded}"
    raise Violated(f"{printed} is neither rounded nor cut off; rounded it is {rounded}")


def _power(base: str, n: int, printed: str, roads: dict[str, Any]) -> str:
    """Take the power, and the Jacobian of n steps of h_t = w h_{t−1}, exactly and in floats."""
    w = Fraction(base)
    exact = w**n
    one = scalars.rational([[1]])
    problem = (RNNCell(1, 1, "identity"), {"W_x": one, "W_h": w * one, "b": 0 * one[0]})
    zeros = np.repeat(0 * one[None], n, axis=0)
    by = {
        method: tg.bptt(*problem, zeros, zeros, d_state=(one,), method=method)["state"][0][0, 0]
        for method in ("tape", "chain")
    }
    (in_floats,) = np.float64(base) ** np.array([n])
    (bound,) = scalars.errors(scalars.rounded([w]) ** n)
    roads.update({"exact": float(exact), **{k: float(v) for k, v in by.items()}})
    roads.update({"float": float(in_floats), "printed": printed})
    decide(
        [equal(f"{n} steps by {method}", value, exact) for method, value in by.items()], "rational"
    )
    gap = abs(Fraction(float(in_floats)) - exact)
    decide([at_most("error of the float power", gap, Fraction(float(bound)))], "rational")
    return (
        f"{base}^{n} is {float(exact):.12g} to 12 digits; the {printed} of the notes is "
        f"{printed_as(exact, printed)}."
    )


POWERS = {
    "E-4": ("0.5", 10, "0.00097", "S4-5"),
    "E-5": ("1.5", 10, "57.665", "S4-10"),
    "E-6": ("1.01", 365, "37.8", "S2-7"),
    "E-7": ("0.99", 365, "0.03", "S2-8"),
}
for _id, (_base, _n, _printed, _source) in POWERS.items():
    _judged(_id, f"{_base}^{_n} = {_printed}", (_source,), partial(_power, _base, _n, _printed))
