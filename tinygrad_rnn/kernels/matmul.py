"""Matrix products for the kernels: of a few rows with one matrix at every step, and over all steps.

BLAS rearranges its operands on every call and divides long sums as it sees fit. Here a matrix is
arranged once, in *panels*: WIDTH bytes of each row, one row after the other. A *tile* of the
product, some rows by some panels, stays in registers while it walks down the panels. How an entry
is summed depends on neither the tile it falls into nor the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from tinygrad_rnn.kernels.compile import BLOCK, PLAIN, Array, in_blocks, kernel, loop

WIDTH = 64
TALL = 8 if binding.get_host_cpu_features().get("avx512f") else 4  # rows that fit in registers
DEEP = 256  # terms of a long sum that are added up in one go: a panel of them stays in cache


def padded(G: int, dtype: np.dtype[Any]) -> int:
    """Return the least multiple of a panel's width that is not below G."""
    w = WIDTH // dtype.itemsize
    return -(-G // w) * w


def panels(B: Array) -> Array:
    """Arrange B (K, G) in panels (⌈G/w⌉, K, w) with w numbers in WIDTH bytes; zeros fill up."""
    K, G = B.shape
    w = WIDTH // B.itemsize
    P = padded(G, B.dtype) // w
    wide = np.zeros((K, P * w), B.dtype)
    wide[:, :G] = B
    return np.ascontiguousarray(wide.reshape(K, P, w).swapaxes(0, 1))


def _tile(rows: int, width: int) -> Any:
    """Make tile(A, i, B, p, out, q): add rows i, … of A times panels p, … of B to out's panel q."""

    @intrinsic
    def tile(typing: Any, A: Any, i: Any, B: Any, p: Any, out: Any, q: Any) -> Any:
        size = A.dtype.bitwidth // 8
        w = WIDTH // size
        integer, lane, byte = ir.IntType(64), ir.IntType(32), ir.IntType(8)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
            number = context.get_value_type(A.dtype)
            vector = ir.VectorType(number, w)
            zero, nothing = ir.Constant(vector, [0.0] * w), ir.Constant(vector, ir.Undefined)
            first = ir.Constant(ir.VectorType(lane, w), [0] * w)
            a, b, c = (
                context.make_array(kind)(context, builder, args[k])
                for kind, k in ((A, 0), (B, 2), (out, 4))
            )

            def at(pointer: Any, steps: Any, stride: Any) -> Any:
                return builder.gep(pointer, [builder.mul(steps, stride)])

            def heads(array: Any, index: Any, count: int) -> list[Any]:
                """Return pointers to array[index], …, array[index + count − 1]."""
                start = builder.bitcast(array.data, byte.as_pointer())
                stride = builder.extract_value(array.strides, 0)
                return [at(start, builder.add(index, integer(n)), stride) for n in range(count)]

            def load(pointer: Any, kind: Any) -> Any:
                return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=size)

            A_rows, B_panels = heads(a, args[1], rows), heads(b, args[3], width)
            along = builder.extract_value(a.strides, 1)
            K = builder.extract_value(b.shape, 1)

            before, walk = builder.block, builder.append_basic_block("walk")
            builder.branch(walk)
            builder.position_at_end(walk)
            k = builder.phi(integer)
            k.add_incoming(integer(0), before)
            sums = [[builder.phi(vector) for _ in B_panels] for _ in A_rows]
            parts = [load(at(panel, k, integer(WIDTH)), vector) for panel in B_panels]
            for pointer, row in zip(A_rows, sums, strict=True):
                x = builder.insert_element(nothing, load(at(pointer, k, along), number), lane(0))
                x = builder.shuffle_vector(x, nothing, first)
                for n, (total, part) in enumerate(zip(row, parts, strict=True)):
                    term = builder.fmul(x, part, flags=["contract"])
                    row[n] = builder.fadd(total, term, flags=["contract"])
                    total.add_incoming(zero, before)
                    total.add_incoming(row[n], walk)
            following = builder.add(k, integer(1))
            k.add_incoming(following, walk)
            after = builder.append_basic_block("after")
            builder.cbranch(builder.icmp_signed("<", following, K), walk, after)

            builder.position_at_end(after)
            for pointer, row in zip(heads(c, args[1], rows), sums, strict=True):
                for n, total in enumerate(row):
                    place = at(pointer, builder.add(args[5], integer(n)), integer(WIDTH))
                    total = builder.fadd(load(place, vector), total)
                    place = builder.bitcast(place, vector.as_pointer())
                    builder.store(total, place, align=size)

        return types.void(A, types.intp, B, types.intp, out, types.intp), codegen

    return tile


if PLAIN:

    def add_product(A: Array, B: Array, out: Array) -> None:
        """Add A (M, K) times the panels B to out (M, …), as wide as the panels; K ≥ 1."""
        product = np.concatenate(list(A[:, : B.shape[1]] @ B), axis=1)
        out[:, : product.shape[1]] += product

else:
    _tall, _wide, _one = _tile(TALL, 1), _tile(1, 4), _tile(1, 1)

    @loop
    def add_product(A: Array, B: Array, out: Array) -> None:
        """Add A (M, K) times the panels B to out (M, …), as wide as the panels; K ≥ 1."""
        M, P = A.shape[0], B.shape[0]
        high = M - M % TALL
        for p in range(P):
            for i in range(0, high, TALL):
                _tall(A, i, B, p, out, p)
        for i in range(high, M):
            for p in range(0, P - 3, 4):
                _wide(A, i, B, p, out, p)
            for p in range(P - P % 4, P):
                _one(A, i, B, p, out, p)


@kernel
def _project(n0: int, n1: int, A: Array, B: Array, b: Array, out: Array) -> None:
    for n in range(n0, n1, BLOCK):
        last = min(n + BLOCK, n1)
        for m in range(n, last):
            out[m, : b.size] = b
            out[m, b.size :] = 0
        add_product(A[n:last], B, out[n:last])


def project(x: Array, W: Array, b: Array, width: int) -> Array:
    """Return x W + b for x (T, N, …) in rows of at least ``width``, filled up by zeros."""
    K, G = W.shape
    out = np.empty((*x.shape[:2], padded(width, x.dtype)), x.dtype)
    rows, columns = (array.reshape(-1, array.shape[2]) for array in (x, out))
    in_blocks(_project, len(rows), len(rows), len(rows) * K * G, rows, panels(W), b, columns)
    return out


@kernel
def _correlate(p0: int, p1: int, A: Array, B: Array, out: Array) -> None:
    K, w = A.shape[1], WIDTH // A.itemsize
    tiles = np.zeros((out.shape[0] // TALL, DEEP, TALL), A.dtype)
    panel = np.empty((1, DEEP, w), A.dtype)
    words, source = panel.view(np.int64), B.view(np.int64)  # fewer to copy
    for k in range(0, A.shape[0], DEEP):
        depth = min(DEEP, A.shape[0] - k)
        for i in range(K // TALL):
            for m in range(depth):
                for n in range(TALL):
                    tiles[i, m, n] = A[k + m, i * TALL + n]
        for j in range(K - K % TALL, K):
            for m in range(depth):
                tiles[K // TALL, m, j % TALL] = A[k + m, j]
        for p in range(p0, p1):
            for m in range(depth):
                for n in range(WIDTH // 8):
                    words[0, m, n] = source[k + m, p * (WIDTH // 8) + n]
            for i in range(len(tiles)):
                place = out[i * TALL : (i + 1) * TALL, p * w : (p + 1) * w]
                add_product(tiles[i].T, panel[:, :depth], place)


def correlate(A: Array, B: Array, G: int) -> Array:
    """Return the sum of A_tnᵀ B_tn[:G] over t and n, for A (T, N, K) and B (T, N, …)."""
    w = WIDTH // B.itemsize
    P, K = -(-G // w), A.shape[2]
    out = np.zeros((-(-K // TALL) * TALL, P * w), A.dtype)
    rows = (np.ascontiguousarray(a).reshape(-1, a.shape[2]) for a in (A, B))
    in_blocks(_correlate, P, P, A.size * G, *rows, out)
    return np.ascontiguousarray(out[:K, :G])
