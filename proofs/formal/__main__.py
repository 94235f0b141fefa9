"""``python -m tinygrad_rnn.proofs.formal``: audit the proofs, tie them to the code, break them.

``audit [--quick] [--json FILE] [--record]``
    Build everything, print each statement and what it rests on, compare with the record.
    Exits with 0 if all is checked, 1 if anything failed, 77 if there is no Coq (1 if the
    environment has ``REQUIRE_COQ=1``). ``--quick`` asks for the axioms of all theorems together
    and leaves out the independent checker; ``--record`` writes what was found as the new record,
    for review.
``tape``
    Let Coq confirm that what the engine records of a one-unit RNN is the tape of Unrolled.v.
``certificates``
    Let Coq prove that float64 gradients of three networks are within 1e-13 of the true ones.
``mutants``
    Make each planted change of a definition or statement; all must fail to compile.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from . import coq, links
from .audit import ALLOWED, EXPECTED, Audit, audit, recorded, to_record
from .mutants import survivors

SKIPPED = 77


def _show(result: Audit) -> None:
    for name, proof in result.theorems.items():
        print(f"{proof.status:>16}  {name} : {proof.statement}")
        print(f"{'':18}rests on: {', '.join(proof.axioms) or 'no axiom'}")
        if proof.objection:
            print(f"{'':18}{name} {proof.objection}")
    for objection in result.objections:
        print(f"OBJECTION: {objection}")


def _audit(options: argparse.Namespace) -> int:
    expected = {"theorems": {}, "definitions": {}, "sources": {}} if options.record else recorded()
    result = audit(
        expected=expected,
        thorough=not options.quick,
        progress=lambda what: print(what, file=sys.stderr),
    )
    if options.record:
        return _record(result)
    _show(result)
    if options.json:
        text = json.dumps(result.to_json(), indent=1, ensure_ascii=False)
        Path(options.json).write_text(text + "\n", encoding="utf-8")
    print(result.summary())
    if result.coq is None:
        return _skipped()
    return 0 if result.passed else 1


def _skipped() -> int:
    return 1 if os.environ.get("REQUIRE_COQ") == "1" else SKIPPED


def _record(result: Audit) -> int:
    """Write the record, unless something rests on a foreign axiom."""
    foreign = {n: set(p.axioms) - ALLOWED for n, p in result.theorems.items()}
    if not result.definitions or any(foreign.values()):
        print(*result.objections, *(f"{n} rests on {a}" for n, a in foreign.items() if a), sep="\n")
        return 1
    text = json.dumps(to_record(result), indent=1, ensure_ascii=False)
    EXPECTED.write_text(text + "\n", encoding="utf-8")
    print(f"recorded {len(result.theorems)} theorems in {EXPECTED.name}: review the difference.")
    return 0


def _tape(options: argparse.Namespace) -> int:
    return _linked(lambda: links.check_tapes(progress=print))


def _certificates(options: argparse.Namespace) -> int:
    return _linked(lambda: links.certify(progress=print))


def _linked(confirm: Callable[[], None]) -> int:
    if coq.version() is None:
        print(f"not checked: there is no Coq; install it with `{coq.INSTALL}`")
        return _skipped()
    try:
        confirm()
    except coq.CoqError as error:
        print(f"REFUSED: {error}")
        return 1
    return 0


def _mutants(options: argparse.Namespace) -> int:
    alive = survivors(progress=print)
    print(f"{len(alive)} survived.")
    return 1 if alive else 0


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tinygrad_rnn.proofs.formal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    auditing = commands.add_parser("audit")
    auditing.add_argument("--quick", action="store_true")
    auditing.add_argument("--record", action="store_true")
    auditing.add_argument("--json")
    auditing.set_defaults(run=_audit)
    commands.add_parser("tape").set_defaults(run=_tape)
    commands.add_parser("certificates").set_defaults(run=_certificates)
    commands.add_parser("mutants").set_defaults(run=_mutants)
    options = parser.parse_args()
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
