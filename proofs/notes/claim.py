"""What a claim of the notes is, and how a formula as written is evaluated beside the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn import scalars

from ..catalogue import SYSTEMS, Case, Comparison, at_most, equal
from ..evidence import EQUAL_BITS, Violated, decide, lifted

VERDICTS = ("true", "true under hypotheses", "false", "ambiguous", "garbled")
RELATIONS: dict[str, Callable[[str, Any, Any], Comparison]] = {
    "=": equal,
    "≤": at_most,
    "≥": lambda label, lhs, rhs: at_most(label, rhs, lhs),
}
CITED = "cited"  # a fact of literature, which no computation decides
ARITHMETIC = {**SYSTEMS, CITED: "a cited fact"}
DIGITS = 12  # of a decimal; exact numbers of no more are shown exactly
PLACES = 10**5  # and as decimals where five places suffice


@dataclass(frozen=True)
class Evaluation:
    """A formula evaluated as written, beside the truth, on one case.

    The formula says ``truth relation as_written``. The truth is the library's, by a road that does
    not use the formula; ``corrected`` is the corrected formula and must equal it. All take the
    arrays of ``case`` in a number system without rounding errors (a claim about floats leaves them
    floats), and are compared with no tolerance.
    """

    sentence: str
    truth: Callable[..., Any]
    as_written: Callable[..., Any]
    corrected: Callable[..., Any] | None = None
    case: Case = field(default_factory=dict)
    relation: str = "="
    system: str = "rational"

    def run(self, holds: bool) -> Record:
        """Return both values if the formula as written holds, or fails, as expected.

        Raises
        ------
        Violated
            If it does not, or if the corrected formula is not the truth.
        Undecided
            If balls overlap at every precision.
        """
        if self.system == "ball":
            found: Record = scalars.ladder(lambda: self._run(holds), start=2 * EQUAL_BITS)
            return found
        return self._run(holds)

    def _run(self, holds: bool) -> Record:
        case = self.case if self.system == CITED else lifted(self.case, self.system)
        with np.errstate(all="ignore"):
            truth, written = self.truth(**case), self.as_written(**case)
        if self.system == "rational":
            scalars.assert_exact(truth)
            scalars.assert_exact(written)
        try:
            decide([RELATIONS[self.relation]("as written", truth, written)], self.system)
        except Violated:
            if holds:
                raise
        else:
            if not holds:
                raise Violated(f"as written it holds here: {truth} {self.relation} {written}")
        if self.corrected:
            decide([equal("corrected", self.corrected(**case), truth)], self.system)
        shown = {"as_written": shown_as(written), "truth": shown_as(truth)}
        return Record(
            self.sentence.format(**shown),
            relation=self.relation,
            arithmetic=ARITHMETIC[self.system],
            **shown,
        )


@dataclass(frozen=True)
class Record:
    """What an evaluation found, in print: the formula claims ``truth relation as_written``."""

    sentence: str
    as_written: str
    truth: str
    relation: str
    arithmetic: str


def shown_as(values: Any) -> str:
    """Return numbers as a reader wants them: exactly if they are short, else as decimals.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn.scalars import Ball, rational
    >>> shown_as(rational([0.75, 2**-10])), shown_as(Ball(2) / 3), shown_as(rational(2.0**-99))
    ('[0.75, 1/1024]', '0.666666666667', '1.57772181044e-30')
    """
    values = np.asarray(values, dtype=object)
    if values.ndim:
        return f"[{', '.join(map(shown_as, values))}]"
    value = values[()]
    nearest = float(value)
    if not isinstance(value, (int, Fraction)) and _is_exactly(value, nearest):
        value = Fraction(nearest)
    if isinstance(value, (int, Fraction)) and len(str(value)) <= DIGITS:
        return str(value) if PLACES % value.denominator else f"{nearest:.{DIGITS}g}"
    return f"{nearest:#.{DIGITS}g}"


def _is_exactly(value: Any, number: float) -> bool:
    """Whether a float or a ball is certainly this number."""
    try:
        return bool(value == number)
    except scalars.Undecided:
        return False


@dataclass(frozen=True)
class Claim:
    """A claim of the notes, refereed.

    ``theorems`` are those it became, the main one first. A false claim, and one that is false in
    one reading, has a ``counterexample``; ``check`` is a claim or its right reading, evaluated.
    """

    id: str
    where: str
    as_written: str
    verdict: str
    corrected: str
    theorems: tuple[str, ...] = ()
    counterexample: Evaluation | None = None
    check: Evaluation | None = None

    def blank(self) -> dict[str, Any]:
        """Return the row of a report before anything is evaluated."""
        return {
            "id": self.id,
            "where": self.where,
            "as_written": self.as_written,
            "verdict": self.verdict,
            "corrected": self.corrected,
            "theorem": self.theorems[0] if self.theorems else None,
            "related": list(self.theorems[1:]),
            "counterexample": None,
            "check": None,
            "holds": None,
            "failure": None,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the row, with what was found.

        ``holds``: whether the counterexample refutes and the check confirms; None if there is
        neither.
        """
        row = self.blank()
        for name, holds in (("counterexample", False), ("check", True)):
            evaluation: Evaluation | None = getattr(self, name)
            if evaluation is None:
                continue
            try:
                row[name] = asdict(evaluation.run(holds))
                row["holds"] = row["holds"] is not False
            except Exception as error:  # whatever goes wrong, it has not been shown
                row["holds"], row["failure"] = False, f"{name}: {str(error) or repr(error)}"
        return row
