"""The lecture notes, refereed: every claim of the five files, and what became of it.

A claim is quoted as written (in the text that optical character recognition gave), judged, and
corrected. Where it is false, as a whole or in one reading, the formula as written is evaluated
beside the truth; true numbers and formulas without a theorem of their own are evaluated, too.
``TRAPS`` are false statements of the literature on the same subject.
"""

from __future__ import annotations

from typing import Any

from . import s0, s1_dependence, s1_network, s1_remedies, s2, s3, s4, traps
from .claim import Claim

_FILES = (s0, s1_network, s1_dependence, s1_remedies, s2, s3, s4)
CLAIMS: dict[str, Claim] = {claim.id: claim for file in _FILES for claim in file.CLAIMS}
TRAPS: dict[str, Claim] = {trap.id: trap for trap in traps.TRAPS}


def to_json() -> list[dict[str, Any]]:
    """Evaluate every claim and return the rows of the report.

    Examples
    --------
    >>> from tinygrad_rnn.proofs import notes
    >>> rows = notes.to_json()
    >>> len(rows), all(row["holds"] for row in rows if row["verdict"] == "false")
    (103, True)
    """
    return [claim.to_json() for claim in CLAIMS.values()]
