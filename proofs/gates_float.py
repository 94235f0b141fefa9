r"""In floats, too, a GRU's state never leaves [−1, 1]: rounding is monotone, and nearly fair.

The bound of G-9 needs $|h| \le 1$, and so does whoever stores states in few bits. That a convex
combination of numbers in $[-1, 1]$ stays there is trivial; that its rounded evaluation does is not:
it depends on how the update is written, on the rounding, and for $|h_0| > 1$ on luck or proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.cells import GRUCell
from tinygrad_rnn.recurrent import unroll

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, theorem
from .free import floats
from .gated_steps import GRUS, a_step, steps
from .norms import Array
from .strategies import Draw
from .unrolled import trajectory

Round = Callable[[Array], Array]
TIES: dict[str, Callable[[Array], Array]] = {
    "even": np.rint,
    "away": lambda q: np.copysign(np.floor(np.abs(q) + 0.5), q),
    "up": np.ceil,  # not to nearest
}

# ---- a format of few bits -----------------------------------------------------------------------


def nearest(bits: int, ties: str) -> Round:
    """Return the rounding to ``bits`` bits of numbers that are exact in double precision."""

    def rounded(x: Array) -> Array:
        mantissa, exponent = np.frexp(x)
        return np.ldexp(TIES[ties](np.ldexp(mantissa, bits)), exponent - bits)

    return rounded


def all_numbers(bits: int, lowest: int, highest: int) -> Array:
    """Return 0 and all positive floats of ``bits`` bits in [2^lowest, 2^highest]."""
    mantissas = np.arange(2 ** (bits - 1), 2**bits) * 2.0**-bits
    scales = 2.0 ** np.arange(lowest + 1, highest + 1)
    return np.concatenate([[0.0], np.outer(scales, mantissas).ravel(), [2.0**highest]])


def same(x: Array) -> Array:
    """Do not round: the product goes into a fused multiply-add."""
    return x


def combined(z: Array, w: Array, c: Array, h: Array, fl: Round) -> Iterator[tuple[str, Array]]:
    """Yield z c + w h: both products rounded, or one of them fused."""
    yield "z c + w h", fl(fl(z * c) + fl(w * h))
    yield "fma(z, c, w h)", fl(same(z * c) + fl(w * h))
    yield "fma(w, h, z c)", fl(fl(z * c) + same(w * h))


def corrected(z: Array, c: Array, h: Array, fl: Round) -> Iterator[tuple[str, Array]]:
    """Yield h + z(c − h), the product rounded or fused."""
    yield "h + z (c − h)", fl(h + fl(z * fl(c - h)))
    yield "fma(z, c − h, h)", fl(h + same(z * fl(c - h)))


def other_order(z: Array, c: Array, h: Array, fl: Round) -> Iterator[tuple[str, Array]]:
    """Yield c + w(h − c) with w = 1 − z."""
    yield "c + w (h − c)", fl(c + fl(fl(1 - z) * fl(h - c)))


@cache
def exhausted(bits: int, ties: str, over: bool, apart: bool, second: Any) -> tuple[Comparison, ...]:
    """Try all gates, candidates and states of a format, exponents from −bits − 2 to 2."""
    fl, gate = nearest(bits, ties), all_numbers(bits, -bits - 2, 0)
    sizes = all_numbers(bits, -2, 2)
    h = np.concatenate([-sizes, sizes])[:, None, None]
    c = sizes[sizes <= (1.5 if over else 1)]
    c = np.concatenate([-c, c])[:, None]
    other = 1 + 0 * gate if apart else fl(1 - gate)
    results = {
        **dict(combined(gate, other, c, h, fl)),
        **{f"{k}, z rounded": y for k, y in combined(other, gate, c, h, fl)},
        **dict((second or corrected)(gate, c, h, fl)),
    }
    excess = {k: (np.abs(y) - np.maximum(np.abs(h), 1)).max() for k, y in results.items()}
    _, y = next(other_order(gate, c, h, fl))
    excess["c + w (h − c), |h| ≤ 1"] = (np.abs(y) - 1)[np.abs(h[:, 0, 0]) <= 1].max()
    return tuple(at_most(f"{k}, few bits", size, 0.0) for k, size in excess.items())


# ---- cases --------------------------------------------------------------------------------------


def awkward(rng: np.random.Generator, number: type, bound: float, n: int) -> Array:
    """Draw floats of the format in [−bound, bound], most a few units of a power of two."""
    u = np.finfo(number).eps / 2
    point = rng.choice(np.array([u / 2, u, 2 * u, 0.25, 0.5, 1, 1, 1, 2, 3]), n)
    close = point * (1 + rng.integers(-16, 17, n) * 2 * u)
    value = np.where(rng.random(n) < 0.75, close, rng.random(n) * bound)
    return (rng.choice([-1, 1], n) * np.minimum(value, bound)).astype(number)


@st.composite
def _runs(draw: Draw, system: str) -> Case:
    """Draw a GRU whose state begins anywhere, numbers for one update, and a format of few bits."""
    case = draw(steps("float", *GRUS, T=2))
    number = draw(st.sampled_from((np.float32, np.float64)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    start = awkward(rng, number, 4, case["cell"].H)
    if draw(st.booleans()):  # saturated, and the state an odd number of units above 1
        odd = 2 * rng.integers(0, 8, start.size) + 1
        start = np.copysign(1 + odd * np.finfo(number).eps, start)
        params = case["params"]
        open_or_shut = np.where(params["b"] < 0, -40.0, 40.0)
        case["params"] = {k: open_or_shut if k == "b" else 0 * p for k, p in params.items()}
    gates = np.abs(awkward(rng, number, 1, 64))
    del case["reach"]
    return {
        **case,
        "state": (start[None].astype(float),),
        "update": np.array(
            [gates, awkward(rng, number, 1, 64), awkward(rng, number, 4, 64)], float
        ),
        "number": number,
        "bits": draw(st.sampled_from((2, 3, 4))),
        "family": number.__name__,
    }


def _one(h: float = 1.0, z: float = 40.0, **changed: Any) -> Case:
    """Return one step of one unit in double precision from h to c = −1."""
    case = a_step(GRUCell(1, 1, "minimal"), [z, -40], (h,))
    del case["reach"]
    update = np.array([[1.0], [-1.0], [h]])
    return {**case, "update": update, "number": np.float64, "bits": 4, **changed}


@theorem(
    "G-13",
    "In floats a GRU's state never exceeds the larger of 1 and where it began",
    statement=r"""In a binary format of $p \ge 2$ bits with rounding to nearest and gradual
underflow let $h$, $|c| \le 1$ and $z, w \in [0, 1]$ be floats and $m = \max(|h|, 1)$. (a) If $|z +
w - 1| \le 2^{-p-1}$, as when one of them is the other's rounded complement, then $z c + w h$
evaluates to at most $m$ in modulus, with both products rounded or one of them fused, whatever the
rule for ties. (b) With ties to even $h + z(c - h)$ evaluates to at most $m$ in modulus, its product
rounded or fused. So by induction $|h_t| \le \max(|h_0|, 1)$ exactly, for all $t$. (c) $c + w(h -
c)$ has that property only for $|h_0| \le 1$.""",
    hypotheses=(
        "rounding to nearest",
        "(b): ties to even",
        "the computed |tanh| ≤ 1 and σ ≤ 1",
        "(a): the gates add up to 1, but for one rounding",
        "the update is written as in (a) or (b)",
    ),
    proof="""Rounding fl is monotone and keeps floats, so |fl(zc)| ≤ z and |fl(wh)| ≤ v, the larger
modulus of fl(wm) and fl(−wm). In (a) the exact sum before the last rounding is at most z + v in
modulus, with zc fused too; with wh fused at most z + wm. Let 2^e ≤ m < 2^{e+1}, U = 2^{e−p+1} the
spacing there, m = MU; then 2^{−p} ≤ U/2 ≤ 2^{−p}m < U. It suffices that these sums are at most m +
U/4, which rounds to at most m. If w ≥ 1/2 then w = 1 − k2^{−p} with an integer k, z ≤ (k +
1/2)2^{−p} ≤ (k/2 + 1/4)U and wm ≤ (M − k/2)U, so z + wm ≤ m + U/4. If (M − k/2)U is a float, v is
at most that, and the same holds for z + v. If not, k is odd and it lies midway between neighbours,
above 2^e, since multiples of U/2 up to 2^e are floats; so m > 2^e, 2^{−p}m > U/2, wm is below the
middle, v ≤ (M − k/2 − 1/2)U and z + v < m. If w ≤ 1/2 then z + wm ≤ m − (1 − w)(m − 1) + 2^{−p−1}.
For m = 1 that is at most m + U/4, and v = w. For m > 1, m − 1 ≥ U as p ≥ 2, v − wm is at most U/4,
since wm ≤ m/2, and z + v ≤ m − U/2 + U/4 + U/4 = m.

(b) Changing all signs if need be, h ≤ c, so h ≤ 1. Let d = fl(c − h) ≥ 0. The product is between 0
and d, so the result is at least h and at most fl(h + d), where d ≤ fl(1 − h). If 0 ≤ h, h + d ≤ 1 +
2^{−p−1} rounds to at most 1. If −1 ≤ h < 0, 1 − h ∈ (1, 2] is rounded by at most 2^{−p} and h + d ≤
1 + 2^{−p}, which is at most midway between 1 and the next float, and rounds to at most the even 1.
If h < −1 let 2^e ≤ |h| < 2^{e+1}: 1 + |h| < 2^{e+2} is rounded by at most 2^{e+1−p}, so h + d ≤ 1 +
2^{e+1−p}, which is at most |h|: for e = 0 as |h| ≥ 1 + 2^{1−p}, for e ≥ 1 as 2^e(1 − 2^{1−p}) ≥ 1.

(c) If |h| ≤ 1 this is (b) with c and h exchanged. For c = −1, w = 1, h = 1 + 3·2^{1−p}, p ≥ 3, h −
c = 2 + 3·2^{1−p} is midway between floats and rounds up to the even 2 + 4·2^{1−p}: the result
exceeds h.""",
    sources=("S3-6", "S3-9", "derived here; compare Sterbenz 1974 and Higham 2002"),
    cases=_runs,
    systems=("rational",),
    witness=_one,
    necessity=(
        Necessity("to nearest: rounding upwards", lambda: _one(ties="up")),
        Necessity("ties to even: ties away from zero", lambda: _one(ties="away")),
        Necessity("|c| ≤ 1: a tanh that overshoots", lambda: _one(over=True)),
        Necessity("the gates add up to 1: w = 1 beside every z", lambda: _one(apart=True)),
        Necessity("written as in (a) or (b): c + w(h − c)", lambda: _one(second=other_order)),
    ),
    sensitivity=(
        Mistake(
            "the cell's update written c + (1 − z)(h − c)",
            "tinygrad_rnn.cells.gru.GRUCell.step",
            lambda right: (
                lambda cell, params, x_t, state: (next(_other_step(cell, params, x_t, state)),)
            ),
        ),
        Mistake(
            "a σ that exceeds 1 in its last bits",
            "tinygrad_rnn.cells.gru.sigmoid",
            lambda right: lambda a: right(a) * (1 + np.finfo(np.asarray(a).dtype).eps * 2),
        ),
        Mistake(
            "the kernel's states off by units in the last place",
            "tinygrad_rnn.proofs.gates_float.unroll",
            lambda right: lambda *at, method: _Shaken(right(*at, method=method)),
        ),
    ),
)
def float_invariant(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    update: Array,
    number: type,
    bits: int,
    ties: str = "even",
    over: bool = False,
    apart: bool = False,
    second: Any = None,
) -> Iterator[Comparison]:
    """Run the cell and the compiled loops in floats; exhaust a small format; try single updates."""

    def in_format(a: Any) -> Any:
        return floats(a).astype(number)

    params = {name: in_format(p) for name, p in params.items()}
    x, state = in_format(x), (in_format(state[0]),)
    top = np.maximum(np.abs(state[0]), 1).astype(float)
    for (h,) in trajectory(cell, params, x, state):
        yield at_most("|h_t| ≤ max(|h_0|, 1), by the cell", np.abs(h).astype(float), top)
    (by_kernel,) = unroll(cell, params, x, state, method="kernel").states
    yield at_most("|h_t| ≤ max(|h_0|, 1), by the kernel", np.abs(by_kernel).astype(float), top)
    yield at_most("|tanh| ≤ 1", np.abs(np.tanh(params["b"])).astype(float), 1.0)
    yield at_most("σ ≤ 1", sigmoid(params["b"]).astype(float), 1.0)

    z, c, h = in_format(update)
    top = np.maximum(np.abs(h), 1).astype(float)
    for gates in ((z, 1 - z), (1 - z, z)):
        for label, y in combined(*gates, c, h, same):
            if "fma" not in label:
                yield at_most(label, np.abs(y).astype(float), top)
    _, y = next(corrected(z, c, h, same))
    yield at_most("h + z (c − h)", np.abs(y).astype(float), top)
    yield from exhausted(bits, ties, over, apart, second)


def _other_step(cell: Any, params: Any, x_t: Array, state: Any) -> Iterator[Array]:
    """Yield h_t by (c)."""
    _, a_z, a_c, _ = cell._gates(params, x_t, state[0])
    _, y = next(other_order(sigmoid(a_z), np.tanh(a_c), state[0], same))
    yield y


class _Shaken:
    """A run whose states are off by some units in the last place."""

    def __init__(self, run: Any) -> None:
        (h,) = run.states
        self.states = (h * (1 + 2 * np.finfo(h.dtype).eps),)
