"""Clipping, the remedy for exploding gradients: what each rule does, and what the notes' does not.

Clipping by norm is the projection onto a ball: it bounds the step, keeps its direction, and brings
two gradients no further apart. The rule written in the notes compares without an absolute value. It
is the projection onto a region open downwards, so it bounds nothing: −1000 stays −1000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.clip import clip_by_norm, clip_one_sided, global_norm

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .clipping import Tree, flat, tree, with_rational_norm
from .norms import larger
from .strategies import Draw, dyadics, scaled

Array = Any
Clip = Callable[[Tree, Any], Tree]


# ---- K-1 ----------------------------------------------------------------------------------------


@st.composite
def _gradients(draw: Draw, system: str) -> Case:
    """Two gradients, a threshold θ, and a point within θ of the origin.

    In balls that point is strictly within, and the gradients differ: a tie of irrational numbers is
    never decided.
    """
    n = draw(st.integers(1, 5))
    families = ["inside", "on the sphere", "outside", "zero"]
    family = draw(st.sampled_from(families if system == "rational" else [*families, "irrational"]))
    g, norm = draw(with_rational_norm(n))
    h, _ = draw(with_rational_norm(n))
    θ = norm * {"inside": 2.0, "outside": 0.25}.get(family, 1.0)
    if family == "zero":
        g = 0 * g
    elif family == "irrational":
        g, h = draw(dyadics(n)), draw(dyadics(n))
        θ = draw(st.sampled_from((0.25, 1.0, 3.0)))
    if (g == h).all():
        h = -2 * g if g.any() else np.append(g[1:], θ)
    v = scaled(draw(dyadics(n))[None], θ * (0.875 if system == "ball" else 1))[0]
    cut = draw(st.integers(0, n))
    return {
        "g": tree(g, cut),
        "h": tree(h, cut),
        "v": v,
        "θ": np.array(θ),
        "family": family,
    }


def _apart(gradients: Tree, θ: Any) -> Tree:
    """Clip each array by its own norm."""
    return {name: clip_by_norm(g, θ) for name, g in gradients.items()}


def _algorithm_1(gradients: Tree, θ: Any) -> Tree:
    """Clip as written: if ‖g‖ ≥ θ then g ← θ g/‖g‖, whatever θ is."""
    norm = global_norm(gradients)
    return {name: g * (θ / norm) if norm >= θ else g for name, g in gradients.items()}


def _three_four(**changed: Any) -> Case:
    """Two opposite gradients of norm 5, θ = 1, and a point within it."""
    g, v = {"W_h": np.array([[3.0]]), "b": np.array([4.0])}, np.array([0.5, 0.5])
    return {"g": g, "h": {k: -a for k, a in g.items()}, "v": v, "θ": np.array(1.0), **changed}


def _in_the_norm(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A mistake in the norm r·2^e, made on r."""

    def wrong(right: Any) -> Any:
        def norm(leaves: list[Array]) -> tuple[Any, int]:
            fraction, exponent = right(leaves)
            return change(np.ldexp(fraction, exponent) if exponent else fraction), 0

        return norm

    return wrong


@theorem(
    "K-1",
    "Clipping by norm is the projection onto a ball",
    statement=r"""Let $\theta > 0$, let $g$ be all gradients as one vector, $\|\cdot\|$ the
Euclidean norm, and $u(g) = g \min(1, \theta/\|g\|)$. Then $u(g)$ is the nonnegative multiple of
$g$ of norm $\min(\|g\|, \theta)$; $u(u(g)) = u(g)$; $(g - u(g)) \cdot (v - u(g)) \le 0$ whenever
$\|v\| \le \theta$, so that $u(g)$ is the nearest point of the ball; and $\|u(g) - u(h)\| \le \|g
- h\|$ for every $h$.""",
    hypotheses=(
        "θ > 0 (the library refuses any other threshold)",
        "All arrays are clipped together, by their common norm",
        "‖v‖ ≤ θ",
    ),
    proof="""u has that norm by definition, and u(u(g)) = u(g) because ‖u(g)‖ ≤ θ. If ‖g‖ ≤ θ then
g − u = 0. If not, g − u = (‖g‖ − θ) e with e = g/‖g‖ and u = θe, so (g − u)·(v − u) = (‖g‖ −
θ)(e·v − θ) ≤ 0, because e·v ≤ ‖v‖ ≤ θ. Hence ‖g − v‖² = ‖g − u‖² + ‖u − v‖² − 2(g − u)·(v − u) ≥
‖g − u‖²: u is nearest. Write w = u(h). Taking v = w for g and v = u for h, and adding, (u −
w)·((g − h) − (u − w)) ≥ 0, so ‖u − w‖² ≤ (u − w)·(g − h) ≤ ‖u − w‖ ‖g − h‖.""",
    sources=("S2-11", "S2-12", "S2-13", "S3-1", "Pascanu, Mikolov & Bengio 2013"),
    cases=_gradients,
    systems=("ball", "rational"),
    necessity=(
        Necessity("θ > 0", lambda: _three_four(θ=np.array(-1.0), clip=_algorithm_1)),
        Necessity("clipped together", lambda: _three_four(clip=_apart)),
        Necessity("‖v‖ ≤ θ", lambda: _three_four(v=np.array([3.0, 4.0]))),
    ),
    sensitivity=(
        Mistake(
            "each array by its own norm (S2-12)",
            "tinygrad_rnn.proofs.remedies.clip_by_norm",
            lambda right: lambda tree, θ: {k: right(g, θ) for k, g in tree.items()},
        ),
        Mistake(
            "scales to θ what lies inside the ball too",
            "tinygrad_rnn.proofs.remedies.clip_by_norm",
            lambda right: lambda tree, θ: {k: g * (θ / global_norm(tree)) for k, g in tree.items()},
        ),
        Mistake(
            "‖g‖ + 10⁻⁶ in place of ‖g‖ (S2-13)",
            "tinygrad_rnn.clip._norm",
            _in_the_norm(lambda norm: norm + Fraction(1, 10**6)),
        ),
        Mistake(
            "the squared norm in place of the norm",
            "tinygrad_rnn.clip._norm",
            _in_the_norm(lambda norm: norm * norm),
        ),
    ),
    witness=lambda: _three_four(v=np.array([3.0, 4.0]), θ=np.array(5.0)),
)
def _projection_onto_the_ball(
    g: Tree, h: Tree, v: Array, θ: Any, clip: Clip | None = None
) -> Iterator[Comparison]:
    clip = clip or clip_by_norm
    clipped = clip(g, θ[()])
    a, b = flat(g), flat(h)
    u, w = flat(clipped), flat(clip(h, θ[()]))
    # ‖u‖ = min(‖g‖, θ) in squares: the claim needs no root, and so no formula of the library.
    yield equal("‖u‖² = min(‖g‖², θ²)", u @ u, -larger(-(a @ a), -(θ * θ)))
    yield equal("u is a multiple of g", np.outer(u, a), np.outer(a, u))
    yield at_most("which is not negative", 0 * θ, u @ a)
    yield equal("u(u) = u", flat(clip(clipped, θ[()])), u)
    yield at_most("(g − u)·(v − u) ≤ 0", (a - u) @ (v - u), 0 * θ)
    yield at_most("‖u(g) − u(h)‖² ≤ ‖g − h‖²", (u - w) @ (u - w), (a - b) @ (a - b))


# ---- K-4 ----------------------------------------------------------------------------------------


@st.composite
def _vectors(draw: Draw, system: str) -> Case:
    """A gradient, a threshold θ ≥ 0, and a point v ≤ θ."""
    n = draw(st.integers(1, 4))
    θ = draw(st.sampled_from((0.0, 0.125, 1.0)))
    family = draw(st.sampled_from(("generic", "tied", "large")))
    g = draw(dyadics(n)) * (1024 if family == "large" else 1)
    if family == "tied":
        g[0] = θ
    return {"g": g, "v": θ - np.abs(draw(dyadics(n))), "θ": np.array(θ), "family": family}


def _one_entry(g: float = 1.0, v: float = 0.0, θ: float = 1.0) -> Case:
    return {"g": np.array([g]), "v": np.array([v]), "θ": np.array(θ)}


@theorem(
    "K-4",
    "The notes' one-sided rule bounds nothing, though it never turns a gradient round",
    statement=r"""Let $\theta \ge 0$ and $c(g)_i = \theta$ where $g_i > \theta$, $c(g)_i = g_i$
elsewhere. Then $g \cdot c(g) \ge 0$. But $c(-|g|) = -|g|$ for every $g$, so the image of $c$ is
unbounded: $c$ is no projection onto a bounded set. It is the projection onto $\{v : v_i \le
\theta\}$: $c(g)_i \le \theta$, and $(g - c(g)) \cdot (v - c(g)) \le 0$ whenever all $v_i \le
\theta$.""",
    hypotheses=("θ ≥ 0", "vᵢ ≤ θ for all i"),
    proof="""Entry by entry. If gᵢ > θ then gᵢcᵢ = gᵢθ ≥ 0 as gᵢ > θ ≥ 0; otherwise gᵢcᵢ = gᵢ² ≥ 0.
An entry −|gᵢ| ≤ 0 ≤ θ is left as it is. Where cᵢ = gᵢ the term (gᵢ − cᵢ)(vᵢ − cᵢ) is 0; where cᵢ
= θ < gᵢ it is (gᵢ − θ)(vᵢ − θ) ≤ 0.""",
    sources=("S4-13",),
    cases=_vectors,
    systems=("rational",),
    necessity=(
        Necessity("θ ≥ 0", lambda: _one_entry(v=-2.0, θ=-1.0)),
        Necessity("vᵢ ≤ θ", lambda: _one_entry(g=3.0, v=2.0)),
    ),
    sensitivity=(
        Mistake(
            "two-sided, as it ought to be",
            "tinygrad_rnn.proofs.remedies.clip_one_sided",
            lambda right: lambda g, θ: np.clip(g, -θ, θ),
        ),
        Mistake(
            "compares |gᵢ| and drops the sign",
            "tinygrad_rnn.proofs.remedies.clip_one_sided",
            lambda right: lambda g, θ: np.where(np.abs(g) > θ, θ, g),
        ),
        Mistake(
            "0 in place of the threshold",
            "tinygrad_rnn.proofs.remedies.clip_one_sided",
            lambda right: lambda g, θ: np.where(g > θ, 0 * g, g),
        ),
    ),
    witness=lambda: _one_entry(g=2.0, v=1.0),
)
def _one_sided(g: Array, v: Array, θ: Any) -> Iterator[Comparison]:
    c = clip_one_sided(g, θ[()])
    by_hand = [θ[()] if e > θ else e for e in g]
    yield equal("as the notes write it", c, np.array(by_hand, dtype=g.dtype))
    yield at_most("g·c ≥ 0", 0 * θ, g @ c)
    yield equal("c(−|g|) = −|g|", clip_one_sided(-np.abs(g), θ[()]), -np.abs(g))
    yield at_most("c ≤ θ", c, θ)
    yield at_most("(g − c)·(v − c) ≤ 0", (g - c) @ (v - c), 0 * θ)
