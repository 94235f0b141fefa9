"""check_gradients refutes planted mistakes, and nothing that is correct."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from handmade import Array, Example, example
from hypothesis import example as explicit
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn.check import Report
from tinygrad_rnn.check.vacuity import CUSTOMARY_ATOL
from tinygrad_rnn.scalars import rational

PASSES = ("PROVED", "CONSISTENT")
NAMES = ["W_x", "W_h", "b", "h0"]


def check(drawn: Example, mistake: str | None = "", **keywords: Any) -> Report:
    """Check the layer's own backward pass; with None, the engine's."""
    layer, args = drawn
    gradient = None if mistake is None else layer.wrong(mistake)
    return tg.check_gradients(layer.loss, args, gradient=gradient, **keywords)


# ---- planted mistakes -------------------------------------------------------------------------

EVERYWHERE = ["wrong sign", "missing prime", "prime at t-1", "not transposed", "float32 cast"]
LOCAL = {  # and where they show
    "input shifted": ["W_x"],
    "h_t for h_t-1": ["W_h"],
    "bias not summed": ["b"],
    "one entry off": ["W_h"],
    "state gradient zero": ["h0"],
    "state gradient doubled": ["h0"],
    "first step dropped": ["W_x", "W_h", "b"],
    "truncated": NAMES,
}


@pytest.mark.parametrize("mistake", EVERYWHERE)
def test_a_mistake_in_the_sweep_is_refuted(mistake: str) -> None:
    assert check(example(), mistake).verdict == "REFUTED"


@pytest.mark.parametrize("mistake", LOCAL)
@pytest.mark.parametrize("size", [{"T": 5}, {"T": 12}, {"T": 25}, {"T": 40, "seed": 3}], ids=str)
def test_a_local_mistake_is_refuted_and_located(mistake: str, size: dict[str, Any]) -> None:
    assert check(example(**size), mistake).culprits == LOCAL[mistake]


def test_vanished_gradients_are_checked_to_the_last_digits() -> None:
    """The headline: |∂L/∂h_0| is below every customary tolerance, and still its error shows."""
    drawn = example(T=40, gain=0.3)
    (truth,) = [e.expected for e in check(drawn).entries if e.name == "h0"]
    assert truth is not None
    assert 0 < abs(truth) < CUSTOMARY_ATOL
    assert check(drawn).verdict in PASSES
    assert check(drawn, "truncated").culprits == NAMES


def test_an_untransposed_symmetric_matrix_is_no_mistake_but_is_warned_of() -> None:
    layer, args = example()
    args[1] = args[1] + args[1].T
    report = check((layer, args), "not transposed")
    assert report.verdict in PASSES
    assert any("W_h is symmetric" in w for w in report.warnings)


def test_an_all_zero_gradient_of_a_tiny_function_is_refuted() -> None:
    x = np.array([0.3, 1.0, 2.0])
    f = lambda x: 1e-8 * np.sum(np.sin(x))  # noqa: E731
    assert tg.check_gradients(f, [x], gradient=np.zeros_like).culprits == ["x"]
    assert tg.check_gradients(f, [x], gradient=lambda x: 1e-8 * np.cos(x)).verdict in PASSES


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.sampled_from([-1, 1]))
def test_one_entry_off_is_always_refuted(seed: int, k: int, sign: int) -> None:
    layer, args = example(seed, T=4, N=1, D=1, H=2)
    entries = [(i, j) for i, a in enumerate(args) for j in range(a.size)]
    i, j = entries[seed % len(entries)]

    def perturbed(*args: Array) -> tuple[Array, ...]:
        gradient = layer.backward(*args)
        gradient[i].flat[j] *= 1 + sign * 2.0**-k
        return gradient

    report = tg.check_gradients(layer.loss, args, gradient=perturbed)
    assert report.culprits == [NAMES[i]]


# ---- no false alarms --------------------------------------------------------------------------

GAINS = st.sampled_from([0.01, 0.1, 0.5, 1.0, 3.0, 30.0])


@given(
    st.integers(0, 2**32 - 1),
    GAINS,
    st.integers(1, 12),
    st.sampled_from(["tanh", "sigmoid", "relu"]),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from(["", None]),
)
def test_a_correct_gradient_is_never_refuted(
    seed: int, gain: float, T: int, activation: str, dtype: Any, gradient: str | None
) -> None:
    drawn = example(seed, gain=gain, T=T, activation=activation, dtype=dtype)
    assert check(drawn, gradient).verdict != "REFUTED"


@pytest.mark.parametrize("gradient", ["", None], ids=["textbook", "engine"])
@pytest.mark.parametrize(
    "size",
    [
        {"T": 40, "gain": 0.5},
        {"T": 40, "gain": 3.0, "seed": 5, "N": 1},  # saturated: what is left are rounding errors
        {"T": 40, "gain": 2.5 / 8**0.5, "H": 8, "N": 1},  # chaotic
        {"T": 40, "gain": 2.5, "H": 8, "N": 1},
        {"T": 12, "gain": 0.5, "dtype": np.float32},
        {"T": 40, "gain": 0.9, "dtype": np.float32, "activation": "sigmoid"},
        {"T": 40, "gain": 0.7, "activation": "relu"},
        {"T": 200, "gain": 0.2, "N": 1},
    ],
    ids=str,
)
def test_a_correct_layer_passes(size: dict[str, Any], gradient: str | None) -> None:
    report = check(example(**size), gradient)
    assert report.verdict in PASSES, str(report)


def test_a_gradient_near_the_smallest_float_is_checked() -> None:
    """|∂L/∂h_0| is 1e-298, where products of smaller entries have already underflowed."""
    drawn = example(T=215, gain=0.02, N=1)
    report = check(drawn)
    (entry,) = [e for e in report.entries if e.name == "h0"]
    assert entry.expected is not None
    assert -300 < np.log10(abs(entry.expected)) < -295
    assert report.verdict in PASSES
    assert check(drawn, "state gradient doubled").culprits == ["h0"]


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("power", [-1, 1])
def test_scale_does_not_matter(scale: float, power: int) -> None:
    x = scale * np.array([0.5, -1.25, 3.0])
    other = scale ** (-power) * np.array([1.5, 2.5, -0.3])

    def f(x: Array, y: Array) -> Array:
        return np.sum(np.tanh(x * y) * y) if power == 1 else np.sum((x / y) * x)

    assert tg.check_gradients(f, [x, other]).verdict in PASSES
    grads = tg.grad(f, (0, 1))(x, other)
    wrong = (grads[0], grads[1] * (1 + 2.0**-20))
    report = tg.check_gradients(f, [x, other], gradient=lambda *_: wrong)
    assert report.culprits == ["y"]


def test_other_formulas_for_the_same_function_pass() -> None:
    a = np.linspace(-3, 3, 7)
    f = lambda a: np.sum(tg.sigmoid(a) ** 2)  # noqa: E731
    y, t = tg.sigmoid(a), np.tanh(a / 2)
    for formula in (2 * y * y * (1 - y), y * (1 - t * t) / 2, 2 * y * tg.d_sigmoid(a)):
        assert tg.check_gradients(f, [a], gradient=lambda _, g=formula: g).verdict in PASSES


# ---- verdicts that are not about numbers ------------------------------------------------------


def squares(x: Array) -> Array:
    return np.sum(x * x)


X = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    ("gradient", "sentence"),
    [
        (np.array([2.0, np.nan]), "not finite"),
        (np.array([2.0, np.inf]), "not finite"),
        (np.array([2.0]), "shape"),
        (np.array([2.0, 4.0], np.float32), "dtype float64, got float32"),
        (np.array([2, 4]), "dtype"),
        (np.array([2.0 + 0j, 4.0]), "dtype"),
        (None, "no gradient"),
    ],
    ids=str,
)
def test_a_malformed_gradient_is_refuted_with_a_sentence(gradient: Any, sentence: str) -> None:
    report = tg.check_gradients(squares, [X], gradient=lambda _: gradient)
    assert report.culprits == ["x"]
    assert sentence in report.entries[0].reason


def test_exactly_representable_gradients_are_proved() -> None:
    report = tg.check_gradients(squares, [X])
    assert report.verdict == "PROVED"
    assert report.entries[0].ulps == 0


def test_overflow_of_the_true_gradient_is_inconclusive() -> None:
    x = np.array([1e200])
    f = lambda x: np.sum(1e200 * x * x)  # noqa: E731
    with np.errstate(over="ignore"):
        report = tg.check_gradients(f, [x], gradient=lambda x: 1e200 * (2 * x))
    assert report.verdict == "INCONCLUSIVE"
    assert "too large" in report.entries[0].reason


def textbook(x: Array) -> Array:
    """tanh'(x): 0 in floats at 25, where the truth is 8e-22."""
    return 1 - np.tanh(x) ** 2


SATURATED = np.array([25.0])


def test_where_no_digit_is_left_other_arguments_decide() -> None:
    f = lambda x: np.sum(np.tanh(x * x / x))  # noqa: E731
    report = tg.check_gradients(f, [SATURATED], gradient=textbook)
    assert report.verdict == "CONSISTENT"
    assert "right at 0.25 times" in report.entries[0].reason
    assert tg.check_gradients(f, [SATURATED]).verdict in PASSES
    far = tg.check_gradients(f, [SATURATED], gradient=lambda x: textbook(x) + 1e-10)
    assert far.verdict == "REFUTED"


def test_where_no_digit_is_left_a_zero_does_not_pass() -> None:
    f = lambda x: np.sum(np.tanh(x * x / x))  # noqa: E731
    report = tg.check_gradients(f, [SATURATED], gradient=lambda x: 0 * x)
    assert report.verdict == "INCONCLUSIVE"
    assert any("x is REFUTED" in line for line in report.evidence)


def test_where_no_digit_is_left_an_identity_decides() -> None:
    """Over a finite field the two sides are the same polynomial."""
    f = lambda x: np.sum(np.tanh(0.5 * x + 0.5 * x))  # noqa: E731
    report = tg.check_gradients(f, [SATURATED], gradient=textbook)
    assert report.verdict == "CONSISTENT"
    assert "holds for all arguments" in report.entries[0].reason


# ---- what can be passed -----------------------------------------------------------------------


def test_trees_have_names() -> None:
    params = {"W": np.ones((2, 1)), "b": np.zeros(1)}
    state = (np.ones((3, 2)), np.ones(1))

    def f(params: dict[str, Array], state: tuple[Array, ...], labels: Array) -> Array:
        return np.sum(labels * np.tanh(state[0] @ params["W"] + params["b"]) * state[1])

    right = tg.grad(f, (0, 1))(params, state, np.array([[1], [2], [3]]))
    shuffled = {"b": right[0]["b"] * 2, "W": right[0]["W"]}
    report = tg.check_gradients(
        f, [params, state, np.array([[1], [2], [3]])], gradient=lambda *_: (shuffled, right[1])
    )
    assert [e.name for e in report.entries] == ["W", "b", "state[0]", "state[1]"]
    assert report.culprits == ["b"]


def test_equal_keys_are_told_apart() -> None:
    f = lambda encoder, decoder: np.sum(encoder["W"] * decoder["W"])  # noqa: E731
    report = tg.check_gradients(f, [{"W": X}, {"W": X}])
    assert [e.name for e in report.entries] == ["encoder.W", "decoder.W"]


def test_a_pullback_is_checked_for_functions_that_return_arrays() -> None:
    f = lambda x: {"y": np.sin(x), "z": x * x}  # noqa: E731
    right = lambda x, c: c["y"] * np.cos(x) + c["z"] * 2 * x  # noqa: E731
    wrong = lambda x, c: c["y"] * np.cos(x) + c["z"] * x  # noqa: E731
    assert tg.check_gradients(f, [X]).verdict in PASSES
    assert tg.check_gradients(f, [X], gradient=right).verdict in PASSES
    assert tg.check_gradients(f, [X], gradient=wrong).verdict == "REFUTED"


def test_argnums_choose() -> None:
    f = lambda x, y: np.sum(x * y)  # noqa: E731
    for argnums in (1, (1,), -1):
        report = tg.check_gradients(f, [X, X + 1], argnums=argnums, gradient=lambda x, y: (x,))
        assert (report.verdict, [e.name for e in report.entries]) == ("PROVED", ["y"])


def test_rational_layers_are_checked_exactly() -> None:
    x = rational([1, -2, 3]) / 3
    f = lambda x: np.sum(tg.relu(x) * x)  # noqa: E731
    assert tg.check_gradients(f, [x]).verdict == "PROVED"
    off = lambda x: 2 * tg.relu(x) + Fraction(1, 10**30)  # noqa: E731
    assert tg.check_gradients(f, [x], gradient=off).culprits == ["x"]


@pytest.mark.parametrize("at_kink", [Fraction(0), Fraction(1, 3), Fraction(1), Fraction(4, 3)])
def test_rational_kinks(at_kink: Fraction) -> None:
    gradient = np.array([at_kink, Fraction(1)], dtype=object)
    f = lambda x: np.sum(tg.relu(x))  # noqa: E731
    report = tg.check_gradients(f, [rational([0, 1])], gradient=lambda _: gradient)
    assert report.verdict == ("CONSISTENT" if at_kink <= 1 else "REFUTED")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ([np.array([1.0, np.nan])], ValueError),
        ([np.array([1, 2])], ValueError),
        ([np.array([1.0 + 2j])], TypeError),
        ([X, rational([1, 2])], TypeError),
    ],
    ids=str,
)
def test_what_cannot_be_checked_is_said(args: list[Array], error: type[Exception]) -> None:
    with pytest.raises(error):
        tg.check_gradients(lambda *xs: sum(np.sum(x * x) for x in xs), args)


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown oracles"):
        tg.check_gradients(squares, [X], oracles=["autograd"])
    with pytest.raises(ValueError, match="argnums"):
        tg.check_gradients(squares, [X], argnums=1)


# ---- the report -------------------------------------------------------------------------------


def test_vacuous_checks_are_warned_of() -> None:
    layer, args = example(activation="relu")
    args[2][:] = -100  # dead
    args[3][:] = 0
    text = " ".join(check((layer, args)).warnings)
    for sentence in ("h0 is all zero", "relu units are never active", "gradient by W_h is zero"):
        assert sentence in text


def test_what_others_would_not_see_is_noted() -> None:
    (note,) = check(example(T=40, gain=0.3)).infos
    assert "smaller than 1e-05" in note


def test_a_report_can_be_read_by_people_and_programs() -> None:
    report = check(example(), "one entry off")
    assert str(report).startswith("REFUTED")
    assert "W_h[0, 0]" in str(report)
    loaded = json.loads(report.to_json())
    assert (loaded["verdict"], loaded["culprits"]) == ("REFUTED", ["W_h"])
    assert loaded["entries"][1]["index"] == [0, 0]
    json.loads(tg.check_gradients(squares, [X], gradient=lambda _: X * np.nan).to_json())
    with pytest.raises(TypeError, match="verdict"):
        bool(report)


@explicit(0)
@given(st.integers(0, 2**32 - 1))
def test_a_seed_is_a_report(seed: int) -> None:
    f = lambda x: np.sin(x) * x  # noqa: E731
    first, second = (tg.check_gradients(f, [X], seed=seed).to_json() for _ in range(2))
    assert first == second
