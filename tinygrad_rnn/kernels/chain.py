"""Products of Jacobians as P · 2^e, and their QR and singular value decompositions.

P keeps its Frobenius norm between 2^−200 and 2^200. Where a step leaves this range it is repeated
with operands that powers of two bring near 1, which is exact; e counts them. All is computed in
double precision.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tinygrad_rnn.kernels.compile import PARALLEL, Array, kernel, loop, threads
from tinygrad_rnn.kernels.elementwise import copy
from tinygrad_rnn.kernels.matmul import add_product, padded, panels
from tinygrad_rnn.kernels.rnn import ACTIVATIONS, _derive

LOW, HIGH = 2.0**-400, 2.0**400  # the squared norms between which nothing is rescaled
SIZE = 4096  # the numbers in rows that travel through time together: they stay in cache
SWEEPS = 40  # Jacobi's method needs about ten
TINY = -1100  # 2^TINY is 0
ZERO = -(2**60)  # the exponent of a row of zeros
EPSILON = 2.0**-53


@loop
def _exponent(A: Array) -> int:
    """Return the e with 2^(e−1) ≤ max |A| < 2^e, and 0 for A = 0."""
    largest = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            largest = max(largest, abs(A[i, j]))
    return math.frexp(largest)[1]


@loop
def _scale(A: Array, e: int) -> None:
    """Multiply A by 2^e, where neither half of it overflows."""
    first, second = math.ldexp(1.0, e // 2), math.ldexp(1.0, e - e // 2)
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            A[i, j] = A[i, j] * first * second


# ---- any cell: the Jacobians of some steps are given --------------------------------------------


@loop
def _multiply(J: Array, before: Array, panel: Array, after: Array) -> None:
    """Set after = J before, both as wide as the panels."""
    P, K, w = panel.shape
    for p in range(P):
        for k in range(K):
            for j in range(w):
                panel[p, k, j] = before[k, p * w + j]
    after[:] = 0
    add_product(J, panel, after)


@loop
def _sum_of_squares(A: Array, columns: Array) -> float:
    columns[:] = 0
    for i in range(A.shape[0]):
        row = A[i]
        for j in range(row.size):
            columns[j] += row[j] * row[j]
    total = 0.0
    for j in range(columns.size):
        total += columns[j]
    return total


@kernel
def _products(J: Array, P: Array, exponent: Array, squares: Array, panel: Array) -> None:
    B, N, S = J.shape[:3]
    columns, scaled = np.empty(P.shape[3]), np.empty((S, S))
    for t in range(B):
        for n in range(N):
            before, after, e = P[t, n], P[t + 1, n], exponent[t, n]
            _multiply(J[t, n], before, panel, after)
            square = _sum_of_squares(after, columns)
            if not LOW <= square <= HIGH:
                for i in range(S):
                    copy(scaled[i], J[t, n, i])
                d = _exponent(scaled)
                _scale(scaled, -d)
                _multiply(scaled, before, panel, after)
                d_after = _exponent(after)
                _scale(after, -d_after)
                square = _sum_of_squares(after, columns)
                e += d + d_after
            squares[t, n], exponent[t + 1, n] = square, e


def products(J: Array, first: Array, exponent: Array) -> tuple[Array, Array, Array]:
    """Continue the products P_0 2^e_0 of N sequences: P_t 2^e_t = J_t P_{t−1} 2^e_{t−1}.

    From J (B, N, S, S), P_0 (N, S, S) and e_0 (N,) to P_t and e_t, t = 0 … B, and ‖P_t‖², t ≥ 1.
    """
    B, N, S = J.shape[:3]
    P = np.zeros((B + 1, N, S, padded(S, J.dtype)))
    P[0, :, :, :S] = first
    exponents, squares = np.empty((B + 1, N), np.int64), np.empty((B, N))
    exponents[0] = exponent
    _products(J, P, exponents, squares, panels(first[0]))
    return P[..., :S], exponents, squares


# ---- the RNN: J_t = diag(f'(a_t)) W_hᵀ ----------------------------------------------------------


@kernel
def _to_slopes(kind: int, left: Any, a: Array, ones: Array) -> None:
    for t in range(a.shape[0]):
        for n in range(a.shape[1]):
            _derive(kind, left, ones, a[t, n, : ones.size])


def slopes(activation: str, a: Array, H: int) -> Array:
    """Return f'(a_t) for the preactivations (T, N, ≥ H), which are overwritten."""
    kind, left = ACTIVATIONS[activation]
    _to_slopes(kind, a.dtype.type(left), a, np.ones(H, a.dtype))
    return a[:, :, :H]


@loop
def _times_slopes(Q: Array, d: Array, columns: Array) -> float:
    """Multiply Q, with a multiple of four rows, by diag(d) from the right and return ‖Q‖²."""
    columns[:] = 0
    for i in range(0, Q.shape[0], 4):
        q0, q1, q2, q3 = Q[i], Q[i + 1], Q[i + 2], Q[i + 3]
        for j in range(d.size):
            v0, v1, v2, v3 = q0[j] * d[j], q1[j] * d[j], q2[j] * d[j], q3[j] * d[j]
            q0[j], q1[j], q2[j], q3[j] = v0, v1, v2, v3
            columns[j] += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3)
    total = 0.0
    for j in range(d.size):
        total += columns[j]
    return total


@loop
def _times_weights(i: int, t: int, before: Array, W_h: Array, W: Array, after: Array) -> None:
    """Set after = before W_h; at the first step these are rows i, i + 1, … of W_h itself."""
    after[:] = 0
    if t > 0:
        add_product(before, W, after)
    else:
        for k in range(min(len(after), len(W_h) - i)):
            copy(after[k, : len(W_h)], W_h[i + k])


@kernel
def _rnn_rows(
    i: int, shift: int, W_h: Array, W: Array, slopes: Array,
    P: Array, squares: Array, exponent: Array,
) -> None:  # fmt: skip
    """Carry rows i, i + 1, … of Pᵀ through all steps: Pᵀ ← (Pᵀ W_h 2^shift) diag(f'(a_t))."""
    T, H = slopes.shape
    before, after, columns, scaled = np.empty_like(P), P, np.empty(H), np.empty((1, H))
    e = 0
    for t in range(T):
        _times_weights(i, t, before, W_h, W, after)
        square = _times_slopes(after, slopes[t], columns)
        if not LOW <= square <= HIGH:
            copy(scaled[0], slopes[t])
            d = _exponent(scaled)
            _scale(scaled, -d)
            _times_weights(i, t, before, W_h, W, after)
            _times_slopes(after, scaled[0], columns)
            d_after = _exponent(after)
            _scale(after, -d_after)
            scaled[:] = 1
            square = _times_slopes(after, scaled[0], columns)
            e += d + d_after
        e += shift
        squares[t], exponent[t] = square, e
        before, after = after, before
    if T % 2 == 0:
        for k in range(len(P)):
            copy(P[k], before[k])


def rnn_product(W_h: Array, slopes: Array) -> tuple[Array, Array, Array]:
    """Return P_T (N, H, H), ‖P_t‖² (T, N) and the exponents e_t (T, N) for slopes (T, N, H), T ≥ 1.

    How the rows are divided does not depend on the number of threads, and so neither do the bits.
    """
    T, N, H = slopes.shape
    slopes = slopes.swapaxes(0, 1).astype(np.float64, order="C", copy=False)
    shift = math.frexp(np.abs(W_h).max())[1]
    W_h = np.ldexp(W_h.astype(np.float64), -shift)
    W = panels(W_h)
    wide, rows = W.shape[0] * W.shape[2], max(8, SIZE // H // 8 * 8)
    starts = range(0, H, rows)
    P = np.empty((N, wide, wide))
    squares, exponent = np.empty((len(starts), N, T)), np.empty((len(starts), N, T), np.int64)
    tasks = [
        (i, shift, W_h, W, slopes[n], P[n, i : i + rows], squares[k, n], exponent[k, n])
        for n in range(N)
        for k, i in enumerate(starts)
    ]
    workers = min(threads(), len(tasks)) if T * N * H**3 > PARALLEL else 1
    if workers == 1:
        for task in tasks:
            _rnn_rows(*task)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda task: _rnn_rows(*task), tasks))
    if len(starts) == 1:
        (squares,), (exponent,) = squares, exponent
    else:  # bring the blocks of rows to the exponent of the largest
        exponent = np.where(squares > 0, exponent, exponent.min())
        top = exponent.max(axis=0)
        down = np.maximum(exponent - top, TINY)
        squares, exponent = np.ldexp(squares, 2 * down).sum(axis=0), top
        P = np.ldexp(P, np.repeat(down[..., -1].T, rows, axis=1)[:, :wide, None])
    return P[:, :H, :H].swapaxes(1, 2), squares.T, exponent.T


# ---- QR and singular values ---------------------------------------------------------------------


@loop
def _triangular_product(A: Array, R: Array, exponent: Array, row: Array) -> None:
    """Replace the rows R_i 2^e_i by Σ_{k ≥ i} A_ik R_k 2^e_k, for an upper triangular A."""
    for i in range(A.shape[0]):
        top = ZERO
        for k in range(i, A.shape[0]):
            if A[i, k] != 0:
                top = max(top, exponent[k])
        row[:] = 0
        for k in range(i, A.shape[0]):
            if A[i, k] != 0:
                factor, term = math.ldexp(A[i, k], int(max(exponent[k] - top, TINY))), R[k]
                for j in range(row.size):
                    row[0, j] += factor * term[j]
        d = _exponent(row)
        _scale(row, -d)
        copy(R[i], row[0])
        exponent[i] = top + d if np.any(row != 0) else ZERO


@loop
def _qr(A: Array, Q: Array, tau: Array, w: Array) -> None:
    """Decompose A = Q R, R_ii ≥ 0, by Householder's reflections I − τ v vᵀ with v_k = 1.

    R takes the place of the upper triangle of A.
    """
    S = A.shape[0]
    for k in range(S):
        largest = 0.0
        for i in range(k, S):
            largest = max(largest, abs(A[i, k]))
        tau[k] = 0
        if largest == 0:
            continue
        norm = 0.0
        for i in range(k, S):
            norm += (A[i, k] / largest) * (A[i, k] / largest)
        norm = largest * math.sqrt(norm)
        first = A[k, k] + math.copysign(norm, A[k, k])
        tau[k] = abs(first) / norm
        for i in range(k + 1, S):
            A[i, k] = A[i, k] / first
        A[k, k] = -math.copysign(norm, A[k, k])
        _reflect(A, A, k, k + 1, tau[k], w)
    Q[:] = 0
    for k in range(S):
        Q[k, k] = 1
    for k in range(S - 1, -1, -1):
        _reflect(A, Q, k, k, tau[k], w)
    for k in range(S):
        if A[k, k] < 0:
            for j in range(S):
                Q[j, k] = -Q[j, k]
            for j in range(k, S):
                A[k, j] = -A[k, j]


@loop
def _reflect(V: Array, A: Array, k: int, start: int, tau: float, w: Array) -> None:
    """Apply the reflection in column k of V to the columns of A from ``start`` on."""
    S = A.shape[0]
    for j in range(start, S):
        w[j] = A[k, j]
    for i in range(k + 1, S):
        for j in range(start, S):
            w[j] += V[i, k] * A[i, j]
    for j in range(start, S):
        A[k, j] -= tau * w[j]
    for i in range(k + 1, S):
        factor = tau * V[i, k]
        for j in range(start, S):
            A[i, j] -= factor * w[j]


@kernel
def _qr_steps(
    J: Array, Q: Array, log_r: Array, R: Array, exponent: Array, panel: Array, wide: Array
) -> None:
    B, N, S = J.shape[:3]
    product, A, U, row = np.zeros_like(wide), np.empty((S, S)), np.empty((S, S)), np.empty((1, S))
    tau, w, largest = np.empty(S), np.empty(S), np.empty(S)
    for t in range(B):
        for n in range(N):
            for i in range(S):
                copy(wide[i, :S], Q[n, i])
            _multiply(J[t, n], wide, panel, product)
            # With the small rows last, Householder's method keeps their relative accuracy.
            for i in range(S):
                largest[i] = np.abs(product[i]).max()
            order = np.argsort(-largest)
            for i in range(S):
                copy(A[i], product[order[i], :S])
            _qr(A, U, tau, w)
            for i in range(S):
                log_r[n, i] += np.log(A[i, i])
                copy(Q[n, order[i]], U[i])
            if R.size:
                _triangular_product(A, R[n], exponent[n], row)


def qr_steps(J: Array, Q: Array, log_r: Array, R: Array, exponent: Array) -> None:
    """Continue Q_t R_t = J_t Q_{t−1}, with (R_t)_ii ≥ 0, for N sequences by B steps.

    J (B, N, S, S); Q (N, S, S) is overwritten; log_r (N, S) grows by log (R_t)_ii. If R (N, S, S)
    is not empty, row i of R_t ⋯ R_1 is kept as R_i 2^e_i with e (N, S) the exponents: the rows
    differ by orders of magnitude.
    """
    S = J.shape[2]
    wide = np.zeros((S, padded(S, J.dtype)))
    _qr_steps(J, Q, log_r, R, exponent, panels(Q[0]), wide)


@loop
def _dot(a: Array, b: Array) -> float:
    total = 0.0
    for j in range(a.size):
        total += a[j] * b[j]
    return total


@kernel
def log_singular_values(R: Array, exponent: Array) -> Array:
    """Return the logarithms of the singular values of the matrix with rows R_i 2^e_i.

    Jacobi's method makes the rows orthogonal two by two. It finds small singular values as
    accurately as large ones if R without the powers of two is well conditioned (Demmel and
    Veselić 1992). R and exponent are overwritten.
    """
    S = R.shape[0]
    row, rotated = np.empty((1, S)), True
    for _ in range(SWEEPS):
        if not rotated:
            break
        rotated = False
        for p in range(S):
            for q in range(p + 1, S):
                i, j = (p, q) if exponent[p] >= exponent[q] else (q, p)
                a, b, c = _dot(R[i], R[i]), _dot(R[j], R[j]), _dot(R[i], R[j])
                if not abs(c) > S * EPSILON * math.sqrt(a * b):
                    continue
                rotated = True
                # Row j is smaller by s = 2^(e_j − e_i); tan θ = s τ, without forming 1/s.
                s = math.ldexp(1.0, int(max(exponent[j] - exponent[i], TINY)))
                z = (b * s * s - a) / (2 * c)
                tau = (1.0 if z >= 0 else -1.0) / (abs(z) + math.sqrt(s * s + z * z))
                cosine = 1 / math.sqrt(1 + s * tau * s * tau)
                for k in range(S):
                    x, y = R[i, k], R[j, k]
                    R[i, k] = cosine * (x - s * tau * s * y)
                    R[j, k] = cosine * (y + tau * x)
                for r in (i, j):
                    copy(row[0], R[r])
                    d = _exponent(row)
                    _scale(row, -d)
                    copy(R[r], row[0])
                    exponent[r] = exponent[r] + d if np.any(row != 0) else ZERO
    logs = np.empty(S)
    for i in range(S):
        logs[i] = 0.5 * np.log(_dot(R[i], R[i])) + exponent[i] * math.log(2)
    return np.sort(logs)[::-1]
