r"""Bounds on products of step Jacobians: vanishing is provable, exploding only excludable.

With $\gamma = \sup |f'|$ every product of $n$ step Jacobians has norm at most
$(\gamma \lVert W \rVert)^n$ (B-1), and along a trajectory less (B-2). So $\gamma\lVert W\rVert < 1$
makes gradients vanish (B-5), and exploding needs $\gamma\lVert W\rVert > 1$. Neither converse holds
(B-7), and no eigenvalue can replace the norm (B-8). Vectors are rows, so that
$J_t = \mathrm{diag}(f'(a_t)) W_h^\top$, and $W$ below means $W_h^\top$.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn import recurrent
from tinygrad_rnn.activations import ACTIVATIONS

from . import cases
from .catalogue import Comparison, Mistake, Necessity, at_most, equal, theorem
from .mistakes import COUNTED_TWICE, NO_DIAGONAL, PRIME, SKIP, TRANSPOSE, UNTRANSPOSED
from .norms import NORMS, ROW_AND_COLUMN, largest, norm_inf, norm_one, within
from .unrolled import product, slopes, step_jacobians, tape_jacobian, trajectory

Array = Any
TIGHT = {"omega": np.array(1.0), "margin": np.array(0.0)}


def prefixes(jacobians: Array) -> list[Array]:
    """Return P_{1,0}, …, P_{T,0}. The earlier state being arbitrary, i = 0 is the general case."""
    return [product(jacobians[: t + 1]) for t in range(len(jacobians))]


def norms_of(W: Array, omega: Any) -> dict[str, Any]:
    """Return ‖W‖₁ and ‖W‖_∞ exactly, and for ‖W‖₂ a bound ω."""
    return {"1": norm_one(W), "2": omega, "∞": norm_inf(W)}


@theorem(
    "B-1",
    "A product of n step Jacobians has norm at most (γ‖W‖)ⁿ",
    statement=r"""Let $h_t = f(a_t)$ with $|f'| \le \gamma$ everywhere and $J_t =
\mathrm{diag}(f'(a_t)) W$, $W = W_h^\top$. In the matrix norms induced by the 1-, 2- and
$\infty$-norm, as by any absolute norm, $\lVert \partial h_t/\partial h_i \rVert \le (\gamma\lVert
W\rVert)^{t-i}$. For the 2-norm: if $W^\top W \preceq \omega^2 I$ then $P_{t,i}^\top P_{t,i} \preceq
(\gamma\omega)^{2(t-i)} I$.""",
    hypotheses=(
        "|f'| ≤ γ",
        "the vector norm is absolute, ‖|v|‖ = ‖v‖, so that ‖diag(d)‖ = max |d|",
        "ω ≥ ‖W‖₂",
    ),
    proof="""An induced norm is submultiplicative, so by C-1 ‖P_{t,i}‖ ≤ Π ‖diag f'(a_k)‖ ‖W‖. An
absolute norm is monotone in |v| (Bauer, Stoer, Witzgall), so ‖diag(d) v‖ ≤ max|d| ‖v‖, and ‖diag
f'‖ ≤ γ. For the 2-norm ‖A‖ ≤ s iff |Av|² ≤ s²|v|² for all v, that is AᵀA ⪯ s²I.""",
    sources=("S0-7", "S0-9", "S1-29", "S1-30", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.bounded,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "γ: 1/2 for the identity",
            lambda: {**cases.one_step([[1]]), "omega": np.array(1.0), "gamma": Fraction(1, 2)},
        ),
        Necessity(
            "an absolute norm: ‖diag(1, 0)‖ = 2 where ‖v‖ = max(|v_1 + v_2|, |v_2|)",
            lambda: {
                **cases.one_step([[1, 0], [0, 1]], "relu", [1.0, -1.0]),
                "omega": np.array(1.0),
                "other_norm": cases.skew_norm,
            },
        ),
        Necessity(
            "ω: the spectral radius of a nilpotent W",
            lambda: {**cases.one_step([[0, 1], [0, 0]]), "omega": np.array(0.0)},
        ),
    ),
    sensitivity=(
        UNTRANSPOSED,
        COUNTED_TWICE,
        Mistake(
            "γ = 1/8 for σ",
            "tinygrad_rnn.proofs.bounds.slope_bound",
            lambda right: lambda f: right(f) / 2 if f == "sigmoid" else right(f),
        ),
        Mistake(
            "n counts states, not steps",
            "tinygrad_rnn.proofs.bounds.steps",
            lambda right: lambda t: right(t) + 1,
        ),
    ),
    witness=lambda: {**cases.one_step([[0, 2], [2, 0]], T=3), "omega": np.array(2.0)},
)
def product_bound(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    omega: Any,
    gamma: Any = None,
    other_norm: Any = None,
) -> Iterator[Comparison]:
    """Bound the engine's Jacobian of the unrolled cell."""
    W, gamma = params["W_h"].T, gamma or slope_bound(cell.activation)
    for t in range(1, len(x) + 1):
        P, n = tape_jacobian(cell, params, x[:t], state), steps(t)
        for norm, size in norms_of(W, omega).items():
            yield at_most(f"‖P‖_{norm} ≤ (γ‖W‖)ⁿ", *within(norm, P, (gamma * size) ** n))
        if other_norm:
            yield at_most("‖P‖ ≤ (γ‖W‖)ⁿ", other_norm(P), (gamma * other_norm(W)) ** n)


def slope_bound(f: str) -> Any:
    """Return γ = sup |f'|."""
    return ACTIVATIONS[f].lipschitz


def steps(t: int) -> int:
    """Return the number of factors of P_{t,0}."""
    return t


# ---- B-2 ----------------------------------------------------------------------------------------


@theorem(
    "B-2",
    "The bound along the trajectory lies between the product's norm and the global bound",
    statement=r"""With $m_k = \max_j |f'(a_{k,j})| \le \gamma$, in the norms of B-1, $\lVert P_{t,i}
\rVert \le \prod_k \lVert J_k \rVert \le \prod_k m_k \lVert W \rVert \le (\gamma \lVert
W\rVert)^{t-i}$. (Each inequality up to a factor $(1+\varepsilon)^{t-i}$ for every $\varepsilon > 0$
is the same claim.)""",
    hypotheses=("m_k is the maximum over the units at step k itself", "|f'| ≤ γ", "ω ≥ ‖W‖₂"),
    proof="""‖P‖ ≤ Π‖J_k‖ is submultiplicativity; ‖diag(d) W‖ ≤ max|d| ‖W‖ as in B-1 gives the
second inequality, factor by factor; m_k ≤ γ the third.""",
    sources=("S0-9", "S2-5", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.with_margin,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "step k itself: relu's unit is dead at step 1 and alive at step 2",
            lambda: {
                **cases.one_step([[1]], "relu", T=2, x=[-1.0, 1.0]),
                **TIGHT,
                "delay": 1,
            },
        ),
        Necessity(
            "γ: 1/2 for the identity",
            lambda: {**cases.one_step([[1]]), **TIGHT, "gamma": Fraction(1, 2)},
        ),
        Necessity(
            "ω: the spectral radius of a nilpotent W",
            lambda: {**cases.one_step([[0, 1], [0, 0]]), **TIGHT, "omega": np.array(0.0)},
        ),
    ),
    sensitivity=(
        PRIME,
        TRANSPOSE,
        NO_DIAGONAL,
        Mistake(
            "the mean of |f'| for its maximum",
            "tinygrad_rnn.proofs.bounds.largest_slopes",
            lambda right: lambda d: [np.abs(d_k).sum() / d_k.size for d_k in d],
        ),
    ),
    witness=lambda: {**cases.one_step([[0, 1], [1, 0]], T=3), **TIGHT},
)
def local_bounds(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    omega: Any,
    margin: Any,
    gamma: Any = None,
    delay: int = 0,
) -> Iterator[Comparison]:
    """Compare the chain of bounds, each with the next, for the closed-form Jacobians."""
    W, gamma = params["W_h"].T, gamma or slope_bound(cell.activation)
    J, before = step_jacobians(cell, params, x, state), trajectory(cell, params, x, state)[:-1]
    d = [slopes(cell, params, x_t, h) for x_t, (h,) in zip(x, before, strict=True)]
    m = np.roll(largest_slopes(d), delay)
    allowed = 1 + margin
    for norm, size in norms_of(W, omega).items():
        yield at_most(
            f"Π m_k ‖W‖_{norm} ≤ (γ‖W‖)ⁿ", np.prod(m * size), (gamma * size * allowed) ** len(x)
        )
        yield at_most(
            f"‖P‖_{norm} ≤ Π m_k ‖W‖", *within(norm, product(J), np.prod(m * size * allowed))
        )
        for J_k, m_k in zip(J, m, strict=True):
            yield at_most(f"‖J_k‖_{norm} ≤ m_k ‖W‖", *within(norm, J_k, m_k * size * allowed))
    for norm, of in ROW_AND_COLUMN.items():
        local = np.prod([of(J_k) * allowed for J_k in J])
        yield at_most(f"‖P‖_{norm} ≤ Π ‖J_k‖", of(product(J)), local)


def largest_slopes(d: list[Array]) -> list[Any]:
    """Return m_k = max |f'(a_k)| over the units for each step."""
    return [largest(np.abs(d_k)) for d_k in d]


# ---- B-5 ----------------------------------------------------------------------------------------


@theorem(
    "B-5",
    "γ‖W‖ < 1 makes gradients vanish",
    statement=r"""Let $W = W_h^\top$. If $|f'| \le \gamma$ and $\gamma\lVert W \rVert \le q < 1$ in
the 1-, 2- or $\infty$-norm, then $\lVert P_{t,i} \rVert \le q^{t-i}$ for all inputs, so $P_{t,i}
\to 0$ as $t - i \to \infty$; it has halved after $\lceil 1/(1-q) \rceil$ steps. A loss at step $t$
has $\max_j |\partial L/\partial h_{i,j}| \le q^{t-i} \max_j |\delta_j|$ if the norm is
$\lVert\cdot\rVert_1$.""",
    hypotheses=("|f'| ≤ γ", "γ‖W‖ ≤ q: a norm, not an eigenvalue", "q < 1"),
    proof="""B-1 with γ‖W‖ ≤ q. q < 1 gives qⁿ → 0, and with Bernoulli's inequality (1/q)ⁿ ≥ 1 +
n(1/q − 1) ≥ 1 + n(1 − q) ≥ 2 as soon as n ≥ 1/(1 − q). ∂L/∂h_i = δ P_{t,i} as a row, and |Σ_k δ_k
P_kj| ≤ max|δ| Σ_k |P_kj| ≤ max|δ| ‖P‖₁.""",
    sources=("S0-1", "S1-24", "S1-25", "S4-4", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.contractive,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "|f'| ≤ γ: the identity with γ = 1/2, W = 1 and q = 1/2",
            lambda: cases.not_contractive([[1]], 0.5, 2),
        ),
        Necessity(
            "γ‖W‖ ≤ q: W is nilpotent, its spectral radius 0",
            lambda: cases.not_contractive([[0, 2], [0, 0]], 0.5, 2),
        ),
        Necessity(
            "q < 1: a permutation keeps the gradient for ever",
            lambda: cases.not_contractive([[0, 1], [1, 0]], 1.0, 20),
        ),
    ),
    sensitivity=(
        PRIME,
        SKIP,
        COUNTED_TWICE,
    ),
    witness=lambda: cases.not_contractive([[0, 0.5], [0.5, 0]], 0.5, 2),
)
def contraction_vanishes(
    cell: Any, params: Any, x: Array, state: Any, delta: Array, q: Any
) -> Iterator[Comparison]:
    """Bound the closed-form products, and the engine's gradient of a loss at the last step."""
    P = prefixes(step_jacobians(cell, params, x, state))
    for t, P_t in enumerate(P, 1):
        for norm in NORMS:
            yield at_most(f"‖P‖_{norm} ≤ qⁿ", *within(norm, P_t, q**t))
    yield at_most("halved after 1/(1 − q) steps", norm_inf(P[-1]), Fraction(1, 2))
    losses = np.stack([0 * delta] * (len(x) - 1) + [delta])
    (d_initial,) = recurrent.bptt(cell, params, x, losses, state)["state"]
    for d, received in zip(delta, d_initial, strict=True):
        yield at_most("|∂L/∂h_0| ≤ qᵀ max|δ|", np.abs(received), q ** len(x) * largest(np.abs(d)))


# ---- B-7 ----------------------------------------------------------------------------------------


@theorem(
    "B-7",
    "γ‖W‖ > 1 does not imply exploding: nilpotent, bounded and saturated networks",
    statement=r"""For each of the following $\gamma\lVert W\rVert_\infty \ge 2$ is possible. (a) $W$
strictly triangular: $P_{t,i} = 0$ for $t - i \ge H$, for every $f$ and all inputs. (b) $W = c\,
e_1^\top$ with $|c_1| \le 1$, $\gamma \le 1$: $\lVert P_{t,i} \rVert_\infty \le \max_j |c_j|$ for
all $t$. (c) All units saturated, $|f'(a_t)|\,\lVert W\rVert_\infty \le 1/2$: $\lVert P_{t,i}
\rVert_\infty \le 2^{-(t-i)}$.""",
    hypotheses=("(a) strictly triangular", "(b) |c_1| ≤ 1", "(c) saturated units"),
    proof="""(a) diag(d) W is strictly upper triangular, and a product of H such matrices is 0. (b)
With d_k = f'(a_k), P_{t,i} = (d_t ∘ c) Π_{i<k<t} (d_{k,1} c_1) e_1ᵀ, and all |d| ≤ 1, |c_1| ≤ 1.
(c) ‖J_t‖_∞ ≤ max|f'(a_t)| ‖W‖_∞ ≤ 1/2. With |h| ≤ 1 a bias of 40 keeps |a| ≥ 20 for the weights
drawn here, where tanh' ≤ 4e^{−40} and σ' ≤ e^{−20}; relu's units are dead.""",
    sources=("S0-15", "S1-35", "S1-37", "S4-9", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.large_but_harmless,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "(a) strictly triangular: a permutation times 2",
            lambda: {**cases.one_step([[0, 2], [2, 0]], T=2), "limits": np.array([2.0, 0.0])},
        ),
        Necessity(
            "(b) |c_1| ≤ 1: c = (2, 8)",
            lambda: {**cases.one_step([[2, 0], [8, 0]], T=2), "limits": np.array([8.0, 8.0])},
        ),
        Necessity(
            "(c) saturated: a = 0",
            lambda: {**cases.one_step([[2]], "tanh", T=2), "limits": np.array([0.5, 0.25])},
            "ball",
        ),
    ),
    sensitivity=(PRIME, SKIP, NO_DIAGONAL),
    witness=lambda: {**cases.one_step([[1, 0], [8, 0]], T=2), "limits": np.array([8.0, 8.0])},
)
def large_norm_is_harmless(
    cell: Any, params: Any, x: Array, state: Any, limits: Array
) -> Iterator[Comparison]:
    """Bound each product by its family's limit, though γ‖W‖ ≥ 2."""
    yield at_most("2 ≤ γ‖W‖_∞", 2, slope_bound(cell.activation) * norm_inf(params["W_h"].T))
    for P, limit in zip(prefixes(step_jacobians(cell, params, x, state)), limits, strict=True):
        yield at_most("‖P‖_∞ is bounded", norm_inf(P), limit)
    last = norm_inf(tape_jacobian(cell, params, x, state))
    yield at_most("‖P‖_∞ is bounded, by the engine", last, limits[-1])


# ---- B-8 ----------------------------------------------------------------------------------------


@theorem(
    "B-8",
    "The spectral radius cannot replace the norm: ρ(W) = 0 and gradients explode",
    statement=r"""Let $f' \ge 0$. $W = c \begin{pmatrix} 1 & -1 \\ 1 & -1 \end{pmatrix}$ has $W^2 =
0$, so its only eigenvalue is 0. Whatever the inputs, $P_{t,i} = c^{t-i} \prod_{i<k<t} (d_{k,1} -
d_{k,2})\, d_t\,(1, -1)$ with $d_k = f'(a_k)$. Inputs can pin $a_k$ to any value. If they keep
$d_{k,1} - d_{k,2} \ge 3/4$, as a relu with $a = (1, -1)$ and a tanh with $a = (0, 20)$ do, then
$\lVert P_{t,i} \rVert_\infty \ge 2 (3c/4)^{t-i}$: for $c = 2$ it explodes.""",
    hypotheses=("d_{k,1} − d_{k,2} ≥ 3/4: the slopes of the units differ",),
    proof="""With u = (1, −1), diag(d) W = c d u as column times row. So J_t ⋯ J_{i+1} = cⁿ d_t (u
d_{t−1}) ⋯ (u d_{i+1}) u and u d_k = d_{k,1} − d_{k,2}; W² = 0, as the rows of W are cu and u·(1, 1)
= 0. Hence ‖P‖_∞ = 2 cⁿ max|d_t| Π (d_{k,1} − d_{k,2}) ≥ 2 cⁿ (3/4)ⁿ. x_t = a_t − W h_{t−1} pins
a_t. On |a_1| ≤ 1/4, |a_2| ≥ 3: tanh'(1/4) − tanh'(3) > 0.94 − 0.01.""",
    sources=("S0-15", "Pascanu, Mikolov & Bengio 2013"),
    cases=cases.pinned,
    systems=("rational", "ball"),
    necessity=(
        Necessity(
            "different slopes: the identity's are equal, and W² = 0 decides",
            lambda: cases.nilpotent_pinned(2.0, np.array([[1.0, -1.0]] * 2), "identity"),
        ),
    ),
    sensitivity=(
        PRIME,
        TRANSPOSE,
        NO_DIAGONAL,
        Mistake(
            "increasing order",
            "tinygrad_rnn.proofs.bounds.product",
            lambda right: lambda jacobians: right(jacobians[::-1]),
        ),
    ),
    witness=lambda: cases.nilpotent_pinned(2.0, np.array([[1.0, -1.0]]), "relu"),
)
def eigenvalues_mislead(
    cell: Any, params: Any, pins: Array, state: Any, c: Any
) -> Iterator[Comparison]:
    """Pin the preactivations by the inputs, then compare products with the closed formula."""
    f, W, h = ACTIVATIONS[cell.activation], params["W_h"].T, state[0]
    inputs = []
    for a in pins:
        inputs.append(a - h @ params["W_h"])
        h = f.value(a)[None]
    x = np.stack(inputs)
    yield equal("W² = 0", W @ W, 0 * W)
    d, factor, u = f.derivative(pins), 1, np.array([1, -1])
    for n, P in enumerate(prefixes(step_jacobians(cell, params, x, state)), 1):
        yield equal(
            "P = cⁿ Π (d_k1 − d_k2) d_t (1, −1)", P[0], c**n * factor * d[n - 1][:, None] * u
        )
        yield at_most("2(3c/4)ⁿ ≤ ‖P‖_∞", 2 * (3 * c / 4) ** n, norm_inf(P))
        factor = factor * (d[n - 1][0] - d[n - 1][1])
    yield at_most(
        "2(3c/4)ⁿ ≤ ‖P‖_∞, by the engine",
        2 * (3 * c / 4) ** n,
        norm_inf(tape_jacobian(cell, params, x, state)),
    )
