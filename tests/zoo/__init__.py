"""Recurrent layers as people write them: faulty ones, the truth about them, and correct ones."""

from . import (  # noqa: F401  # they enter
    blind,
    fused,
    gru,
    hidden,
    lstm,
    rnn,
    rnn_calls,
    styles,
    sweeps,
    unusual,
)  # fmt: skip
from .entry import CELLS, REGISTRY, Entry
from .stacks import COMPOSITES, Composite

__all__ = ["CELLS", "COMPOSITES", "ENTRIES", "Composite", "Entry"]

ENTRIES = tuple(REGISTRY)
