"""Recurrent layers as people write them: faulty ones, the truth about them, and correct ones."""

from . import blind, fused, gru, hidden, lstm, rnn, rnn_calls, styles, unusual  # noqa: F401  # they enter
from .entry import CELLS, REGISTRY, Entry
from .stacks import COMPOSITES, Composite

__all__ = ["CELLS", "COMPOSITES", "ENTRIES", "Composite", "Entry"]

ENTRIES = tuple(REGISTRY)
