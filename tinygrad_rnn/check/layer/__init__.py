"""Checking anybody's recurrent layer: what is wrong, from which step, and when."""

from tinygrad_rnn.check.layer.adapters import jax_layer, layer_tests, torch_layer
from tinygrad_rnn.check.layer.backward import check_backward
from tinygrad_rnn.check.layer.conform import check_layer
from tinygrad_rnn.check.layer.layout import LayerMap
from tinygrad_rnn.check.layer.report import LayerReport

__all__ = [
    "LayerMap",
    "LayerReport",
    "check_backward",
    "check_layer",
    "jax_layer",
    "layer_tests",
    "torch_layer",
]
