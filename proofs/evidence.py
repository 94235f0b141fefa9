"""How a claim is evaluated at each level of evidence.

*Tested*: Hypothesis draws cases; the claim is computed on floats, and once more on `Rounded`
numbers, whose running error analysis says how far each side may be off in any float evaluation.
That is the tolerance; there is no other.

*Certified*: the claim is computed in a number system without rounding error (exact rationals, a
finite field) or with enclosures (balls), and compared with no tolerance. Where balls overlap, the
precision doubles; a case that stays undecided never counts as passed. In balls an equality means
agreement to ``EQUAL_BITS`` bits, since enclosures can refute an equation but not confirm it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, example, given, seed, settings, target

from tinygrad_rnn import scalars

from .catalogue import Case, Comparison, Mistake, Necessity, Theorem, load
from .reproduce import arrays, python, script

EQUAL_BITS = 128
MAX_BITS = 4096
BINS = 20
# Without Phase.explain, which traces every line, and without a database: a run depends on its seed.
SEARCH = (Phase.explicit, Phase.generate, Phase.target, Phase.shrink)
FIRST_HIT = (Phase.generate,)


class Violated(AssertionError):
    """A comparison of the claim is false."""


@dataclass(frozen=True)
class Box:
    """All arrays within ``radius`` of ``mid``: a ball system certifies a claim for all of them."""

    mid: Any
    radius: Any


@dataclass
class Evidence:
    """What one level found."""

    verdict: str = "INCONCLUSIVE"
    examples: int = 0
    undecided: int = 0
    tightest: float | None = None
    tightest_at: str | None = None
    tightest_case: str | None = None
    tightest_relation: str | None = None
    tightest_arrays: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, list[int]] = field(default_factory=dict)
    families: dict[str, int] = field(default_factory=dict)
    failure: str | None = None
    case: str | None = None
    script: str | None = None

    def saw(self, comparison: Comparison, ratio: float, case: Case) -> None:
        """Note how close a comparison came; a bound says more than the rounding of an equality.

        ``ratios`` counts them in ``BINS`` bins from 0 to 1; the last holds what is larger, too.
        """
        bins = self.ratios.setdefault(comparison.relation, [0] * BINS)
        bins[int(max(ratio, 0.0) * BINS) if ratio < 1 else BINS - 1] += 1
        bound, before = comparison.relation == "≤", self.tightest_relation == "≤"
        if self.tightest is None or (bound, ratio) > (before, self.tightest):
            self.tightest, self.tightest_at = ratio, comparison.label
            self.tightest_relation, self.tightest_case = comparison.relation, python(case)
            self.tightest_arrays = arrays(case)


# ---- the number systems -------------------------------------------------------------------------


def lift(case: Any, array: Callable[[Any], Any], box: Callable[[Box], Any]) -> Any:
    """Carry every float array of a case over to another number system."""
    if isinstance(case, dict):
        return {k: lift(v, array, box) for k, v in case.items()}
    if isinstance(case, tuple):
        return tuple(lift(v, array, box) for v in case)
    if isinstance(case, Box):
        return box(case)
    if isinstance(case, np.ndarray) and case.dtype.kind == "f":
        return array(case)
    return case


def _middle(array: Callable[[Any], Any]) -> Callable[[Box], Any]:
    return lambda box: array(box.mid)


def _whole(box: Box) -> Any:
    return np.frompyfunc(scalars.Ball, 2, 1)(box.mid, box.radius)


def lifted(case: Case, system: str, example: int = 0) -> Case:
    """Return the case over a number system; a field has random elements in place of the floats."""
    if system == "float":
        return lift(case, np.asarray, _middle(np.asarray))  # type: ignore[no-any-return]
    if system == "ball":
        return lift(case, scalars.ball, _whole)  # type: ignore[no-any-return]
    if system == "field":
        rng = np.random.default_rng(example)
        random = lambda a: scalars.field(a, rng)  # noqa: E731
        return lift(case, random, _middle(random))  # type: ignore[no-any-return]
    to = {"rational": scalars.rational, "rounded": scalars.rounded}[system]
    return lift(case, to, _middle(to))  # type: ignore[no-any-return]


# ---- comparing ----------------------------------------------------------------------------------


def _entries(c: Comparison) -> Iterator[tuple[Any, Any]]:
    lhs, rhs = np.broadcast_arrays(np.asarray(c.lhs, dtype=object), np.asarray(c.rhs, dtype=object))
    return zip(lhs.flat, rhs.flat, strict=True)


def decide(comparisons: Iterable[Comparison], system: str) -> None:
    """Decide every comparison with no tolerance.

    Raises
    ------
    Violated
        If one is false.
    Undecided
        If balls overlap.
    """
    for c in comparisons:
        for lhs, rhs in _entries(c):
            if c.relation == "≤":
                holds = lhs <= rhs
            elif system == "ball":
                holds = abs(lhs - rhs) <= Fraction(1, 2**EQUAL_BITS) * (abs(lhs) + abs(rhs))
            else:
                holds = lhs == rhs
            if not holds:
                raise Violated(f"{c.label}: {lhs} {c.relation} {rhs} is false")


def measure(
    floats: Iterable[Comparison], bounded: Iterable[Comparison]
) -> Iterator[tuple[Comparison, float]]:
    """Compare floats with the tolerance that `Rounded` numbers derive; return each tightness.

    The tightness of lhs ≤ rhs is lhs/rhs; that of lhs = rhs is its error over its tolerance.
    """
    for f, r in zip(floats, bounded, strict=True):
        lhs, rhs = np.broadcast_arrays(np.asarray(f.lhs, float), np.asarray(f.rhs, float))
        tolerance = np.broadcast_to(scalars.errors(r.lhs) + scalars.errors(r.rhs), lhs.shape)
        if not np.isfinite(tolerance).all():
            raise scalars.Undecided(f"{f.label}: the rounding error of this case has no bound")
        gap = lhs - rhs if f.relation == "≤" else np.abs(lhs - rhs)
        if not (gap <= tolerance).all():
            at = int(np.argmax(np.where(np.isnan(gap), np.inf, gap - tolerance)))
            raise Violated(
                f"{f.label}: {lhs.flat[at]} {f.relation} {rhs.flat[at]} is false by more than the "
                f"rounding error {tolerance.flat[at]:.2g}"
            )
        over, under = (lhs, rhs) if f.relation == "≤" else (gap, tolerance)
        ratios = over[under > 0] / under[under > 0]
        if ratios.size:
            yield f, float(ratios.max())


# ---- the levels ---------------------------------------------------------------------------------


def _split_family(case: Case) -> tuple[Case, str]:
    rest = dict(case)
    return rest, rest.pop("family", "")


def _search(
    theorem: Theorem,
    system: str,
    examples: int,
    seed_number: int,
    phases: tuple[Phase, ...],
    check: Callable[[Case, Evidence], None],
) -> Evidence:
    """Run ``check`` on drawn cases; the last failing case Hypothesis shows us is the smallest."""
    found = Evidence()
    last: list[Any] = []

    @seed(seed_number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(theorem.cases(system))
    def search(drawn: Case) -> None:
        case, family = _split_family(drawn)
        try:
            with np.errstate(all="ignore"):
                check(case, found)
        except scalars.Undecided:
            found.undecided += 1
        except Exception as error:
            last[:] = [error, case, found.examples]
            raise
        else:
            found.examples += 1
            found.families[family] = found.families.get(family, 0) + 1

    if theorem.witness:
        search = example({**theorem.witness(), "family": "witness"})(search)
    try:
        search()
    except BaseException as error:
        if not last or isinstance(error, KeyboardInterrupt):
            raise
        found.verdict = "REFUTED"
        found.failure = str(last[0]) if isinstance(last[0], Violated) else repr(last[0])
        found.case = python(last[1])
        found.script = script(theorem.id, system, last[1], last[2], found.failure)
    return found


def _measured(theorem: Theorem, case: Case) -> list[tuple[Comparison, float]]:
    floats = list(theorem.claim(**lifted(case, "float")))
    bounded = list(theorem.claim(**lifted(case, "rounded")))
    return list(measure(floats, bounded))


def _decided(theorem: Theorem, case: Case, system: str, example: int) -> None:
    def compute() -> None:
        decide(theorem.claim(**lifted(case, system, example)), system)

    if system == "ball":
        scalars.ladder(compute, start=2 * EQUAL_BITS, limit=MAX_BITS)
    else:
        compute()


def replay(id: str, system: str, case: Case, example: int = 0) -> None:
    """Check theorem ``id`` on one case; ``example`` picks the random elements of a field.

    >>> case = {"g": np.array([3.0]), "v": np.array([-2.0]), "θ": np.array(-1.0)}
    >>> replay("K-4", "rational", case)  # which claims θ ≥ 0
    Traceback (most recent call last):
    tinygrad_rnn.proofs.evidence.Violated: g·c ≥ 0: 0 ≤ -3 is false

    Raises
    ------
    Violated
        If the claim is false on it, with the numbers.
    Undecided
        If balls overlap at every precision.
    """
    theorem = load()[id]
    with np.errstate(all="ignore"):
        if system == "float":
            _measured(theorem, case)
        else:
            _decided(theorem, case, system, example)


def tested(
    theorem: Theorem,
    examples: int,
    seed_number: int = 0,
    *,
    phases: tuple[Phase, ...] = SEARCH,
) -> Evidence:
    """Test the claim on floats, from the stored witness on; CONSISTENT, REFUTED or INCONCLUSIVE."""

    def check(case: Case, found: Evidence) -> None:
        largest: dict[str, float] = {}
        for comparison, tightness in _measured(theorem, case):
            found.saw(comparison, tightness, case)
            largest[comparison.label] = max(tightness, largest.get(comparison.label, 0.0))
        for label, tightness in largest.items():
            if Phase.target in phases and np.isfinite(tightness):
                target(tightness, label=label)

    found = _search(theorem, "float", examples, seed_number, phases, check)
    if found.verdict != "REFUTED" and found.examples:
        found.verdict = "CONSISTENT"
    return found


def certified(
    theorem: Theorem,
    system: str,
    examples: int,
    seed_number: int = 0,
    *,
    phases: tuple[Phase, ...] = SEARCH,
) -> Evidence:
    """Check the claim with no tolerance; CERTIFIED, REFUTED or INCONCLUSIVE."""

    def check(case: Case, found: Evidence) -> None:
        _decided(theorem, case, system, found.examples)

    found = _search(theorem, system, examples, seed_number, phases, check)
    if found.verdict != "REFUTED" and found.examples and not found.undecided:
        found.verdict = "CERTIFIED"
    return found


def counterexample(theorem: Theorem, necessity: Necessity) -> str | None:
    """Return how the claim fails without the hypothesis; None if it does not."""
    case, _ = _split_family(necessity.case())

    def compute() -> str | None:
        try:
            decide(theorem.claim(**lifted(case, necessity.system)), necessity.system)
        except Violated as violated:
            return str(violated)
        return None

    return (
        scalars.ladder(compute, start=2 * EQUAL_BITS) if necessity.system == "ball" else compute()
    )


@contextmanager
def planted(mistake: Mistake) -> Iterator[None]:
    """Replace the mistake's target by its wrong version."""
    with mock.patch(mistake.target, mistake.wrong(pkgutil.resolve_name(mistake.target))):
        yield


def caught(theorem: Theorem, mistake: Mistake, examples: int, seed_number: int = 0) -> str | None:
    """Return the level that catches a planted mistake; None if none does."""
    with planted(mistake):
        for system in theorem.systems:
            found = certified(theorem, system, examples, seed_number, phases=FIRST_HIT)
            if found.verdict == "REFUTED":
                return system
        if tested(theorem, examples, seed_number, phases=FIRST_HIT).verdict == "REFUTED":
            return "float"
    return None
