"""Layers of PyTorch and JAX as the check knows layers, and the check as items of pytest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from tinygrad_rnn.cells import Cell
from tinygrad_rnn.check.layer.conform import pose, question_of_layout
from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.functions import Array


def torch_layer(module: Any) -> TorchLayer:
    """Make a layer of a PyTorch module or function; its backward pass is autograd.

    Parameters
    ----------
    module
        A module like nn.RNN, nn.GRU or nn.LSTM, of one layer and one direction: called as
        ``module(x, state)`` it returns ``(hs, state)``, where states have a leading axis of length
        1. Its parameters have PyTorch's names, also with something before or after them, as in
        ``g.weight_ih`` or ``rnn.weight_ih_l0``; or you give a :class:`LayerMap` of your own.
        Or a function ``f(params, x, *state)`` of tensors that returns hs or the tuple (hs, h_T[,
        c_T]), for instance one that calls an ``autograd.Function``.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If a module of PyTorch has several layers, two directions or projections; and where the
        layout ``map`` is asked for, if the names of the parameters do not tell it.

    Examples
    --------
    The layout of a module comes with the layer::

        import torch
        import tinygrad_rnn as tg

        layer = tg.check.torch_layer(torch.nn.LSTM(3, 4))
        report = tg.check_layer(layer, tg.LSTMCell(3, 4), map=layer.map)
        assert report.verdict == "CONSISTENT"
    """
    return TorchLayer(_installed("torch", "torch_layer"), module)


class TorchLayer:
    """What :func:`torch_layer` returns."""

    def __init__(self, torch: Any, module: Any) -> None:
        self.name, self.module = torch.__name__, module
        self.is_module = isinstance(module, torch.nn.Module)
        if self.is_module:
            for part in module.modules():
                if isinstance(part, torch.nn.RNNBase):
                    _refuse_more_than_a_cell(part)

    @property
    def map(self) -> LayerMap:
        """The layout of a module."""
        return _torch_map(self.module) if self.is_module else LayerMap()

    def forward(self, params: Mapping[str, Array], x: Array, *state: Array) -> Any:
        """Run the module on tensors that require gradients."""
        torch = import_module(self.name)
        leaves = {
            name: torch.tensor(np.ascontiguousarray(a)).requires_grad_()
            for name, a in (*params.items(), ("x", x), *zip(("h0", "c0"), state, strict=False))
        }
        weights = {name: leaves[name] for name in params}
        states = [leaves[name] for name in ("h0", "c0")[: len(state)]]
        if self.is_module:
            own = [name for name, _ in self.module.named_parameters()]
            if set(own) != set(weights):  # else the module would use its own in their place
                raise ValueError(
                    f"the module has the parameters {', '.join(own)}, "
                    f"got {', '.join(weights)}: give map=layer.map, or a LayerMap with its names"
                )
            first = [s[None] for s in states]
            given = tuple(first) if len(first) > 1 else first[0]
            hs, last = torch.func.functional_call(self.module, weights, (leaves["x"], given))
            lasts = last if isinstance(last, tuple) else (last,)
            outputs: Any = (hs, *(s[0] for s in lasts))
        else:
            outputs = self.module(weights, leaves["x"], *states)
        tensors = outputs if isinstance(outputs, tuple) else (outputs,)
        values = tuple(t.detach().numpy().copy() for t in tensors)
        return values if isinstance(outputs, tuple) else values[0], (tensors, leaves)

    def backward(self, d_outputs: Any, cache: Any) -> dict[str, Array]:
        """Return autograd's gradients."""
        torch = import_module(self.name)
        tensors, leaves = cache
        given = d_outputs if isinstance(d_outputs, tuple) else (d_outputs,)
        used = [
            (t, torch.tensor(np.ascontiguousarray(d)))
            for t, d in zip(tensors, given, strict=True)
            if d is not None
        ]
        found = torch.autograd.grad(
            [t for t, _ in used],
            list(leaves.values()),
            [d for _, d in used],
            retain_graph=True,
            allow_unused=True,
        )
        return {
            name: np.zeros(tuple(leaf.shape)) if g is None else g.numpy()
            for (name, leaf), g in zip(leaves.items(), found, strict=True)
        }


def _refuse_more_than_a_cell(module: Any) -> None:
    usual = {"num_layers": 1, "bidirectional": False, "proj_size": 0, "bias": True}
    unusual = {n: getattr(module, n) for n, v in usual.items() if getattr(module, n) != v}
    if unusual:
        given = ", ".join(f"{name}={value}" for name, value in unusual.items())
        raise ValueError(
            f"torch_layer takes one layer, in one direction, with biases and no projection; got "
            f"{type(module).__name__}({given}). Check it as a whole: tg.check_backward."
        )


def _torch_map(module: Any) -> LayerMap:
    """Recognise PyTorch's names of parameters, and the GRU by the number of gates."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    found = {}
    for stem in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        names = [n for n in shapes if n.rpartition(".")[2] in (stem, f"{stem}_l0")]
        if len(names) != 1:
            raise ValueError(
                f"the module must have one parameter whose name ends with {stem}, to tell the "
                f"layout; it has {', '.join(shapes) or 'none'}. Give map=tg.LayerMap(names=…)."
            )
        (found[stem],) = names
    wide, H = shapes[found["weight_hh"]]
    order = (part.batch_first for part in module.modules() if hasattr(part, "batch_first"))
    return LayerMap(
        {"W_x": found["weight_ih"], "W_h": found["weight_hh"], "b": found["bias_ih"]},
        transposed=True,
        second_bias=found["bias_hh"],
        mirrored=wide == 3 * H,
        batch_first=bool(next(order, False)),
    )


def jax_layer(f: Callable[..., Any]) -> JaxLayer:
    """Make a layer of a JAX function ``f(params, x, *state)``; its backward pass is ``jax.vjp``.

    ``f`` returns hs or the tuple (hs, h_T[, c_T]). It may contain ``jax.custom_vjp``. It is called
    with 64-bit numbers switched on.

    Raises
    ------
    ImportError
        If JAX is not installed.

    Examples
    --------
    A scan::

        import jax
        import tinygrad_rnn as tg

        def rnn(p, x, h):
            def step(h, x_t):
                h = jax.numpy.tanh(x_t @ p["W_x"] + h @ p["W_h"] + p["b"])
                return h, h

            h_T, hs = jax.lax.scan(step, h, x)
            return hs, h_T

        layer = tg.check.jax_layer(rnn)
        assert tg.check_layer(layer, tg.RNNCell(3, 4)).verdict == "CONSISTENT"
    """
    return JaxLayer(_installed("jax", "jax_layer"), f)


class JaxLayer:
    """What :func:`jax_layer` returns."""

    def __init__(self, jax: Any, f: Callable[..., Any]) -> None:
        self.name, self.f = jax.__name__, f
        # Compiled once for each shape; a function that cannot be compiled is run as it is.
        self.run = jax.jit(lambda *arrays: jax.vjp(f, *arrays))
        self.pulled = jax.jit(lambda pull, d: pull(d))

    def __deepcopy__(self, memo: dict[int, Any]) -> JaxLayer:
        """Return the layer itself: it keeps nothing from call to call but compiled code."""
        return self

    def forward(self, params: Mapping[str, Array], x: Array, *state: Array) -> Any:
        """Run ``f``."""
        jax = import_module(self.name)
        with jax.enable_x64(True):
            arrays = dict(params), x, *state
            try:
                outputs, pull = self.run(*arrays)
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
                self.run = lambda *arrays: jax.vjp(self.f, *arrays)  # it looks at values
                self.pulled = lambda pull, d: pull(d)
                outputs, pull = self.run(*arrays)
            values = jax.tree_util.tree_map(np.asarray, outputs)
        return values, (values, pull)

    def backward(self, d_outputs: Any, cache: Any) -> dict[str, Array]:
        """Return the pullback's gradients."""
        jax = import_module(self.name)
        values, pull = cache
        given = d_outputs if isinstance(values, tuple) else (d_outputs,)
        shown = values if isinstance(values, tuple) else (values,)
        with jax.enable_x64(True):
            d = tuple(
                np.zeros_like(v) if c is None else c for v, c in zip(shown, given, strict=True)
            )
            d_params, d_x, *d_state = self.pulled(pull, d if isinstance(values, tuple) else d[0])
        found = {**d_params, "x": d_x, **dict(zip(("h0", "c0"), d_state, strict=False))}
        return {name: np.asarray(g) for name, g in found.items()}


def layer_tests(
    layer: Any,
    cell: Cell,
    *,
    params: Mapping[str, Array] | None = None,
    map: LayerMap | Mapping[str, Any] | None = None,
    rng: int = 0,
    budget: str = "default",
) -> Callable[..., None]:
    """Return a test for pytest, with one named item for each designed input.

    The arguments are those of :func:`check_layer`.

    Raises
    ------
    ImportError
        If pytest is not installed.

    Examples
    --------
    In a test file, the last line makes all the tests of a layer:

    >>> import tinygrad_rnn as tg
    >>> class MyRNN:
    ...     def forward(self, params, x, h):
    ...         cell = tg.RNNCell(*params["W_x"].shape)
    ...         return tg.unroll(cell, params, x, (h,)).outputs, (cell, params, x, h)
    ...     def backward(self, d_hs, cache):
    ...         cell, params, x, h = cache
    ...         g = tg.bptt(cell, params, x, d_hs, (h,))
    ...         return {**g, "h0": g.pop("state")[0]}
    >>> test_my_rnn = tg.check.layer_tests(MyRNN(), tg.RNNCell(3, 4))
    """
    pytest = _installed("pytest", "layer_tests")
    c, base, trials = pose(layer, cell, params, map, rng, budget)

    def test(trial: Any) -> None:
        outcome = c.run(trial)
        complaints = [f"{name} {what.describe(str(trial))}" for name, what in outcome.wrong.items()]
        complaints += [f"{name} is changed in place" for name in outcome.changed]
        complaints += [outcome.refusal] if outcome.refusal else []
        if complaints and c.run(base).refusal:
            complaints += question_of_layout(c, base)
        if complaints:
            pytest.fail("\n".join(complaints), pytrace=False)

    decorated: Callable[..., None] = pytest.mark.parametrize("trial", trials, ids=str)(test)
    return decorated


def _installed(name: str, user: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise ImportError(f"{user} needs {name}: pip install {name}") from None
