"""The backward sweep in segments: what checkpointing relies on (C-7).

The adjoint of the state between two segments is all that the earlier one must be told of the later.
So the states within a segment may be forgotten and computed again; and where the sums of the
gradients go on from segment to segment, not one bit tells the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import recurrent
from tinygrad_rnn.scalars import Rounded

from . import cases
from .catalogue import Case, Comparison, Mistake, Necessity, equal, theorem
from .strategies import Draw, gated, rnns
from .unrolled import flat, trajectory, vector

Array = Any


@st.composite
def _in_segments(draw: Draw, system: str) -> Case:
    """Draw a network with losses, where to cut it, and how many steps a segment has."""
    sizes = {"T": 3, "N": 1, "D": 1, "H": 1 if system == "field" else 2}
    case = draw(cases.with_losses(st.one_of(rnns(system, **sizes), gated(**sizes))))
    T = len(case["x"])
    return {**case, "s": draw(st.integers(0, T)), "k": draw(st.integers(1, T))}


def _linear_in_segments() -> Case:
    return {**cases.linear_with_loss(2), "s": 1, "k": 1}


def _rounded_sums() -> Case:
    """Return a gradient 1 + 1 + 2⁵³ by W_x, where (2⁵³ + 1) + 1 = 2⁵³ but 2⁵³ + (1 + 1) is more."""
    case = cases.linear_case(3)
    params = {**case["params"], "W_h": np.zeros((1, 1))}
    x = np.array([1.0, 1.0, 2.0**53]).reshape(3, 1, 1)
    losses = {"d_outputs": np.ones((3, 1, 1)), "d_state": (np.zeros((1, 1)),)}
    return {**case, **losses, "params": params, "x": x, "s": 2, "k": 1}


def parts(gradient: dict[str, Any]) -> Array:
    """Put a whole gradient into one vector."""
    return vector({**gradient, "state": flat(gradient["state"])})


def different(a: Array, b: Array) -> int:
    """Count the floats whose bits differ, or the exact numbers that do."""
    if a.dtype == np.float64:
        return int((a.view(np.int64) != b.view(np.int64)).sum())
    return int((a != b).sum())


def detached(gradient: dict[str, Any], t: int) -> dict[str, Any]:
    """Forget what a later segment, one that begins at t > 0, says of its initial state."""
    return {**gradient, "state": tuple((t == 0) * d for d in gradient["state"])}


def added(gradient: dict[str, Any], later: dict[str, Array] | None) -> dict[str, Any]:
    """Add the gradients by the parameters of later segments."""
    return {**gradient, **{name: gradient[name] + d for name, d in (later or {}).items()}}


def repeated(a: Array) -> Array:
    """Repeat the sequences (…, N, ·): from 129 on, the kernels' segments may be of any length."""
    return np.repeat(a, -(-129 // a.shape[-2]), axis=-2)


@theorem(
    "C-7",
    "The backward sweep may be cut into segments: checkpointing changes no bit",
    statement=r"""Let $s_t = F(\theta, x_t, s_{t-1})$, $L = \sum_t E_t(s_t)$, and $0 \le s \le T$.
Let $(g'', \lambda_s)$ be the gradients by $\theta$ and by the initial state of steps $s + 1, \dots,
T$ run from $s_s$, and $(g', \lambda_0)$ those of steps $1, \dots, s$ with $\lambda_s$ added to the
cotangent of their last state. Then $dL/d\theta = g' + g''$, $dL/ds_0 = \lambda_0$, and $dL/dx_t$ is
that of the segment of $t$; likewise for any number of segments, with states within a segment
forgotten and computed again. In floating point, if every segment continues the sums that the later
ones have begun, the result is that of one sweep bit for bit.""",
    hypotheses=(
        "a segment runs again from the very state s_s of the first run",
        "λ_s is handed to the earlier segment",
        "(bits) the sums go on, rather than being added afterwards",
    ),
    proof="""Split the losses: L = L' + L'', where L' = Σ_{t≤s} E_t, and L'' depends on s_s, on
x_{s+1}, …, x_T, and on the copies of θ that the later steps use. So dL''/dθ = g'' + λ_s ds_s/dθ,
with λ_s = dL''/ds_s, and dL/dθ = g'' + d(L' + λ_s s_s)/dθ with λ_s held constant: the gradient of
steps 1 … s with λ_s added to the cotangent of s_s, which is g'. In the same way for s_0 and x_t.
Induction on the number of segments. The states of a second run are those of the first, bit for bit,
being the same operations on the same numbers; λ is handed on unchanged; and a sum continued is the
same sequence of additions as in one sweep.""",
    sources=("Griewank & Walther 2008", "Chen et al. 2016"),
    cases=_in_segments,
    systems=("field",),
    necessity=(
        Necessity(
            "the very state s_s: the segment begins at zero",
            lambda: {**_linear_in_segments(), "restart": (np.zeros((1, 1)),)},
        ),
        Necessity(
            "λ_s is handed on: the state is detached",
            lambda: {**_linear_in_segments(), "handed": 0},
        ),
        Necessity("the sums go on: here they are added afterwards", _rounded_sums, system="float"),
    ),
    sensitivity=(
        Mistake(
            "a segment begins after the first step of the segment before it",
            "tinygrad_rnn.recurrent.checkpointed._last",
            lambda right: lambda run: lambda part, _: tuple(s[1].copy() for s in run(*part[:4])),
        ),
        Mistake(
            "the state detached between segments",
            "tinygrad_rnn.recurrent.checkpointed._segments",
            lambda right: (
                lambda problem, k, final, sweep: right(
                    problem, k, final, lambda part, t, later: detached(sweep(part, t, later), t)
                )
            ),
        ),
        Mistake(
            "the sums of the segments added afterwards",
            "tinygrad_rnn.recurrent.checkpointed._segments",
            lambda right: (
                lambda problem, k, final, sweep: right(
                    problem, k, final, lambda part, t, later: added(sweep(part, t, None), later)
                )
            ),
        ),
    ),
)
def segments(
    cell: Any,
    params: Any,
    x: Array,
    state: Any,
    d_outputs: Array,
    d_state: Any,
    s: int,
    k: int,
    restart: Any = None,
    handed: int = 1,
) -> Iterator[Comparison]:
    """Compare one sweep with two that are put together here, and with the library's checkpoints."""
    problem: dict[str, Any] = {
        "params": params,
        "x": x,
        "state": state,
        "d_outputs": d_outputs,
        "d_state": d_state,
    }
    whole = recurrent.bptt(cell, **problem, method="tape")
    s_s = restart or trajectory(cell, params, x, state)[s]
    late = recurrent.bptt(cell, params, x[s:], d_outputs[s:], s_s, "tape", d_state=d_state)
    row = tuple(handed * d for d in late["state"])
    early = recurrent.bptt(cell, params, x[:s], d_outputs[:s], state, "tape", d_state=row)
    together = {name: early[name] + late[name] for name in params}
    together["x"] = np.concatenate([early["x"], late["x"]])
    joined = parts({**together, "state": early["state"]})
    yield equal("two segments", joined, parts(whole))

    wide = {name: repeated(problem[name]) for name in ("x", "d_outputs")}
    wide |= {name: tuple(map(repeated, problem[name])) for name in ("state", "d_state")}
    for method in ("tape", "chain", "kernel"):
        # Kernels run on floats only; and both runs round alike, which leaves no error to bound.
        count, in_floats = 0, x.dtype == np.float64
        if in_floats or not (method == "kernel" or isinstance(x.flat[0], Rounded)):
            given = {**problem, **(wide if method == "kernel" else {}), "method": method}
            once = recurrent.bptt(cell, **given) if in_floats else whole
            again = recurrent.bptt(cell, **given, checkpoint=k)
            count = different(parts(again), parts(once))
        yield equal(f"checkpoints change no bit: {method}", count, 0)
