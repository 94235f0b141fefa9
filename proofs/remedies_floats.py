"""What floating point makes of a gradient step, and of clipping: exact statements about floats.

The floats of a case are the floats of the claim in every number system; it is what they ought to be
that is computed in exact rationals, and that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.clip import clip_by_norm, global_norm
from tinygrad_rnn.optim import SGD

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .strategies import Draw

Array = Any


def _floats(a: Array, dtype: str) -> Array:
    """Return the numbers of any number system as floats, which they are."""
    return np.array([float(e) for e in np.ravel(a)], dtype)


def _exact(a: Array) -> list[Fraction]:
    return [Fraction(float(e)) for e in np.ravel(a)]


@st.composite
def _any_size(draw: Draw, dtype: str, low: int | None = None, high: int | None = None) -> Any:
    """Draw a positive float of any size: a few bits or all bits set, normal or subnormal."""
    info = np.finfo(dtype)
    bits = draw(st.one_of(st.integers(1, 9), st.integers(1, 9).map(lambda n: 2**info.nmant + n)))
    least = info.minexp - info.nmant if low is None else low
    exponent = draw(st.integers(least, info.maxexp - 2 if high is None else high))
    # nmant + 1 bits at most; the leading one gets the exponent, unless that is too small for all.
    value = np.ldexp(info.dtype.type(bits), exponent - bits.bit_length() + 1)
    return value if value > 0 else info.smallest_subnormal


# ---- K-8 ----------------------------------------------------------------------------------------


def _half_gap(w: Any, d: Any) -> Fraction:
    """Return half the distance from w to the next float in the direction of w − d."""
    away = type(w)(-np.inf if d > 0 else np.inf)
    return abs(Fraction(float(np.nextafter(w, away))) - Fraction(float(w))) / 2


def _is_even(w: Any) -> bool:
    """Return whether the last bit of the significand is 0."""
    return bool(w.view(f"i{w.itemsize}") % 2 == 0)


def _sgd(w: Array, g: Array, rate: Any) -> Array:
    sgd = SGD(rate)
    return sgd.step({"W_h": w}, {"W_h": g}, sgd.init({"W_h": w}))[0]["W_h"]


def _rounding_down(w: Array, g: Array, rate: Any) -> Array:
    """Take the step with floats that are rounded downwards."""
    d = w.dtype.type(rate) * g
    exact = [a - b for a, b in zip(_exact(w), _exact(d), strict=True)]
    down = [np.nextafter(a, a.dtype.type(-np.inf)) for a in w - d]
    pairs = zip(w - d, down, exact, strict=True)
    return np.array([low if Fraction(float(a)) > e else a for a, low, e in pairs])


def _step(w: float, d: float, dtype: str = "float64", **changed: Any) -> Case:
    return {"w": np.array([w]), "g": np.array([d]), "rate": 1.0, "dtype": dtype, **changed}


@st.composite
def _entry(draw: Draw, dtype: str, rate: float) -> tuple[float, float]:
    """Draw a weight, and a step of half the gap to its neighbour: exactly, or more, or less."""
    w = draw(st.sampled_from((-1, 1))) * draw(_any_size(dtype))
    if draw(st.integers(0, 9)) == 0:
        w = 0 * w
    sign = draw(st.sampled_from((-1, 1)))
    half = w.dtype.type(_half_gap(w, sign))  # underflows to 0 beside subnormal numbers
    steps = {
        "tie": half,
        "less": np.nextafter(half, half.dtype.type(0)),
        "more": np.nextafter(half, half.dtype.type(np.inf)),
        "generic": half * half.dtype.type(draw(st.integers(0, 40)) / 16),
        "much more": half * 64,
    }
    with np.errstate(all="ignore"):
        d = sign * steps[draw(st.sampled_from(list(steps)))]
        g = d / d.dtype.type(rate)
    return float(w), float(g if np.isfinite(g) else d)


@st.composite
def _steps(draw: Draw, system: str) -> Case:
    dtype = draw(st.sampled_from(("float64", "float32")))
    rate = draw(st.sampled_from((1.0, 0.25, 0.1)))
    entries = draw(st.lists(_entry(dtype, rate), min_size=1, max_size=4))
    w, g = (np.array(values) for values in zip(*entries, strict=True))
    return {"w": w, "g": g, "rate": rate, "dtype": dtype, "family": dtype}


@theorem(
    "K-8",
    "A float weight stays as it is iff its step is at most half the gap to the next float",
    statement=r"""Let $w$ and the step $d = \mathrm{fl}(\eta g)$ be finite floats of precision $p$
(24 or 53 bits), $u = 2^{-p}$, and let $w' = \mathrm{fl}(w - d)$, rounded to nearest, ties to even,
without overflow. Let $\Delta$ be the distance from $w$ to the neighbouring float in the direction
of $-d$. Then $w' = w$ iff $|d| < \Delta/2$, or $|d| = \Delta/2$ and the significand of $w$ is even.
Hence $w' = w$ implies $|d| \le u|w|$ and is implied by $|d| \le \tfrac12 u |w|$. Always $|w' - (w -
d)| \le u|w'|$: apart from that a step has the length $\eta\|g\|$.""",
    hypotheses=(
        "Rounding is to nearest, ties to even",
        "The gap is that on the side of the step",
    ),
    proof="""The numbers that round to w are those nearer to w than to any other float, and a
midpoint between two floats iff the significand of w is the even one of the two. On the side of −d
these are the w − d with |d| < Δ/2, or |d| = Δ/2 and w even; d = 0 is among them. If 2^e ≤ |w| <
2^{e+1} is normal then Δ = 2^{e+1−p}, except that below a power of two, towards 0, it is half of
that, unless that is below the smallest positive float. As u|w| < 2^{e+1−p} ≤ 2u|w|, and at |w| =
2^e half of it is u|w|, u|w| ≤ Δ ≤ 2u|w|. This gives both implications: the second may meet a tie
only where Δ = u|w|, at powers of two, which are even. If w is subnormal or zero then Δ is the
smallest positive float: |d| ≤ Δ/2 means d = 0, and so does |d| ≤ u|w| < Δ. The last bound is that
of one rounding, relative to the result; a sum of floats that is subnormal is exact.""",
    sources=("S4-7", "S4-8", "Higham 2002"),
    cases=_steps,
    systems=("rational",),
    necessity=(
        Necessity("to nearest", lambda: _step(1.0, 2.0**-60, update=_rounding_down)),
        Necessity(
            "the gap on the side of the step",
            lambda: _step(1.0, 0.75 * 2.0**-53, half_gap=lambda w, d: _half_gap(w, -d)),
        ),
    ),
    sensitivity=(
        Mistake(
            "np.spacing: the gap away from zero on either side",
            "tinygrad_rnn.proofs.remedies_floats._half_gap",
            lambda right: lambda w, d: abs(Fraction(float(np.spacing(w)))) / 2,
        ),
        Mistake(
            "a tie always keeps the weight",
            "tinygrad_rnn.proofs.remedies_floats._is_even",
            lambda right: lambda w: True,
        ),
        Mistake(
            "the step is taken in single precision",
            "tinygrad_rnn.optim.SGD._update",
            lambda right: lambda self, t, g, memory: (g.astype(np.float32).astype(g.dtype), memory),
        ),
        Mistake(
            "steps uphill",
            "tinygrad_rnn.optim.SGD._update",
            lambda right: lambda self, t, g, memory: (-g, memory),
        ),
    ),
    witness=lambda: _step(1.0, -(2.0**-53)),
)
def _unchanged_weights(
    w: Array,
    g: Array,
    rate: float,
    dtype: str,
    update: Callable[..., Array] | None = None,
    half_gap: Callable[[Any, Any], Fraction] | None = None,
) -> Iterator[Comparison]:
    w, g = _floats(w, dtype), _floats(g, dtype)
    after = (update or _sgd)(w, g, rate)
    step = w.dtype.type(rate) * g
    u = Fraction(float(np.finfo(dtype).eps)) / 2
    for old, new, d in zip(w, after, step, strict=True):
        half, size = (half_gap or _half_gap)(old, d), abs(Fraction(float(d)))
        stays = size < half or (size == half and _is_even(old))
        W, A = Fraction(float(old)), Fraction(float(new))
        yield equal("w' = w iff |d| ≤ Δ/2, and a tie is even", int(new == old), int(stays))
        moved = abs(A - W + Fraction(float(d)))
        yield at_most("|w' − (w − d)| ≤ u|w'|", *_over(moved, u * abs(A)))
        kept = size if new == old else Fraction(0)
        yield at_most("w' = w ⇒ |d| ≤ u|w|", *_over(kept, u * abs(W)))
        yield at_most("|d| ≤ u|w|/2 ⇒ w' = w", int(2 * size <= u * abs(W)), int(new == old))


def _over(lhs: Fraction, rhs: Fraction) -> tuple[Fraction, Fraction]:
    """Divide both sides by the right one: the sides themselves may be beyond all floats."""
    return (lhs / rhs, Fraction(1)) if rhs else (lhs, rhs)


# ---- K-9 ----------------------------------------------------------------------------------------


@st.composite
def _extreme(draw: Draw, system: str) -> Case:
    """Entries from the smallest to the largest floats, in the mean or all alike, and any θ."""
    dtype = draw(st.sampled_from(("float64", "float32")))
    n = draw(st.integers(1, 4))
    family = draw(st.sampled_from(("any", "huge", "tiny", "zero")))
    info = np.finfo(dtype)
    low, high = {
        "huge": (info.maxexp - 3, info.maxexp - 2),
        "tiny": (info.minexp - info.nmant, info.minexp),
    }.get(family, (None, None))
    sizes = [float(draw(_any_size(dtype, low, high))) for _ in range(n)]
    signs = draw(st.lists(st.sampled_from((-1, 1)), min_size=n, max_size=n))
    g = np.array(sizes) * signs * (family != "zero")
    near = draw(st.booleans()) and family != "zero"
    factor = draw(st.sampled_from((0.5, 1.0, 1.5)))
    # Half of the smallest float is 0, which is no threshold.
    θ = max(sizes) * factor or max(sizes) if near else draw(_any_size(dtype))
    return {"g": g, "θ": np.array(float(θ)), "dtype": dtype, "family": family}


def _case_of(*g: float, θ: float = 1.0, dtype: str = "float64", **changed: Any) -> Case:
    return {"g": np.array(g), "θ": np.array(θ), "dtype": dtype, **changed}


def _naive(gradients: Any, θ: float) -> Any:
    """Clip as one writes it down: the squares over- and underflow."""
    with np.errstate(all="ignore"):
        norm = np.sqrt(sum((g * g).sum() for g in gradients.values()))
    return {name: g * (θ / norm) if norm >= θ else g for name, g in gradients.items()}


def _refused(gradients: Any, θ: float) -> int:
    """Return 1 if clipping refuses with a sentence, 0 if it returns something."""
    try:
        clip_by_norm(gradients, θ)
    except ValueError:
        return 1
    return 0


@theorem(
    "K-9",
    "Clipping by norm is accurate for all finite floats, and refuses all others",
    statement=r"""Let $g$ have $n$ entries, all finite floats of precision $p$, $u = 2^{-p}$, $\eta$
twice the smallest positive float, $\theta > 0$ a finite float, and $\delta = (n+8)u$. The entries
$c_i$ of the computed $g\min(1, \theta/\|g\|)$ are finite, have the signs of the $g_i$ or are zero,
and
$$(1-\delta)\,t_i - \eta \le |c_i| \le (1+\delta)\,t_i + \eta, \qquad
  t_i = |g_i| \min\Big(1, \frac{\theta}{\|g\|}\Big);$$
the computed norm is within $\delta\|g\| + \eta$ of $\|g\|$, and infinite only if
$(1+\delta)\|g\|$ exceeds the largest float. $g = 0$ stays $0$. If an entry is NaN or
infinite, or $\theta$ is zero, negative, NaN or infinite, a ValueError says so.""",
    hypotheses=(
        "The squares are taken of g scaled by a power of two, so that max |gᵢ| is in [1/2, 1)",
        "Finite entries and a finite θ > 0 (anything else is refused)",
    ),
    proof="""Scaling by 2^{−e} is exact except for entries that become subnormal, beside a largest
one of at least 1/2: with the underflow of squares they change the sum S ≥ 1/4 of squares by less
than n 2^{−1070}. Squaring and adding in double precision costs a factor 1 ± γ_n, γ_n = nu/(1 − nu)
(Higham 2002, §3.1), the root halves that and adds one rounding, and the quotient by r = √S, the
product with gᵢ, and the conversion of the quotient to the precision of g add one each: less than
(n/2 + 5)u in all to first order, and less than δ with what is of higher order, for nu < 1/8.
θ/r does not overflow, since r2^e > θ where it is needed. Underflow of θ/r, of the product and of
the last scaling adds at most half the smallest float each, the middle one perhaps twice that. If
the computed norm decides min(1, θ/‖g‖) wrongly, then ‖g‖ is within (n/2 + 1)u of θ relatively, and
both candidates differ by no more than that factor, which leaves room for three roundings. A norm
that is subnormal is off by half the smallest float in addition, which moves |gᵢ|θ/‖g‖ as much at
most.""",
    sources=("S2-11", "S1-36", "Pascanu, Mikolov & Bengio 2013", "Higham 2002"),
    cases=_extreme,
    systems=("rational",),
    necessity=(
        Necessity("scaled: overflow", lambda: _case_of(1e200, 1e200, clip=_naive)),
        Necessity("scaled: underflow", lambda: _case_of(3e-200, 4e-200, θ=1e-200, clip=_naive)),
    ),
    sensitivity=(
        Mistake(
            "the norm without scaling",
            "tinygrad_rnn.clip._norm",
            lambda right: lambda leaves: (np.sqrt(sum((a * a).sum() for a in leaves)), 0),
        ),
        Mistake(
            "NaN and infinities pass",
            "tinygrad_rnn.clip.check_numbers",
            lambda right: lambda arrays: arrays,
        ),
        Mistake(
            "θ ≤ 0 passes",
            "tinygrad_rnn.clip._positive",
            lambda right: lambda θ: θ,
        ),
        Mistake(
            "10⁻⁶ is added to the norm (S2-13)",
            "tinygrad_rnn.clip._sum",
            lambda right: lambda fraction, exponent, ε: right(fraction, exponent, 1e-6),
        ),
    ),
    witness=lambda: _case_of(2.0**1023, 2.0**1023, -(2.0**1023), θ=2.0**1000),
)
def _clipping_is_accurate(
    g: Array, θ: Any, dtype: str, clip: Callable[..., Any] | None = None
) -> Iterator[Comparison]:
    g, θ = _floats(g, dtype), float(θ[()])
    c = np.concatenate([*(clip or clip_by_norm)({"W_h": g[:1], "b": g[1:]}, θ).values()])
    yield equal("c is finite", np.isfinite(c).astype(int), np.ones(len(g), int))
    info = np.finfo(dtype)
    δ = (len(g) + 8) * Fraction(float(info.eps)) / 2
    η = 2 * Fraction(float(info.smallest_subnormal))
    square = sum(e * e for e in _exact(g))
    reach = max(square, Fraction(θ) ** 2)  # t² = (θ g)²/max(‖g‖², θ²)
    for a, b in zip(_exact(g), _exact(c), strict=True):
        yield at_most("the sign is kept", int(a * b < 0), 0)
        target = (Fraction(θ) * a) ** 2
        above = max(abs(b) - η, Fraction(0)) ** 2 * reach
        yield at_most("|c| ≤ (1 + δ)t + η", *_over(above, (1 + δ) ** 2 * target))
        below = (abs(b) + η) ** 2 * reach
        yield at_most("(1 − δ)t ≤ |c| + η", *_over((1 - δ) ** 2 * target, below))
    norm = float(global_norm(g))
    if np.isfinite(norm):
        above, below = max(Fraction(norm) - η, Fraction(0)), Fraction(norm) + η
        yield at_most("norm ≤ (1 + δ)‖g‖ + η", *_over(above**2, (1 + δ) ** 2 * square))
        yield at_most("(1 − δ)‖g‖ ≤ norm + η", *_over((1 - δ) ** 2 * square, below**2))
    else:
        largest = Fraction(float(np.finfo(np.float64).max))
        yield at_most("largest float ≤ (1 + δ)‖g‖", largest**2 / square, (1 + δ) ** 2)
    bad = [(np.append(g, g.dtype.type(e)), θ) for e in (np.nan, np.inf, -np.inf)]
    bad += [(g, t) for t in (0.0, -θ, np.nan, np.inf)]
    yield equal("refused", np.array([_refused({"W_h": a}, t) for a, t in bad]), 1)
