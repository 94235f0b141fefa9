from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import assert_within, seeds, sizes, total

from tinygrad_rnn.activations import log_softmax, softmax
from tinygrad_rnn.autodiff import grad, sigmoid
from tinygrad_rnn.losses import binary_cross_entropy, cross_entropy, squared_error
from tinygrad_rnn.scalars import GF, errors, field, rational, rounded, values

logits = st.lists(st.floats(-30, 30), min_size=1, max_size=5).map(np.array)


@given(logits, seeds)
def test_binary_cross_entropy_is_the_notes_formula(z, seed) -> None:
    y = np.random.default_rng(seed).uniform(size=z.shape)

    def notes(z, y):
        return -np.sum(y * np.log(sigmoid(z)) + (1 - y) * np.log(1 - sigmoid(z)))

    ours, theirs = (loss(rounded(z), rounded(y)) for loss in (binary_cross_entropy, notes))
    bound = total(errors(ours), errors(theirs), errors(theirs))
    assert_within(binary_cross_entropy(z, y), values(theirs), bound)


@given(logits, seeds)
def test_its_gradient_is_sigma_minus_y(z, seed) -> None:
    y = np.random.default_rng(seed).uniform(size=z.shape)
    assert np.all(grad(binary_cross_entropy)(z, y) == sigmoid(z) - y)


@pytest.mark.parametrize("z", [1e300, -1e300])
def test_binary_cross_entropy_never_overflows(z) -> None:
    z = np.array([z])
    assert binary_cross_entropy(z, np.array([z[0] > 0])) == 0
    assert binary_cross_entropy(z, np.array([z[0] < 0])) == 1e300


def problem(N, C, seed):
    """Logits with maximum 0, where the shift of log_softmax changes nothing, and probabilities."""
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(N, C))
    return z - z.max(axis=1, keepdims=True), softmax(rng.normal(size=(N, C)))


@given(sizes, sizes, seeds)
def test_cross_entropy_is_the_notes_formula(N, C, seed) -> None:
    z, q = problem(N, C, seed)

    def notes(z, q):
        return -np.sum(q * np.log(np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)))

    ours, theirs = (loss(rounded(z), rounded(q)) for loss in (cross_entropy, notes))
    bound = total(errors(ours), errors(theirs), errors(theirs))
    assert_within(cross_entropy(z, q), values(theirs), bound)


@given(sizes, sizes, seeds)
def test_labels_are_one_hot_rows(N, C, seed) -> None:
    z, _ = problem(N, C, seed)
    labels = np.random.default_rng(seed).integers(C, size=N)
    one_hot = np.eye(C)[labels]
    by_label, by_row = (cross_entropy(rounded(z), q) for q in (labels, rounded(one_hot)))
    bound = total(errors(by_label), errors(by_row))
    assert_within(cross_entropy(z, labels), cross_entropy(z, one_hot), bound)


@given(sizes, sizes, seeds)
def test_the_gradient_of_cross_entropy_is_softmax_minus_q(N, C, seed) -> None:
    z, q = problem(N, C, seed)

    def formula(z, q):  # for rows that sum to one; in floats they do so within C roundings
        return softmax(z) * np.sum(q, axis=1, keepdims=True) - q

    engine = grad(cross_entropy)
    ours, theirs = (g(rounded(z), rounded(q)) for g in (engine, formula))
    assert_within(engine(z, q), formula(z, q), total(errors(ours), errors(theirs)))


@pytest.mark.parametrize("loss", [squared_error, binary_cross_entropy])
def test_numbers_and_lists_are_arrays(loss) -> None:
    assert loss([1.0], [0.5]) == loss(1.0, 0.5) == loss(np.array([1.0]), np.array([0.5]))


def test_squared_error_runs_on_every_number_system() -> None:
    p, t = rational([1, Fraction(1, 3)]), rational([0, 1])
    assert squared_error(p, t) == 1 + Fraction(4, 9)
    assert np.all(grad(squared_error)(p, t) == 2 * (p - t))
    x = field((3,), np.random.default_rng(0))
    assert squared_error(x, 0 * x) == x @ x
    assert isinstance(squared_error(x, 0 * x), GF)
    assert squared_error(np.float32([1, 2]), np.array([0, 0])).dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_kept(dtype) -> None:
    z = np.ones((2, 3), dtype)
    labels = np.array([0, 2])
    assert binary_cross_entropy(z, z > 0).dtype == dtype
    assert cross_entropy(z, labels).dtype == dtype
    assert cross_entropy(z, np.eye(3, dtype=dtype)[labels]).dtype == dtype


Z = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("loss", "args", "error", "message"),
    [
        (binary_cross_entropy, (Z, np.zeros(3)), ValueError, r"y must have the shape \(2, 3\)"),
        (binary_cross_entropy, (Z, Z - 0.5), ValueError, r"y must lie in \[0, 1\]"),
        (binary_cross_entropy, (Z, Z + np.nan), ValueError, "y must be finite"),
        (binary_cross_entropy, (Z, Z.astype(np.float32)), TypeError, "y is float32"),
        (cross_entropy, (Z, np.array([0, 3])), ValueError, "class numbers from 0 to C − 1 = 2"),
        (cross_entropy, (Z, np.array([0, -1])), ValueError, "class numbers from 0 to C − 1 = 2"),
        (cross_entropy, (Z, np.zeros((2, 3), int)), ValueError, "for one-hot rows use floats"),
        (cross_entropy, (Z, Z[0]), ValueError, r"labels must have the shape \(2, 3\)"),
        (cross_entropy, (Z, Z), ValueError, "must be probabilities, ≥ 0 with sum 1"),
        (
            cross_entropy,
            (Z, np.tile([2.0, -1.0, 0.0], (2, 1))),
            ValueError,
            "must be probabilities",
        ),
        (cross_entropy, (np.zeros((2, 0)), np.zeros(2, int)), ValueError, "C ≥ 1 classes"),
        (cross_entropy, (np.float64(0), 0), ValueError, "C ≥ 1 classes"),
        (binary_cross_entropy, (Z + np.inf, Z), ValueError, "logits must be finite, got inf"),
        (cross_entropy, (Z + np.nan, np.zeros(2, int)), ValueError, "logits must be finite"),
        (squared_error, (np.ones(3, int), np.ones(3)), TypeError, "prediction has dtype int64"),
        (squared_error, (Z, Z[0]), ValueError, r"target must have the shape \(2, 3\)"),
    ],
)
def test_refusals(loss, args, error, message) -> None:
    with pytest.raises(error, match=message):
        loss(*args)


def test_log_softmax_of_one_class_costs_nothing() -> None:
    assert cross_entropy(np.array([[5.0]]), np.array([0])) == 0
    assert np.all(log_softmax(np.array([[5.0]])) == 0)
