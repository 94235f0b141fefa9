"""Three more ways to clip, all of them in use: what each bounds, and what it does to the direction.

PyTorch's rule adds ε to the norm and so is no projection, though within ε of one. Clipping by value
and clipping every tensor by its own norm are projections, onto a box and onto a product of balls.
Both can turn the gradient, by an angle that the number of blocks bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.clip import clip_by_norm, clip_by_value, clip_one_sided, global_norm

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .clipping import Tree, flat, tree, with_rational_norm
from .norms import larger
from .strategies import Draw, dyadics

Array = Any


# ---- K-2 ----------------------------------------------------------------------------------------


@st.composite
def _with_epsilon(draw: Draw, system: str) -> Case:
    """A gradient of rational norm n, θ and ε: inside, outside, and between θ − ε and θ."""
    n = draw(st.integers(1, 4))
    g, norm = draw(with_rational_norm(n))
    family = draw(st.sampled_from(("inside", "tied", "between", "at θ", "outside", "zero")))
    ε = draw(st.sampled_from((2.0**-20, 0.25, 8.0)))
    θ = {"inside": 2 * norm + 2 * ε, "tied": norm + ε, "between": norm + ε / 2, "at θ": norm}.get(
        family, norm / 4
    )
    g = 0 * g if family == "zero" else g
    cut = draw(st.integers(0, n))
    return {"g": tree(g, cut), "θ": np.array(θ), "ε": np.array(ε), "family": family}


def _five(θ: float, ε: float, **changed: Any) -> Case:
    """A gradient of norm 5."""
    g = {"W_h": np.array([[3.0]]), "b": np.array([4.0])}
    return {"g": g, "θ": np.array(θ), "ε": np.array(ε), **changed}


def _without_factor(gradients: Tree, θ: Any, ε: Any) -> Tree:
    """Multiply by θ/(‖g‖ + ε) always."""
    return {name: g * (θ / (global_norm(gradients) + ε)) for name, g in gradients.items()}


@theorem(
    "K-2",
    "PyTorch's clipping stays below the threshold, within ε of the projection, and never rests",
    statement=r"""Let $\theta, \varepsilon > 0$, $n = \|g\|$, $c(g) = g\min(1,
\theta/(n+\varepsilon))$, and let $u(g) = g\min(1, \theta/n)$ be the projection of K-1. Then $c(g)$
is $u(g)$ or shorter, and
$$\|c(g)\| = \min\Big(n, \frac{\theta n}{n+\varepsilon}\Big) < \theta, \qquad
  \|u(g) - c(g)\| \le \frac{\theta\varepsilon}{\theta+\varepsilon} < \varepsilon.$$
It leaves $g \ne 0$ alone iff $n \le \theta - \varepsilon$; so it clips gradients that lie within
the ball. What it has clipped it clips again: if $c(g) \ne g$ then $\theta - \varepsilon <
\|c(c(g))\| < \|c(g)\|$.""",
    hypotheses=("ε > 0", "The factor is at most 1"),
    proof="""The factor is 1 iff n + ε ≤ θ; otherwise ‖c‖ = m = θn/(n + ε), which is less than θ,
and less than n > 0 since θ < n + ε. u − c is a multiple of g of length min(n, θ) − m ≥ 0. If n ≥ θ
that is θε/(n + ε) ≤ θε/(θ + ε). If n < θ < n + ε it is n(1 − θ/(n + ε)), which increases with n,
and is θε/(θ + ε) at n = θ. Clipped again: m + ε > θ iff θ(1 − n/(n + ε)) < ε iff θ < n + ε, which
holds. So m > θ − ε, it is clipped a second time, and by the same argument the result is longer than
θ − ε, and shorter than m.""",
    sources=("S2-12", "S2-13"),
    cases=_with_epsilon,
    systems=("rational",),
    necessity=(
        Necessity("ε > 0", lambda: _five(1.0, 0.0)),
        Necessity("the factor is at most 1", lambda: _five(10.0, 1.0, clip=_without_factor)),
    ),
    sensitivity=(
        Mistake(
            "Algorithm 1 without ε",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_norm",
            lambda right: lambda g, θ, ε=0: right(g, θ),
        ),
        Mistake(
            "clips only what lies outside the ball",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_norm",
            lambda right: lambda g, θ, ε=0: g if global_norm(g) <= θ else right(g, θ, ε),
        ),
        Mistake(
            "each array by its own norm (S2-12)",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_norm",
            lambda right: lambda g, θ, ε=0: {k: right(a, θ, ε) for k, a in g.items()},
        ),
        Mistake(
            "the squared norm in place of the norm",
            "tinygrad_rnn.clip._norm",
            lambda right: lambda leaves: (sum((a * a).sum() for a in leaves), 0),
        ),
    ),
    witness=lambda: _five(5.0, 2.0**-10),
)
def _torch_clipping(g: Tree, θ: Any, ε: Any, clip: Any = None) -> Iterator[Comparison]:
    clip, θ, ε = clip or clip_by_norm, θ[()], ε[()]
    n, clipped = global_norm(g), clip(g, θ, ε)
    c, u, again = flat(clipped), flat(clip_by_norm(g, θ)), flat(clip(clipped, θ, ε))
    yield equal("c is a multiple of g", np.outer(c, flat(g)), np.outer(flat(g), c))
    yield at_most("which is not negative", 0, c @ flat(g))
    scale = larger(n + ε, θ)  # ‖c‖ = θ n/max(n + ε, θ)
    yield equal("‖c‖ = min(n, θn/(n + ε))", c @ c * scale * scale, θ * θ * n * n)
    gap, limit = u - c, θ * ε / (θ + ε)
    yield at_most("‖u − c‖ ≤ θε/(θ + ε)", gap @ gap, limit * limit)
    m = θ * n / scale
    scale = larger(m + ε, θ)
    yield equal("‖c(c)‖ likewise", again @ again * scale * scale, θ * θ * m * m)
    yield at_most("‖c(c)‖ ≤ ‖c‖ ≤ θ", np.array([again @ again, c @ c]), np.array([c @ c, θ * θ]))
    yield equal("‖c‖ < θ", int(bool(c @ c < θ * θ)), 1)
    if bool(n + ε > θ):
        yield at_most("θ − ε ≤ ‖c(c)‖ if it is clipped", larger(θ - ε, 0) ** 2, again @ again)


# ---- K-3 ----------------------------------------------------------------------------------------


@st.composite
def _entries(draw: Draw, system: str) -> Case:
    """Two gradients and a point of the box: heavy tails, ties, one entry that dwarfs the others."""
    n, θ = draw(st.integers(1, 5)), draw(st.sampled_from((0.125, 1.0, 3.0)))
    g, h = draw(dyadics(n)), draw(dyadics(n))
    family = draw(st.sampled_from(("inside", "generic", "tied", "dwarfing")))
    if family == "inside":
        g = g * θ / 2
    elif family == "tied":
        g = np.where(g > 0, θ, -θ)
    elif family == "dwarfing":
        g = np.append(2.0 ** draw(st.integers(0, 20)), np.full(n - 1, θ))
    return {
        "g": g,
        "h": h * draw(st.sampled_from((1.0, 64.0))),
        "v": draw(dyadics(n)) * θ / 2,
        "θ": np.array(θ),
        "family": family,
    }


def _dwarfing(G: float, n: int = 4, v: float = 1.0, **changed: Any) -> Case:
    """Return g = (G, 1, …, 1), h = −g, v = (v, 0, …, 0), θ = 1."""
    g, point = np.append(G, np.ones(n - 1)), np.append(v, np.zeros(n - 1))
    return {"g": g, "h": -g, "v": point, "θ": np.array(1.0), **changed}


@theorem(
    "K-3",
    "Clipping by value is the projection onto a box, and turns by an angle of cosine ≥ 1/√n",
    statement=r"""Let $\theta > 0$, $g \in \mathbb{R}^n$ and $c(g)_i = \max(-\theta, \min(g_i,
\theta))$. Then $c(c(g)) = c(g)$, and $(g - c(g)) \cdot (v - c(g)) \le 0$ whenever all $|v_i| \le
\theta$, so that $c(g)$ is the nearest point of the box; $\|c(g) - c(h)\| \le \|g - h\|$. If
anything is clipped then $g \cdot c(g) \ge \theta\,\|g\|$, with equality where one entry is not
zero. Hence, for every $g \ne 0$,
$$\cos\angle(g, c(g)) \ge \frac1{\sqrt n},$$
which is the best bound: $g = (G, \theta, \dots, \theta)$ comes as close as one likes as $G \to
\infty$.""",
    hypotheses=("θ > 0 (the library refuses any other)", "Both sides are clipped", "|vᵢ| ≤ θ"),
    proof="""Where cᵢ = gᵢ the term (gᵢ − cᵢ)(vᵢ − cᵢ) is 0; where cᵢ = ±θ it is −(|gᵢ| − θ)(θ ∓ vᵢ)
≤ 0. Nearest and nonexpansive follow as in K-1. Let S be the sum of |gᵢ| over the clipped entries,
R² that of gᵢ² over the others. If there are clipped entries then S ≥ θ, g·c = θS + R² and ‖g‖² ≤
S² + R², so (g·c)² = θ²S² + 2θSR² + R⁴ ≥ θ²S² + 2θ²R² ≥ θ²‖g‖². As ‖c‖² ≤ nθ², cos = g·c/(‖g‖ ‖c‖)
≥ 1/√n. If there are none then c = g. For g = (G, θ, …, θ), g·c = θG + (n − 1)θ², ‖c‖ = θ√n, and the
cosine tends to 1/√n.""",
    sources=("S3-1", "S4-13"),
    cases=_entries,
    systems=("rational",),
    necessity=(
        Necessity(
            "θ > 0",
            lambda: _dwarfing(2.0, θ=np.array(-1.0), clip=lambda g, θ: np.clip(g, -θ, θ)),
        ),
        Necessity("both sides", lambda: _dwarfing(-8.0, clip=clip_one_sided)),
        Necessity("|vᵢ| ≤ θ", lambda: _dwarfing(8.0, v=2.0)),
    ),
    sensitivity=(
        Mistake(
            "the notes' one-sided rule (S4-13)",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_value",
            lambda right: clip_one_sided,
        ),
        Mistake(
            "compares |gᵢ| and drops the sign",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_value",
            lambda right: lambda g, θ: np.where(np.abs(g) > θ, θ, g),
        ),
        Mistake(
            "the box has half the size",
            "tinygrad_rnn.clip._each",
            lambda right: lambda g, θ, rule: right(g, θ / 2, rule),
        ),
        Mistake(
            "clips by the norm instead",
            "tinygrad_rnn.proofs.remedies_clipping.clip_by_value",
            lambda right: lambda g, θ: g * θ / larger(θ, np.abs(g).sum()),
        ),
    ),
    witness=lambda: _dwarfing(2.0**20),
)
def _projection_onto_a_box(
    g: Array, h: Array, v: Array, θ: Any, clip: Any = None
) -> Iterator[Comparison]:
    clip, θ = clip or clip_by_value, θ[()]
    c, d = clip(g, θ), clip(h, θ)
    yield at_most("|c| ≤ θ", np.abs(c), θ)
    yield equal("c(c) = c", clip(c, θ), c)
    yield at_most("(g − c)·(v − c) ≤ 0", (g - c) @ (v - c), 0)
    yield at_most("‖c(g) − c(h)‖² ≤ ‖g − h‖²", (c - d) @ (c - d), (g - h) @ (g - h))
    yield from _turned(g, c, np.abs(g), θ)


def _turned(g: Array, c: Array, blocks: Array, θ: Any) -> Iterator[Comparison]:
    """How far c turns from g, where each of the blocks, of these norms, is clipped to θ."""
    yield at_most("g·c ≥ 0", 0, g @ c)
    if any(bool(norm > θ) for norm in blocks):
        yield at_most("(θ‖g‖)² ≤ (g·c)²", θ * θ * (g @ g), (g @ c) ** 2)
    yield at_most("1/m ≤ cos², m blocks", (c @ c) * (g @ g), len(blocks) * (g @ c) ** 2)


# ---- K-5 ----------------------------------------------------------------------------------------


@st.composite
def _tensors(draw: Draw, system: str) -> Case:
    """One to three tensors of rational norms."""
    m, θ = draw(st.integers(1, 3)), draw(st.sampled_from((0.125, 1.0, 16.0, 4096.0)))
    g = {f"W_{i}": draw(with_rational_norm(draw(st.integers(1, 3))))[0] for i in range(m)}
    return {"g": g, "θ": np.array(θ)}


def _three_tensors(*norms: float, **changed: Any) -> Case:
    return {
        "g": {f"W_{i}": np.array([n, 0.0]) for i, n in enumerate(norms)},
        "θ": np.array(1.0),
        **changed,
    }


def _one_by_one(gradients: Tree, θ: Any) -> Tree:
    """Clip each tensor by its own norm, as the loop of the notes does where it clips at all."""
    return {name: clip_by_norm(g, θ) for name, g in gradients.items()}


def _last_only(gradients: Tree, θ: Any) -> Tree:
    """Clip the variable that the loop has left over (S2-12)."""
    last = list(gradients)[-1]
    return {**gradients, last: clip_by_norm(gradients[last], θ)}


@theorem(
    "K-5",
    "Clipping every tensor by its own norm bounds the norm by θ√m, and can turn the gradient",
    statement=r"""Let $g = (g_1, \dots, g_m)$ be $m$ tensors, $\theta > 0$, and let $c(g)$ have each
clipped to the norm $\theta$ by itself. Then $\|c(g)\|^2 = \sum_i \min(\|g_i\|, \theta)^2 \le
m\theta^2$, attained when all $\|g_i\| \ge \theta$, where clipping all by their common norm (K-1)
gives $\theta^2$. The direction is kept iff all $g_i \ne 0$ are scaled alike; in general
$$\cos\angle(g, c(g)) \ge \frac1{\sqrt m},$$
and it comes as close as one likes. If only the last tensor is clipped, nothing is bounded: the
squared norm is $\sum_{i<m} \|g_i\|^2 + \min(\|g_m\|, \theta)^2$.""",
    hypotheses=("θ > 0 (the library refuses any other)", "Every tensor is clipped"),
    proof="""Pythagoras gives both sums. c = (f_1 g_1, …, f_m g_m) is a multiple of g iff the f_i
with g_i ≠ 0 are equal. With S the sum of the norms of the clipped tensors and R² the sum of the
squared norms of the others, g·c = θS + R², ‖g‖² ≤ S² + R² and ‖c‖² ≤ mθ², and the proof of K-3,
whose blocks are single entries, goes through word by word; so does its example, with ‖g_1‖ → ∞ and
the other norms θ.""",
    sources=("S2-12", "S3-1"),
    cases=_tensors,
    systems=("rational",),
    necessity=(
        Necessity(
            "every tensor is clipped", lambda: _three_tensors(2.0, 2.0, 2.0, clip=_last_only)
        ),
    ),
    sensitivity=(
        Mistake(
            "all by their common norm",
            "tinygrad_rnn.proofs.remedies_clipping._one_by_one",
            lambda right: clip_by_norm,
        ),
        Mistake(
            "only the last tensor (S2-12)",
            "tinygrad_rnn.proofs.remedies_clipping._one_by_one",
            lambda right: _last_only,
        ),
        Mistake(
            "the squared norm in place of the norm",
            "tinygrad_rnn.clip._norm",
            lambda right: lambda leaves: (sum((a * a).sum() for a in leaves), 0),
        ),
    ),
    witness=lambda: _three_tensors(2.0**20, 1.0, 1.0),
)
def _each_tensor_apart(g: Tree, θ: Any, clip: Any = None) -> Iterator[Comparison]:
    θ, m = θ[()], len(g)
    clipped = (clip or _one_by_one)(g, θ)
    squares = np.array([a @ a for a in g.values()])
    bounded = np.array([-larger(-s, -θ * θ) for s in squares])
    c = flat(clipped)
    yield equal("‖c_i‖ = min(‖g_i‖, θ)", np.array([a @ a for a in clipped.values()]), bounded)
    yield at_most("‖c‖² ≤ mθ²", c @ c, m * θ * θ)
    yield from _turned(flat(g), c, np.array([global_norm(a) for a in g.values()]), θ)
    last = flat(_last_only(g, θ))
    yield equal("only the last", last @ last, squares[:-1].sum() + bounded[-1])
