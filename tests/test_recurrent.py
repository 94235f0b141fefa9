"""Trajectories, and the roads of backpropagation through time against the sum they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import (
    ALL,
    PIECEWISE_LINEAR,
    POLYNOMIAL,
    arrays,
    assert_same,
    assert_within,
    cells,
    in_field,
    in_floats,
    in_rationals,
    lengths_of_time,
    lift,
    problem,
    seeds,
    total,
)

from tinygrad_rnn.autodiff import Tensor, vjp
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.recurrent import bptt, contributions, unroll
from tinygrad_rnn.scalars import assert_exact, ball, errors, rational, rounded

ROADS = ("tape", "chain")
both_roads = pytest.mark.parametrize("method", ROADS)
batches = st.integers(1, 3)


def sequence(data: dict[str, Any], n: int, T: int) -> dict[str, Any]:
    """Sequence n of a problem, cut to T steps, without the axis N."""
    return {
        "params": data["params"],
        "x": data["x"][:T, n],
        "d_outputs": data["d_outputs"][:T, n],
        "state": tuple(s[n] for s in data["state"]),
        "d_state": tuple(d[n] for d in data["d_state"]),
    }


# ---- trajectories -----------------------------------------------------------------------------


@given(cells(POLYNOMIAL), lengths_of_time, batches, seeds)
def test_unroll_repeats_the_step(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    params, x, state = data["params"], data["x"], data["state"]
    run = unroll(cell, params, x, state)
    assert run.outputs.shape == (T, N, cell.H)
    assert all(s.shape == (T + 1, N, cell.H) for s in run.states)
    assert_same(tuple(s[0] for s in run.states), state)
    for t in range(T):
        state = cell.step(params, x[t], state)
        assert_same(tuple(s[t + 1] for s in run.states), state)
        assert_same(run.outputs[t], state[0])
    assert_same(run.final, state)


@given(cells(ALL), lengths_of_time, batches, seeds)
def test_one_sequence_is_a_batch_without_the_axis(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_rationals(np.random.default_rng(seed)))
    data = lift(lambda a: a.astype(float), data)
    one = sequence(data, 0, T)
    kept = {**lift(lambda a: a, one), "params": data["params"]}
    batch = {
        **kept,
        "x": one["x"][:, None],
        "d_outputs": one["d_outputs"][:, None],
        "state": lift(lambda s: s[None], one["state"]),
        "d_state": lift(lambda d: d[None], one["d_state"]),
    }
    run = unroll(cell, one["params"], one["x"], one["state"])
    whole = unroll(cell, batch["params"], batch["x"], batch["state"])
    assert_same(run.outputs, whole.outputs[:, 0])
    assert_same(run.states, lift(lambda s: s[:, 0], whole.states))
    assert_same(run.final, lift(lambda s: s[0], whole.final))
    for method in ROADS:
        g, G = bptt(cell, **one, method=method), bptt(cell, **batch, method=method)
        assert_same(g, {**G, "x": G["x"][:, 0], "state": lift(lambda s: s[0], G["state"])})
    assert_same(contributions(cell, **one), contributions(cell, **batch))


@pytest.mark.parametrize("make", ALL)
def test_the_state_is_zero_if_left_out(make) -> None:
    cell = make(2, 3)
    params, x, d_outputs = cell.init(0), np.ones((4, 5, 2)), np.ones((4, 5, 3))
    zero = cell.initial_state(5)
    assert_same(unroll(cell, params, x).states, unroll(cell, params, x, zero).states)
    for method in ROADS:
        assert_same(
            bptt(cell, params, x, d_outputs, method=method),
            bptt(cell, params, x, d_outputs, zero, method, d_state=zero),
        )


@given(cells(POLYNOMIAL), lengths_of_time, batches, seeds)
def test_unroll_on_tensors_differentiates(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))

    def outcome(params, x, state):
        run = unroll(cell, params, x, state)
        return run.outputs, run.final

    _, pullback = vjp(outcome, data["params"], data["x"], data["state"])
    d_params, d_x, d_initial = pullback((data["d_outputs"], data["d_state"]))
    assert_same({**d_params, "x": d_x, "state": d_initial}, bptt(cell, **data, method="chain"))


# ---- backpropagation through time -------------------------------------------------------------


def by_the_double_sum(cell: Cell, data: dict[str, Any], truncate: int | None) -> dict[str, Any]:
    """Σ_t Σ_{i ≤ t, t−i < k} δ_t J_t ⋯ J_{i+1} ∂⁺state_i, written out."""
    params, x, H = data["params"], data["x"], cell.H
    T = len(x)
    states = unroll(cell, params, x, data["state"]).states
    gradients = {name: 0 * p for name, p in params.items()}
    gradients["x"] = 0 * x
    d_initial = 0 * np.concatenate(data["state"], axis=1)
    final = np.concatenate(data["d_state"], axis=1)
    if T == 0:
        d_initial = final
    for t in range(1, T + 1):
        row = 0 * final
        row[:, :H] = row[:, :H] + data["d_outputs"][t - 1]
        if t == T:
            row = row + final
        k = t if truncate is None else min(t, truncate)
        for i in range(t, t - k, -1):
            before = tuple(s[i - 1] for s in states)
            d_state = tuple(row[:, j * H : (j + 1) * H] for j in range(len(states)))
            for name, term in cell.local(params, x[i - 1], before, d_state).items():
                if name == "x":
                    gradients["x"][i - 1] = gradients["x"][i - 1] + term
                else:
                    gradients[name] = gradients[name] + term
            row = (row[:, None] @ cell.jacobian(params, x[i - 1], before))[:, 0]
        if k == t:
            d_initial = d_initial + row
    gradients["state"] = tuple(d_initial[:, j * H : (j + 1) * H] for j in range(len(states)))
    return gradients


@both_roads
@given(cells(POLYNOMIAL), lengths_of_time, batches, seeds, st.none() | st.integers(1, 7))
def test_bptt_is_the_double_sum(method, cell, T, N, seed, truncate) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    gradients = bptt(cell, **data, method=method, truncate=truncate)
    assert list(gradients) == [*cell.layout, "x", "state"]
    assert_same(gradients, by_the_double_sum(cell, data, truncate))


@both_roads
@given(cells(PIECEWISE_LINEAR), lengths_of_time, batches, seeds, st.none() | st.integers(1, 7))
def test_bptt_is_exact_over_the_rationals(method, cell, T, N, seed, truncate) -> None:
    data = problem(cell, T, N, in_rationals(np.random.default_rng(seed)))
    gradients = bptt(cell, **data, method=method, truncate=truncate)
    for a in arrays(gradients).values():
        assert_exact(a)
    assert_same(gradients, by_the_double_sum(cell, data, truncate))


@given(cells(POLYNOMIAL), lengths_of_time, batches, seeds)
def test_a_long_window_truncates_nothing(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    for method in ROADS:
        full = bptt(cell, **data, method=method)
        assert_same(bptt(cell, **data, method=method, truncate=max(T, 1)), full)
        if T > 1:
            short = bptt(cell, **data, method=method, truncate=T - 1)
            assert np.any(short["W_h"] != full["W_h"])


@both_roads
@given(cells(POLYNOMIAL), st.integers(0, 4), batches, seeds, st.data())
def test_lengths_cut_each_sequence(method, cell, T, N, seed, draw) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    lengths = draw.draw(st.lists(st.integers(0, T), min_size=N, max_size=N))
    truncate = draw.draw(st.none() | st.integers(1, 3))
    got = bptt(cell, **data, method=method, truncate=truncate, lengths=np.array(lengths))
    expected = {name: 0 * p for name, p in data["params"].items()}
    for n, L in enumerate(lengths):
        one = sequence(data, n, L)
        part = bptt(cell, **one, method=method, truncate=truncate)
        assert_same(bptt(cell, **sequence(data, n, T), method=method, truncate=truncate, lengths=L),
                    {**part, "x": got["x"][:, n]})  # fmt: skip
        for name in expected:
            expected[name] = expected[name] + part[name]
        assert_same(got["x"][:L, n], part["x"])
        assert_same(got["x"][L:, n], 0 * data["x"][L:, n])
        assert_same(tuple(s[n] for s in got["state"]), part["state"])
    assert_same({name: got[name] for name in expected}, expected)


@given(cells(POLYNOMIAL), lengths_of_time, batches, seeds)
def test_contributions_are_gradients_of_untied_copies(cell, T, N, seed) -> None:
    data = problem(cell, T, N, in_field(np.random.default_rng(seed)))
    terms = contributions(cell, **data)
    assert {name: a.shape for name, a in terms.items()} == {
        name: (T, *shape) for name, shape in cell.shapes.items()
    }
    gradients = bptt(cell, **data)
    for name, term in terms.items():
        assert_same(sum(term, 0 * data["params"][name]), gradients[name])

    def untied(copies):
        state, outputs = data["state"], []
        for params, x_t in zip(copies, data["x"], strict=True):
            state = cell.step(params, x_t, state)
            outputs.append(state[0])
        return outputs, state

    _, pullback = vjp(untied, [dict(data["params"]) for _ in range(T)])
    if T > 0:
        (each,) = pullback((list(data["d_outputs"]), data["d_state"]))
        assert_same(terms, {name: np.stack([g[name] for g in each]) for name in terms})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(cells(ALL), lengths_of_time, batches, seeds, st.sampled_from([0.1, 1.0, 3.0]))
def test_the_roads_agree_in_floats(dtype, cell, T, N, seed, gain) -> None:
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), gain, dtype))
    lifted = lift(lambda a: rounded(a, dtype), data)
    tape, chain = (bptt(cell, **data, method=method) for method in ROADS)
    assert all(a.dtype == dtype for g in (tape, chain) for a in arrays(g).values())
    bounds = (lift(errors, bptt(cell, **lifted, method=method)) for method in ROADS)
    assert_within(tape, chain, total(*bounds))


@given(cells(ALL), st.integers(1, 6), batches, seeds)
def test_the_roads_overlap_in_balls(cell, T, N, seed) -> None:
    data = lift(ball, problem(cell, T, N, in_floats(np.random.default_rng(seed), 1.0)))
    tape, chain = (arrays(bptt(cell, **data, method=method)) for method in ROADS)
    for name in tape:
        pairs = zip(tape[name].flat, chain[name].flat, strict=True)
        assert all(a.arb.overlaps(b.arb) for a, b in pairs), name


@given(cells(POLYNOMIAL), st.integers(6, 12), batches, seeds)
def test_a_vanishing_gradient_is_still_right(cell, T, N, seed) -> None:
    # The loss is on the last step and the weights are small: the gradient of x_1 is far below any
    # absolute tolerance. The derived bound is further below: a gradient of zero would be refuted.
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), 0.05))
    data["d_outputs"][:-1] = 0
    del data["d_state"]
    lifted = lift(rounded, data)
    tape, chain = (bptt(cell, **data, method=method)["x"] for method in ROADS)
    bound = total(*(errors(bptt(cell, **lifted, method=method)["x"]) for method in ROADS))
    assert_within(tape, chain, bound)
    assert np.any(np.abs(tape[0]) > bound[0])


# ---- behaviour --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ALL)
@both_roads
def test_a_second_call_gives_the_same_and_changes_nothing(make, method) -> None:
    cell = make(2, 3)
    rng = np.random.default_rng(0)
    data = problem(cell, 5, 2, in_floats(rng, 1.0))
    copy = lift(np.copy, data)
    first = bptt(cell, **data, method=method, lengths=np.array([5, 3]))
    assert_same(first, bptt(cell, **data, method=method, lengths=np.array([5, 3])))
    for a in arrays(first).values():
        a += 1  # the results are the caller's own
    assert_same(data, copy)


@both_roads
def test_complex_numbers_pass_through(method) -> None:
    # ∂h_2/∂h_0 = w² for the linear cell, without a conjugate.
    cell = RNNCell(1, 1, "identity")
    params = {"W_x": np.ones((1, 1)), "W_h": np.array([[2 + 1j]]), "b": np.zeros(1)}
    g = bptt(cell, params, np.zeros((2, 1)), np.array([[0.0], [1.0]]), method=method)
    assert g["state"][0].item() == (2 + 1j) ** 2


def test_the_notes_sum_for_a_linear_unit() -> None:
    # o_t = w o_{t−1} + x: ∂o_3/∂w = o_2 + w o_1 + w² o_0, step j contributing w^{3−j} o_{j−1}.
    cell = RNNCell(1, 1, "identity")
    params = {"W_x": rational([[1]]), "W_h": rational([[0.5]]), "b": rational([0])}
    x, d_outputs, o_0 = rational([[1], [1], [1]]), rational([[0], [0], [1]]), (rational([8]),)
    terms = contributions(cell, params, x, d_outputs, o_0)["W_h"].ravel()
    assert terms.tolist() == [2, rational(2.5).item(), rational(3.5).item()]


def test_unroll_returns_tensors_for_tensors() -> None:
    cell = LSTMCell(2, 3)
    w = {name: Tensor(p) for name, p in cell.init(0).items()}
    run = unroll(cell, w, np.ones((4, 5, 2)))
    assert isinstance(run.outputs, Tensor)
    assert all(isinstance(s, Tensor) for s in (*run.states, *run.final))
    loss = np.sum(run.outputs)
    loss.backward()
    g = bptt(cell, cell.init(0), np.ones((4, 5, 2)), np.ones((4, 5, 3)))
    assert_same({name: t.grad for name, t in w.items()}, {name: g[name] for name in w})


# ---- refusals ---------------------------------------------------------------------------------

CELL = LSTMCell(2, 3)
GOOD = problem(CELL, 4, 5, in_floats(np.random.default_rng(0), 1.0))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"x": np.ones(3)}, ValueError, r"\(T, N, D\), or \(T, D\) for one sequence, got \(3,\)"),
        ({"x": np.ones((4, 5, 3))}, ValueError,
         r"x must have shape \(T, N, D\) = \(4, 5, 2\), got \(4, 5, 3\)"),
        ({"x": np.ones((4, 0, 2))}, ValueError, "at least one sequence"),
        ({"x": np.ones((4, 5, 2), np.float32)}, TypeError,
         r"x is float32 but W_x is float64.*Cast one of them, e.g. W_x with .astype\('float32'\)"),
        ({"x": np.ones((4, 5, 2), int)}, TypeError, r"x has dtype int64.*Cast it, e.g. with"),
        ({"x": rational(np.ones((4, 5, 2)))}, TypeError, "W_x holds floats but x exact numbers"),
        ({"x": np.full((4, 5, 2), np.nan)}, ValueError,
         r"x must be finite, got nan at index \(0, 0, 0\)"),
        ({"params": {**GOOD["params"], "b": np.full(12, np.inf)}}, ValueError, "b must be finite"),
        ({"params": {}}, ValueError, "missing: W_x, W_h, b; unknown: none"),
        ({"state": GOOD["state"][0]}, TypeError, r"state must be the tuple \(h, c\), got ndarray"),
        ({"state": GOOD["state"][:1]}, TypeError, r"state must be the tuple \(h, c\), got 1 of"),
        ({"state": (np.ones((5, 3)), np.ones((5, 4)))}, ValueError,
         r"state c must have shape \(N, H\) = \(5, 3\), got \(5, 4\)"),
        ({"method": "magic"}, ValueError, "method must be one of 'tape'"),
    ],
)  # fmt: skip
def test_both_refuse(wrong, error, message) -> None:
    data = {**GOOD, **wrong}
    with pytest.raises(error, match=message):
        bptt(CELL, **data)
    del data["d_outputs"], data["d_state"]
    with pytest.raises(error, match=message):
        unroll(CELL, **data)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"d_outputs": np.ones((4, 5, 2))}, ValueError,
         r"d_outputs must have shape \(T, N, H\) = \(4, 5, 3\), got \(4, 5, 2\)"),
        ({"d_outputs": np.ones((4, 5, 3), np.float32)}, TypeError, "d_outputs is float32"),
        ({"d_outputs": np.full((4, 5, 3), np.inf)}, ValueError, "d_outputs must be finite"),
        ({"d_state": (None,)}, TypeError, r"d_state must be the tuple \(h, c\), got 1 of them"),
        ({"d_state": (None, np.ones(3))}, ValueError, r"d_state c must have shape \(N, H\)"),
        ({"truncate": 0}, ValueError, "truncate must be None or an integer ≥ 1, got 0"),
        ({"truncate": 1.5}, ValueError, r"truncate must be None or an integer ≥ 1, got 1.5"),
        ({"lengths": np.ones(4, int)}, ValueError, r"lengths must have shape \(N,\) = \(5,\)"),
        ({"lengths": np.ones(5)}, ValueError, "lengths must be integers from 0 to T = 4"),
        ({"lengths": np.full(5, 5)}, ValueError, "lengths must be integers from 0 to T = 4"),
        ({"lengths": np.full(5, -1)}, ValueError, "lengths must be integers from 0 to T = 4"),
        ({"x": Tensor(np.ones((4, 5, 2)))}, TypeError, "bptt takes arrays, got a Tensor"),
    ],
)  # fmt: skip
def test_bptt_refuses(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        bptt(CELL, **{**GOOD, **wrong})


def test_one_sequence_has_its_own_messages() -> None:
    cell = GRUCell(2, 3)
    params = cell.init(0)
    with pytest.raises(ValueError, match=r"x must have shape \(T, D\) = \(4, 2\), got \(4, 3\)"):
        unroll(cell, params, np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"state h must have shape \(H,\) = \(3,\), got \(1, 3\)"):
        unroll(cell, params, np.ones((4, 2)), (np.ones((1, 3)),))
    with pytest.raises(ValueError, match=r"lengths must have shape \(\) = \(\), got \(1,\)"):
        bptt(cell, params, np.ones((4, 2)), np.ones((4, 3)), lengths=np.array([4]))


def test_overflow_is_never_silent() -> None:
    cell = RNNCell(1, 1, "identity")
    params = {"W_x": np.ones((1, 1)), "W_h": np.full((1, 1), 1e200), "b": np.zeros(1)}
    with pytest.warns(RuntimeWarning, match="overflow"):
        unroll(cell, params, np.ones((4, 1)))
