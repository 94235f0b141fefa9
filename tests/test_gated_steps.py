"""Roots that are rounded up, norms of 2 × 2 matrices, and rounding to few bits."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.proofs.free import Free
from tinygrad_rnn.proofs.gated_steps import golden, norm_2x2, norm_above, root_above
from tinygrad_rnn.proofs.gates_float import all_numbers, nearest

U = 2.0**-53
entries = st.floats(0.125, 8)


@given(st.fractions(0, 1000))
def test_a_root_is_rounded_up_by_little(q):
    root = root_above(q)
    assert root * root >= q
    assert root == 0 or (root - Fraction(1, 2**64)) ** 2 < q
    assert root_above(Free(q)) == root
    assert root_above(q * q) <= q + Fraction(1, 2**64)


@given(st.lists(entries, min_size=4, max_size=4))
def test_norms_of_small_matrices(numbers):
    M = np.reshape(numbers, (2, 2))
    norm = np.linalg.norm(M, 2)
    assert abs(norm_2x2(M) - norm) <= 64 * U * norm
    assert norm_above(M) >= Fraction(float(norm)) * (1 - Fraction(64 * U))
    e = numbers[0]
    triangular = np.linalg.norm([[1, e], [0, 1]], 2)
    assert abs(golden(e) - triangular) <= 64 * U * triangular


@given(st.floats(-60000, 60000).filter(lambda x: abs(x) > 2.0**-14 or x == 0))
def test_eleven_bits_are_half_precision(x):
    assert nearest(11, "even")(np.array(x)) == float(np.float16(x))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_all_numbers_of_a_format(bits):
    numbers = all_numbers(bits, -2, 1)
    assert len(numbers) == 3 * 2 ** (bits - 1) + 2
    assert np.all(np.diff(numbers) > 0)
    assert (numbers[1], numbers[-1]) == (0.25, 2)
    assert np.array_equal(nearest(bits, "even")(numbers), numbers)
