"""Backpropagation through time by us, PyTorch and JAX, and the GEMMs that nobody can avoid.

A contender is made from a `Case` and gives two functions: one that is timed, and one that turns its
result into our dictionary of gradients.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg

Array = Any
Gradients = dict[str, Any]
Contender = tuple[Callable[[], Any], Callable[[Any], Gradients]]

CELLS: dict[str, Callable[[int, int], Any]] = {
    "rnn": tg.RNNCell,
    "gru": lambda D, H: tg.GRUCell(D, H, variant="reset_after"),  # the one that PyTorch has
    "lstm": tg.LSTMCell,
}


class Case(NamedTuple):
    kind: str
    cell: Any
    params: dict[str, Array]
    x: Array  # (T, N, D)
    d_outputs: Array  # (T, N, H)
    state: tuple[Array, ...]  # (N, H)


def random_case(kind: str, T: int, N: int, D: int, H: int, dtype: str) -> Case:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype, copy=False)

    cell = CELLS[kind](D, H)
    params = {name: normal(*shape) / np.sqrt(H, dtype=dtype) for name, shape in cell.shapes.items()}
    state = tuple(normal(N, H) for _ in cell.state_names)
    return Case(kind, cell, params, normal(T, N, D), normal(T, N, H), state)


def ours(case: Case) -> Contender:
    return lambda: tg.bptt(*case[1:], method="kernel"), dict


# ---- PyTorch ----------------------------------------------------------------------------------


def mirrored(a: Array) -> Array:
    """Change the sign of the update gate's block: PyTorch's z is our 1 − z."""
    H = a.shape[-1] // 3
    return np.concatenate([a[..., :H], -a[..., H : 2 * H], a[..., 2 * H :]], axis=-1)


def by_torch(case: Case) -> Contender:
    torch = importlib.import_module("torch")
    kind, cell, params, x, d_outputs, state = case
    turn = mirrored if kind == "gru" else np.asarray
    W_x, W_h, b = (turn(params[name]) for name in ("W_x", "W_h", "b"))
    b_h = np.zeros_like(b)
    if kind == "gru":
        b_h[2 * cell.H :] = params["b_h"]
    layer = getattr(torch.nn, kind.upper())(cell.D, cell.H, dtype=torch.from_numpy(x).dtype)
    with torch.no_grad():
        for parameter, a in zip(layer.parameters(), (W_x.T, W_h.T, b, b_h), strict=True):
            parameter.copy_(torch.from_numpy(np.array(a)))
    x, *initial = (torch.from_numpy(a).requires_grad_() for a in (x, *(s[None] for s in state)))
    leaves = [*layer.parameters(), x, *initial]
    d_outputs = torch.from_numpy(d_outputs)
    first = tuple(initial) if kind == "lstm" else initial[0]

    def run() -> Any:
        outputs, _ = layer(x, first)
        return torch.autograd.grad(outputs, leaves, d_outputs)

    def gradients(result: Any) -> Gradients:
        d_W_x, d_W_h, d_b, d_b_h, d_x, *d_state = (d.numpy() for d in result)
        named = {"W_x": turn(d_W_x.T), "W_h": turn(d_W_h.T), "b": turn(d_b)}
        if kind == "gru":
            named["b_h"] = d_b_h[2 * cell.H :]
        return {**named, "x": d_x, "state": tuple(d[0] for d in d_state)}

    return run, gradients


# ---- JAX --------------------------------------------------------------------------------------


def by_jax(case: Case) -> Contender:
    """The gradient of a scan, compiled; the input projections are one product before it."""
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)  # leaves float32 alone
    jnp, sigmoid = jax.numpy, jax.nn.sigmoid

    def rnn(params: Any, a: Any, state: Any) -> Any:
        (h,) = state
        return (jnp.tanh(a + h @ params["W_h"]),)

    def gru(params: Any, a: Any, state: Any) -> Any:
        (h,) = state
        a_r, a_z, a_c = jnp.split(a, 3, axis=-1)
        u_r, u_z, u_c = jnp.split(h @ params["W_h"], 3, axis=-1)
        z = sigmoid(a_z + u_z)
        c = jnp.tanh(a_c + sigmoid(a_r + u_r) * (u_c + params["b_h"]))
        return (z * c + (1 - z) * h,)

    def lstm(params: Any, a: Any, state: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(a + h @ params["W_h"], 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        return sigmoid(o) * jnp.tanh(c), c

    step = {"rnn": rnn, "gru": gru, "lstm": lstm}[case.kind]

    def loss(params: Any, x: Any, state: Any, d_outputs: Any) -> Any:
        def body(state: Any, a_t: Any) -> Any:
            state = step(params, a_t, state)
            return state, state[0]

        _, outputs = jax.lax.scan(body, state, x @ params["W_x"] + params["b"])
        return jnp.vdot(outputs, d_outputs)

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2)))
    arguments = jax.device_put((case.params, case.x, case.state, case.d_outputs))

    def gradients(result: Any) -> Gradients:
        d_params, d_x, d_state = jax.tree.map(np.asarray, result)
        return {**d_params, "x": d_x, "state": d_state}

    return lambda: jax.block_until_ready(gradient(*arguments)), gradients


# ---- the floor --------------------------------------------------------------------------------


def floor(case: Case) -> Callable[[], None]:
    """The matrix products alone, by NumPy's BLAS, into arrays that exist already.

    One for all input projections; at each step one forward and one backward; then one each for the
    gradients by W_x, W_h and x.
    """
    x, W_x, W_h = case.x, case.params["W_x"], case.params["W_h"]
    T, N, D = x.shape
    H, G = W_h.shape
    x = x.reshape(T * N, D)
    h, a, d_x, h_t, d_h_t, a_t, d_W_x, d_W_h = (
        np.ones(shape, x.dtype)
        for shape in ((T * N, H), (T * N, G), (T * N, D), (N, H), (N, H), (N, G), (D, G), (H, G))
    )
    back = np.ascontiguousarray(W_h.T)  # a transposed view took half as long again

    def run() -> None:
        np.dot(x, W_x, out=a)
        for _ in range(T):
            np.dot(h_t, W_h, out=a_t)
        for _ in range(T):
            np.dot(a_t, back, out=d_h_t)
        np.dot(x.T, a, out=d_W_x)
        np.dot(h.T, a, out=d_W_h)
        np.dot(a, W_x.T, out=d_x)

    return run
