r"""Step sizes: what makes a step go downhill, and why clipping does where no fixed step can.

A gradient step is safe up to $2/L$ if the curvature is at most $L$ (K-6). Near the cliffs of a
recurrent network's loss it is not: the curvature grows with the gradient. Then a clipped step
descends from everywhere, and every fixed one diverges from somewhere (K-7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import init
from tinygrad_rnn.optim import SGD

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .norms import larger
from .strategies import Draw, dyadics, scaled

Array = Any


@st.composite
def _of_rational_length(draw: Draw, n: int) -> tuple[Array, float]:
    """Draw s (2p, |p|² − 1), whose length s (|p|² + 1) is rational and not zero, and its length."""
    p = draw(dyadics(n - 1))
    scale = draw(st.sampled_from((1 / 16, 0.5, 1.0, 4.0)))
    return scale * np.append(2 * p, p @ p - 1), scale * (p @ p + 1)


def _step(x: Array, g: Array, rate: Any, clip: Any = None) -> Array:
    """Take one step of the library's gradient descent."""
    descent = SGD(rate, clip=clip)
    return descent.step({"x": x}, {"x": g}, descent.init({"x": x}))[0]["x"]


UPHILL = Mistake(
    "θ + η g for θ − η g",
    "tinygrad_rnn.optim.SGD._update",
    lambda right: lambda self, t, g, memory: (-g, memory),
)
UNCLIPPED = Mistake(
    "clipping forgotten", "tinygrad_rnn.optim.clip_by_norm", lambda right: lambda g, θ: g
)
TWICE_AS_FAR = Mistake(
    "θ at the place of 2θ",
    "tinygrad_rnn.optim.clip_by_norm",
    lambda right: lambda g, θ: right(g, 2 * θ),
)


# ---- K-6 -----------------------------------------------------------------------------------------


@st.composite
def _curved(draw: Draw, system: str) -> Case:
    """A function with curvatures λ_i along orthonormal q_i, and a point or gradient in that basis.

    Quadratic, and ``y`` the gradient, of rational length; or a sum of 4 λ_i softplus(q_i·x), whose
    curvature is at most |λ_i| as σ' ≤ 1/4, and y the point.
    """
    n = draw(st.integers(1, 3))
    y, length = draw(_of_rational_length(n))
    curvatures = np.array(draw(st.tuples(*[st.sampled_from((-2.0, -0.5, 0.25, 1.0, 2.0))] * n)))
    kinds = {"rational": ("quadratic",), "ball": ("softplus",)}
    kind = draw(st.sampled_from(kinds.get(system, ("quadratic", "softplus"))))
    mirrors = draw(st.tuples(*[dyadics(n)] * draw(st.integers(0, n))))
    return {
        "kind": kind,
        "mirrors": tuple(np.where(v.any(), v, 1.0) for v in mirrors),
        "curvatures": curvatures,
        "L": np.array(np.abs(curvatures).max()),
        "y": y,
        "length": np.array(length),
        "ηL": draw(st.sampled_from((0.25, 1.0, 1.75, 2.0, 3.0))),
        "θ": np.array(length * draw(st.sampled_from((0.25, 1.0, 2.0)))),
        "family": kind,
    }


def _parabola(**changed: Any) -> Case:
    """f(x) = x² at x = 1, unclipped."""
    numbers = {"curvatures": np.array([2.0]), "L": np.array(2.0), "y": np.array([2.0])}
    sizes = {"length": np.array(2.0), "ηL": 1.0, "θ": np.array(4.0)}
    return {"kind": "quadratic", "mirrors": (), **numbers, **sizes, **changed}


@theorem(
    "K-6",
    "A clipped gradient step goes downhill up to η = 2/L, and gradient descent diverges beyond",
    statement=r"""Let $\nabla f$ be Lipschitz with constant $L$, $g = \nabla f(x) \ne 0$, $\theta >
0$, $\eta > 0$ and $c = \min(1, \theta/\|g\|)$. Then
$$f(x - \eta c g) \le f(x) - \eta c\,(1 - \tfrac12 \eta L c)\,\|g\|^2,$$
so the step goes downhill if $\eta < 2/L$, and not uphill if $\eta = 2/L$. For $f(x) = \frac12
x^\top H x$ with $H$ symmetric, eigenvectors $q_i$ and eigenvalues $\lambda_i > 0$, $k$ steps
without clipping multiply $q_i \cdot x$ by $(1 - \eta\lambda_i)^k$: if $\eta \le 2/\lambda_{\max}$
then $\|x_k\| \le \|x_0\|$; if $\eta > 2/\lambda_{\max}$ then $\|x_k\| \to \infty$ unless $x_0 \perp
q_{\max}$.""",
    hypotheses=(
        "L is a Lipschitz constant of ∇f",
        "g = ∇f(x)",
        "downhill: η ≤ 2/L",
    ),
    proof="""Put d = −ηcg. f(x + d) − f(x) − g·d = ∫_0^1 (∇f(x + sd) − g)·d ds ≤ ∫_0^1 L s‖d‖² ds =
½L‖d‖², where g·d = −ηc‖g‖² and ‖d‖² = η²c²‖g‖². As 0 < c ≤ 1, η < 2/L makes 1 − ½ηLc positive. For
the quadratic x_{k+1} = (I − ηH) x_k and q_i is an eigenvector of I − ηH for 1 − ηλ_i. ‖x_k‖² is the
sum of the (q_i·x_k)²; η ≤ 2/λ_max says |1 − ηλ_i| ≤ 1 for all i, and η > 2/λ_max that |1 −
ηλ_max| > 1.""",
    sources=("S1-39", "S2-11"),
    cases=_curved,
    systems=("rational", "ball"),
    necessity=(
        Necessity("L: too small", lambda: _parabola(L=np.array(0.5), ηL=0.25)),
        Necessity("g = ∇f(x): the gradient at another point", lambda: _parabola(elsewhere=-1)),
        Necessity("downhill: η = 3/L", lambda: _parabola(ηL=3.0, downhill=True)),
    ),
    sensitivity=(
        UPHILL,
        UNCLIPPED,
        TWICE_AS_FAR,
        Mistake(
            "the rate is squared",
            "tinygrad_rnn.optim._rate",
            lambda right: lambda value, t: right(value * value, t),
        ),
    ),
    witness=lambda: _parabola(θ=np.array(0.5), ηL=1.75),
)
def _descent(
    kind: str,
    mirrors: Any,
    curvatures: Array,
    L: Any,
    y: Array,
    length: Any,
    ηL: float,
    θ: Any,
    downhill: bool = False,
    elsewhere: int = 1,
) -> Iterator[Comparison]:
    n = len(y)
    V = np.eye(n, dtype=y.dtype)  # its columns are the q_i
    for v in mirrors:
        V = init.householder(v, V)
    if kind == "quadratic":
        H = V @ np.diag(curvatures) @ V.T
        f: Callable[[Array], Any] = lambda x: x @ H @ x / 2  # noqa: E731
        x = V @ (y / curvatures)
    else:
        f = lambda x: 4 * (curvatures @ np.log(1 + np.exp(x @ V)))  # noqa: E731
        x = V @ y
    η = (Fraction(ηL) if y.dtype == object else ηL) / L
    g = tg.grad(f)(elsewhere * x)
    square = g @ g
    size = length if kind == "quadratic" else np.sqrt(square)
    c = θ / larger(size, θ)
    after = _step(x, g, η, θ)
    rise, moved = f(after) - f(x), η * η * c * c * square
    yield equal("‖x⁺ − x‖² = (ηc‖g‖)²", ((after - x) ** 2).sum(), moved)
    yield at_most("f(x⁺) − f(x) + ηc‖g‖² ≤ ½L(ηc‖g‖)²", rise + η * c * square, L * moved / 2)
    if downhill or ηL <= 2:
        yield at_most("f(x⁺) ≤ f(x)", rise, 0 * L)
    if kind == "quadratic":
        x_k, bowl, steps = x, V @ np.diag(np.abs(curvatures)) @ V.T, 3
        for _ in range(steps):
            x_k = _step(x_k, bowl @ x_k, η)
        factors = (1 - η * np.abs(curvatures)) ** steps
        yield equal("q_i·x_k = (1 − ηλ_i)ᵏ q_i·x_0", V.T @ x_k, factors * (V.T @ x))
        if ηL <= 2:
            yield at_most("‖x_k‖ ≤ ‖x_0‖", x_k @ x_k, x @ x)


# ---- K-7 -----------------------------------------------------------------------------------------


def _function(kind: str, L_0: Any, L_1: Any) -> Callable[[Array], Any]:
    """Return a function whose curvature is at most L_0 + L_1 ‖∇f‖."""
    return {
        "quartic": lambda x: (x @ x) * (x @ x),
        "cosh": lambda x: (np.exp(L_1 * x) + np.exp(-L_1 * x)).sum() / 2,
        "equal": lambda x: L_0 / L_1**2 * (np.expm1(L_1 * x) - L_1 * x).sum(),
    }[kind]


@st.composite
def _steep(draw: Draw, system: str) -> Case:
    """A function, a point of rational length, a displacement with L_1‖d‖ ≤ 1, and a step.

    ``equal`` has the curvature L_0 + L_1|f'| where x ≥ 0, the largest that is allowed. In balls a
    margin keeps the bound from being an equation.
    """
    kind = draw(st.sampled_from(("quartic", "cosh", "equal")))
    L_1 = draw(st.sampled_from((0.5, 1.0, 2.0)))
    n = draw(st.integers(1, 3)) if kind == "quartic" else 1
    x, length = draw(_of_rational_length(n))
    if kind != "quartic":
        x = np.abs(draw(dyadics(1))) + 1 / 16
    L_0 = {"quartic": 16 / L_1**2, "cosh": L_1**2}.get(kind, draw(st.sampled_from((0.25, 1.0))))
    d = draw(dyadics((1, n)))
    d = scaled(d if d.any() else d + 1, 1 / L_1)[0]
    return {
        "kind": kind,
        "x": x,
        "length": np.array(length),
        "d": np.abs(d) if kind == "equal" else d,
        "L_0": np.array(L_0),
        "L_1": np.array(L_1),
        "θ": np.array(draw(st.sampled_from((1 / 16, 1.0, 16.0)))),
        "κ": np.array(draw(st.sampled_from((0.25, 1.0)))),
        "margin": np.array(2.0**-64 if system == "ball" else 0.0),
        "family": kind,
    }


def _quartic(x: float = 1.0, d: float = 0.5, **changed: Any) -> Case:
    numbers = {"L_0": 16.0, "L_1": 1.0, "θ": 1.0, "κ": 1.0, "margin": 0.0, "length": x, **changed}
    arrays = {name: np.array(value) for name, value in numbers.items()}
    vectors = {"x": np.array([x]), "d": np.array([d])}
    return {"kind": "quartic", **vectors, **arrays}


@theorem(
    "K-7",
    "Where curvature grows with the gradient, a clipped step descends and a fixed one diverges",
    statement=r"""Let $f$ be twice continuously differentiable on $\mathbb R^n$ with $\|\nabla^2
f(x)\| \le L_0 + L_1\|\nabla f(x)\|$ everywhere, $L_0 \ge 0$, $L_1 > 0$, and $g = \nabla f(x)$. (a)
For every $d$, with $\psi(z) = e^z - 1 - z$,
$$f(x + d) \le f(x) + g \cdot d + (L_0 + L_1\|g\|)\,\psi(L_1\|d\|)/L_1^2,$$
and there is equality for some such $f$. (b) If $L_1\|d\| \le 1$ then $f(x + d) \le f(x) + g \cdot d
+ \frac34 (L_0 + L_1\|g\|)\|d\|^2$. (c) Let $\theta > 0$ and $\kappa = \eta(L_0 + L_1\theta) \le 1$.
The clipped step $x^+ = x - \eta g \min(1, \theta/\|g\|)$ has
$$f(x^+) \le f(x) - (1 - \tfrac34\kappa)\,\eta \min(\|g\|, \theta)\,\|g\|.$$
(d) $f(x) = \|x\|^4$ has $L_0 = 16/L_1^2$ for every $L_1 > 0$. For every $\eta$ some $L_1$ and
$\theta$ have $\kappa \le 1$, so that clipped steps descend from every $x \ne 0$; but $x_{k+1} = x_k
- \eta\nabla f(x_k)$ has $\|x_k\| \ge 3^k\|x_0\|$ whenever $\eta\|x_0\|^2 \ge 1$.""",
    hypotheses=(
        "the curvature is at most L_0 + L_1 ‖∇f‖",
        "(b) L_1‖d‖ ≤ 1",
        "(c) κ ≤ 1",
    ),
    proof="""(a) Let d = su with ‖u‖ = 1 and A(r) = L_0 + L_1‖∇f(x + ru)‖. Then ‖∇f(x + ru) − g‖ ≤
∫_0^r A, so A(r) ≤ A(0) + L_1 ∫_0^r A, and by Grönwall's inequality A(r) ≤ A(0) e^{L_1 r}. Taylor's
formula gives f(x + d) − f(x) − g·d = ∫_0^s (s − r) u·∇²f(x + ru)u dr ≤ A(0) ∫_0^s (s − r) e^{L_1 r}
dr = A(0) ψ(L_1 s)/L_1². For f(x) = L_0 ψ(L_1 x)/L_1² all are equations if x ≥ 0 and d ≥ 0, since
f'' = L_0 e^{L_1 x} = L_0 + L_1 f' there; and for x < 0 f'' < L_0. (b) ψ(z)/z² =
Σ_{k≥2} z^{k−2}/k! increases, and is e − 2 < 3/4 at z = 1. (c) s = ‖d‖ = η min(‖g‖, θ), so L_1 s ≤
ηL_1θ ≤ κ ≤ 1 and (b) applies, with g·d = −s‖g‖. There (L_0 + L_1‖g‖)s ≤ L_0 η‖g‖ + L_1‖g‖ηθ =
κ‖g‖, using s ≤ η‖g‖ and s ≤ ηθ. (d) ∇f = 4‖x‖²x and ∇²f = 4‖x‖²I + 8xxᵀ has the norm 12t², t =
‖x‖, and 16/L_1² + 4L_1t³ − 12t² is least at t = 2/L_1, where it is 0. With L_1 = 8√η the number
ηL_0 is 1/4; let θ be such that ηL_1θ ≤ 3/4. A step takes x to (1 − 4η‖x‖²)x: if η‖x‖² ≥ 1 its
length is at least tripled, and then η‖x‖² ≥ 1 still.""",
    sources=("S1-39", "S2-10", "S2-11", "Zhang et al. 2020"),
    cases=_steep,
    systems=("ball",),
    necessity=(
        Necessity("the curvature: L_0 = 0", lambda: _quartic(x=1 / 16, L_0=0.0), "ball"),
        Necessity("L_1‖d‖ ≤ 1: 16", lambda: _quartic(d=16.0), "ball"),
        Necessity(
            "κ ≤ 1: 64",
            lambda: _quartic(κ=64.0, L_0=0.25, L_1=8.0, θ=4.0, d=1 / 16, margin=2.0**-64),
            "ball",
        ),
    ),
    sensitivity=(
        UPHILL,
        UNCLIPPED,
        Mistake(
            "each entry is clipped to θ, the direction is lost",
            "tinygrad_rnn.optim.clip_by_norm",
            lambda right: lambda g, θ: [np.sign(a.astype(float)).astype(int) * θ for a in g],
        ),
        Mistake(
            "the squared norm in place of the norm",
            "tinygrad_rnn.optim.clip_by_norm",
            lambda right: lambda g, θ: [right(a, θ) * θ / (θ + a @ a) for a in g],
        ),
    ),
    witness=lambda: {**_quartic(x=0.5, d=0.75, margin=2.0**-64, L_0=1.0), "kind": "equal"},
)
def _clipped_descent(
    kind: str,
    x: Array,
    length: Any,
    d: Array,
    L_0: Any,
    L_1: Any,
    θ: Any,
    κ: Any,
    margin: Any,
) -> Iterator[Comparison]:
    f = _function(kind, L_0, L_1)
    g = tg.grad(f)(x)
    size = 4 * length**3 if kind == "quartic" else np.abs(g[0])
    steepest = (L_0 + L_1 * size) * (1 + margin)
    bend = f(x + d) - f(x) - g @ d
    yield at_most("f(x+d) − f(x) − g·d ≤ ¾(L₀ + L₁‖g‖)‖d‖²", bend, 3 * steepest * (d @ d) / 4)
    z = L_1 * np.sqrt(d @ d)
    yield at_most("… ≤ (L₀ + L₁‖g‖) ψ(L₁‖d‖)/L₁²", bend, steepest * (np.expm1(z) - z) / L_1**2)
    η = κ / (L_0 + L_1 * θ)
    fall = f(x) - f(_step(x, g, η, θ))
    moved = η * -larger(-size, -θ)
    yield at_most("(1 − ¾κ) η min(‖g‖, θ) ‖g‖ ≤ f(x) − f(x⁺)", (1 - 3 * κ / 4) * moved * size, fall)
    if kind == "quartic":
        far, fixed, times = x, (1 + margin) / (length * length), 2
        for _ in range(times):
            far = _step(far, tg.grad(f)(far), fixed)
        yield at_most("3ᵏ‖x_0‖ ≤ ‖x_k‖ with a fixed step", 9**times * (x @ x), far @ far)
