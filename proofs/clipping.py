"""Gradients to be clipped: trees of arrays whose norms are rational by construction."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from .strategies import Draw, dyadics

Array = Any
Tree = dict[str, Array]


@st.composite
def with_rational_norm(draw: Draw, n: int) -> tuple[Array, float]:
    """Draw g = s (2p, |p|² − 1), whose norm s (|p|² + 1) is rational, and its norm."""
    p = draw(dyadics(n - 1)) * draw(st.sampled_from((1.0, 8.0, 1024.0)))
    scale = draw(st.sampled_from((-4.0, 1 / 16, 1.0)))
    return scale * np.append(2 * p, p @ p - 1), abs(scale) * (p @ p + 1)


def tree(flat: Array, cut: int) -> Tree:
    """Share the entries out among two arrays, either of which may be empty."""
    return {"W_h": flat[:cut].reshape(1, cut), "b": flat[cut:]}


def flat(tree: Tree) -> Array:
    """Put all entries into one vector."""
    return np.concatenate([a.ravel() for a in tree.values()])
