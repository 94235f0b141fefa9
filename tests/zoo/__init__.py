"""Recurrent layers as people write them: faulty ones, the truth about them, and correct ones."""

from . import fused, gru, hidden, lstm, rnn, rnn_calls, styles, unusual  # noqa: F401  # they enter
from .entry import CELLS, REGISTRY, Entry

__all__ = ["CELLS", "ENTRIES", "Entry"]

ENTRIES = tuple(REGISTRY)
