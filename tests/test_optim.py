"""Optimisers: their algebra on fractions, exactly; PyTorch's within the rounding error."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Array, arrays, assert_same, assert_within, in_floats, lift, seeds, total

from tinygrad_rnn import SGD, Adam, RNNCell, Stack, Tensor, bptt, clip_by_norm, optim
from tinygrad_rnn.scalars import assert_exact, errors, rational, rounded

OPTIMISERS = [
    SGD(0.125),
    SGD(0.125, momentum=0.75),
    SGD(0.125, clip=0.5, momentum=0.5),
    Adam(0.125),
    Adam(0.125, clip=0.5, beta1=0.5, beta2=0.75),
]
each = pytest.mark.parametrize("optimiser", OPTIMISERS, ids=repr)
quarters = st.integers(-16, 16).map(lambda k: k / 4)
vectors = st.lists(quarters, min_size=2, max_size=2).map(np.array)
sequences = st.lists(vectors, min_size=1, max_size=5)


def run(optimiser: Any, params: Any, gradients: list[Any]) -> Any:
    memory = optimiser.init(params)
    for g in gradients:
        params, memory = optimiser.step(params, g, memory)
    return params


# ---- the algebra, exactly -----------------------------------------------------------------------


@given(vectors, sequences, st.sampled_from([Fraction(1, 3), 0.5]))
def test_sgd_adds_up_the_gradients(start, gradients, rate) -> None:
    x = run(SGD(rate), rational(start), [rational(g) for g in gradients])
    assert_exact(x)
    assert_same(x, rational(start) - Fraction(rate) * rational(sum(gradients)))


@given(vectors, sequences, st.sampled_from([Fraction(1, 3), 0.5]))
def test_momentum_weighs_a_gradient_by_the_steps_that_follow(start, gradients, μ) -> None:
    """A gradient that k more steps follow has moved x by η (1 + μ + … + μᵏ)."""
    x = run(SGD(0.25, momentum=μ), rational(start), [rational(g) for g in gradients])
    μ, by_hand = Fraction(μ), rational(start)
    for k, g in enumerate(reversed(gradients)):
        by_hand = by_hand - Fraction(1, 4) * (1 - μ ** (k + 1)) / (1 - μ) * rational(g)
    assert_same(x, by_hand)


def test_momentum_of_zero_is_none() -> None:
    x, g = np.ones(2), [np.array([1.0, -2.0]), np.array([0.5, 4.0])]
    assert_same(run(SGD(0.25), x, g), run(SGD(0.25, momentum=0), x, g))
    assert SGD(0.25).init(x)["arrays"] == ()


@given(vectors, vectors, st.integers(1, 6), st.sampled_from([0, 0.5, Fraction(9, 10)]))
def test_adam_with_one_gradient_moves_by_its_sign(start, g, steps, β) -> None:
    """The corrected means are then exactly g and g², so a step is η g/(|g| + ε)."""
    adam = Adam(Fraction(1, 8), beta1=β, beta2=Fraction(99, 100), epsilon=Fraction(1, 4))
    x = run(adam, rational(start), [rational(g)] * steps)
    assert_exact(x)
    g = rational(g)
    assert_same(x, rational(start) - steps * Fraction(1, 8) * g / (abs(g) + Fraction(1, 4)))


@given(st.sampled_from([3, -3, Fraction(3, 2)]), st.sampled_from([4, -4]))
def test_adam_forgets_by_its_rates(first, second) -> None:
    """After 0 and then a, ŝ = a² (1 − β₂)/(1 − β₂²) = a²/(1 + β₂), whose root is rational here."""
    adam = Adam(1, beta1=Fraction(1, 2), beta2=Fraction(9, 16), epsilon=Fraction(1, 5))
    zero, a = rational([0]), rational([first * second])
    x = run(adam, zero, [zero, a])
    mean = a / 2 / (1 - Fraction(1, 4))
    root = abs(a) * Fraction(4, 5)
    assert_same(x, -mean / (root + Fraction(1, 5)))


@given(sequences)
def test_clipping_comes_first(gradients) -> None:
    tree = [{"W": g[:1], "b": g[1:]} for g in gradients]
    start = {"W": np.ones(1), "b": np.ones(1)}
    for clipped, free in ((SGD(0.25, clip=1.5, momentum=0.5), SGD(0.25, momentum=0.5)),
                          (Adam(0.25, clip=1.5), Adam(0.25))):  # fmt: skip
        by_hand = run(free, start, [clip_by_norm(g, 1.5) for g in tree])
        assert_same(run(clipped, start, tree), by_hand)


# ---- trees --------------------------------------------------------------------------------------


@each
def test_nothing_that_came_in_changes(optimiser) -> None:
    params = {"W": np.ones((2, 2)), "state": (np.ones(3),)}
    gradients = {"W": np.full((2, 2), 2.0), "state": (np.full(3, -1.0),)}
    memory = optimiser.init(params)
    trees = params, gradients, memory["arrays"]
    before = [lift(np.copy, tree) for tree in trees]
    for tree in trees:
        lift(lambda a: a.setflags(write=False), tree)
    moved, _ = optimiser.step(params, gradients, memory)
    assert memory["steps"] == 0
    for tree, copy in zip(trees, before, strict=True):
        assert_same(tree, copy)
    assert not any(np.shares_memory(moved["W"], p) for p in (params["W"], gradients["W"]))
    again, _ = optimiser.step(params, gradients, memory)
    assert_same(again, moved)


@each
def test_precision_is_kept(optimiser) -> None:
    params = {"b": np.ones(2, np.float32)}
    memory = optimiser.init(params)
    scheduled = type(optimiser)(lambda t: np.float64(0.1), clip=optimiser.clip)
    for o in (optimiser, scheduled):
        moved, kept = o.step(params, {"b": np.full(2, 0.3, np.float32)}, o.init(params))
        assert moved["b"].dtype == np.float32
        assert {a.dtype for a in arrays(kept["arrays"]).values()} <= {np.dtype(np.float32)}
    assert all(not np.any(a) for a in arrays(memory["arrays"]).values())


@each
def test_scalars_and_empty_arrays(optimiser) -> None:
    params = {"x": np.array(1.0), "none": np.zeros((0, 3)), "nothing": None}
    moved = run(optimiser, params, [{**params, "x": np.array(2.0)}] * 2)
    assert moved["x"].shape == ()
    assert moved["x"] < 1
    assert moved["none"].shape == (0, 3)
    assert moved["nothing"] is None
    assert run(optimiser, {}, [{}]) == {}


def test_gradients_of_bptt_come_as_they_are() -> None:
    """What is no parameter is left out, of the norm as well."""
    cell, rng = RNNCell(2, 3), np.random.default_rng(0)
    params, x, d = cell.init(rng), rng.normal(size=(4, 1, 2)), rng.normal(size=(4, 1, 3))
    gradients = bptt(cell, params, x, d)
    own = {name: gradients[name] for name in params}
    sgd = SGD(0.5, clip=0.25)
    assert_same(run(sgd, params, [gradients]), run(sgd, params, [own]))


def test_a_stack_learns() -> None:
    stack, rng = Stack([RNNCell(1, 4), RNNCell(4, 1)]), np.random.default_rng(0)
    params, x = stack.init(rng), rng.normal(size=(6, 8, 1))
    wanted = np.cumsum(x, axis=0) / 8

    def loss(p: Any) -> float:
        return float(np.sum((stack.unroll(p, x).outputs - wanted) ** 2))

    for optimiser in (SGD(0.01, clip=1.0, momentum=0.5), Adam(0.01)):
        p, memory = params, optimiser.init(params)
        for _ in range(30):
            d = 2 * (stack.unroll(p, x).outputs - wanted)
            p, memory = optimiser.step(p, stack.bptt(p, x, d)["params"], memory)
        assert loss(p) < loss(params)


# ---- schedules ----------------------------------------------------------------------------------


@each
def test_a_schedule_gives_each_step_its_rate(optimiser) -> None:
    rates = [0.5, 0.25, 2.0]
    schedule = type(optimiser)(**{**vars(optimiser), "rate": rates.__getitem__})
    x = y = np.array([1.0, -2.0])
    memory = schedule.init(x)
    for rate in rates:
        y, _ = type(optimiser)(**{**vars(optimiser), "rate": rate}).step(y, x / 4, memory)
        x, memory = schedule.step(x, x / 4, memory)
        assert_same(x, y)


def test_schedules_on_fractions_are_exact() -> None:
    third = Fraction(1, 3)
    assert optim.exponential(third, third, every=2)(5) == third**3
    assert optim.inverse_time(third, 4)(2) == Fraction(2, 9)
    assert optim.warmup(optim.exponential(third, third), 4)(1) == third**2 / 2
    assert optim.warmup(third, 4)(4) == third


def test_cosine_falls_from_the_rate_to_the_final() -> None:
    rates = [optim.cosine(1.0, 16, final=0.25)(t) for t in range(20)]
    assert rates[0] == 1
    assert rates[16:] == [0.25] * 4
    assert all(a > b for a, b in pairwise(rates[:17]))


# ---- in floats ----------------------------------------------------------------------------------


@given(seeds, st.sampled_from([2.0**-300, 1.0, 2.0**300]))
def test_adams_steps_do_not_depend_on_the_size_of_the_gradients(seed, size) -> None:
    """A power of two cancels, but for ε, which is so small here that it rounds away."""
    rng = np.random.default_rng(seed)
    gradients = list(rng.normal(size=(4, 3)))
    adam = Adam(0.125, epsilon=2.0**-1022)
    assert_same(
        run(adam, np.ones(3), gradients), run(adam, np.ones(3), [size * g for g in gradients])
    )


@pytest.mark.parametrize("optimiser", [o for o in OPTIMISERS if not o.clip], ids=repr)
@given(seeds, st.integers(1, 4))
def test_pytorch_agrees(optimiser, seed, steps) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install .[bench]")
    fill = in_floats(np.random.default_rng(seed), 2.0)
    params = {"W": fill((2, 2)), "b": fill((2,))}
    gradients = [{"W": fill((2, 2)), "b": fill((2,))} for _ in range(steps)]
    leaves = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    peer = (
        torch.optim.SGD(leaves.values(), optimiser.rate, momentum=optimiser.momentum)
        if isinstance(optimiser, SGD)
        else torch.optim.Adam(
            leaves.values(), optimiser.rate, (optimiser.beta1, optimiser.beta2), optimiser.epsilon
        )
    )
    for g in gradients:
        for name, leaf in leaves.items():
            leaf.grad = torch.tensor(g[name])
        peer.step()
    theirs = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    ours = run(optimiser, lift(rounded, params), [lift(rounded, g) for g in gradients])
    peers = lift(rounded, params)
    memory = {name: (0 * p, 0 * p) for name, p in peers.items()}
    for t, g in enumerate(gradients, 1):
        for name, p in peers.items():
            peers[name], memory[name] = as_pytorch(optimiser, t, p, rounded(g[name]), memory[name])
    bound = total(lift(errors, ours), lift(errors, peers))
    assert_within(theirs, run(optimiser, params, gradients), bound)


def as_pytorch(optimiser: Any, t: int, p: Array, g: Array, memory: Any) -> Any:
    """A step in the formulas of PyTorch, on numbers that bound the rounding error."""
    if isinstance(optimiser, SGD):
        velocity = optimiser.momentum * memory[0] + g
        return p - optimiser.rate * velocity, (velocity, velocity)
    one = rounded([1.0])
    β1, β2 = optimiser.beta1 * one, optimiser.beta2 * one
    mean = memory[0] + (1 - β1) * (g - memory[0])
    square = β2 * memory[1] + (1 - β2) * g * g
    down = np.sqrt(square) / np.sqrt(1 - β2**t) + optimiser.epsilon
    return p - optimiser.rate * one / (1 - β1**t) * (mean / down), (mean, square)


# ---- refusals -----------------------------------------------------------------------------------

P = {"W": np.ones(2)}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SGD(0.1, momentum=1.0), ValueError, "momentum must be at least 0 and less than 1"),
        (lambda: SGD(0.1, momentum=-0.5), ValueError, "momentum must be .* got -0.5"),
        (lambda: Adam(0.1, beta1=1.0), ValueError, "beta1 must be"),
        (lambda: Adam(0.1, beta2=np.nan), ValueError, "beta2 must be finite, got nan"),
        (lambda: Adam(0.1, epsilon=0.0), ValueError, "epsilon must be positive, got 0.0"),
        (lambda: Adam(0.1, epsilon="1"), TypeError, "epsilon must be one number, got '1'"),
        (lambda: run(SGD(0.0), P, [P]), ValueError, "rate must be positive, got 0.0 at step 1"),
        (lambda: run(SGD(None), P, [P]), TypeError, "rate must be one number, got None"),
        (lambda: run(SGD(lambda t: 1 - t), P, [P] * 3), ValueError, "got 0 at step 2"),
        (lambda: run(SGD(0.1, clip=0), P, [P]), ValueError, "threshold must be positive"),
        (lambda: run(SGD(0.1), P, [{"b": P["W"]}]), ValueError, "gradients must have an entry for"),
        (lambda: run(SGD(0.1), [P, P], [[P]]), ValueError, "must have a list of 2 entries"),
        (lambda: run(SGD(0.1), P, [{"W": np.ones(3)}]), ValueError, "gradient 0 must be like its"),
        (lambda: run(SGD(0.1), P, [{"W": np.ones(2, np.float32)}]), ValueError, "got float32"),
        (
            lambda: run(SGD(0.1), P, [{"W": np.ones(2) * np.nan}]),
            ValueError,
            "gradient 0 must be f",
        ),
        (lambda: run(SGD(0.1), P, [{"W": np.ones(2, int)}]), TypeError, "gradient 0 has dtype int"),
        (lambda: run(SGD(0.1), {"W": np.ones(2) * 1j}, [P]), TypeError, "parameter 0 is complex"),
        (lambda: run(SGD(0.1), P, [{"W": Tensor(P["W"])}]), TypeError, "gradient 0 is a Tensor"),
        (lambda: SGD(0.1).step(P, P, None), TypeError, r"memory must come from init\(params\)"),
        (
            lambda: Adam(0.1).step(P, P, SGD(0.1).init(P)),
            ValueError,
            "the memory of parameter 0 is that of other parameters or of another optimiser",
        ),
        (
            lambda: SGD(0.1, momentum=0.5).step(
                P, P, SGD(0.1, momentum=0.5).init({"W": np.ones(3)})
            ),
            ValueError,
            "the memory of parameter 0 is that of other parameters",
        ),
        (
            lambda: run(SGD(1e300), P, [{"W": np.full(2, 1e300)}]),
            ValueError,
            "step 1 of parameter 0 overflows. Use a smaller rate, or clip",
        ),
        (lambda: run(Adam(0.1), P, [{"W": np.full(2, 1e200)}]), ValueError, "step 1 .* overflows"),
        (
            lambda: run(
                Adam(1, beta2=Fraction(1, 2)), rational([0]), [rational([1]), rational([3])]
            ),
            ValueError,
            "is irrational",
        ),
    ],
)
def test_refusals(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()


def test_an_optimiser_is_a_value() -> None:
    assert SGD(0.1, momentum=0.5) == SGD(0.1, momentum=0.5)
    assert len({Adam(0.1), Adam(0.1), Adam(0.2)}) == 2
    with pytest.raises(TypeError):
        SGD(0.1, 0.9)  # a momentum, for PyTorch
    with pytest.raises(AttributeError):
        SGD(0.1).rate = 0.2  # type: ignore[misc]
