"""What the tests of the chain share: its Jacobians as exact numbers, and norms in balls."""

from __future__ import annotations

import math
from typing import Any

import flint
import numpy as np
from hypothesis import strategies as st
from problems import Array, in_floats, problem

from tinygrad_rnn.cells import Cell
from tinygrad_rnn.chain import Chain
from tinygrad_rnn.scalars import Ball, ball

U = 2.0**-53
# Higham's γ̃_k = cku/(1 − cku) for a QR decomposition has a "small integer constant" c.
HOUSEHOLDER = 8
gains = st.sampled_from([0.1, 1.0, 3.0])
times = st.integers(1, 6)
batches = st.integers(1, 2)
norms = st.sampled_from(["fro", 2])


def inputs(cell: Cell, T: int, N: int, seed: int, gain: float, dtype: Any = np.float64) -> Any:
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), gain, dtype))
    return cell, data["params"], data["x"], data["state"]


def gamma(n: int) -> float:
    return n * U / (1 - n * U)


def exact_jacobians(chain: Chain) -> Array:
    """The Jacobians that the chain multiplies, (T, N, S, S), as exact balls."""
    steps = chain._steps
    if steps.slopes is not None and chain.norm == "fro":
        return ball(steps.slopes)[..., None] * ball(steps.params["W_h"].T)
    blocks = [J for _, J in steps.jacobians()]
    return ball(np.concatenate([steps.identities()[None][:0], *blocks]))


def frobenius(A: Array) -> Ball:
    return (A * A).sum().sqrt()


def spectrum(A: Array) -> list[Any]:
    """Enclosures of the singular values, the largest first: roots of the eigenvalues of AᵀA."""
    M = flint.arb_mat(*A.shape, [e.arb for e in A.flat])
    eigenvalues = flint.acb_mat(M.transpose() * M).eig()
    return sorted((Ball(e.real).sqrt() for e in eigenvalues), key=float, reverse=True)


def assert_log(log: float, exact: Ball, allowed: Ball) -> None:
    """Demand that exp(log) is within ``allowed`` of the exact number, up to the log's rounding."""
    # A norm is a sum of squares; log, × ln 2 and + err by at most 8u(|log| + 1) together.
    if log == -math.inf:
        assert exact <= allowed
        return
    rounding = Ball(8 * U * (abs(log) + 1)).exp() - 1
    assert abs(Ball(log).exp() - exact) <= allowed + rounding * (exact + allowed)


def exact_spectrum(P: Array) -> list[Ball]:
    """The singular values; where rows or columns are zero, the others' and zeros."""
    zero = Ball(0)
    kept = P[np.ix_(~(zero == P).all(axis=1), ~(zero == P).all(axis=0))]
    if 0 in kept.shape:
        return [zero] * len(P)
    smaller = kept if kept.shape[1] <= kept.shape[0] else kept.T
    values = spectrum(smaller)
    return values + [zero] * (len(P) - len(values))


def log_det(A: Array) -> Ball:
    det = flint.arb_mat(*A.shape, [e.arb for e in A.flat]).det()
    return Ball(abs(det)).log()
