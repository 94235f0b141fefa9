"""What a check found, for people and for programs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

VERDICTS = ("PROVED", "CONSISTENT", "INCONCLUSIVE", "REFUTED")  # from best to worst
MANY = 2**20  # ulps, beyond which their number means less than the relative error


@dataclass(frozen=True)
class Entry:
    """What was found about one argument: its verdict, and the entry that agrees least.

    Attributes
    ----------
    name : str
        The argument.
    verdict : str
        As for the whole report.
    reason : str
        One sentence that says why.
    index : tuple of int or None
        Where the worst entry is.
    got, expected : float or None
        The entry under test, and the true one.
    bound : float or None
        What rounding may change the entry by, at most.
    ulps : float or None
        |got − expected| in units of the last place of ``expected``.
    relative : float or None
        |got − expected| / |expected|; None where ``expected`` is 0.
    oracle : str
        Where ``expected`` comes from.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> report = tg.check_gradients(np.square, [np.array(3.0)], gradient=lambda x: 2 * x + 1)
    >>> entry = report.entries[0]
    >>> entry.got, entry.expected, entry.oracle
    (7.0, 6.0, 'balls')
    """

    name: str
    verdict: str
    reason: str
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    bound: float | None = None
    ulps: float | None = None
    relative: float | None = None
    oracle: str = ""

    def __str__(self) -> str:
        text = f"{self.verdict:<12} {self.name}: {self.reason}"
        if self.index is None:
            return text
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        text += f"\n{'':13}{self.name}{where} = {self.got!r}, expected {self.expected!r}"
        if self.ulps is not None and self.ulps <= MANY:
            text += f", {self.ulps:.3g} ulp apart"
        elif self.relative is not None:
            text += f", relative error {self.relative:.2g}"
        return text + (f"; rounding explains {self.bound:.2g}" if self.bound is not None else "")


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes
    ----------
    verdict : str
        The worst of the entries' verdicts.
    entries : list of Entry
        One for each argument.
    evidence : list of str
        Which oracles spoke, and which did not and why.
    warnings : list of str
        Why the check may have seen less than it seems.
    infos : list of str
        What other checkers would not have seen.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> report = tg.check_gradients(lambda w, x: w * x, [2.0, 3.0], gradient=lambda w, x: (x, x))
    >>> report.verdict, report.culprits
    ('REFUTED', ['x'])
    >>> print(str(report.entries[1]).splitlines()[0])
    REFUTED      x: 1 of 1 entries differ by more than rounding explains
    """

    verdict: str
    entries: list[Entry]
    evidence: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)

    @property
    def culprits(self) -> list[str]:
        """The arguments whose gradient is wrong."""
        return [e.name for e in self.entries if e.verdict == "REFUTED"]

    def __bool__(self) -> bool:
        raise TypeError("a report is not a truth value: INCONCLUSIVE is neither. Read .verdict.")

    def __str__(self) -> str:
        said = [e.verdict for e in self.entries[:1]] == [self.verdict]
        lines = [*([] if said else [self.verdict]), *map(str, self.entries)]
        lines += [f"evidence: {line}" for line in self.evidence]
        lines += [f"warning: {line}" for line in self.warnings]
        lines += [f"note: {line}" for line in self.infos]
        return "\n".join(lines)

    def to_json(self) -> str:
        """Return the report as JSON; numbers that are not finite become strings."""
        return json.dumps(_plain(asdict(self) | {"culprits": self.culprits}), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def worst(verdicts: list[str]) -> str:
    """Return the worst of some verdicts."""
    return max(verdicts, key=VERDICTS.index)
