"""Gather the evidence for theorems, worked examples and the notes' claims, over all cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from . import evidence
from .catalogue import SYSTEMS, Theorem, load
from .examples import EXAMPLES
from .formal import coq
from .formal import registry as formal
from .formal.audit import kept_audit
from .notes import CLAIMS, TRAPS

LEVELS = ("tested", "certified", "proved")
NOT_ASKED = {"verdict": "NOT CHECKED", "reason": "this level was not asked for"}
INTERRUPTED = {"verdict": "NOT CHECKED", "reason": "interrupted"}

Entry = dict[str, Any]

REFEREED = {**CLAIMS, **TRAPS}


@dataclass(frozen=True)
class Effort:
    """How many cases each level draws, and how many a planted mistake may survive."""

    tested: int
    certified: int
    mistakes: int
    statistical: int


PROFILES = {
    "quick": Effort(tested=40, certified=16, mistakes=100, statistical=2),
    "default": Effort(tested=160, certified=60, mistakes=200, statistical=4),
    "deep": Effort(tested=5000, certified=2000, mistakes=2000, statistical=40),
}


def _tested(theorem: Theorem, effort: Effort, seed: int) -> Entry:
    if theorem.false_alarm is None:
        return asdict(evidence.tested(theorem, effort.tested, seed))
    found = evidence.tested(theorem, effort.statistical, seed)
    return {**asdict(found), "false_alarm": found.examples * theorem.false_alarm}


def _certified(theorem: Theorem, effort: Effort, seed: int) -> Entry:
    if theorem.false_alarm is not None:
        return {"verdict": "NOT CHECKED", "reason": "statistical claims are tested, not certified"}
    found = {s: evidence.certified(theorem, s, effort.certified, seed) for s in theorem.systems}
    verdicts = {e.verdict for e in found.values()}
    verdict = next(v for v in ("REFUTED", "INCONCLUSIVE", "CERTIFIED") if v in verdicts)
    return {
        "verdict": verdict,
        "examples": sum(e.examples for e in found.values()),
        "arithmetic": ", ".join(SYSTEMS[s] for s in found),
        "systems": {s: asdict(e) for s, e in found.items()},
    }


def _proved(theorem: Theorem, effort: Effort, seed: int) -> Entry:
    """Say that Coq has not run; a run of many theorems asks it once for all of them."""
    if theorem.id not in formal.FORMAL:
        return {"verdict": "NOT CHECKED", "coq": None, "reason": "no formal proof is registered"}
    if coq.version() is None:
        how = f"there is no Coq here: {coq.INSTALL}"
    else:
        how = "Coq did not run; with --profile quick it does if asked by --level proved"
    known = formal.FORMAL[theorem.id]
    return {"verdict": "NOT CHECKED", "coq": [*known.theorems], "gap": known.gap, "reason": how}


_CHECKS = {"tested": _tested, "certified": _certified, "proved": _proved}


def entry_of(theorem: Theorem) -> Entry:
    """Return what the report says of a theorem before any evidence."""
    return {
        "id": theorem.id,
        "title": theorem.title,
        "chapter": theorem.chapter,
        "statement": theorem.statement,
        "hypotheses": list(theorem.hypotheses),
        "proof": theorem.proof,
        "sources": list(theorem.sources),
        "levels": dict.fromkeys(LEVELS, INTERRUPTED),
        "necessity": [],
        "sensitivity": [],
        "verdict": "NOT CHECKED",
    }


def check(theorem: Theorem, levels: Sequence[str], effort: Effort, seed: int) -> Entry:
    """Gather the evidence for one theorem."""
    entry = entry_of(theorem)
    started = time.perf_counter()
    entry["levels"] = {
        level: _CHECKS[level](theorem, effort, seed) if level in levels else NOT_ASKED
        for level in LEVELS
    }
    if "certified" in levels:
        for necessity in theorem.necessity:
            shown = evidence.counterexample(theorem, necessity)
            entry["necessity"].append({"dropped": necessity.dropped, "counterexample": shown})
    if {"tested", "certified"} & set(levels):
        for mistake in theorem.sensitivity:
            by = evidence.caught(theorem, mistake, effort.mistakes, seed)
            entry["sensitivity"].append({"mistake": mistake.name, "caught_by": by})
    entry["verdict"] = _overall(entry)
    entry["seconds"] = time.perf_counter() - started
    return entry


def _overall(entry: Entry) -> str:
    """The strongest evidence, unless some of it failed."""
    verdicts = [level["verdict"] for level in entry["levels"].values()]
    if "REFUTED" in verdicts:
        return "REFUTED"
    weak = any(n["counterexample"] is None for n in entry["necessity"]) or any(
        s["caught_by"] is None for s in entry["sensitivity"]
    )
    if weak or "INCONCLUSIVE" in verdicts:
        return "INCONCLUSIVE"
    order = ("PROVED", "CERTIFIED", "CONSISTENT", "NOT CHECKED")
    return next(v for v in order if v in verdicts)


def known() -> list[str]:
    """The ids of all there is to verify: theorems, worked examples, claims, traps."""
    return [*load(), *EXAMPLES, *REFEREED]


COQ = "Coq"  # the job that audits the formal proofs


def _asks_coq(ids: Sequence[str], levels: Sequence[str], profile: str) -> bool:
    """Whether Coq is to run: it takes half a minute, the first time."""
    named = "proved" in levels and (profile != "quick" or tuple(levels) != LEVELS)
    return named and coq.version() is not None and any(id in formal.FORMAL for id in ids)


def _job(job: tuple[str, Any]) -> tuple[str, Any]:
    id, of_theorem = job
    if id == COQ:
        return id, kept_audit()
    if id in EXAMPLES:
        return id, EXAMPLES[id]().to_json()
    if id in REFEREED:
        return id, REFEREED[id].to_json()
    return id, check(load()[id], *of_theorem)


def blank(ids: Sequence[str], profile: str, seed: int) -> Entry:
    """Return the report of a run that was interrupted before it found anything."""
    theorems = load()
    return {
        "interrupted": True,
        "profile": profile,
        "seed": seed,
        "theorems": [entry_of(theorems[id]) for id in ids if id in theorems],
        "notes": [CLAIMS[id].blank() for id in ids if id in CLAIMS],
        "traps": [TRAPS[id].blank() for id in ids if id in TRAPS],
        "examples": [],
        "seconds": 0.0,
    }


def verify(
    ids: Sequence[str],
    levels: Sequence[str] = LEVELS,
    profile: str = "default",
    seed: int = 0,
    *,
    processes: int | None = None,
    progress: Callable[[str], None] = lambda finished: None,
) -> Entry:
    """Gather the evidence for the theorems, examples and claims ``ids`` and return the report.

    ``progress`` is called with each id as it is finished. After Ctrl-C the report holds what was
    finished, and says so.
    """
    started = time.perf_counter()
    report = blank(ids, profile, seed)
    jobs: list[tuple[str, Any]] = [(id, (tuple(levels), PROFILES[profile], seed)) for id in ids]
    if _asks_coq(ids, levels, profile):
        jobs.insert(0, (COQ, None))
    found: dict[str, Any] = {}
    try:
        for id, entry in _run(jobs, processes or os.cpu_count() or 1):
            found[id] = entry
            if id != COQ:
                progress(id)
        report["interrupted"] = False
    except KeyboardInterrupt:
        pass
    for part in ("theorems", "notes", "traps"):
        report[part] = [found.get(entry["id"], entry) for entry in report[part]]
    if COQ in found:
        for entry in report["theorems"]:
            if entry["id"] in found:
                entry["levels"]["proved"] = formal.evidence(entry["id"], found[COQ])
                entry["verdict"] = _overall(entry)
    report["examples"] = [found[id] for id in ids if id in EXAMPLES and id in found]
    report["seconds"] = time.perf_counter() - started
    return report


def _run(jobs: list[tuple[str, Any]], processes: int) -> Iterator[tuple[str, Any]]:
    if processes == 1 or len(jobs) == 1:
        yield from map(_job, jobs)
        return
    # Spawned, not forked: the progress bar runs a thread. The workers are born deaf to Ctrl-C,
    # which is ours to handle; leaving the block stops them.
    hearing = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pool = multiprocessing.get_context("spawn").Pool(min(processes, len(jobs)))
    finally:
        signal.signal(signal.SIGINT, hearing)
    with pool:
        yield from pool.imap_unordered(_job, jobs)


def verdicts(report: Entry) -> list[str]:
    """Every verdict of a report: theorems, examples, and what the notes' referee got wrong."""
    refuted = [row for row in (*report["notes"], *report["traps"]) if row["holds"] is False]
    found = [item["verdict"] for item in (*report["theorems"], *report["examples"])]
    return found + ["REFUTED"] * len(refuted)
