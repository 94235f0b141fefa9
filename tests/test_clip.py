from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from problems import arrays, assert_same, assert_within, lift, total

from tinygrad_rnn import Tensor, clip_by_norm, clip_by_value, clip_one_sided, global_norm
from tinygrad_rnn.scalars import (
    Ball,
    assert_exact,
    ball,
    encloses,
    errors,
    precision,
    rational,
    rounded,
    values,
)

CLIPS = [clip_by_norm, clip_by_value, clip_one_sided]
TINY = np.nextafter(0.0, 1.0)


def entries(shape):
    """Numbers of many sizes, none subnormal even times 2^-800."""
    mantissa = hnp.arrays(np.int64, shape, elements=st.integers(-64, 64))
    exponent = hnp.arrays(np.int64, shape, elements=st.integers(-20, 20))
    return st.builds(lambda m, e: np.ldexp(m.astype(float), e), mantissa, exponent)


trees = st.fixed_dictionaries(
    {"W_h": entries((2, 2)), "b": entries(3), "state": st.tuples(entries((1, 2)))}
)
thresholds = st.sampled_from([2.0**-30, 0.1, 1.0, 3.0, 1000.0, 2.0**40])


# ---- by norm ------------------------------------------------------------------------------------


@given(trees, thresholds)
def test_the_norm_is_the_root_of_the_sum_of_squares(g, θ) -> None:
    by_hand = np.sqrt(sum((a * a).sum() for a in arrays(lift(rounded, g)).values()))
    own = global_norm(lift(rounded, g))
    bound = total(errors(own), errors(by_hand))
    assert_within(global_norm(g), values(by_hand), bound)


@given(trees, thresholds)
def test_all_arrays_are_scaled_by_one_factor(g, θ) -> None:
    clipped = clip_by_norm(g, θ)
    bounded = lift(rounded, g)
    norm = np.sqrt(sum((a * a).sum() for a in arrays(bounded).values()))
    if norm.value <= θ:
        assert_same(clipped, g)
        return
    by_hand = lift(lambda a: a * (θ / norm), bounded)
    own = clip_by_norm(bounded, θ)
    assert_within(clipped, lift(values, by_hand), total(lift(errors, own), lift(errors, by_hand)))


@given(trees, thresholds, st.sampled_from([1e-6, 1.0, 2.0**-40, 2.0**30]))
def test_epsilon_is_added_to_the_norm(g, θ, ε) -> None:
    bounded = lift(rounded, g)
    norm = np.sqrt(sum((a * a).sum() for a in arrays(bounded).values())) + ε
    if norm.value <= θ:
        assert_same(clip_by_norm(g, θ, ε), g)
        return
    by_hand = lift(lambda a: a * (θ / norm), bounded)
    own = clip_by_norm(bounded, θ, ε)
    bound = total(lift(errors, own), lift(errors, by_hand))
    assert_within(clip_by_norm(g, θ, ε), lift(values, by_hand), bound)


def test_epsilon_beside_the_largest_and_the_smallest_floats() -> None:
    huge = np.array([3.0, -4.0]) * 2.0**1021
    assert clip_by_norm(huge, 5.0, 1e-6).tolist() == [3.0, -4.0]
    tiny = np.array([3.0, -4.0]) * TINY
    assert clip_by_norm(tiny, 0.5, 1.0).tolist() == [2 * TINY, -2 * TINY]  # 3/2 ties to even
    assert clip_by_norm(np.zeros(2), TINY, 1.0).tolist() == [0, 0]
    assert clip_by_norm(tiny, 1.0, 1e-6) is tiny
    exact = clip_by_norm(rational([3, 4]), 2, Fraction(1, 3))
    assert exact.tolist() == [Fraction(9, 8), Fraction(3, 2)]


@pytest.mark.parametrize(
    ("epsilon", "error", "message"),
    [
        (-1e-6, ValueError, "epsilon must not be negative, got -1e-06"),
        (np.nan, ValueError, "epsilon must be finite, got nan"),
        (np.inf, ValueError, "epsilon must be finite, got inf"),
        ("1e-6", TypeError, "epsilon must be one number"),
    ],
)
def test_an_epsilon_that_is_none_is_refused(epsilon, error, message) -> None:
    with pytest.raises(error, match=message):
        clip_by_norm(np.ones(2), 1, epsilon)


@given(trees, thresholds, st.integers(-800, 800))
def test_no_power_of_two_changes_anything_but_the_scale(g, θ, k) -> None:
    """The squares of these numbers over- and underflow; the clipped ones have the same digits."""

    def scaled(a):
        return np.ldexp(a, k)

    assert_same(clip_by_norm(lift(scaled, g), scaled(θ)), lift(scaled, clip_by_norm(g, θ)))
    assert global_norm(lift(scaled, g)) == scaled(global_norm(g))


@given(trees, thresholds, st.integers(-800, 800))
def test_the_direction_does_not_depend_on_the_size(g, θ, k) -> None:
    """Clipping 2^k g to θ is clipping g to 2^-k θ, in other words the same multiple of g."""
    clipped = clip_by_norm(lift(lambda a: np.ldexp(a, k), g), θ)
    other = clip_by_norm(g, np.ldexp(θ, -k))
    assert_same(clipped, lift(lambda a: np.ldexp(a, k), other))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_and_the_smallest_floats(dtype) -> None:
    info = np.finfo(dtype)
    huge = np.array([info.max, -info.max])
    half = clip_by_norm(huge, 1)
    assert half.dtype == dtype
    assert half[0] == -half[1]
    # 1/√2 ≤ 1 is off by at most two squares, a sum, two roots, a quotient, a factor and a product.
    assert np.abs(half[0] - np.sqrt(0.5)) <= 4 * info.eps
    tiny = np.array([3 * info.smallest_subnormal, 4 * info.smallest_subnormal])
    assert global_norm(tiny) == 5 * np.float64(info.smallest_subnormal)
    assert clip_by_norm(tiny, 1) is tiny


def test_a_norm_beyond_all_floats_is_infinite_and_still_clipped() -> None:
    huge = np.full(9, 2.0**1023)
    assert global_norm(huge) == np.inf
    assert np.all(clip_by_norm(huge, 3 * 2.0**1000) == 2.0**1000)


def test_the_norm_of_single_precision_is_summed_in_double() -> None:
    g = np.float32([1, 2**-13])  # 1 + 2^-26 is 1 in single precision
    assert global_norm(g) == np.sqrt(1 + 2.0**-26)


def test_nothing_to_clip() -> None:
    on_the_sphere = np.array([3.0, -4.0])
    assert clip_by_norm(on_the_sphere, 5) is on_the_sphere
    for empty in ({}, [], np.zeros((0, 3)), {"W": None}):
        assert global_norm(empty) == 0
    zero = {"W": np.zeros((2, 2), np.float32)}
    assert clip_by_norm(zero, TINY)["W"] is zero["W"]
    assert clip_by_norm({}, 1) == {}


@pytest.mark.parametrize("clip", CLIPS)
@given(trees, thresholds)
def test_what_comes_in_is_left_as_it_was(clip, g, θ) -> None:
    before = lift(np.copy, g)
    clip(g, θ)
    assert_same(g, before)


# ---- number systems -----------------------------------------------------------------------------


@pytest.mark.parametrize("θ", [2.5, Fraction(5, 2), rational(2.5)])
def test_fractions_whose_norm_is_rational_are_clipped_exactly(θ) -> None:
    clipped = clip_by_norm({"W": rational([[3]]), "b": rational([4])}, θ)
    assert_same(clipped, {"W": rational([[1.5]]), "b": rational([2])})
    inside = clip_by_norm(rational([0.6]), θ)
    assert_same(inside, rational([0.6]))
    for a in (*arrays(clipped).values(), inside):
        assert_exact(a)


def test_an_irrational_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the norm √\(2\) is irrational\. Use floats or balls"):
        clip_by_norm(rational([1, 1]), 1)


@given(hnp.arrays(float, 3, elements=st.integers(-8, 8).map(float)), thresholds)
def test_balls_enclose(g, θ) -> None:
    with precision(128):
        enclosure = clip_by_norm(ball(g), θ)
        squares = (enclosure * enclosure).sum()
        if g @ g <= Fraction(θ) ** 2:
            assert encloses(enclosure, g).all()
        else:
            assert encloses(squares, Fraction(θ) ** 2)
            # A ball around a norm of exactly θ is clipped to a ball, not refused.
            assert encloses(clip_by_norm(enclosure, θ) - enclosure, 0).all()


@pytest.mark.parametrize("clip", [clip_by_value, clip_one_sided])
@pytest.mark.parametrize("system", [rational, ball, rounded])
def test_an_entry_is_replaced_by_a_number_of_its_own_system(clip, system) -> None:
    g = system([0.25, 3, -4])
    clipped = clip(g, 0.5)
    assert {type(e) for e in clipped} == {type(g[0])}
    assert np.all(clipped == system(clip(np.array([0.25, 3, -4]), 0.5)))


def test_a_ball_around_the_threshold_is_not_guessed() -> None:
    with pytest.raises(ArithmeticError, match="cannot be decided"):
        clip_by_value(np.array([Ball(1, radius=0.5)]), 1)


# ---- by value -----------------------------------------------------------------------------------


@given(trees, thresholds)
def test_two_one_sided_clips_make_a_two_sided_one(g, θ) -> None:
    def minus(tree):
        return lift(np.negative, tree)

    assert_same(clip_by_value(g, θ), minus(clip_one_sided(minus(clip_one_sided(g, θ)), θ)))


@given(trees, thresholds)
def test_by_value_every_entry_ends_in_the_box_and_moves_no_further(g, θ) -> None:
    for before, after in zip(arrays(g).values(), arrays(clip_by_value(g, θ)).values(), strict=True):
        assert np.all(np.abs(after) <= θ)
        assert np.all(after[np.abs(before) <= θ] == before[np.abs(before) <= θ])
        assert np.all(after[np.abs(before) > θ] == (θ * np.sign(before))[np.abs(before) > θ])


def test_the_rule_of_the_notes_lets_a_large_negative_gradient_through() -> None:
    g = np.array([-1000.0, 0.05, 1000.0])
    assert clip_one_sided(g, 0.1).tolist() == [-1000.0, 0.05, 0.1]
    assert clip_by_value(g, 0.1).tolist() == [-0.1, 0.05, 0.1]
    assert clip_one_sided(g, -1).tolist() == [-1000.0, -1.0, -1.0]


@pytest.mark.parametrize("clip", CLIPS)
def test_precision_is_kept(clip) -> None:
    g = [np.full(2, 3, np.float32), np.full((1, 1), -4, np.float32)]
    for θ in (1, 0.1, np.float64(0.1), Fraction(1, 3), np.array(0.1)):
        assert {a.dtype for a in clip(g, θ)} == {np.dtype(np.float32)}


# ---- refusals -----------------------------------------------------------------------------------

G = np.ones(2)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("gradients", "threshold", "error", "message"),
    [
        (G, np.inf, ValueError, "threshold must be finite, got inf"),
        (G, np.nan, ValueError, "threshold must be finite, got nan"),
        (G, np.float32(np.inf), ValueError, "threshold must be finite, got inf"),
        (G, None, TypeError, "threshold must be one number, got None"),
        (G, "1", TypeError, "threshold must be one number, got '1'"),
        (G, G, TypeError, "threshold must be one number"),
        (G * np.nan, 1, ValueError, r"the gradient must be finite, got nan at index \(0,\)"),
        ({"W": G, "b": G * np.inf}, 1, ValueError, "gradient 1 must be finite, got inf"),
        (np.ones(2, int), 1, TypeError, "the gradient has dtype int64"),
        (G * 1j, 1, TypeError, "the gradient is complex; clipping needs real gradients"),
        ([G, G.astype(np.float32)], 1, TypeError, "gradient 0 is float64 but gradient 1 is"),
        ([G, rational([1])], 1, TypeError, "gradient 0 holds floats but gradient 1 exact numbers"),
        ([Tensor(G)], 1, TypeError, "clipping takes arrays, got a Tensor"),
    ],
)
def test_refusals(clip, gradients, threshold, error, message) -> None:
    with pytest.raises(error, match=message):
        clip(gradients, threshold)


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize("threshold", [0, -1.0, Fraction(-1, 2)])
@pytest.mark.parametrize("gradients", [G, rational([3, 4]), {}])
def test_a_threshold_that_is_not_positive_is_refused(clip, threshold, gradients) -> None:
    with pytest.raises(ValueError, match="threshold must be positive, got"):
        clip(gradients, threshold)
