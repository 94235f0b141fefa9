"""Derivatives from values: the central difference and the complex step, with their whole error.

φ is a weighted sum of the outputs of one recurrent step, as a function of a step s along a
direction β of the bias: φ(s) = Σ d_j f(a_j + sβ_j). Its third derivative is known, so that each
quotient is a rigorous check of the engine's φ', and not just a plausible one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.autodiff import grad
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.scalars.element import Element, lifted

from .activations import GAINS, RULES
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .numerics_cases import floats, in_balls, tree
from .strategies import Draw, dyadics

Array = Any
THIRD = {"tanh": 2, "sigmoid": Fraction(1, 8), "relu": 0}  # sup |f'''|; of relu, off its kink


def nonzero(draw: Draw, n: int) -> Array:
    """Draw multiples of 1/16, none of them 0."""
    a = draw(dyadics(n))
    return np.where(a == 0, 1 / 16, a)


@st.composite
def _steps(draw: Draw, system: str, smallest: int) -> Case:
    """Draw one step of a smooth network, a direction β of its bias, weights d, and h = 2^(−k)."""
    D, H = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    cell = RNNCell(D, H, draw(st.sampled_from(("tanh", "sigmoid"))))
    gain, family = draw(st.sampled_from(GAINS))
    params = {name: draw(dyadics(shape)) for name, shape in cell.shapes.items()}
    return {
        "cell": cell,
        "params": {**params, "b": params["b"] * gain},
        "x": draw(dyadics((1, D))),
        "state": (draw(dyadics((1, H), 1.0)),),
        "β": nonzero(draw, H),
        "d": nonzero(draw, H),
        "h": np.full(1, 2.0 ** -draw(st.integers(2, smallest))),
        "family": family,
    }


def _unit(f: str, h: float, b: float = 0.0, **more: Any) -> Case:
    """Return one unit f, and φ(s) = f(b + s)."""
    zero, one = np.zeros((1, 1)), np.ones(1)
    return {
        "cell": RNNCell(1, 1, f),
        "params": {"W_x": zero, "W_h": zero, "b": np.full(1, b)},
        "x": zero,
        "state": (zero,),
        "β": one,
        "d": one,
        "h": np.full(1, h),
        **more,
    }


def _along(cell: Any, params: Any, x: Array, state: Any, β: Array, d: Array) -> Any:
    """Return φ."""

    def φ(s: Array) -> Array:
        return np.sum(d * cell.step({**params, "b": params["b"] + s * β}, x, state)[0])

    return φ


# ---- N-1 ----------------------------------------------------------------------------------------


def central(φ: Callable[[Array], Array], h: Array) -> Array:
    """(φ(h) − φ(−h)) / 2h."""
    return (φ(h) - φ(-h)) / (2 * h)


@theorem(
    "N-1",
    "The central difference is a rigorous check of a derivative, good to u^(2/3)",
    statement=r"""Let $|\varphi'''|\le M$ on $[-h,h]$, and let $\hat\varphi(\pm h)$ be computed with
an error of at most $\varepsilon$. Then
$$\Big|\frac{\hat\varphi(h)-\hat\varphi(-h)}{2h}-\varphi'(0)\Big|\le\frac{h^2M}6+\frac\varepsilon h
\quad\text{and}\quad\Big(\frac{h^2M}6+\frac\varepsilon h\Big)^3\ge\frac98M\varepsilon^2,$$ with
equality for $h^3=3\varepsilon/M$. For one step of a recurrent network, $\varphi(s)=\sum_jd_jf(a_j+
s\beta_j)$, $M=\sum_j|d_j\beta_j^3|\sup|f'''|$ with $|\tanh'''|\le2$, $|\sigma'''|\le\frac18$.""",
    hypotheses=("φ is three times differentiable on [−h, h]", "|φ̂ − φ| ≤ ε"),
    proof="""Taylor's theorem at 0, for ±h: φ(h) − φ(−h) = 2hφ'(0) + h³(φ'''(ξ) + φ'''(ξ'))/6.
Divide by 2h; the errors of φ̂ add at most 2ε/2h. By the inequality of the means for X = h²M/6 and
twice Y = ε/2h, (X + 2Y)³ ≥ 27XY² = (9/8)Mε², with equality for X = Y. With s = tanh², tanh''' =
−2(1 − s)(1 − 3s), and (1 − s)(1 − 3s) falls from 1 at s = 0 to −1/3 at s = 2/3 and rises to 0 at
s = 1. σ(a) = (1 + tanh(a/2))/2 divides the bound by 16.""",
    sources=("Higham 2002",),
    cases=lambda system: _steps(system, smallest=40),
    systems=("ball",),
    necessity=(
        Necessity("φ is three times differentiable on [−h, h]", lambda: _unit("relu", 0.5), "ball"),
        Necessity("|φ̂ − φ| ≤ ε", lambda: _unit("tanh", 2.0**-40, b=1.0, share=0), "ball"),
    ),
    sensitivity=(
        Mistake("1 − a² for 1 − y²", RULES + "d_tanh", lambda _: lambda a: 1 - a * a),
        Mistake(
            "a one-sided difference",
            "tinygrad_rnn.proofs.numerics_differences.central",
            lambda _: lambda φ, h: (φ(h) - φ(0 * h)) / h,
        ),
        Mistake(
            "rounding left out of the error bound",
            "tinygrad_rnn.scalars.rounding.Rounded._term",
            lambda right: (
                lambda self, value, propagated, roundings=1: right(self, value, propagated, 0)
            ),
        ),
    ),
    witness=lambda: _unit("tanh", 2.0**-8),
)
def central_difference(cell: Any, h: Array, share: int = 1, **network: Any) -> Iterator[Comparison]:
    """The quotient of exact values, and that of floats, against the engine's φ' in balls."""
    network, h = tree(floats, network), floats(h)
    bounded, rough = _along(cell, **tree(scalars.rounded, network)), _along(cell, **network)
    ε = share * max(scalars.errors(bounded(s)).item() for s in (h, -h))

    def in_truth(network: Any, h: Array, right: Array, left: Array, ε: Array) -> Any:
        φ, truncation = _along(cell, **network), h * h * _third(cell, network) / 6
        slope, bound = grad(φ)(0 * h), truncation + ε / h
        yield at_most("|q − φ'| ≤ h²M/6", abs(central(φ, h) - slope), truncation)
        yield at_most("|q̂ − φ'| ≤ h²M/6 + ε/h", abs((right - left) / (2 * h) - slope), bound)
        least = 9 * _third(cell, network) * ε * ε
        yield at_most("no h is better than u^(2/3)", least, 8 * bound * bound * bound)

    values = rough(h), rough(-h), np.array([ε])
    yield from in_balls(lambda *args: list(in_truth(*args)), network, h, *values)


def _third(cell: RNNCell, network: Any) -> Any:
    """M, the bound of φ'''."""
    β, d = network["β"], network["d"]
    return np.sum(abs(d * β * β * β)) * THIRD[cell.activation]


# ---- N-2 ----------------------------------------------------------------------------------------


class Complex(Element):
    """x + iy over any number system that has d_tanh, sin and cos; sums and products over all."""

    __slots__ = ("im", "re")

    def __init__(self, re: Any, im: Any) -> None:
        self.re, self.im = re, im

    def _lift(self, other: Any) -> Any:
        return other if isinstance(other, Complex) else Complex(other, 0)

    @lifted
    def __add__(self, other: Any) -> Complex:
        return Complex(self.re + other.re, self.im + other.im)

    __radd__ = __add__

    def __neg__(self) -> Complex:
        return Complex(-self.re, -self.im)

    @lifted
    def __mul__(self, other: Any) -> Complex:
        a, b, c, d = self.re, self.im, other.re, other.im
        return Complex(a * c - b * d, a * d + b * c)

    __rmul__ = __mul__

    def conjugate(self) -> Complex:
        """Return x − iy."""
        return Complex(self.re, -self.im)

    def tanh(self) -> Complex:
        """(t + iτ)/(1 + itτ) with t = tanh x and τ = tan y."""
        t, τ = self.re.tanh(), self.im.sin() / self.im.cos()
        size = 1 + t * t * τ * τ
        return Complex(t * (1 + τ * τ) / size, self.re.d_tanh() * τ / size)

    def sigmoid(self) -> Complex:
        """(1 + tanh(z/2))/2."""
        y = Complex(self.re / 2, self.im / 2).tanh()
        return Complex((1 + y.re) / 2, y.im / 2)


def complexes(re: Array, im: Array) -> Array:
    """Return re + i im; of floats, the computer's own complex numbers."""
    if re.dtype.kind == "f":
        return re + 1j * im
    return np.frompyfunc(Complex, 2, 1)(re, im)


def imaginary(z: Array) -> Array:
    """Return the imaginary part."""
    return z.imag if z.dtype.kind == "c" else np.frompyfunc(lambda e: e.im, 1, 1)(z)


@st.composite
def _complex_steps(draw: Draw, system: str) -> Case:
    """Draw a cubic polynomial; and a network as for N-1, but h down to 2⁻³⁰⁰ instead of 2⁻⁴⁰."""
    network = {} if system == "rational" else draw(_steps(system, smallest=300))
    family = network.pop("family", "cubic")
    h = network.pop("h", np.full(1, 2.0 ** -draw(st.integers(0, 20))))
    cubic = {"c": draw(dyadics(4)), "z": draw(dyadics(1))}
    return {"h": h, **cubic, "network": network, "family": family}


def _cubic(**more: Any) -> Callable[[], Case]:
    c, one = np.array([0.0, 1.0, 0.0, 1.0]), np.ones(1)
    return lambda: {"h": one / 2, "c": c, "z": one, "network": {}, **more}


def _one_tanh(h: float, **more: Any) -> Callable[[], Case]:
    network = _unit("tanh", h)
    del network["h"]
    return lambda: {**_cubic(**more)(), "h": np.full(1, h), "network": network}


@theorem(
    "N-2",
    "The complex step: no difference, so no cancellation",
    statement=r"""Let $\varphi$ be holomorphic about $x+i[0,h]$ and real on the real axis. Then
$$\Big|\frac{\mathrm{Im}\,\varphi(x+ih)}h-\varphi'(x)\Big|\le\frac{h^2}6\sup_{0\le\eta\le h}
|\mathrm{Re}\,\varphi'''(x+i\eta)|,$$ with equality for cubic polynomials. The third derivative is
that on the imaginary segment: its bound on the real axis is not enough. Nothing cancels: where
$h=2^{-k}$ is so small that the right side is below rounding, the error in floats is that of
evaluating $\varphi'$, here down to $h=2^{-300}$.""",
    hypotheses=(
        "φ is holomorphic: no conj, abs or comparison",
        "φ is real on the real axis",
        "the third derivative is bounded on the imaginary segment",
    ),
    proof="""Let g(η) = Im φ(x + iη). Then g(0) = 0, g'(η) = Re φ'(x + iη), so g'(0) = φ'(x),
which is real; g'' = −Im φ'', so g''(0) = 0; and g''' = −Re φ'''(x + iη). Taylor's theorem gives
g(h) = hφ'(x) + h³g'''(η)/6. For a cubic φ''' is constant. In floats a product (a + ihb)(c + ihd)
is ac + ih(ad + bc) once h²bd is less than half an ulp of ac: the rules of forward
differentiation, scaled by a power of two, which does not round.""",
    sources=("Squire & Trapp 1998",),
    cases=_complex_steps,
    systems=("rational", "ball"),
    necessity=(
        Necessity("φ is holomorphic", _cubic(before=np.conjugate)),
        Necessity("φ is real on the real axis", _cubic(after=lambda y: y * Complex(1, 1))),
        Necessity("bounded on the imaginary segment", _one_tanh(0.5, real_axis=True), "ball"),
    ),
    sensitivity=(
        Mistake("1 − a² for 1 − y²", RULES + "d_tanh", lambda _: lambda a: 1 - a * a),
        Mistake(
            "e^(−|x|) with the modulus of complex x",
            "tinygrad_rnn.functions._decay",
            lambda _: lambda x: np.exp(-np.abs(x)),
        ),
        Mistake(
            "complex products without their cross term",
            "tinygrad_rnn.proofs.numerics_differences.Complex.__mul__",
            lambda _: lifted(lambda self, other: Complex(self.re * other.re, self.re * other.im)),
        ),
    ),
    witness=_one_tanh(2.0**-8),
)
def complex_step(
    h: Array,
    c: Array,
    z: Array,
    network: Any,
    before: Callable[[Array], Array] = lambda z: z,
    after: Callable[[Array], Array] = lambda y: y,
    real_axis: bool = False,
) -> Iterator[Comparison]:
    """A cubic with its exact error; a network's step, in balls and floats, against φ' in balls."""

    def p(z: Array) -> Array:
        return c[0] + z * (c[1] + z * (c[2] + z * c[3]))

    error = c[3] * h * h
    stepped = imaginary(after(p(before(complexes(z, h))))) / h
    yield equal("cubic: p' − c₃h²", stepped, grad(lambda z: np.sum(p(z)))(z) - error)
    if network:
        yield from _network_step(h=floats(h), real_axis=real_axis, **network)


def _network_step(cell: Any, h: Array, real_axis: bool, **network: Any) -> Iterator[Comparison]:
    network = tree(floats, network)

    def quotient(network: Any, h: Array) -> Array:
        params = network["params"]
        moved = {**params, "b": complexes(params["b"], h * network["β"])}
        φ = _along(cell, **{**network, "params": moved})
        return imaginary(np.reshape(φ(0 * h), 1)) / h

    ε = scalars.errors(quotient(*(tree(scalars.rounded, a) for a in (network, h))))

    def in_truth(network: Any, h: Array, computed: Array, ε: Array) -> Any:
        M = _third(cell, network) if real_axis else _on_segment(cell, h, **network)
        slope, bound = grad(_along(cell, **network))(0 * h), h * h * M / 6
        yield at_most("|q − φ'| ≤ h²M/6", abs(quotient(network, h) - slope), bound)
        yield at_most("|q̂ − φ'| ≤ h²M/6 + ε", abs(computed - slope), bound + ε)

    computed = quotient(network, h)
    yield from in_balls(
        lambda *a: list(in_truth(*a)), network, h, computed, ε, bits=2048
    )  # h⁴ = 2⁻¹²⁰⁰


def _on_segment(cell: Any, h: Array, params: Any, x: Array, state: Any, β: Array, d: Array) -> Any:
    """Bound |Re φ'''| for all iη, 0 ≤ η ≤ h: tanh''' = −2(1 − y²)(1 − 3y²) on boxes."""
    a = cell._preactivation(params, x, state[0])
    share = 2 if cell.activation == "sigmoid" else 1  # σ'''(z) = tanh'''(z/2)/16
    y = np.tanh(complexes(a / share, scalars.Ball(0.5, radius=0.5) * h * β / share))
    third = (1 - y * y) * (1 - 3 * y * y) * 2
    upper = np.frompyfunc(lambda f: scalars.Ball(abs(f.re).arb.abs_upper()), 1, 1)(third)
    return np.sum(abs(d * β * β * β) * upper) / share**4
