"""Layers in one and in both directions against the same written out step by step."""

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
    assert_same,
    assert_within,
    fill_params,
    fill_state,
    in_field,
    in_floats,
    in_rationals,
    lift,
    seeds,
    sizes,
    total,
)

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff import Tensor, vjp
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.scalars import Rounded, errors, rounded
from tinygrad_rnn.stack import Stack

steps = st.integers(0, 4)
batches = st.integers(1, 3)


@st.composite
def stacks(draw: Any, makers: Any) -> Stack:
    both = draw(st.booleans())
    D, cells = draw(sizes), []
    for make in draw(st.lists(st.sampled_from(makers), min_size=1, max_size=3)):
        cells.append(make(D, draw(sizes)))
        D = (2 if both else 1) * cells[-1].H
    return Stack(cells, both)


def problem(stack: Stack, T: int, N: int, fill: Any) -> dict[str, Any]:
    """The keyword arguments of a stack's bptt, every array filled; tuples where lists may be."""
    each = [cell for cell in stack.cells for _ in range(stack.directions)]
    return {
        "params": tuple(fill_params(cell, fill) for cell in each),
        "x": fill((T, N, stack.cells[0].D)),
        "d_outputs": fill((T, N, stack.directions * stack.cells[-1].H)),
        "state": tuple(fill_state(cell, N, fill) for cell in each),
        "d_state": tuple(fill_state(cell, N, fill) for cell in each),
    }


def written_out(stack: Stack, lengths: Any, params: Any, x: Any, state: Any) -> Any:
    """Every output of every sequence within its length, and all final states."""
    outputs, final = [], []
    for n, L in enumerate(lengths):
        layer, own = [x[t, n : n + 1] for t in range(L)], []
        for i, cell in enumerate(stack.cells):
            seen: list[list[Any]] = [[] for _ in range(L)]
            for k in range(stack.directions):
                j = i * stack.directions + k
                s = tuple(c[n : n + 1] for c in state[j])
                for t in reversed(range(L)) if k else range(L):
                    s = cell.step(params[j], layer[t], s)
                    seen[t].append(s[0])
                own.append(s)
            layer = [np.concatenate(both, axis=1) for both in seen]
        outputs.append(layer)
        final.append(own)
    return outputs, final


def by_the_tape(stack: Stack, lengths: Any, data: Any) -> tuple[Any, dict[str, Any]]:
    """The outputs and final states, zero beyond the lengths, and the gradients of a stack."""
    args = data["params"], data["x"], data["state"]
    (outputs, final), pullback = vjp(lambda *a: written_out(stack, lengths, *a), *args)
    d = data["d_outputs"]
    d_outputs = [[d[t, n : n + 1] for t in range(L)] for n, L in enumerate(lengths)]
    d_final = [
        [tuple(c[n : n + 1] for c in one) for one in data["d_state"]] for n in range(len(lengths))
    ]
    d_params, d_x, d_state = pullback((d_outputs, d_final))
    whole = 0 * d
    for n, rows in enumerate(outputs):
        for t, row in enumerate(rows):
            whole[t, n] = row[0]
    cells = range(len(data["params"]))
    parts = [[own[j] for own in final] for j in cells]
    joined = tuple(tuple(map(np.concatenate, zip(*p, strict=True))) for p in parts)
    return (whole, joined), {"params": d_params, "x": d_x, "state": d_state}


def tuples(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: tuples(part) for name, part in tree.items()}
    return tuple(map(tuples, tree)) if isinstance(tree, (list, tuple)) else tree


def some_lengths(draw: Any, T: int, N: int) -> tuple[Any, list[int]]:
    drawn = draw.draw(st.none() | st.lists(st.integers(0, T), min_size=N, max_size=N))
    return (None, [T] * N) if drawn is None else (np.array(drawn), drawn)


@pytest.mark.parametrize("method", [None, "tape", "chain"])
@pytest.mark.parametrize(
    ("makers", "fill"), [(POLYNOMIAL, in_field), (PIECEWISE_LINEAR, in_rationals)]
)
@given(st.data(), steps, batches, seeds)
def test_layers_are_exact(makers, fill, method, draw, T, N, seed) -> None:
    stack = draw.draw(stacks(makers))
    data = problem(stack, T, N, fill(np.random.default_rng(seed)))
    lengths, known = some_lengths(draw, T, N)
    (outputs, final), gradients = by_the_tape(stack, known, data)
    run = stack.unroll(data["params"], data["x"], data["state"], lengths=lengths)
    assert_same(run.outputs, outputs)
    assert_same(run.final, final)
    got = stack.bptt(**data, method=method, lengths=lengths)
    assert list(got) == ["params", "x", "state"]
    assert_same(tuples(got), tuples(gradients))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(stacks(ALL), steps, batches, seeds, st.data())
def test_kernels_in_layers(dtype, stack, T, N, seed, draw) -> None:
    data = problem(stack, T, N, in_floats(np.random.default_rng(seed), 1.0, dtype))
    lengths, known = some_lengths(draw, T, N)
    lifted = lift(lambda a: rounded(a, dtype), data)
    (outputs, final), gradients = by_the_tape(stack, known, data)
    (bound, final_bound), by_tape = by_the_tape(stack, known, lifted)
    run = stack.unroll(data["params"], data["x"], data["state"], "kernel", lengths)
    for got, wanted, b in ((run.outputs, outputs, bound), (run.final, final, final_bound)):
        assert_within(got, wanted, lift(lambda e: 2 * errors(e), b))
    got = tuples(stack.bptt(**data, method="kernel", lengths=lengths))
    own = tuples(stack.bptt(**lifted, lengths=lengths))
    assert_within(got, tuples(gradients), total(lift(errors, own), lift(errors, tuples(by_tape))))


BOTH = Stack([LSTMCell(2, 3), GRUCell(6, 4)], bidirectional=True)


@given(steps, seeds, st.data())
def test_one_sequence_is_a_batch_without_the_axis(T, seed, draw) -> None:
    data = problem(BOTH, T, 1, in_floats(np.random.default_rng(seed), 1.0))
    L = draw.draw(st.none() | st.integers(0, T))
    lengths = None if L is None else np.array([L])
    one = {k: lift(lambda a: a[0], data[k]) for k in ("state", "d_state")}
    one |= {k: data[k][:, 0] for k in ("x", "d_outputs")}
    whole, single = BOTH.bptt(**data, lengths=lengths), BOTH.bptt(data["params"], **one, lengths=L)
    assert_same(tuples(single["params"]), tuples(whole["params"]))
    assert_same(single["x"], whole["x"][:, 0])
    assert_same(tuples(single["state"]), lift(lambda a: a[0], tuples(whole["state"])))
    args = one["x"], one["state"]
    run = BOTH.unroll(data["params"], *args, lengths=L)
    batch = BOTH.unroll(data["params"], data["x"], data["state"], lengths=lengths)
    assert_same(run.outputs, batch.outputs[:, 0])
    assert_same(run.final, lift(lambda a: a[0], batch.final))


def test_what_lies_beyond_a_sequence_is_never_looked_at() -> None:
    data, lengths = (
        problem(BOTH, 4, 3, in_floats(np.random.default_rng(0), 1.0)),
        np.array([4, 0, 2]),
    )
    first = tuples(BOTH.bptt(**data, lengths=lengths))
    for n, L in enumerate(lengths):
        data["x"][L:, n] = np.nan
        data["d_outputs"][L:, n] = 1e300
    assert_same(tuples(BOTH.bptt(**data, lengths=lengths)), first)


def test_the_state_is_zero_if_left_out() -> None:
    data = problem(BOTH, 4, 2, in_floats(np.random.default_rng(0), 1.0))
    for name in "state", "d_state":
        data[name] = lift(np.zeros_like, data[name])
    few = {name: data[name] for name in ("params", "x", "d_outputs")}
    assert_same(tuples(BOTH.bptt(**few)), tuples(BOTH.bptt(**data)))


def test_checkpoints_change_nothing() -> None:
    data = problem(BOTH, 600, 2, in_floats(np.random.default_rng(0), 0.5))
    for lengths in (None, np.array([600, 450])):
        whole = BOTH.bptt(**data, lengths=lengths)
        assert_same(tuples(BOTH.bptt(**data, lengths=lengths, checkpoint=1)), tuples(whole))


@pytest.mark.parametrize("method", ["kernel", "tape"])
@pytest.mark.parametrize("lengths", [None, np.array([4, 1])])
def test_unroll_on_tensors_differentiates(method, lengths) -> None:
    data = problem(BOTH, 4, 2, in_floats(np.random.default_rng(0), 1.0))
    args = tuple(lift(Tensor, data[name]) for name in ("params", "x", "state"))
    run = BOTH.unroll(*args, method, lengths)
    loss = np.sum(run.outputs * data["d_outputs"])
    for s, d in zip(run.final, data["d_state"], strict=True):
        loss = loss + sum(np.sum(a * b) for a, b in zip(s, d, strict=True))
    loss.backward()
    lifted = tuples(BOTH.bptt(**lift(rounded, data), lengths=lengths))
    bound = lift(lambda a: 2 * errors(a), lifted)
    got = dict(
        zip(("params", "x", "state"), (lift(lambda t: t.grad, a) for a in args), strict=True)
    )
    assert_within(got, tuples(BOTH.bptt(**data, lengths=lengths)), bound)


# ---- PyTorch ----------------------------------------------------------------------------------


@given(st.integers(1, 5), seeds, st.data())
def test_pytorch_agrees(T, seed, draw) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install .[bench]")
    stack, N = Stack([LSTMCell(2, 3), LSTMCell(6, 3)], bidirectional=True), 3
    lengths = np.array(draw.draw(st.lists(st.integers(1, T), min_size=N, max_size=N)))
    lengths[0] = T
    data = problem(stack, T, N, in_floats(np.random.default_rng(seed), 1.0))
    peer = torch.nn.LSTM(2, 3, num_layers=2, bidirectional=True).to(torch.float64)
    ends = ("l0", "l0_reverse", "l1", "l1_reverse")
    weights = {}
    for end, p in zip(ends, data["params"], strict=True):
        weights[f"weight_ih_{end}"], weights[f"weight_hh_{end}"] = p["W_x"].T, p["W_h"].T
        weights[f"bias_ih_{end}"], weights[f"bias_hh_{end}"] = p["b"], 0 * p["b"]
    peer.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
    x = torch.tensor(data["x"], requires_grad=True)
    h, c = (
        torch.tensor(np.stack([s[k] for s in data["state"]]), requires_grad=True) for k in (0, 1)
    )
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    packed, final = peer(packed, (h, c))
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=T)
    loss = (outputs * torch.tensor(data["d_outputs"])).sum()
    for k, s in enumerate(final):
        loss = loss + (s * torch.tensor(np.stack([d[k] for d in data["d_state"]]))).sum()
    loss.backward()
    d = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    theirs = {
        "params": tuple(
            {"W_x": d[f"weight_ih_{e}"].T, "W_h": d[f"weight_hh_{e}"].T, "b": d[f"bias_ih_{e}"]}
            for e in ends
        ),
        "x": x.grad.numpy(),
        "state": tuple(zip(h.grad.numpy(), c.grad.numpy(), strict=True)),
    }
    lifted = lift(rounded, data)
    bounds = [lift(errors, tuples(stack.bptt(**lifted, lengths=lengths)))]
    with pytest.MonkeyPatch.context() as patch:  # PyTorch takes the derivatives from the values
        patch.setattr(Rounded, "d_tanh", lambda a: 1 - a.tanh() ** 2)
        patch.setattr(Rounded, "d_sigmoid", lambda a: a.sigmoid() * (1 - a.sigmoid()))
        bounds.append(lift(errors, tuples(stack.bptt(**lifted, lengths=lengths))))
    mine = stack.unroll(data["params"], data["x"], data["state"], lengths=lengths).outputs
    exact = stack.unroll(lifted["params"], lifted["x"], lifted["state"], lengths=lengths).outputs
    assert_within(outputs.detach().numpy(), mine, 2 * errors(exact))
    assert_within(theirs, tuples(stack.bptt(**data, lengths=lengths)), total(*bounds))


# ---- refusals ---------------------------------------------------------------------------------


def test_layers_fit_on_each_other() -> None:
    with pytest.raises(ValueError, match="at least one cell"):
        Stack([])
    with pytest.raises(ValueError, match=r"cell 1 must have D = 6, .* cell 0 puts out, got D = 3"):
        Stack([RNNCell(2, 3), RNNCell(3, 3)], bidirectional=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"params": BOTH.init(0)[:2]},
            "params must be a list with an entry for each of 4 .* got 2",
        ),
        ({"params": BOTH.init(0)[0]}, "params must be a list .* got dict"),
        ({"state": ()}, "state must be a list .* got 0"),
        ({"d_state": ()}, "d_state must be a list .* got 0"),
        ({"lengths": np.array([5, 1])}, "lengths must be integers from 0 to T = 4"),
        ({"x": np.ones(4), "lengths": np.array([5, 1])}, r"x must have shape \(T, N, D\)"),
        ({"d_outputs": np.ones((4, 2, 4))}, r"d_outputs must have shape \(4, 2, 8\)"),
    ],
)
def test_a_stack_refuses(wrong, message) -> None:
    data = problem(BOTH, 4, 2, in_floats(np.random.default_rng(0), 1.0))
    with pytest.raises(ValueError, match=message):
        BOTH.bptt(**{**data, **wrong})


def test_it_is_public() -> None:
    assert (tg.Stack, tg.StackRun) == (Stack, tg.stack.StackRun)
