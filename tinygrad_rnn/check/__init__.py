"""Checking gradients: oracles that know their own errors, and a verdict without a tolerance."""

from tinygrad_rnn.check.certify import Enclosure, certify
from tinygrad_rnn.check.gradients import check_gradients
from tinygrad_rnn.check.layer import (
    LayerMap,
    LayerReport,
    check_backward,
    check_layer,
    jax_layer,
    layer_tests,
    torch_layer,
)
from tinygrad_rnn.check.report import Entry, Report

__all__ = [
    "Enclosure",
    "Entry",
    "LayerMap",
    "LayerReport",
    "Report",
    "certify",
    "check_backward",
    "check_gradients",
    "check_layer",
    "jax_layer",
    "layer_tests",
    "torch_layer",
]
