"""Where this package keeps, for one user, what is dear to make: nothing there is needed."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """Return ``tinygrad_rnn`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, which need not exist.

    Examples
    --------
    >>> from tinygrad_rnn.user_cache import user_cache
    >>> user_cache().name
    'tinygrad_rnn'
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "tinygrad_rnn"
