"""The audit: build every proof, ask Coq what each theorem says and rests on, compare, judge.

A theorem is *checked* if all of this happened now, on this machine, and its statement and axioms
are the recorded ones. Without Coq it is *recorded* if the sources are those of the last recorded
audit, *stale* if they changed since, and *not checked here* if nothing is recorded of it: none of
the three counts as proved. *Failed* means that Coq, or the comparison, objected.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import coq

# The axioms of the classical real numbers, as Coq's own library states them, and nothing else.
ALLOWED = frozenset(
    {
        "Coq.Reals.ClassicalDedekindReals.sig_forall_dec",
        "Coq.Reals.ClassicalDedekindReals.sig_not_dec",
        "Coq.Logic.FunctionalExtensionality.functional_extensionality_dep",
        "Coq.Logic.Classical_Prop.classic",
    }
)
EXPECTED = coq.HERE / "expected.json"


@dataclass
class Proof:
    """What an audit says of one theorem."""

    status: str  # checked, recorded, stale, not checked here, failed
    statement: str = ""
    axioms: list[str] = field(default_factory=list)
    objection: str = ""


@dataclass
class Audit:
    """What an audit found; ``objections`` are those that belong to no single theorem."""

    coq: str | None
    theorems: dict[str, Proof]
    definitions: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    coqchk: str = "not run"
    objections: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything was checked, here and now, and nothing was objected to."""
        return not self.objections and all(p.status == "checked" for p in self.theorems.values())

    def to_json(self) -> dict[str, Any]:
        """Return the result as `verify` and the documentation read it."""
        return asdict(self)

    def summary(self) -> str:
        """Say in one line what was found."""
        count: dict[str, int] = {}
        for proof in self.theorems.values():
            count[proof.status] = count.get(proof.status, 0) + 1
        found = ", ".join(f"{n} {status}" for status, n in count.items())
        where = f"Coq {self.coq}" if self.coq else f"no Coq: install it with `{coq.INSTALL}`"
        return f"formal: {found} ({where}; coqchk: {self.coqchk})."


def digests(folder: Path, modules: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of every source."""
    return {m: hashlib.sha256((folder / f"{m}.v").read_bytes()).hexdigest() for m in modules}


def recorded(path: Path = EXPECTED) -> dict[str, Any]:
    """Return the last recorded audit."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def audit(
    folder: Path = coq.HERE,
    modules: tuple[str, ...] = coq.MODULES,
    expected: dict[str, Any] | None = None,
    *,
    thorough: bool = True,
    progress: Callable[[str], None] = lambda what: None,
) -> Audit:
    """Audit the development.

    Parameters
    ----------
    folder, modules
        The sources, in the order of compilation.
    expected
        The recorded audit to compare with; by default the committed one.
    thorough
        Whether to ask for the axioms of each theorem, and not only of all together, and to let
        ``coqchk``, the independent checker, read everything again.
    progress
        Called with what begins.
    """
    expected = recorded() if expected is None else expected
    sources = digests(folder, modules)
    names = coq.theorems(folder, modules)
    version = coq.version()
    if version is None:
        return Audit(None, {n: _unchecked(n, sources, expected) for n in names}, sources=sources)
    result = Audit(version, {n: Proof("failed") for n in names}, sources=sources)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        try:
            for module in modules:
                progress(f"compiling {module}")
                result.seconds |= coq.build(folder, scratch, (module,))
            progress("asking for statements and axioms")
            defined = coq.definitions(folder, modules)
            said = coq.interrogate(scratch, modules, names, defined, together=not thorough)
        except coq.CoqError as error:
            pin = "" if version == coq.PINNED else f" (Coq {version}; written for {coq.PINNED})"
            result.objections.append(f"{error}{pin}")
            return result
        _judge(result, *said, expected, each=thorough)
        if thorough:
            progress("coqchk")
            objection = coq.check(scratch, modules)
            result.coqchk = objection or "passed"
            result.objections += [objection] if objection else []
    if result.objections:
        # A changed definition, or a doubt of the checker's, concerns every theorem.
        for proof in result.theorems.values():
            if proof.status == "checked":
                proof.status, proof.objection = "failed", "see the audit's objections"
    return result


def kept_audit() -> Audit:
    """Audit quickly; if all is checked, keep that for the next run with the same files and Coq."""
    version = coq.version()
    if version is None:
        return audit(thorough=False)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinygrad_rnn"
    files = sorted(p for p in coq.HERE.iterdir() if p.suffix in (".v", ".py", ".json"))
    state = hashlib.sha256(b"\0".join([version.encode(), *(p.read_bytes() for p in files)]))
    kept = folder / f"audit-{state.hexdigest()}.json"
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(kept.read_text(encoding="utf-8"))
        proofs = {name: Proof(**proof) for name, proof in found.pop("theorems").items()}
        return Audit(theorems=proofs, **found)
    result = audit(thorough=False)
    if result.passed:
        with contextlib.suppress(OSError):  # a home that cannot be written to
            folder.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(result.to_json()), encoding="utf-8")
    return result


def _unchecked(name: str, sources: dict[str, str], expected: dict[str, Any]) -> Proof:
    """Say what is known of a theorem where there is no Coq."""
    then = expected["theorems"].get(name)
    if then is None:
        return Proof("not checked here")
    status = "recorded" if sources == expected["sources"] else "stale"
    return Proof(status, then["statement"], then["axioms"])


def _judge(
    result: Audit,
    statements: dict[str, str],
    axioms: dict[str, list[str]],
    definitions: dict[str, str],
    expected: dict[str, Any],
    *,
    each: bool,
) -> None:
    """Compare what Coq said with what is allowed and with what is recorded."""
    result.definitions = definitions
    known = {a for then in expected["theorems"].values() for a in then["axioms"]}
    for name in result.theorems:
        then = expected["theorems"].get(name)
        proof = Proof("failed", statements[name], axioms[name])
        foreign = sorted(set(axioms[name]) - ALLOWED)
        if foreign:
            proof.objection = f"rests on {', '.join(foreign)}"
        elif then is None:
            proof.objection = "is not recorded: review it, then run `audit --record`"
        elif then["statement"] != statements[name]:
            proof.objection = "does not say what is recorded"
        elif set(axioms[name]) != (set(then["axioms"]) if each else known):
            proof.objection = "does not rest on the recorded axioms"
        else:
            proof.status = "checked"
        result.theorems[name] = proof
    gone = sorted(set(expected["theorems"]) - set(result.theorems))
    result.objections += [f"{name} is recorded and gone" for name in gone]
    for name in sorted(set(definitions) | set(expected["definitions"])):
        if definitions.get(name) != expected["definitions"].get(name):
            result.objections.append(f"the definition of {name} is not the recorded one")


def to_record(result: Audit) -> dict[str, Any]:
    """Return what is committed of an audit: what a reviewer has to see change."""
    theorems = {
        name: {"statement": p.statement, "axioms": p.axioms} for name, p in result.theorems.items()
    }
    return {
        "coq": result.coq,
        "sources": result.sources,
        "theorems": theorems,
        "definitions": result.definitions,
    }
