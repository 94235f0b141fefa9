"""How far a correct floating-point gradient may be off: a bound derived from its own computation.

**Model.** A correct evaluation computes every intermediate v of the two sweeps with an error of at
most ε_v, where u is the unit roundoff and η the smallest subnormal:

* a sum of n terms: ε = n(uΣ|termᵢ| + η), in any order, with or without fused multiply-add;
* + − · / √ and an argument, which may have been rounded: ε = u|v| + η;
* another function: ε = 8u|v| + η, which allows 4 units in the last place;
* tanh' and σ': the error of the textbook formulas 1 − y² and y(1 − y), which is 18u and 18uy. The
  relatively accurate formulas satisfy it too, so neither choice is a mistake;
* a solution of a linear system: ε = 8nκu‖v‖ + η, for a matrix of size n and condition κ.

To first order the gradient's entry g is then off by at most B = Σ_v |∂g/∂v| ε_v. The sensitivities
keep their signs, so B does not grow with ‖|J|‖^T where the gradient decays with ‖J^T‖, as the worst
case of an interval analysis does.

**Measurement.** With independent Cauchy-distributed ξ_v the response Σ_v ∂g/∂v · ε_v ξ_v is
distributed as B times one such variable, for that distribution is 1-stable (Indyk 2006, *Stable
distributions, pseudorandom generators, embeddings, and data stream computation*). A response is had
by replaying the record of the gradient with noise 2¹⁷ times larger than double rounding, and small
enough to be linear. It exceeds B in magnitude with probability 1/2. So the m-th largest of K
responses is below B only if fewer than m of K fair coins show heads: for K = 64 and m = 9, with
probability less than 10⁻⁹. It is near 4.5 B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor, raw
from tinygrad_rnn.check.oracles import Unavailable
from tinygrad_rnn.check.problem import Problem
from tinygrad_rnn.check.tape import gradient, operation, recorded_gradient
from tinygrad_rnn.functions import Array, sigmoid
from tinygrad_rnn.scalars import ULPS

REPLAYS, LARGEST = 64, 9  # K and m
NOISE = 2.0**-36  # takes the place of u in replays
FUNCTION = 2 * ULPS  # roundings of a function that is not in one of these lists

# fmt: off
SUMS = {"np.sum", "np.cumsum", "np.matmul", "np.einsum", "_scatter"}
EXACT = {
    "np.negative", "np.positive", "np.absolute", "np.maximum", "np.minimum", "np.where", "relu",
    "step", "leaky_step", "getitem", "concatenate", "np.reshape", "np.ravel", "np.expand_dims",
    "np.squeeze", "np.broadcast_to", "np.transpose", "np.swapaxes", "np.moveaxis", "np.flip",
}
BASIC = {"", "np.multiply", "np.divide", "np.square", "np.sqrt"}  # "" is an argument
LINALG = {"np.linalg.solve", "np.linalg.inv", "np.linalg.det"}
# fmt: on
# Their values jump, and are held where they are: `neighbours` looks at the other side of a kink.
HELD = {"step", "leaky_step"}


def unit_roundoff(problem: Problem) -> tuple[float, float]:
    """Return u and η of the coarsest format among the variables."""
    formats = [np.finfo(v.dtype) for v in problem.variables]
    coarsest = max(formats, key=lambda info: info.eps)
    return float(coarsest.eps) / 2, float(coarsest.smallest_subnormal)


def rounding_bounds(problem: Problem, rng: np.random.Generator) -> list[Array]:
    """Bound for each entry of the gradient what rounding may do to a correct evaluation.

    An entry is infinite where the replays are not finite.

    Raises
    ------
    Unavailable
        If the function, or a rule it uses, cannot be run on Tensors.
    """
    u, tiny = unit_roundoff(problem)
    variables = [v.astype(np.float64) for v in problem.variables]
    with np.errstate(all="ignore"):
        try:
            base, nodes = recorded_gradient(problem, variables)
        except Exception as error:  # whatever a function does when it meets Tensors
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        steps = [_Step.of(node, tiny / u) for node in nodes]
        replays = zip(*[_replay(steps, base, rng) for _ in range(REPLAYS)], strict=True)
        return [u / NOISE * _scale(g, replayed) for g, replayed in zip(base, replays, strict=True)]


def _scale(g: Array, replayed: Sequence[Array]) -> Array:
    """Return the m-th largest response; one that is not finite is the largest."""
    responses = np.abs(np.array(replayed) - raw(g))
    return np.sort(np.where(np.isnan(responses), math.inf, responses), axis=0)[-LARGEST]


def roundings(node: Tensor) -> Array:
    """Return ε_v / u for every entry of a node, but for η."""
    name = operation(node)
    if name in BASIC or node._origin is None:
        return np.abs(node._value)
    rule, values, keywords, _ = node._origin
    if name in ("np.add", "np.subtract"):
        return 2 * np.add(*map(np.abs, values))
    if name in SUMS:
        terms = rule.value(*[_map_floats(np.ones_like, v) for v in values], **keywords)
        return terms * rule.value(*[_map_floats(np.abs, v) for v in values], **keywords)
    if name == "d_tanh":
        return np.full(node.shape, 18.0)
    if name == "d_sigmoid":
        return 18 * sigmoid(values[0])
    if name in LINALG:
        a = values[0]
        worst = np.max(np.linalg.cond(a)) * np.max(np.abs(node._value))
        return np.full(node.shape, FUNCTION * a.shape[-1] * worst)
    return FUNCTION * np.abs(node._value)


def _map_floats(function: Any, value: Any) -> Any:
    """Apply ``function`` to a rule's float arguments; indices, axes and shapes stay as they are."""
    is_float = isinstance(value, float) or getattr(value, "dtype", np.dtype(int)).kind == "f"
    return function(value) if is_float else value


class _Step(NamedTuple):
    """How to compute a node once more, and the size of the noise to add."""

    node: Tensor
    held: bool
    noise: Array | None

    @staticmethod
    def of(node: Tensor, floor: float) -> _Step:
        name = operation(node)
        noise = None if name in EXACT else NOISE * (roundings(node) + floor)
        return _Step(node, node._origin is None or name in HELD, noise)


def _replay(steps: list[_Step], wanted: list[Array], rng: np.random.Generator) -> list[Array]:
    """Compute the wanted nodes once more, every step with an error of its own."""
    draws = rng.standard_cauchy(sum(s.node.size for s in steps if s.noise is not None))
    now: dict[int, Array] = {}
    used = 0
    for node, held, noise in steps:
        value = node._value
        if not held:
            rule, values, keywords, parents = node._origin  # type: ignore[misc]  # no leaf
            value = rule.value(
                *[v if p is None else now[p._serial] for v, p in zip(values, parents, strict=True)],
                **keywords,
            )
        if noise is not None:
            value = value + noise * draws[used : used + noise.size].reshape(noise.shape)
            used += noise.size
        now[node._serial] = value
    return [now[g._serial] if type(g) is Tensor else g for g in wanted]


def neighbours(problem: Problem, rng: np.random.Generator) -> list[list[Array]]:
    """Return gradients at arguments within 4u … 1024u of these, on opposite sides in pairs.

    Where f is smooth they agree within 1024 bounds, for the bound allows 1u. Where they do not, a
    kink is as near as rounding errors reach: a correct evaluation may take either side of it, and
    every number between.
    """
    u, _ = unit_roundoff(problem)
    found = []
    base = [v.astype(np.float64) for v in problem.variables]
    with np.errstate(all="ignore"):
        for distance in (4, 16, 64, 256, 1024):
            away = [rng.uniform(-1, 1, v.shape) for v in base]
            for side in (1, -1):
                shifted = [
                    np.where(v == 0, side * d * 2.0**-900, v * (1 + side * distance * u * d))
                    for v, d in zip(base, away, strict=True)
                ]
                found.append(gradient(problem, shifted))
    return found
