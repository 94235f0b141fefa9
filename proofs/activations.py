"""Activations and losses: what one unit, and the loss above it, contribute to every gradient.

The derivatives of tanh and σ lie in (0, 1] and (0, 1/4]; those of ReLU and leaky ReLU are masks;
binary and softmax cross-entropy pull on their logits with "probability minus target", never with
more than one unit each. All derivatives are the engine's own. That each is the derivative is shown
without its formula, from Taylor's inequality |f(a + h) − f(a) − h f'(a)| ≤ h² sup|f''| / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import losses
from tinygrad_rnn.autodiff import grad, leaky_relu, relu, sigmoid, softplus, step
from tinygrad_rnn.scalars import GF

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .evidence import Box
from .norms import Array
from .strategies import Draw, dyadics

Function = Callable[[Array], Array]
RULES = "tinygrad_rnn.autodiff.elementwise."


def derivative(f: Function) -> Function:
    """Return f' of an element-wise f, by the engine."""
    return lambda a: grad(lambda x: np.sum(f(x)))(a)


def ordered(a: Array) -> bool:
    """Return whether inequalities mean something: a finite field has no order."""
    return not isinstance(np.ravel(a)[0], GF)


# ---- cases --------------------------------------------------------------------------------------

# [1/16, 1] and the unit intervals to 32, where f' is bounded on both sides; octaves to 2^1024.
UNITS = [(17 / 32, 15 / 32), *((k + 0.5, 0.5) for k in range(1, 32))]
OCTAVES = [(1.5 * 2.0**k, 0.5 * 2.0**k) for k in range(5, 1024)]


GAINS = ((2.0**-20, "linear"), (0.5, "active"), (1.0, "active"), (16.0, "saturated"))


def _both_signs(intervals: list[tuple[float, float]]) -> Box:
    middles, radii = np.array(intervals).T
    return Box(np.concatenate([middles, -middles]), np.concatenate([radii, radii]))


@st.composite
def _reals(draw: Draw, shape: tuple[int, ...] = (3,)) -> tuple[str, Array]:
    """Draw points from nearly linear to deeply saturated ones."""
    gain, family = draw(st.sampled_from(GAINS))
    return family, draw(dyadics(shape)) * gain


@st.composite
def _smooth(draw: Draw, system: str) -> Case:
    """Draw points a and increments h ≠ 0, or the cover of the line by boxes."""
    if system != "field" and draw(st.integers(0, 9)) == 0:
        boxes = {"a": _both_signs(UNITS), "tail": _both_signs(OCTAVES)}
        near = Box(np.zeros(1), np.full(1, 1 / 16))
        return {"part": "cover", **boxes, "near": near, "family": "cover"}
    family, a = draw(_reals())
    tiny = 2.0**-40 if system == "ball" else 2.0**-8  # rounding hides h² from floats
    h = draw(dyadics(a.shape)) * draw(st.sampled_from((1.0, tiny)))
    return {"part": "points", "a": a, "h": np.where(h == 0, 1 / 16, h), "family": family}


def _at_zero() -> Case:
    """Return where f' is largest and f is steepest."""
    return {"part": "points", "a": np.zeros(1), "h": np.full(1, 2.0**-8)}


# ---- tanh and σ ---------------------------------------------------------------------------------


def _cover(f: Function, inverse: int, a: Array, tail: Array, near: Array) -> Iterator[Comparison]:
    """0 ≤ f' ≤ 1/inverse on boxes that cover every float64, with the maximum at 0."""
    yield at_most("0 ≤ f' for 1/16 ≤ |a| ≤ 32", 0, derivative(f)(a))
    yield at_most("f' ≤ sup f' for 1/16 ≤ |a| ≤ 32", inverse * derivative(f)(a), 1)
    yield at_most("f' ≤ sup f' for 32 ≤ |a| ≤ 2^1024", inverse * derivative(f)(tail), 1)
    third = derivative(derivative(derivative(f)))(near)
    yield at_most("f''' < 0 for |a| ≤ 1/16, so that f' ≤ f'(0)", 16 * third, -1)
    yield equal("f'(0) = sup f'", inverse * derivative(f)(0 * a), 1)


def _calculus(
    f: Function, inverse: int, bend: tuple[int, int], a: Array, h: Array
) -> Iterator[Comparison]:
    """The engine's f' is the derivative of f, as 2 bend[0]/bend[1] ≥ sup|f''|; and its range."""
    slope, change = derivative(f)(a), f(a + h) - f(a)
    yield at_most(
        "Taylor: f' is the derivative", bend[1] * abs(change - h * slope), bend[0] * h * h
    )
    yield at_most("Lipschitz", inverse * abs(change), abs(h))
    yield at_most("0 ≤ f'", 0, slope)
    yield at_most("f' ≤ sup f'", inverse * slope, 1)


@theorem(
    "A-1",
    "tanh' = 1 − tanh² lies in (0, 1]",
    statement=r"Let $y=\tanh a$, $a\in\mathbb R$. Then $y'=1-y^2\in(0,1]$, $y'=1$ only at $a=0$, "
    r"$y''=-2yy'$, and $|\tanh b-\tanh a|\le|b-a|$.",
    hypotheses=("a is real",),
    proof="tanh = sinh/cosh and cosh² − sinh² = 1 give y' = 1/cosh² = 1 − y² > 0; 1 − y' = y² ≥ 0 "
    "vanishes only where y = 0, that is at a = 0. Differentiating once more, y'' = −2yy'. The "
    "Lipschitz bound is the mean value theorem. On the cover: boxes bound y' off 0; about 0, "
    "y'(0) = 1, y''(0) = 0 and y''' < 0 make 0 the maximum; beyond the last box y' falls "
    "further, since y'' has the sign of −a.",
    sources=("S0-9", "S1-28", "S1-30", "Pascanu, Mikolov & Bengio 2013"),
    cases=_smooth,
    systems=("field", "ball"),
    sensitivity=(
        Mistake("S1-28: tanh for tanh', the prime missing", RULES + "d_tanh", lambda _: np.tanh),
        Mistake(
            "1 − a²: y's formula applied to a", RULES + "d_tanh", lambda _: lambda a: 1 - a * a
        ),
        Mistake("σ' for tanh'", RULES + "d_tanh", lambda _: lambda a: sigmoid(a) * sigmoid(-a)),
    ),
    witness=_at_zero,
)
def tanh_derivative(part: str, a: Array, **more: Array) -> Iterator[Comparison]:
    """The identity y' = 1 − y², the range of y', and that y' is the derivative."""
    if part == "cover":
        yield from _cover(np.tanh, 1, a, **more)
        return
    y, slope = np.tanh(a), derivative(np.tanh)(a)
    yield equal("y' = 1 − y²", slope, 1 - y * y)
    yield equal("y'' = −2yy'", derivative(derivative(np.tanh))(a), -2 * y * slope)
    if ordered(a):
        yield equal("y' = 1/cosh²", slope * np.cosh(a) * np.cosh(a), 1 + 0 * a)
        yield from _calculus(np.tanh, 1, (77, 200), a, **more)  # sup|y''| = 4/(3√3) < 0.77


@theorem(
    "A-2",
    "σ' = σ(1 − σ) lies in (0, 1/4]",
    statement=r"Let $s=\sigma(a)$, $a\in\mathbb R$. Then $s'=s(1-s)\in(0,\tfrac14]$, "
    r"$s'=\tfrac14$ only at $a=0$, $s''=s'(1-2s)$, $\sigma(-a)=1-\sigma(a)$, "
    r"$\sigma(a)=\tfrac12(1+\tanh\tfrac a2)$, and $|\sigma(b)-\sigma(a)|\le\tfrac14|b-a|$.",
    hypotheses=("a is real",),
    proof="With e = exp(−a), s = 1/(1 + e), so s' = e/(1 + e)² = s(1 − s) > 0, and 1/4 − s(1 − s) "
    "= (s − 1/2)² ≥ 0 vanishes only where s = 1/2, that is at a = 0. The symmetry is 1/(1 + 1/e) = "
    "e/(1 + e), the link to tanh (1 + (1 − e)/(1 + e))/2 = 1/(1 + e). The Lipschitz bound is the "
    "mean value theorem; the cover is that of A-1.",
    sources=("S1-3", "S1-4", "Pascanu, Mikolov & Bengio 2013"),
    cases=_smooth,
    systems=("field", "ball"),
    sensitivity=(
        Mistake("σ for σ', the prime missing", RULES + "d_sigmoid", lambda _: sigmoid),
        Mistake("s(1 − s) of a, not of σ(a)", RULES + "d_sigmoid", lambda _: lambda a: a * (1 - a)),
        Mistake(
            "1 − σ², the rule of tanh",
            RULES + "d_sigmoid",
            lambda _: lambda a: (1 - sigmoid(a)) * (1 + sigmoid(a)),
        ),
    ),
    witness=_at_zero,
)
def sigmoid_derivative(part: str, a: Array, **more: Array) -> Iterator[Comparison]:
    """The identity s' = s(1 − s), the range of s', and that s' is the derivative."""
    if part == "cover":
        yield from _cover(sigmoid, 4, a, **more)
        return
    s, slope = sigmoid(a), derivative(sigmoid)(a)
    yield equal("s' = s(1 − s)", slope, s * (1 - s))
    yield equal("s'' = s'(1 − 2s)", derivative(derivative(sigmoid))(a), slope * (1 - 2 * s))
    if ordered(a):
        yield equal("σ(−a) = 1 − σ(a)", sigmoid(-a), 1 - s)
        yield equal("σ(a) = (1 + tanh(a/2))/2", 2 * s, 1 + np.tanh(a / 2))
        yield from _calculus(sigmoid, 4, (241, 5000), a, **more)  # sup|s''| = 1/(6√3) < 0.0964


# ---- relu and leaky relu ------------------------------------------------------------------------


@st.composite
def _kinked(draw: Draw, system: str) -> Case:
    """Draw preactivations a (steps, units), some exactly 0, and moves shorter than |a|."""
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    a, ratio = draw(dyadics(shape)), draw(dyadics(shape, 15 / 16))
    at_kink = draw(st.booleans())
    if at_kink:
        a[draw(st.integers(0, shape[0] - 1))] = 0.0
    slope = draw(st.sampled_from((0.0, 0.25, 0.5, 1.0)))
    return {"slope": slope, "a": a, "ratio": ratio, "family": "kink" if at_kink else "generic"}


def _kink(slope: float, a: float, ratio: float) -> Callable[[], Case]:
    return lambda: {"slope": slope, "a": np.array([[a]]), "ratio": np.array([[ratio]])}


@theorem(
    "A-5",
    "The derivatives of ReLU and leaky ReLU are masks",
    statement=r"Let $f(a)=\max(a,0)$ ($\alpha=0$) or $f(a)=a$ for $a>0$, $\alpha a$ else, "
    r"$\alpha\in[0,1]$, with $f'(0):=\alpha$. Then $f'\in\{\alpha,1\}$; $f(a+h)-f(a)=h f'(a)$ for "
    r"$|h|<|a|$; $f'(a)\,a=f(a)$ (Euler) also at $0$; $f'(0)\in[\alpha,1]$ (Clarke); and "
    r"$\prod_t f'(a_t)=\alpha^{\#\{t:a_t\le0\}}$, a mask again if $\alpha=0$.",
    hypotheses=("0 ≤ α ≤ 1", "|h| < |a|: the kink is not between a and a + h"),
    proof="f is linear with slope 1 on a > 0 and slope α on a ≤ 0, and a and a + h are on one side "
    "if |h| < |a|. Both pieces pass through 0, hence Euler's identity. The one-sided slopes at 0 "
    "are α and 1, and Clarke's subdifferential is their hull [α, 1]. Each a_t ≤ 0 contributes one "
    "factor α to the product, and 0^0 = 1.",
    sources=("S0-11", "S1-31"),
    cases=_kinked,
    systems=("rational",),
    necessity=(
        Necessity("0 ≤ α ≤ 1", _kink(2.0, 0.0, 0.0)),
        Necessity("|h| < |a|: the kink is not between a and a + h", _kink(0.5, 1.0, -2.0)),
    ),
    sensitivity=(
        Mistake("relu for relu', the prime missing", RULES + "step", lambda _: relu),
        Mistake(
            "the slope forgotten", RULES + "leaky_step", lambda _: lambda a, slope: step(a) + 0 * a
        ),
        Mistake(
            "1/2 at the kink: no mask",
            RULES + "step",
            lambda right: lambda a: (right(a) + 1 - right(-a)) / 2,
        ),
    ),
)
def masks(slope: float, a: Array, ratio: Array) -> Iterator[Comparison]:
    """Values and derivatives of relu (slope 0) and leaky relu, at and off the kink."""
    alpha = Fraction(slope)

    def f(x: Array) -> Array:
        return leaky_relu(x, slope=slope) if slope else relu(x)

    mask, h = derivative(f)(a), ratio * abs(a)
    yield equal("f' ∈ {α, 1}", (mask - alpha) * (mask - 1), 0 * a)
    yield equal("f(a + h) − f(a) = h f'(a)", f(a + h) - f(a), h * mask)
    yield equal("Euler: f'(a) a = f(a)", mask * a, f(a))
    at_zero = derivative(f)(0 * a)
    yield at_most("Clarke: α ≤ f'(0)", alpha, at_zero)
    yield at_most("Clarke: f'(0) ≤ 1", at_zero, 1)
    closed = [alpha ** int(n) for n in (a <= 0).sum(axis=0)]
    yield equal("Π f'(a_t) = α^#{a_t ≤ 0}", np.prod(mask, axis=0), closed)


# ---- losses -------------------------------------------------------------------------------------


@st.composite
def _binary(draw: Draw, system: str) -> Case:
    """Draw logits with targets in [0, 1], hard ones often; or cover [−32, 32] for hard targets."""
    if draw(st.integers(0, 9)) == 0:
        middles = np.tile(np.arange(-32.0, 32.0) + 0.5, 2)
        z, y = Box(middles, np.full(128, 0.5)), np.repeat([0.0, 1.0], 64)
        return {"z": z, "y": y, "wide": True, "family": "cover"}
    family, z = draw(_reals())
    y = abs(draw(dyadics(z.shape, 1.0)))
    if draw(st.booleans()):
        y = np.round(y)
    return {"z": z, "y": y, "wide": False, "family": family}


def _written_out(z: Array, y: Array) -> Array:
    """The notes' loss −y log ŷ − (1 − y) log(1 − ŷ), with 1 − ŷ = σ(−z)."""
    return -np.sum(y * np.log(sigmoid(z)) + (1 - y) * np.log(sigmoid(-z)))


@theorem(
    "L-1",
    "Binary cross-entropy pulls on its logit with ŷ − y",
    statement=r"Let $L(z)=-y\log\hat y-(1-y)\log(1-\hat y)$, $\hat y=\sigma(z)$, $z\in\mathbb R$, "
    r"$y\in[0,1]$. Then $L=\mathrm{softplus}(z)-yz$, $L'=\hat y-y\in[-1,1]$, and "
    r"$L''=\hat y(1-\hat y)\in[0,\tfrac14]$: $L$ is convex.",
    hypotheses=("0 ≤ y ≤ 1",),
    proof="−log σ(z) = softplus(−z) = softplus(z) − z and −log(1 − σ(z)) = softplus(z), whose sum "
    "with weights y and 1 − y is softplus(z) − yz. softplus' = σ; 0 < σ < 1 and 0 ≤ y ≤ 1 give "
    "|σ − y| ≤ 1 (affine in y, so that boxes need only y = 0 and y = 1); and L'' = σ' is A-2.",
    sources=("S1-4", "S1-9"),
    cases=_binary,
    systems=("ball",),
    necessity=(
        Necessity(
            "0 ≤ y ≤ 1",
            lambda: {"z": np.zeros(1), "y": np.full(1, 2.0), "wide": False},
            system="ball",
        ),
    ),
    sensitivity=(
        Mistake(
            "S1-9: the leading minus missing",
            "tinygrad_rnn.losses.binary_cross_entropy",
            lambda _: lambda z, y: np.sum((1 - y) * softplus(z) - y * softplus(-z)),
        ),
        Mistake(
            "the probability passed for the logit",
            "tinygrad_rnn.losses.binary_cross_entropy",
            lambda right: lambda z, y: right(sigmoid(z), y),
        ),
        Mistake("softplus' = 1", RULES + "sigmoid", lambda _: lambda a: 1 + 0 * a),
    ),
    # A confident mistake pulls with almost one unit, an undecided logit bends with 1/4.
    witness=lambda: {"z": np.array([-32.0, 2.0**-20]), "y": np.ones(2), "wide": False},
)
def binary(z: Array, y: Array, wide: bool) -> Iterator[Comparison]:
    """Value, slope and curvature of binary cross-entropy; on boxes the bound alone."""
    y_hat = sigmoid(z)
    yield at_most("|ŷ − y| ≤ 1", abs(y_hat - y), 1)

    def slope(x: Array) -> Array:
        return grad(losses.binary_cross_entropy)(x, y)

    yield at_most("|L'| ≤ 1", abs(slope(z)), 1)
    if wide:
        return
    yield equal("L = softplus − yz", losses.binary_cross_entropy(z, y), _written_out(z, y))
    yield equal("L' = ŷ − y", slope(z) + y, y_hat)
    yield equal("L' of the notes' formula", grad(_written_out)(z, y) + y, y_hat)
    curvature = derivative(slope)(z)
    yield equal("L'' = ŷ(1 − ŷ)", curvature, y_hat * (1 - y_hat))
    yield at_most("0 ≤ L''", 0, curvature)
    yield at_most("L'' ≤ 1/4", 4 * curvature, 1)


@st.composite
def _classes(draw: Draw, system: str) -> Case:
    """Draw logits (N, C) with rows q of probabilities in sixteenths, and with class numbers k."""
    N, C = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    family, z = draw(_reals((N, C)))
    cuts = st.lists(st.integers(0, 16), min_size=C - 1, max_size=C - 1).map(sorted)
    q = np.array([np.diff([0, *draw(cuts), 16]) for _ in range(N)]) / 16
    k = np.array([draw(st.integers(0, C - 1)) for _ in range(N)])
    return {"z": z, "q": q, "k": k, "family": family}


def _two_classes(*q: float) -> Callable[[], Case]:
    return lambda: {"z": np.zeros((1, 2)), "q": np.array([q]), "k": np.zeros(1, int)}


@theorem(
    "L-2",
    "Softmax cross-entropy pulls on its logits with p − q",
    statement=r"Let $L(z)=-\sum_k q_k\log p_k$, $p=\mathrm{softmax}(z)$, $z\in\mathbb R^C$, "
    r"$q_k\ge0$, $\sum_kq_k=1$. Then $\nabla L=p-q$, $\mathbf 1^\top\nabla L=0$, "
    r"$\|\nabla L\|_1\le2$ and $\|\nabla L\|_2\le\sqrt2$.",
    hypotheses=("q ≥ 0", "Σq = 1"),
    proof="L = log Σ exp(z) − q·z as Σq = 1, and ∇ log Σ exp(z) = p. Σp = Σq = 1 gives 1ᵀ∇L = 0. "
    "‖p − q‖₁ ≤ ‖p‖₁ + ‖q‖₁ = 2, and ‖p − q‖₂² = ‖p‖₂² + ‖q‖₂² − 2p·q ≤ 1 + 1, as p·q ≥ 0 and "
    "p_k² ≤ p_k.",
    sources=("S3-4",),
    cases=_classes,
    systems=("ball",),
    necessity=(
        Necessity("q ≥ 0", _two_classes(3.0, -2.0), system="ball"),
        Necessity("Σq = 1", _two_classes(1.0, 1.0), system="ball"),
    ),
    sensitivity=(
        Mistake(
            "softmax applied twice",
            "tinygrad_rnn.losses.cross_entropy",
            lambda right: lambda z, q: right(_softmax(z), q),
        ),
        Mistake(
            "the sign reversed",
            "tinygrad_rnn.losses.cross_entropy",
            lambda right: lambda z, q: -right(z, q),
        ),
    ),
    # All probability on one class, all of the target on another: p − q = (1, −1).
    witness=lambda: {
        "z": np.array([[32.0, -32.0]]),
        "q": np.array([[0.0, 1.0]]),
        "k": np.ones(1, int),
    },
)
def softmax_loss(z: Array, q: Array, k: Array) -> Iterator[Comparison]:
    """The gradient of softmax cross-entropy, for probabilities and for class numbers."""
    p = _softmax(z)
    one_hot = np.eye(z.shape[-1], dtype=int)[k]
    for kind, labels, target in (("q", q, q), ("class", k, one_hot)):
        pull = p - target
        yield at_most(f"{kind}: ‖p − q‖₁ ≤ 2", abs(pull).sum(axis=-1), 2)
        yield at_most(f"{kind}: ‖p − q‖₂² ≤ 2", (pull * pull).sum(axis=-1), 2)
        gradient = grad(losses.cross_entropy)(z, labels)
        yield equal(f"{kind}: ∇L = p − q", gradient + target, p)
        yield equal(f"{kind}: 1ᵀ∇L = 0", gradient.sum(axis=-1) + 1, 1 + 0 * z[..., 0])


def _softmax(z: Array) -> Array:
    e = np.exp(z)
    return e / np.sum(e, axis=-1, keepdims=True)
