r"""When products of step Jacobians cannot vanish, cannot explode, and must explode.

The smallest singular value multiplies from below as the norm does from above (B-4). So no product
explodes where $\gamma\lVert W\rVert \le 1$ (B-6), and every one does, in every direction, where the
smallest singular value of the steps stays above 1 (B-10). Vectors are rows, so that $J_t =
\mathrm{diag}(f'(a_t)) W_h^\top$, and $W$ below means $W_h^\top$.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.cells import RNNCell

from .bounds import prefixes
from .cases import contracted, one_step
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .chains import alone_or_in_a_batch, library_bounds
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME, RULES, SKIP, of_rule
from .norms import NORMS, determinant, largest, principal_minors, within
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, matrices, rnns, scaled, states
from .unrolled import product, slopes, step_jacobians, tape_jacobian, trajectory

Array = Any


def at_least(s: Any, A: Array) -> tuple[Any, Array]:
    """Return (lhs, rhs) such that σ_min(A) ≥ s iff lhs ≤ rhs: AᵀA − s²I is semidefinite."""
    return 0, np.array(principal_minors(A.T @ A - s * s * np.eye(len(A), dtype=int)))


def least_singular_value(W: Array, strict: bool = False) -> Array:
    """Return the largest multiple of 1/16 that is ≤ σ_min(W), or less: exactly decided."""
    exact, k = scalars.rational(W), int(np.linalg.svd(W)[1][-1] * 16) + 1
    while any(m < 0 for m in at_least(Fraction(k, 16), exact)[1]):
        k -= 1
    return np.array(max(k - strict, 0) / 16)


def nonzero(n: int) -> st.SearchStrategy[Any]:
    """Vectors of multiples of 1/16 with a first entry above the others' bound."""
    return dyadics(n).map(lambda v: v + 3 * np.eye(n)[0])


# ---- B-4 ----------------------------------------------------------------------------------------


@st.composite
def _with_least(draw: Draw, system: str) -> Case:
    """An RNN, s ≤ σ_min(W) and a vector; in balls W is invertible and s less, against ties."""
    case = draw(rnns(system, T=3, N=1, D=1, H=2))
    W, H = case["params"]["W_h"], case["cell"].H
    if system == "ball" and determinant(scalars.rational(W)) == 0:
        W = W + 8 * np.eye(H)  # its entries are at most 2: diagonally dominant
    case["params"]["W_h"] = W
    return {
        **case,
        "s": least_singular_value(W.T, strict=system == "ball"),
        "v": draw(nonzero(H)),
    }


def _least(W: Any, s: float, v: Any, f: str = "identity", **at: Any) -> Case:
    return {**one_step(W, f, **at), "s": np.array(s), "v": np.array(v, float)}


@theorem(
    "B-4",
    "A product shrinks nothing by more than the smallest singular values multiplied",
    statement=r"""Let $J_k = D_k W$, $D_k = \mathrm{diag}(f'(a_k))$, $m_k = \min_j |f'(a_{k,j})|$
and $0 \le s \le \sigma_{\min}(W)$. Then, with $n = t - i$, $\sigma_{\min}(P_{t,i}) \ge \prod_k
\sigma_{\min}(J_k) \ge s^n \prod_k m_k$, that is $\lVert P_{t,i} v \rVert \ge s^n \prod_k m_k\,
\lVert v \rVert$ for every $v$, and $\det P_{t,i} = (\det W)^n \prod_k \prod_j f'(a_{k,j})$.""",
    hypotheses=("m_k is the smallest slope of step k", "s ≤ σ_min(W), not an eigenvalue's modulus"),
    proof="""σ_min(A) = min ‖Av‖/‖v‖, so ‖ABv‖ ≥ σ_min(A) ‖Bv‖ ≥ σ_min(A) σ_min(B) ‖v‖: by induction
the first inequality. ‖D_k u‖² = Σ d_j² u_j² ≥ m_k² ‖u‖² gives σ_min(D_k W) ≥ m_k s. Determinants
multiply, and det D_k is the product of its diagonal. σ_min(A) ≥ s iff |Av|² − s²|v|² ≥ 0 for all v,
that is AᵀA − s²I ⪰ 0.""",
    sources=("S0-9", "Pascanu, Mikolov & Bengio 2013", "Horn & Johnson 1991"),
    cases=_with_least,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "the smallest slope: with the largest, relu's dead unit is forgotten",
            lambda: {
                **_least(np.eye(2), 1.0, [0, 1], "relu", b=np.array([1.0, -1.0])),
                "slope": "largest",
            },
        ),
        Necessity(
            "σ_min: the eigenvalues of [[1, 4], [0, 1]] are 1, and it shrinks (4, −1)",
            lambda: _least([[1, 4], [0, 1]], 1.0, [4, -1]),
        ),
    ),
    sensitivity=(
        PRIME,
        NO_DIAGONAL,
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "the library's lower bound from σ_max",
            "tinygrad_rnn.chain.singular_value_bounds",
            lambda right: lambda A: (right(A)[1], right(A)[1]),
        ),
        Mistake(
            "the determinant of the last step alone",
            "tinygrad_rnn.proofs.bounds_exploding.product",
            lambda right: lambda jacobians: jacobians[-1],
        ),
    ),
    witness=lambda: _least([[0, 2], [0.5, 0]], 0.5, [1, 0], T=3),
)
def least_stretch(
    cell: Any, params: Any, x: Array, state: Any, s: Any, v: Array, slope: str = "smallest"
) -> Iterator[Comparison]:
    """Compare the closed forms and the engine's product with the bound; then the library's own."""
    W, n = params["W_h"].T, len(x)
    J, before = step_jacobians(cell, params, x, state)[:, 0], trajectory(cell, params, x, state)
    d = [slopes(cell, params, x_t, h)[0] for x_t, (h,) in zip(x, before[:-1], strict=True)]
    sign = 1 if slope == "largest" else -1
    m = [sign * largest(sign * np.abs(d_k)) for d_k in d]
    bound = np.prod(m) * s[()] ** n
    for J_k, m_k in zip(J, m, strict=True):
        yield at_most("m_k s ≤ σ_min(J_k)", *at_least(m_k * s[()], J_k))
    for P in (product(J), tape_jacobian(cell, params, x, state)[0]):
        yield at_most("sⁿ Π m_k ≤ σ_min(P)", *at_least(bound, P))
        yield at_most("(sⁿ Π m_k)² |v|² ≤ |Pv|²", bound * bound * (v @ v), (P @ v) @ (P @ v))
        yield equal("det P = (det W)ⁿ Π f'", determinant(P), np.prod(d) * determinant(W) ** n)
    yield from library_bounds(cell, params, x, state, "lower")


# ---- B-6 ----------------------------------------------------------------------------------------


@st.composite
def _at_the_edge(draw: Draw, system: str) -> Case:
    """An RNN with γ‖W‖ ≤ 1 in one of the norms, often 1 itself; in balls less, against ties."""
    norm, T = draw(st.sampled_from(NORMS)), draw(st.integers(1, 4))
    n = {k: draw(st.integers(1, 3)) for k in ("D", "H")}
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    family, A = draw(matrices(n["H"]))
    q = (15 / 16 if system == "ball" else 1.0) / float(ACTIVATIONS[cell.activation].lipschitz)
    W = {"1": lambda: scaled(A.T, q).T, "2": lambda: contracted(A, q), "∞": lambda: scaled(A, q)}
    return {
        "cell": cell,
        "params": {
            "W_x": draw(dyadics((n["D"], n["H"]))),
            "W_h": W[norm]().T,
            "b": draw(dyadics(n["H"])),
        },
        "x": draw(dyadics((T, 1, n["D"]))),
        "state": draw(states(cell, 1)),
        "norm": norm,
        "family": family,
    }


@theorem(
    "B-6",
    "Gradients can only explode if γ‖W‖ > 1",
    statement=r"""Let $W = W_h^\top$. If $|f'| \le \gamma$ and $\gamma \lVert W \rVert \le 1$ in the
1-, 2- or $\infty$-norm, then $\lVert P_{t,i} \rVert \le 1$ in that norm for all inputs and $t \ge
i$. So if the products of one trajectory are unbounded, then $\gamma\lVert W \rVert > 1$ in each of
these norms. At $\gamma\lVert W\rVert = 1$ the norm 1 can last for ever.""",
    hypotheses=("|f'| ≤ γ", "γ‖W‖ ≤ 1", "the same norm on both sides"),
    proof="""B-1 gives ‖P_{t,i}‖ ≤ (γ‖W‖)^{t−i} ≤ 1. The second sentence is the contrapositive. A
permutation of linear units has γ‖W‖ = 1, and all its powers are permutations, of norm 1.""",
    sources=("S0-15", "S1-35", "Pascanu, Mikolov & Bengio 2013"),
    cases=_at_the_edge,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "|f'| ≤ γ: the identity with γ = 1/2, and W = 2",
            lambda: {**one_step([[2]]), "norm": "∞"},
        ),
        Necessity("γ‖W‖ ≤ 1: linear units with W = 2", lambda: {**one_step([[2]]), "norm": "2"}),
        Necessity(
            "the same norm: ‖W‖_∞ = 1 but ‖W‖₁ = 2",
            lambda: {**one_step([[1, 0], [1, 0]]), "norm": "1"},
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        COUNTED_TWICE,
        Mistake(
            "the library takes the largest entry for ‖W_h‖",
            "tinygrad_rnn.bounds._norm",
            lambda right: lambda W: float(np.abs(W).max()),
        ),
    ),
    witness=lambda: {**one_step([[0, 1], [1, 0]], T=4), "norm": "∞"},
)
def cannot_explode(cell: Any, params: Any, x: Array, state: Any, norm: str) -> Iterator[Comparison]:
    """Bound the closed-form products, the engine's, and the library's bound of them."""
    for P in prefixes(step_jacobians(cell, params, x, state)):
        yield at_most(f"‖P‖_{norm} ≤ 1", *within(norm, P, 1))
    last = tape_jacobian(cell, params, x, state)
    yield at_most(f"‖P‖_{norm} ≤ 1, by the engine", *within(norm, last, 1))
    yield from library_bounds(cell, params, x, state, "upper", "upper_global")
    yield from alone_or_in_a_batch(cell, params, x, state)


# ---- B-10 ---------------------------------------------------------------------------------------


@st.composite
def _expanding(draw: Draw, system: str) -> Case:
    """Draw W near 4 times a signed permutation, s ≤ σ_min(W), and pins with slopes ≥ m."""
    H, T = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    usable = [f for f in RNN_ACTIVATIONS[system] if f in ("tanh", "relu", "identity")]
    f = draw(st.sampled_from(usable))
    signs = draw(dyadics(H, 1.0)) >= 0
    W = 4 * np.eye(H)[draw(st.permutations(range(H)))] * np.where(signs, 1, -1)
    W = W + draw(dyadics((H, H), 0.5))  # a change of norm at most 3/2: σ_min(W) ≥ 5/2
    pins = draw(dyadics((T, H), 0.25))
    return {
        "cell": RNNCell(H, H, f),
        "params": {"W_x": np.eye(H), "W_h": W.T, "b": np.zeros(H)},
        "pins": np.abs(pins) + 1 if f == "relu" else pins,
        "state": (draw(dyadics((1, H), 1.0)),),
        "m": np.array(15 / 16 if f == "tanh" else 1.0),
        "s": least_singular_value(W, strict=system == "ball"),
        "v": draw(nonzero(H)),
        "family": f,
    }


def _linear_pinned(W: Any, s: float, v: Any, pins: Any = 1.0, f: str = "identity") -> Case:
    H = len(W)
    return {
        "cell": RNNCell(H, H, f),
        "params": {"W_x": np.eye(H), "W_h": np.array(W, float).T, "b": np.zeros(H)},
        "pins": np.full((3, H), pins),
        "state": (np.zeros((1, H)),),
        "m": np.array(1.0),
        "s": np.array(s),
        "v": np.array(v, float),
    }


@theorem(
    "B-10",
    "Steps whose smallest singular value stays above 1 make gradients explode, in every direction",
    statement=r"""If $\sigma_{\min}(J_k) \ge c > 1$ for all $k$ then $\lVert P_{t,i} v \rVert \ge
c^{t-i} \lVert v \rVert$ for every $v$, and $c^n \ge 1 + n(c-1) \to \infty$. So it is
with $c = ms > 1$ if $\sigma_{\min}(W) \ge s$ and inputs keep all slopes $f'(a_{k,j}) \ge m$: a
linear unit or a relu with $a > 0$ for $m = 1$, a tanh with $|a| \le 1/4$ for $m = 15/16$.""",
    hypotheses=("s ≤ σ_min(W), not ‖W‖ and not an eigenvalue's modulus", "all slopes ≥ m"),
    proof="""‖J_k u‖ ≥ c‖u‖, n times. Bernoulli's inequality: cⁿ ≥ 1 + n(c − 1). With slopes ≥ m,
B-4 gives σ_min(J_k) ≥ ms. tanh' = 1 − tanh² ≥ 1 − 1/16 where |a| ≤ 1/4, as |tanh a| ≤ |a|. The
inputs x_t = a_t − W h_{t−1} keep a_t wherever they like (B-8).""",
    sources=("S0-15", "S1-37", "Pascanu, Mikolov & Bengio 2013"),
    cases=_expanding,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "σ_min: ‖W‖ = 2 and the other direction is lost",
            lambda: _linear_pinned([[2, 0], [0, 0]], 2.0, [0, 1]),
        ),
        Necessity(
            "σ_min: both eigenvalues are 2, and (2, −1) goes to (0, −2)",
            lambda: _linear_pinned([[2, 4], [0, 2]], 2.0, [2, -1]),
        ),
        Necessity(
            "slopes ≥ m: dead relus",
            lambda: _linear_pinned([[2]], 2.0, [1], -1.0, "relu"),
        ),
    ),
    sensitivity=(
        PRIME,
        Mistake(
            "averaged over the units, not summed",
            RULES,
            of_rule(np.matmul, vjps=lambda v: (lambda g, *at: v[0](g, *at) / g.shape[-1], v[1])),
        ),
        Mistake(
            "the library's lower bound squared",
            "tinygrad_rnn.chain.singular_value_bounds",
            lambda right: lambda A: (right(A)[0] ** 2, right(A)[1]),
        ),
        Mistake(
            "the last step is missing",
            "tinygrad_rnn.proofs.bounds_exploding.prefixes",
            lambda right: lambda J: [np.eye(J.shape[-1], dtype=int)[None], *right(J)[:-1]],
        ),
    ),
    witness=lambda: _linear_pinned([[0, 2], [-2, 0]], 2.0, [1, 0]),
)
def must_explode(
    cell: Any, params: Any, pins: Array, state: Any, m: Any, s: Any, v: Array
) -> Iterator[Comparison]:
    """Pin the preactivations by the inputs, then bound every product from below."""
    f, h, inputs = ACTIVATIONS[cell.activation], state[0], []
    for a in pins:
        inputs.append(a - h @ params["W_h"])
        h = f.value(a)[None]
    x, c, v_squared = np.stack(inputs), m[()] * s[()], v @ v
    for n, P in enumerate(prefixes(step_jacobians(cell, params, x, state)), 1):
        stretched = ((P[0] @ v) * (P[0] @ v)).sum()
        yield at_most("cⁿ ≤ σ_min(P)", *at_least(c**n, P[0]))
        yield at_most("cⁿ |v| ≤ |Pv|, squared", c ** (2 * n) * v_squared, stretched)
        line = 1 + n * (c - 1)
        yield at_most("(1 + n(c − 1)) |v| ≤ |Pv|, squared", line * line * v_squared, stretched)
    last = tape_jacobian(cell, params, x, state)[0]
    yield at_most("cⁿ ≤ σ_min(P), by the engine", *at_least(c ** len(x), last))
    yield from library_bounds(cell, params, x, state, "lower")
