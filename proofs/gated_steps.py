"""Gated cells to bound: steps with every kind of gate, and norms of what they do.

In exact arithmetic the gates are free (`free`), in floats and balls they are σ and tanh. Gates are
shut, half open, open and in between; the memory is empty or far outside [−1, 1]; the weights are
generic, or nonnegative, where no terms cancel, or nilpotent, or all but one block zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import bounds
from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells import GRUCell, LSTMCell
from tinygrad_rnn.cells.cell import split

from .catalogue import Case, Comparison, at_most
from .free import Free, floats
from .norms import Array, largest, within
from .strategies import GATED, Draw, dyadics

LSTMS = tuple(kind for kind in GATED if "LSTM" in kind)
GRUS = tuple(kind for kind in GATED if "GRU" in kind)
REACHES = (0.0, 0.125, 1.0, 8.0)
FAR = {"rational": 2.0**20}  # σ(±FAR) is nearly 0 or 1
FAMILIES = ("generic", "aligned", "nilpotent", "alone")
GAINS = (1.0, 0.125, 4.0, 0.0)
Size = Callable[[Array], Any]  # of a matrix: a number not below its norm


# ---- cases --------------------------------------------------------------------------------------


def biases(system: str, n: int) -> st.SearchStrategy[Array]:
    """Draw preactivations of gates that are shut, half open, open, and in between."""
    far = FAR.get(system, 40.0)
    levels = st.sampled_from((0.0, far, -far, 0.0625, -0.0625, 1.0, -1.0, 3.0, -3.0))
    return st.lists(levels, min_size=n, max_size=n).map(np.array)


@st.composite
def weights(draw: Draw, H: int, gates: int) -> tuple[str, Array]:
    """Draw W_h (H, gates·H): blocks of one of the families, each times a gain."""
    family = draw(st.sampled_from(FAMILIES))
    W = draw(dyadics((H, gates * H)))
    gains = draw(st.lists(st.sampled_from(GAINS), min_size=gates, max_size=gates))
    if family == "aligned":
        W = np.abs(W)
    if family == "nilpotent":
        W = W * np.tile(np.triu(np.ones((H, H)), 1), gates)
    if family == "alone":
        only = draw(st.integers(0, gates - 1))
        gains = [gain * (k == only) for k, gain in enumerate(gains)]
    return family, W * np.repeat(gains, H)


@st.composite
def steps(draw: Draw, system: str, *kinds: str, T: int = 1, H: int = 2) -> Case:
    """Draw T steps of one sequence: ``cell, params, x, state, reach``, |c_0| ≤ reach (GRU: |h_0|).

    An LSTM's |h_0| ≤ 1.
    """
    kind, H = draw(st.sampled_from(kinds)), draw(st.integers(1, H))
    cell = GATED[kind](1, H)
    shapes = cell.shapes
    family, W_h = draw(weights(H, shapes["W_h"][1] // H))
    params = {name: draw(dyadics(shape)) for name, shape in shapes.items()}
    params |= {"W_h": W_h, "b": draw(biases(system, shapes["b"][0]))}
    reach = draw(st.sampled_from(REACHES))
    near, far = draw(dyadics((1, H), 1.0)), draw(dyadics((1, H), 1.0)) * reach
    if family == "aligned":
        near, far = np.abs(near), np.abs(far)
    return {
        "cell": cell,
        "params": params,
        "x": draw(dyadics((draw(st.integers(1, T)), 1, 1), 1.0)),
        "state": (near, far) if isinstance(cell, LSTMCell) else (far,),
        "reach": np.array(reach),
        "family": family,
    }


def a_step(cell: Any, b: Any, state: Any, T: int = 1, **blocks: Any) -> Case:
    """Return steps without inputs, all parameters 0 but the biases and those given."""
    params = {name: np.zeros(shape) for name, shape in cell.shapes.items()}
    params |= {"b": np.repeat(np.array(b, float), cell.H), **blocks}
    state = tuple(np.broadcast_to(np.array(s, float), (1, cell.H)) for s in state)
    reach = np.array(np.abs(state[-1]).max())
    return {
        "cell": cell, "params": params, "x": np.zeros((T, 1, 1)), "state": state, "reach": reach,
    }  # fmt: skip


# ---- norms --------------------------------------------------------------------------------------


def rounded_up(s: Any) -> Any:
    """Return s, and of balls a little more: balls cannot decide a tie."""
    first = np.asarray(s, dtype=object).flat[0]
    return s * (1 + Fraction(1, 2**64)) if hasattr(first, "arb") else s


def root_above(q: Any) -> Any:
    """Return √q, of a rational number the next multiple of 2⁻⁶⁴."""
    if not isinstance(q, (Free, Fraction, int)):
        return rounded_up(np.sqrt(q))
    scaled = math.ceil((q.value if isinstance(q, Free) else Fraction(q)) * 2**128)
    root = math.isqrt(scaled)
    above = Fraction(root + (root * root < scaled), 2**64)
    return Free(above) if isinstance(q, Free) else above


def norm_2x2(M: Array) -> Any:
    """‖M‖₂ of a 2 × 2 matrix: ½(√(‖M‖_F² + 2 det M) + √(‖M‖_F² − 2 det M)), as sums of squares."""
    (p, q), (r, s) = M
    plus = (p + s) * (p + s) + (q - r) * (q - r)
    minus = (p - s) * (p - s) + (q + r) * (q + r)
    return (root_above(plus) + root_above(minus)) / 2


def golden(e: Any) -> Any:
    """‖[[1, e], [0, 1]]‖₂ = (e + √(e² + 4))/2."""
    return rounded_up((e + root_above(e * e + 4)) / 2)


def direction(A: Array) -> Array:
    """Return a vector that A stretches nearly by ‖A‖₂, in integers: any vector gives a bound."""
    _, _, right = np.linalg.svd(floats(A))
    return np.round(right[0] * 2**20).astype(int)


def stretched(A: Array, s: Any) -> tuple[Any, Any]:
    """Return (|Av|², s²|v|²) for a v for which they are close if ‖A‖₂ is close to s."""
    v = direction(A)
    return ((A @ v) ** 2).sum(), s * s * int((v * v).sum())


def blocks(J: Array) -> list[list[Array]]:
    """Cut (2H, 2H) into [[∂h/∂h, ∂h/∂c], [∂c/∂h, ∂c/∂c]]."""
    return [np.split(row, 2, axis=1) for row in np.split(J, 2)]


def within_blocks(label: str, J: Array, M: Array) -> Iterator[Comparison]:
    """Claim that each block of J has at most the norm that M says."""
    for row, numbers in zip(blocks(J), M, strict=True):
        for block, bound in zip(row, numbers, strict=True):
            yield at_most(label, *within("2", block, rounded_up(bound)))


def within_norm(label: str, J: Array, s: Any) -> Iterator[Comparison]:
    """Claim ‖J‖₂ ≤ s by its certificate, and |Jv| ≤ s|v| for a v that comes close."""
    yield at_most(f"‖J‖ ≤ {label}", *within("2", J, s))
    yield at_most(f"|Jv|² ≤ {label}² |v|²", *stretched(J, s))


def free(a: Array) -> bool:
    """Whether the gates are free: then nothing in floats is about the same step."""
    return isinstance(a.flat[0], Free)


def outwards(H: int) -> Fraction:
    """Return how far, in relative terms, the library rounds a growth matrix outwards, twice."""
    return Fraction(128 * (H + 1), 2**53)


def norm_above(W: Array) -> Fraction:
    """Return the library's float ≥ ‖W‖₂, W being exact in floats."""
    return Fraction(float(bounds.singular_value_bounds(floats(W))[1]))


# ---- the LSTM's growth ------------------------------------------------------------------------


def lstm_factors(cell: Any, params: Any, x_t: Array, state: Any) -> tuple[Array, ...]:
    """Return f, c_- f', g i', i g', tanh(c) o' and o tanh'(c) for one sequence, (H,) each."""
    a_i, a_f, a_g, a_o, c = (a[0] for a in cell._forward(params, x_t, state))
    return (
        sigmoid(a_f),
        state[1][0] * d_sigmoid(a_f),
        np.tanh(a_g) * d_sigmoid(a_i),
        sigmoid(a_i) * d_tanh(a_g),
        np.tanh(c) * d_sigmoid(a_o),
        sigmoid(a_o) * d_tanh(c),
    )


def lstm_entries(
    cell: Any, params: Any, factors: tuple[Any, ...], size: Size
) -> tuple[Any, Any, Any, Any]:
    """Return f̄, ā, ē, ḡ from bounds of the factors; ``size`` bounds a matrix."""
    f, by_f, by_i, by_g, by_o, e = factors
    W_i, W_f, W_g, W_o = (size(W) for W in split(params["W_h"], 4))
    a = by_f * W_f + by_i * W_i + by_g * W_g
    if cell.peephole:
        V_i, V_f, V_o = (size(V) for V in cell._peep_matrices(params))
        f, e = f + by_f * V_f + by_i * V_i, e + by_o * V_o
    return f, a, e, by_o * W_o


def largest_of(factors: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return max |·| of each factor."""
    return tuple(largest(np.abs(a)) for a in factors)


def growth_matrix(f: Any, a: Any, e: Any, g: Any) -> Array:
    """M = [[1, ē], [0, 1]] [[ḡ, 0], [ā, f̄]]."""
    return np.array([[e * a + g, e * f], [a, f]], dtype=object)


# ---- the GRU's terms ----------------------------------------------------------------------------


class Terms(NamedTuple):
    """J = diag(leak) + diag(by_c) K + diag(by_z) W_zᵀ, and a number κ ≥ ‖K‖₂."""

    leak: Array
    by_c: Array
    by_z: Array
    K: Array
    W_z: Array
    kappa: Any


def blocks_of(cell: GRUCell, params: Any) -> tuple[Any, Array, Array]:
    """Return W_r (None for ``minimal``), W_z and W_c."""
    *W_r, W_z, W_c = split(params["W_h"], params["W_h"].shape[1] // cell.H)
    return (W_r[0] if W_r else None), W_z, W_c


def terms(cell: GRUCell, params: Any, x_t: Array, state: Any, size: Size) -> Terms:
    """Write out the terms of one step of one sequence."""
    h = state[0][0]
    gates = cell._gates(params, x_t, state[0])
    a_r, a_z, a_c, u = (np.zeros(0) if a is None else a[0] for a in gates)
    W_r, W_z, W_c = blocks_of(cell, params)
    z, c = sigmoid(a_z), np.tanh(a_c)
    K, kappa = W_c.T, size(W_c)
    if W_r is not None:
        r, reads = sigmoid(a_r), u if u.size else h
        outer, inner = largest(r), largest(np.abs(reads * d_sigmoid(a_r)))
        by_r = (reads * d_sigmoid(a_r))[:, None] * W_r.T
        if cell.variant == "reset_before":
            K, kappa = W_c.T @ (np.diag(r) + by_r), size(W_c) * (outer + inner * size(W_r))
        else:
            K, kappa = r[:, None] * W_c.T + by_r, outer * size(W_c) + inner * size(W_r)
    return Terms(1 - z, z * d_tanh(a_c), (c - h) * d_sigmoid(a_z), K, W_z.T, kappa)
