"""PyTorch's cells, with the weights mapped, compute the same values and the same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import Array, assert_within, in_floats, lift, problem, seeds, sizes, total

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import split
from tinygrad_rnn.clip import clip_by_norm
from tinygrad_rnn.recurrent import bptt, unroll
from tinygrad_rnn.scalars import Rounded, errors, rounded

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install .[bench]")

PEERS = {
    RNNCell: lambda c: torch.nn.RNN(c.D, c.H, nonlinearity=c.activation),
    GRUCell: lambda c: torch.nn.GRU(c.D, c.H),
    LSTMCell: lambda c: torch.nn.LSTM(c.D, c.H),
}
MAKERS = [
    lambda D, H: RNNCell(D, H),
    lambda D, H: RNNCell(D, H, "relu"),
    lambda D, H: GRUCell(D, H, "reset_after"),
    lambda D, H: LSTMCell(D, H),
]


def mirror(cell: Cell, a: Array) -> Array:
    """Change the sign of the block z of a GRU: PyTorch's z is our 1 − z = σ(−a_z)."""
    if not isinstance(cell, GRUCell):
        return a
    r, z, c = split(a, 3)
    return np.concatenate([r, -z, c], axis=-1)


def to_torch(cell: Cell, params: dict[str, Array]) -> Any:
    """The peer with our weights, which it stores transposed; its second bias is b_h or zero."""
    peer = PEERS[type(cell)](cell).to(torch.float64)
    b_hh = np.zeros_like(params["b"])
    if "b_h" in params:
        b_hh[-cell.H :] = params["b_h"]
    weights = {
        "weight_ih_l0": mirror(cell, params["W_x"]).T,
        "weight_hh_l0": mirror(cell, params["W_h"]).T,
        "bias_ih_l0": mirror(cell, params["b"]),
        "bias_hh_l0": b_hh,
    }
    peer.load_state_dict({name: torch.from_numpy(w.copy()) for name, w in weights.items()})
    return peer


def from_torch(cell: Cell, peer: Any) -> dict[str, Array]:
    d = {name.removesuffix("_l0"): p.grad.numpy() for name, p in peer.named_parameters()}
    gradients = {
        "W_x": mirror(cell, d["weight_ih"].T),
        "W_h": mirror(cell, d["weight_hh"].T),
        "b": mirror(cell, d["bias_ih"]),
    }
    if "b_h" in cell.layout:
        gradients["b_h"] = d["bias_hh"][-cell.H :]
    return gradients


def run_torch(cell: Cell, data: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    peer = to_torch(cell, data["params"])
    leaves = [torch.tensor(a, requires_grad=True) for a in (data["x"], *data["state"])]
    x, *state = leaves
    outputs, final = peer(x, tuple(s[None] for s in state) if len(state) > 1 else state[0][None])
    final = tuple(s[0] for s in final) if len(state) > 1 else (final[0],)
    loss = (outputs * torch.tensor(data["d_outputs"])).sum()
    for s, d in zip(final, data["d_state"], strict=True):
        loss = loss + (s * torch.tensor(d)).sum()
    loss.backward()
    gradients = {
        **from_torch(cell, peer),
        "x": x.grad.numpy(),
        "state": tuple(s.grad.numpy() for s in state),
    }
    return outputs.detach().numpy(), gradients


class Textbook:
    """The cell as PyTorch computes it: z multiplies the old state, h = c + z (h_{t−1} − c)."""

    def __init__(self, cell: GRUCell) -> None:
        self.cell, self.layout, self.check = cell, cell.layout, cell.check
        self.sizes, self.state_names = cell.sizes, cell.state_names

    def step(self, params: Any, x_t: Array, state: Any) -> Any:
        (h,) = state
        _, a_z, a_c, _ = self.cell._gates(params, x_t, h)
        c = np.tanh(a_c)
        return (c + sigmoid(-a_z) * (h - c),)


@given(st.sampled_from(MAKERS), sizes, sizes, st.integers(1, 6), st.integers(1, 3), seeds)
def test_pytorch_agrees(make, D, H, T, N, seed) -> None:
    cell = make(D, H)
    data = problem(cell, T, N, in_floats(np.random.default_rng(seed), 1.0))
    outputs, gradients = run_torch(cell, data)

    lifted = lift(rounded, data)
    ours = unroll(cell, lifted["params"], lifted["x"], lifted["state"]).outputs
    d_ours = bptt(cell, **lifted)
    peer = Textbook(cell) if isinstance(cell, GRUCell) else cell
    with pytest.MonkeyPatch.context() as patch:
        # PyTorch's backward pass takes the derivatives from the values.
        patch.setattr(Rounded, "d_tanh", lambda a: 1 - a.tanh() ** 2)
        patch.setattr(Rounded, "d_sigmoid", lambda a: a.sigmoid() * (1 - a.sigmoid()))
        theirs = unroll(peer, lifted["params"], lifted["x"], lifted["state"]).outputs
        d_theirs = bptt(peer, **lifted)
    mine = unroll(cell, data["params"], data["x"], data["state"]).outputs
    assert_within(outputs, mine, total(errors(ours), errors(theirs)))
    bound = total(lift(errors, d_ours), lift(errors, d_theirs))
    assert_within(gradients, bptt(cell, **data), bound)


@given(
    st.lists(st.integers(-64, 64), min_size=1, max_size=6), st.sampled_from([0.1, 1.0, 5.0, 1e3])
)
def test_epsilon_makes_the_clipping_of_torch(entries: list[int], θ: float) -> None:
    g = np.array(entries, dtype=np.float64)
    p = torch.nn.Parameter(torch.zeros(len(g), dtype=torch.float64))
    p.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_norm_([p], θ)
    bounded = clip_by_norm(rounded(g), θ, 1e-6)
    assert_within(p.grad.numpy(), clip_by_norm(g, θ, 1e-6), 2 * errors(bounded))
