"""tinygrad_rnn: the gradient theory of recurrent networks, executable.

The public names load on first use, so that importing the package costs NumPy and nothing else.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "autodiff": (
        "Tensor checkpoint d_sigmoid d_tanh differentiable grad hvp jacobian jvp leaky_relu "
        "leaky_step relu sigmoid softplus step value_and_grad vjp"
    ),
    "inside": "draw explain",
    "activations": "ACTIVATIONS Activation log_softmax logsumexp softmax",
    "cells": "GRUCell LSTMCell RNNCell",
    "recurrent": "Run bptt contributions unroll",
    "recurrent.rtrl": "rtrl",
    "stack": "Stack StackRun",
    "chain": "Chain jacobian_chain",
    "losses": "binary_cross_entropy cross_entropy squared_error",
    "init": "",
    "clip": "clip_by_norm clip_by_value clip_one_sided global_norm",
    "optim": "Adam SGD",
    "check": "LayerMap LayerReport certify check_backward check_gradients check_layer",
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name in _HOMES:  # tg.check.torch_layer
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
