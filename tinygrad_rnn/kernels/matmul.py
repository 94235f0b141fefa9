"""Matrix products for the kernels: of a few rows with one matrix at every step, and over all steps.

BLAS rearranges its operands on every call and divides long sums as it sees fit. Here a matrix is
arranged once, in *panels*: WIDTH bytes of each row, one row after the other. A *tile* of the
product, some rows by some panels, stays in registers while it walks down the panels. How an entry
is summed depends on neither the tile it falls into nor the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

from tinygrad_rnn.kernels.compile import BLOCK, PLAIN, Array, in_blocks, kernel, loop

WIDTH = 64
TALL = 8 if binding.get_host_cpu_features().get("avx512f") else 4  # rows that fit in registers
DEEP = 256  # terms of a long sum that are added up in one go: a panel of them stays in cache
SIDE = 4  # panels that are arranged in one go


def stride(N: int) -> int:
    """Return how many steps of N sequences make a piece of a sum over time.

    Sums over time are taken piece by piece, from the last one to the first. They may be interrupted
    between two pieces: the later steps are the start of the sum over the earlier ones.
    """
    return max(1, DEEP // N)


def padded(G: int, dtype: np.dtype[Any]) -> int:
    """Return the least multiple of a panel's width that is not below G."""
    w = WIDTH // dtype.itemsize
    return -(-G // w) * w


def panels(B: Array) -> Array:
    """Arrange B (K, G) in panels (⌈G/w⌉, K, w) with w numbers in WIDTH bytes; zeros fill up."""
    (K, G), w = B.shape, WIDTH // B.itemsize
    P = -(-G // w)
    if P * w > G:
        B, narrow = np.zeros((K, P * w), B.dtype), B
        B[:, :G] = narrow
    return np.ascontiguousarray(B.reshape(K, P, w).swapaxes(0, 1))


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

    def strided(A: Array) -> Array:
        """Return A."""
        return A

    def copy_panel(B: Array, k: int, p: int, panels: Array, q: int, m: int) -> None:
        """Set row m of panel q to what stands in row k of B at the place of panel p."""
        w = panels.shape[2]
        panels[q, m] = B[k, p * w : (p + 1) * w]

    def add_product(A: Array, B: Array, out: Array) -> None:
        """Add A (M, K) times the panels B to out (M, …), as wide as the panels; K ≥ 1."""
        product = np.concatenate(list(A[:, : B.shape[1]] @ B), axis=1)
        out[:, : product.shape[1]] += product

else:
    _tall, _wide, _one = _tile(TALL, 1), _tile(1, 4), _tile(1, 1)

    @intrinsic
    def strided(typing: Any, A: Any) -> Any:
        """Return A, whose layout Numba shall forget: one version of what follows serves all."""
        any_layout = A.copy(layout="A")

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            context.nrt.incref(builder, any_layout, args[0])  # a second reference to its memory
            return args[0]

        return any_layout(A), codegen

    @intrinsic
    def copy_panel(typing: Any, B: Any, k: Any, p: Any, panels: Any, q: Any, m: Any) -> Any:
        """Set row m of panel q to what stands in row k of B at the place of panel p."""
        integer, byte = ir.IntType(64), ir.IntType(8)
        row = ir.VectorType(byte, WIDTH).as_pointer()

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> None:
            def place(array: Any, kind: Any, i: Any, offset: Any) -> Any:
                array = context.make_array(kind)(context, builder, array)
                stride = builder.extract_value(array.strides, 0)
                offset = builder.add(builder.mul(i, stride), builder.mul(offset, integer(WIDTH)))
                start = builder.bitcast(array.data, byte.as_pointer())
                return builder.bitcast(builder.gep(start, [offset]), row)

            source, target = place(args[0], B, *args[1:3]), place(args[3], panels, *args[4:6])
            builder.store(builder.load(source, align=1), target, align=1)

        return types.void(B, types.intp, types.intp, panels, types.intp, types.intp), codegen

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


@loop
def project(x: Array, W: Array, b: Array, out: Array) -> None:
    """Write x (M, K) times the panels W, plus b on the left, to out (M, …)."""
    for m in range(len(out)):
        for j in range(b.size):
            out[m, j] = b[j]
        for j in range(b.size, out.shape[1]):
            out[m, j] = 0
    add_product(x, W, out)


@loop
def project_ahead(n0: int, n1: int, x: Array, W: Array, b: Array, out: Array) -> None:
    """Project x (T, N, …) at all times: of a few sequences, whose rows at one time fill no tile."""
    for n in range(n0, n1):
        for t in range(0, len(x), BLOCK):
            project(x[t : t + BLOCK, n], W, b, out[t : t + BLOCK, n])


@loop
def _arrange(A: Array, k: int, depth: int, first: int, tiles: Array) -> None:
    """Copy rows k, … of A to the columns first, … of the tiles, counted through all of them."""
    for i in range(A.shape[1] // TALL):
        for m in range(depth):
            for n in range(TALL):
                tiles[first + i, m, n] = A[k + m, i * TALL + n]
    for j in range(A.shape[1] - A.shape[1] % TALL, A.shape[1]):
        for m in range(depth):
            tiles[first + j // TALL, m, j % TALL] = A[k + m, j]


@kernel
def _correlate(p0: int, p1: int, long: int, A: Array, C: Array, B: Array, out: Array) -> None:
    w = WIDTH // A.itemsize
    split = -(-A.shape[1] // TALL)
    tiles = np.empty((out.shape[0] // TALL, DEEP, TALL), A.dtype)
    for i in range(len(tiles)):
        for m in range(DEEP):
            for n in range(TALL):
                tiles[i, m, n] = 0
    ones = np.empty((1, DEEP), A.dtype)
    for m in range(DEEP):
        ones[0, m] = 1
    some = np.empty((SIDE, DEEP, w), A.dtype)  # panels side by side, which B is read along
    parts = -(-long // DEEP)  # of each piece
    for i in range(-(-len(B) // long) * parts - 1, -1, -1):
        start = i // parts * long
        k = start + i % parts * DEEP
        depth = min(DEEP, start + long - k, len(B) - k)
        _arrange(A, k, depth, 0, tiles)
        _arrange(C, k, depth, split, tiles)
        for p in range(p0, p1, SIDE):
            count = min(SIDE, p1 - p)
            for m in range(depth):
                for q in range(count):
                    copy_panel(B, k + m, p + q, some, q, m)
            for i in range(len(tiles)):
                place = out[i * TALL : (i + 1) * TALL, p * w : (p + count) * w]
                add_product(strided(tiles[i].T), some[:count, :depth], place)
            add_product(strided(ones), some[:count, :depth], out[-1:, p * w : (p + count) * w])


def correlate(A: Array, C: Array, B: Array, *starts: Array) -> Iterator[Array]:
    """Add Σ A_tnᵀ B_tn, Σ C_tnᵀ B_tn and Σ B_tn over t and n to the starts: (·, G), (·, G), (G,).

    Of the columns of A, C and B (T, N, …) those count that have a place there.
    """
    (T, N, _), G = B.shape, starts[2].size
    rows = [np.ascontiguousarray(a).reshape(T * N, a.shape[2]) for a in (A, C, B)]
    high, low = (-(-a.shape[2] // TALL) * TALL for a in (A, C))
    wide = padded(G, B.dtype)
    P = wide // (WIDTH // B.itemsize)
    out = np.zeros((high + low + 1, wide), B.dtype)
    sums = out[: len(starts[0]), :G], out[high : high + len(starts[1]), :G], out[-1, :G]
    for total, start in zip(sums, starts, strict=True):
        total[:] = start
    in_blocks(_correlate, P, P, T * N * out.size, stride(N) * N, *rows, out)
    return map(np.ascontiguousarray, sums)
