"""Checking whether this is the gradient of that function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.check import enclosures, estimates, identities, oracles, vacuity
from tinygrad_rnn.check.judge import BLIND, judge, judge_exactly
from tinygrad_rnn.check.oracles import Contradiction, Unavailable
from tinygrad_rnn.check.problem import Path, Problem
from tinygrad_rnn.check.report import Entry, Report, worst
from tinygrad_rnn.check.roundoff import neighbours, rounding_bounds, unit_roundoff
from tinygrad_rnn.check.tape import gradient as tape_gradient
from tinygrad_rnn.functions import Array

SHARES = (1 / 4, 1 / 16, 1 / 64)  # of the arguments, to look where there are more digits
RANDOM = "the function gives different values for the same arguments"
MISSING = "no gradient was returned for it"
INSTEAD = "the gradient under test is compared with theirs"
Compare = Callable[[int, Array, Array], Entry]  # of argument k, its gradient and the true one


def check_gradients(
    f: Callable[..., Any],
    args: Sequence[Any],
    *,
    gradient: Callable[..., Any] | None = None,
    argnums: int | Sequence[int] | None = None,
    oracles: Sequence[str] | None = None,
    seed: int = 0,
    max_bits: int = 4096,
) -> Report:
    """Check a gradient of ``f`` at ``args`` against independent roads, without a tolerance.

    Entries are compared one by one, each with what rounding may do to *it*: a bound that is derived
    from the computation (see :mod:`tinygrad_rnn.check.roundoff`) and scales with the entry, so that
    a gradient of 1e-300 is checked as well as one of 1.

    ============  ==================================================================================
    PROVED        Every entry is the exact derivative, or one of the two floats around it. No
                  tolerance; by exact arithmetic, or by enclosures that difference quotients
                  confirmed. It is about these arguments, and takes the rule table for right to the
                  extent that the quotients did not test it.
    CONSISTENT    No entry differs from the truth by more than rounding explains in a correct
                  evaluation, and every argument has an entry with correct digits, or its gradient
                  is zero. Where no digit is left, e.g. 1 − tanh² when saturated, the formula must
                  hold identically, or be right at a fraction of the arguments.
    REFUTED       An entry is wrong: it differs by more than rounding explains, is not finite, or
                  has the wrong shape, or a dtype of fewer bits than its argument's (of more, it is
                  judged as it is). The chance of refuting a correct entry is 1e-9.
    INCONCLUSIVE  Neither: no oracle applies, the true gradient overflows, several kinks meet, no
                  digit can be expected of an argument's gradient and nothing else decides, or f
                  gives different values for the same arguments.
    ============  ==================================================================================

    At a kink, and within rounding distance of one, every value between the one-sided derivatives is
    accepted.

    Parameters
    ----------
    f
        A function of arrays or trees of arrays, returning a scalar or a tree of arrays. Of the
        latter, Σ c · f is checked, for a random cotangent c. Integer arrays are constants. It gets
        copies: if it changes an argument in place, the report warns of it.
    args
        Its arguments: float16, float32 or float64, or Fractions, which are checked exactly.
    gradient
        The gradient under test: ``gradient(*args)`` for a scalar f; otherwise the pullback
        ``gradient(*args, c)``, with c like the value of f. It returns one tree for each checked
        argument, as a tuple, or the tree itself if only one is checked. If left out, the engine's
        own gradient is tested.
    argnums
        Which arguments to check; all, if left out.
    oracles
        Names from :data:`tinygrad_rnn.check.oracles.NAMES`, or one of them; all, if left out.
    seed
        Of all randomness.
    max_bits
        The highest precision of the enclosures.

    Raises
    ------
    ValueError
        If an argument is not finite or nothing is there to be checked; if f returns nothing; for
        unknown oracles.
    TypeError
        For complex numbers, if Fractions are mixed with floats, if ``args`` is not a list or tuple,
        and if ``gradient`` does not take the arguments described above.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> f = lambda x: 1e-8 * np.sum(np.sin(x))
    >>> x = np.array([0.5, 1.0])
    >>> tg.check_gradients(f, [x], gradient=lambda x: 1e-8 * np.cos(x)).verdict in (
    ...     "PROVED", "CONSISTENT")
    True
    >>> tg.check_gradients(f, [x], gradient=lambda x: np.zeros(2)).verdict
    'REFUTED'
    """
    check = _Check(Problem(f, args, argnums, np.random.default_rng(seed)), gradient, oracles, seed)
    return check.report(max_bits)


@dataclass
class _Check:
    problem: Problem
    gradient: Callable[..., Any] | None
    allowed: Sequence[str] | None
    seed: int
    evidence: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.allowed, str):
            self.allowed = [self.allowed]
        unknown = set(self.allowed or ()) - set(oracles.NAMES)
        if unknown:
            raise ValueError(f"unknown oracles {sorted(unknown)}; there are {oracles.NAMES}.")
        self.rng = np.random.default_rng(self.seed)
        if self.gradient is not None:
            _check_call(self.gradient, self.problem)

    def consult(self, name: str, ask: Callable[[], Any]) -> Any:
        """Return an oracle's answer, or None; either way, note what it said."""
        if self.allowed is not None and name not in self.allowed:
            return None
        try:
            return ask()
        except Unavailable as reason:
            self.evidence.append(f"{name}: not available: {reason}")
            return None

    def candidate(self, variables: Sequence[Array]) -> list[Any]:
        """Return the gradient under test, one for each variable; a sentence where there is none."""
        p = self.problem
        if self.gradient is None:
            return list(tape_gradient(p, variables))
        cotangent = p.cotangent(exact=np.asarray(variables[0]).dtype == object)
        extra = () if cotangent is None else (cotangent,)
        found, n = self.gradient(*p.arguments(variables), *extra), len(p.names)
        if found is None:
            return [f"{MISSING}: the gradient function returned None; did you forget `return`?"] * n
        is_tree = isinstance(p.args[p.argnums[0]], (tuple, list))
        if p.alone and (is_tree or not (isinstance(found, (tuple, list)) and len(found) == 1)):
            found = (found,)
        several = isinstance(found, (tuple, list))
        if not several or len(found) > len(p.argnums):
            got = f"{len(found)} of them" if several else f"one {type(found).__name__}"
            return [
                "the gradient function must return a tuple with one tree for each of the "
                f"{len(p.argnums)} checked arguments, got {got}"
            ] * n
        by_argument = dict(zip(p.argnums, found, strict=False))
        return [_follow(by_argument, path) for path in p.paths]

    def report(self, max_bits: int) -> Report:
        """Compare every argument's gradient with the true one, and say what that is worth."""
        if not self.problem.deterministic:
            entries = [Entry(name, "INCONCLUSIVE", RANDOM) for name in self.problem.names]
            return Report("INCONCLUSIVE", entries)
        entries, truth = self.compare(max_bits)
        entries = self.elsewhere(self.identically(entries), max_bits)
        verdict = worst([e.verdict for e in entries])
        return Report(
            verdict,
            entries,
            self.evidence,
            vacuity.warnings(self.problem, truth),
            vacuity.infos(self.problem, truth, verdict),
        )

    def compare(self, max_bits: int) -> tuple[list[Entry], list[Array] | None]:
        """Return what is found at these arguments alone, and the true gradient if there is one."""
        p = self.problem
        got = self.candidate(p.variables)
        judge_one, truth = self.exactly() if p.exact else self.in_floats(max_bits)
        entries = []
        for k, name in enumerate(p.names):
            complaint = _malformed(got[k], p.variables[k])
            if complaint:
                entries.append(Entry(name, "REFUTED", complaint))
            elif truth is None and not (p.exact or np.isfinite(got[k]).all()):
                entries.append(Entry(name, "REFUTED", "its gradient is not finite"))
            elif truth is None:
                entries.append(Entry(name, "INCONCLUSIVE", "no oracle applies: see the evidence"))
            else:
                entries.append(judge_one(k, np.asarray(got[k]), truth[k]))
        return entries, truth

    def exactly(self) -> tuple[Compare, list[Array] | None]:
        """Fractions: equality, or between the one-sided derivatives at a kink."""
        p = self.problem

        def ask() -> list[list[Array]]:
            try:
                found = identities.exact(p, self.rng)
            except Contradiction:
                self.evidence.append(f"exact: dual numbers differ from the engine: {INSTEAD}")
                return [identities.partial_derivatives(p)]
            self.evidence.append("exact: Fractions, confirmed by dual numbers")
            return found

        truths = self.consult("exact", ask)

        def compare(k: int, got: Array, _: Array) -> Entry:
            return judge_exactly(p.names[k], got, [truth[k] for truth in truths])

        return compare, truths and truths[0]

    def in_floats(self, max_bits: int) -> tuple[Compare, list[Array] | None]:
        """Enclose the gradient, and bound what rounding does to a correct one."""
        p = self.problem
        try:
            bounds = rounding_bounds(p, self.rng)
        except Unavailable as reason:
            self.evidence.append(f"the function runs on nothing but floats: {reason}")
            truth = self.consult("central difference", lambda: estimates.central_difference(p))
            bounds, sides = [np.zeros(v.shape) for v in p.variables], []
            oracle, confirmed = "central difference", False
        else:
            sides = neighbours(p, self.rng)
            truth, oracle, confirmed = self.truth(bounds, max_bits)
        u, tiny = unit_roundoff(p)

        def compare(k: int, got: Array, true: Array) -> Entry:
            bound = bounds[k] + u * np.abs(true.astype(float)) + 2 * tiny
            return judge(p.names[k], got, true, bound, [s[k] for s in sides], oracle, confirmed)

        return compare, truth

    def truth(self, bounds: list[Array], max_bits: int) -> tuple[list[Array] | None, str, bool]:
        """Return enclosures of the gradient, where they come from, and if they are confirmed."""
        p = self.problem
        answer = self.consult("balls", lambda: enclosures.balls(p, bounds, max_bits))
        if answer is None:
            truth = self.consult("complex step", lambda: estimates.complex_step(p, bounds))
            return truth, "complex step", False
        truth, bits = answer
        self.evidence.append(f"balls: the tape over balls of {bits} bits")
        try:
            bits = self.consult(
                "difference", lambda: enclosures.confirm(p, truth, self.rng, max_bits)
            )
        except Contradiction:
            self.evidence.append(
                f"difference: difference quotients differ from the engine's own gradient: {INSTEAD}"
            )
            truth = self.consult("difference", lambda: enclosures.differences(p, bounds, max_bits))
            return truth, "difference", False
        if bits is not None:
            self.evidence.append(f"difference: confirms balls, at {bits} bits")
        return truth, "balls", bits is not None

    def identically(self, entries: list[Entry]) -> list[Entry]:
        """Decide what no digit can decide here by what holds at every argument."""
        if any(e.verdict == "REFUTED" for e in entries):
            return entries
        try:
            degree = self.consult(
                "identity", lambda: identities.identity(self.problem, self.candidate, self.rng)
            )
        except Contradiction:
            self.evidence.append(
                "identity: the formula does not hold exactly by the laws of tanh' and σ' alone, "
                "constants being the floats they are"
            )
            return entries
        if degree is None:
            return entries
        self.evidence.append(
            "identity: the formula holds for all arguments of these shapes, but for a probability "
            f"of {degree / 2**61:.1g} (degree {degree} over GF(2**61 - 1))"
        )
        reason = f"{BLIND}; but the formula holds for all arguments"
        return [
            replace(e, verdict="CONSISTENT", reason=reason) if e.reason == BLIND else e
            for e in entries
        ]

    def elsewhere(self, entries: list[Entry], max_bits: int) -> list[Entry]:
        """Decide what no digit can decide here at smaller arguments, where there are digits.

        Only in favour: a gradient that was computed beforehand is not one of other arguments.
        """
        for share in SHARES:
            blind = [e.name for e in entries if e.reason == BLIND]
            if not blind:
                break
            other = replace(self, problem=self.problem.scaled(share), evidence=[])
            found = {e.name: e.verdict for e in other.compare(max_bits)[0]}
            self.evidence.append(
                f"at {share} times the arguments: "
                + ", ".join(f"{name} is {found[name]}" for name in blind)
            )
            reason = f"{BLIND}; but it is right at {share} times the arguments"
            entries = [
                replace(e, verdict="CONSISTENT", reason=reason)
                if e.reason == BLIND and found[e.name] in ("PROVED", "CONSISTENT")
                else e
                for e in entries
            ]
        return entries


def _check_call(gradient: Callable[..., Any], problem: Problem) -> None:
    """Refuse a gradient that cannot be called as it will be."""
    cotangent = problem.cotangent(problem.exact)
    extra = () if cotangent is None else (cotangent,)
    try:
        signature = inspect.signature(gradient)
    except (TypeError, ValueError):  # a built-in function
        return
    try:
        signature.bind(*problem.args, *extra)
    except TypeError as error:
        how = "gradient is called as gradient(*args)"
        if extra:
            how = (
                "f does not return a scalar, so gradient is called as gradient(*args, c), with a "
                "cotangent c like the value of f"
            )
        raise TypeError(f"{how}: {error}.") from None


def _follow(tree: Any, path: Path) -> Any:
    """Return what is at a path of a tree, or a sentence."""
    for key in path:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return MISSING
    return MISSING if tree is None else tree


def _malformed(got: Any, variable: Array) -> str:
    """Return what is wrong with a gradient before its numbers are looked at."""
    if isinstance(got, str):
        return got
    array = np.asarray(got)
    if array.shape != variable.shape:
        return f"its gradient must have its shape {variable.shape}, got {array.shape}"
    if variable.dtype == object:
        exact = all(isinstance(e, (Fraction, int)) for e in array.flat)
        return "" if exact else "its gradient must consist of Fractions, got floats"
    if array.dtype.kind != "f" or array.dtype.itemsize < variable.dtype.itemsize:
        return f"its gradient must have its dtype {variable.dtype}, got {array.dtype}"
    return ""
