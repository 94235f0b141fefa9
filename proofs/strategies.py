"""What cases are drawn from: arrays that are exact in every number system, and hard by design.

Entries are multiples of 1/16, so a float array *is* a rational array, and a norm is set by
construction (a power of two is divided out), never by rejecting what does not fit. The families
are the shapes of matrices on which wrong formulas about products of Jacobians tend to be right by
accident, or right formulas tight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell

from .catalogue import Case

Draw = Any
SIXTEENTH = 1 / 16


def dyadics(shape: int | tuple[int, ...], bound: float = 2.0) -> st.SearchStrategy[Any]:
    """Arrays of multiples of 1/16 in [−bound, bound]."""
    top = round(bound * 16)
    return hnp.arrays(np.int64, shape, elements=st.integers(-top, top)).map(lambda a: a * SIXTEENTH)


FAMILIES = (
    "generic",
    "nilpotent",
    "permutation",
    "rank one",
    "triangular",
    "rotation",
    "diagonal",
)


@st.composite
def matrices(draw: Draw, n: int, bound: float = 2.0) -> tuple[str, Any]:
    """Draw an (n, n) matrix of one of the FAMILIES; most are neither symmetric nor normal."""
    family = draw(st.sampled_from(FAMILIES))
    A = draw(dyadics((n, n), bound))
    if family == "nilpotent":
        A = np.triu(A, 1)
    elif family == "triangular":
        A = np.tril(A)
    elif family == "diagonal":
        A = np.diag(np.diag(A))
    elif family == "rank one":
        A = np.outer(np.round(A[0] * 4), A[:, 0]) * SIXTEENTH
    elif family == "permutation":
        A = np.eye(n)[draw(st.permutations(range(n)))]
    elif family == "rotation":  # by the 3-4-5 angle in the first plane, times 5/8: exact in binary
        A = np.eye(n) * 0.625
        if n > 1:
            A[:2, :2] = [[0.375, -0.5], [0.5, 0.375]]
    return family, A


def scaled(A: Any, q: float) -> Any:
    """Return A times a power of two and ``q``, so that ‖A‖_∞ ≤ q exactly and > q/2 unless A = 0."""
    norm = np.abs(A).sum(axis=1).max(initial=0.0)
    return A * (q * 2.0 ** -np.ceil(np.log2(norm))) if norm else A


@st.composite
def sizes(draw: Draw, /, T: int = 4, N: int = 2, D: int = 3, H: int = 3) -> dict[str, int]:
    """Draw the sizes of a network: at least 1 each, at most the given ones."""
    tops = {"T": T, "N": N, "D": D, "H": H}
    return {k: draw(st.integers(1, top)) for k, top in tops.items()}


RNN_ACTIVATIONS = {
    "float": ("tanh", "sigmoid", "relu", "leaky_relu", "identity"),
    "rational": ("relu", "identity"),  # leaky_relu's slope 0.01 has 52 bits
    "field": ("tanh", "sigmoid", "identity"),
    "ball": ("tanh", "sigmoid", "identity"),
}


@st.composite
def rnns(draw: Draw, /, system: str, **tops: int) -> Case:
    """Draw an RNN with its sequence and initial state: ``cell, params, x, state, family``.

    The recurrent matrix is of one of the FAMILIES; the gain of everything else decides whether the
    units are linear, active or saturated; the initial state is zero in some cases.
    """
    n = draw(sizes(**tops))
    cell = RNNCell(n["D"], n["H"], draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    family, W_h = draw(matrices(n["H"]))
    gain = draw(st.sampled_from((0.25, 1.0, 8.0)))
    params = {
        "W_x": draw(dyadics((n["D"], n["H"]))) * gain,
        "W_h": W_h,
        "b": draw(dyadics((n["H"],))) * gain,
    }
    return {
        "cell": cell,
        "params": params,
        "x": draw(dyadics((n["T"], n["N"], n["D"]))),
        "state": draw(states(cell, n["N"])),
        "family": family,
    }


@st.composite
def states(draw: Draw, cell: Any, N: int) -> tuple[Any, ...]:
    """Draw a state of ``cell`` with entries in [−1, 1], or the zero state."""
    if draw(st.integers(0, 4)) == 0:
        return tuple(cell.initial_state(N))
    return tuple(draw(dyadics((N, cell.H), 1.0)) for _ in cell.state_names)


GATED: dict[str, Callable[[int, int], Any]] = {
    "GRU minimal": lambda D, H: GRUCell(D, H, variant="minimal"),
    "GRU reset before": lambda D, H: GRUCell(D, H, variant="reset_before"),
    "GRU reset after": lambda D, H: GRUCell(D, H, variant="reset_after"),
    "LSTM": lambda D, H: LSTMCell(D, H),
    "LSTM diagonal peephole": lambda D, H: LSTMCell(D, H, peephole="diagonal"),
    "LSTM full peephole": lambda D, H: LSTMCell(D, H, peephole="full"),
}


@st.composite
def gated(draw: Draw, /, *kinds: str, **tops: int) -> Case:
    """Draw a GRU or LSTM of one of the ``kinds`` of GATED, like :func:`rnns`."""
    n = draw(sizes(**tops))
    kind = draw(st.sampled_from(kinds or tuple(GATED)))
    cell = GATED[kind](n["D"], n["H"])
    gain = draw(st.sampled_from((0.25, 1.0, 8.0)))
    return {
        "cell": cell,
        "params": {name: draw(dyadics(shape)) * gain for name, shape in cell.shapes.items()},
        "x": draw(dyadics((n["T"], n["N"], n["D"]))),
        "state": draw(states(cell, n["N"])),
        "family": kind,
    }
