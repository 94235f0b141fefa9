"""What ties the Coq development to the code that runs: recorded tapes, and certified gradients.

`check_tapes`: the tape that the engine records of a one-unit RNN is the one of Unrolled.v, whose
backward pass is proved to return the sum of BPTT. `certify`: a float64 gradient lies within 1e-13
of the true derivative, as Coq computes with intervals on the recorded tape (Certificate.v).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from tinygrad_rnn import GRUCell, LSTMCell, RNNCell

from . import coq
from .audit import ALLOWED
from .tapes import Network, Tape, recorded_tape

TAPES = ("Toolbox", "Activations", "Scalar", "Tape", "Unrolled")
CERTIFICATES = (*TAPES, "Certificate")
LENGTHS = (1, 2, 3, 10)
NETWORKS = {
    "RNN": Network(RNNCell(D=1, H=1), T=10),
    "GRU": Network(GRUCell(D=1, H=2), T=3),
    "LSTM": Network(LSTMCell(D=1, H=2), T=3),
}
TOLERANCE = Fraction(1, 10**13)

_HEADER = """From Coq Require Import Reals List ZArith Lia.
From Coquelicot Require Import Coquelicot.
From TG Require Import {}.
Import ListNotations.
"""


def check_tapes(
    tapes: dict[int, Tape] | None = None, progress: Callable[[str], None] = lambda what: None
) -> None:
    """Let Coq confirm that tapes, by length, are those of Unrolled.v; by default the engine's.

    Raises
    ------
    CoqError
        If a recorded tape is another.
    """
    if tapes is None:
        tapes = {T: recorded_tape(*Network(RNNCell(D=1, H=1), T).record()) for T in LENGTHS}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        coq.build(coq.HERE, scratch, TAPES)
        compile_source(scratch, "Recorded", tapes_source(tapes))
    for T, tape in tapes.items():
        progress(f"RNN, {T} steps: the {len(tape.instructions)} instructions are the model's.")


def tapes_source(tapes: dict[int, Tape]) -> str:
    """Return the module that says that the tape of every length is the model's."""
    goals = [
        f"Goal {instructions(tape)} = engine_tape {T} /\\ {tape.output}%nat = engine_loss {T}.\n"
        "Proof. split; reflexivity. Qed.\n"
        for T, tape in tapes.items()
    ]
    return _HEADER.format("Tape Unrolled") + "".join(goals)


def certify(
    networks: dict[str, Network] = NETWORKS, progress: Callable[[str], None] = lambda what: None
) -> None:
    """Let Coq prove that every road's gradient of every network is near the true derivative.

    Raises
    ------
    CoqError
        If one is not, or if a proof rests on more than the axioms of the audit.
    """
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        coq.build(coq.HERE, scratch, CERTIFICATES)
        for network, problem in networks.items():
            gradients = dict(problem.gradients())
            source = certificate_source(recorded_tape(*problem.record()), gradients)
            compile_source(scratch, network, source)
            names = [f"{network}.{road}" for road in gradients]
            _, axioms, _ = coq.interrogate(
                scratch, (*CERTIFICATES, network), names, [], together=True
            )
            foreign = {a for found in axioms.values() for a in found} - ALLOWED
            if foreign:
                raise coq.CoqError(f"{network} rests on {', '.join(sorted(foreign))}.")
            for road, gradient in gradients.items():
                progress(
                    f"{network}, {problem.T} steps: each of {len(gradient)} derivatives by the "
                    f"{road} is within {float(TOLERANCE)} of the true one."
                )


def certificate_source(tape: Tape, gradients: dict[str, list[float]]) -> str:
    """Return the module with a tape, its inputs, gradients, and a theorem for each of these."""
    d = len(tape.inputs)
    tolerance = f"({TOLERANCE.numerator}, {TOLERANCE.denominator})%Z"
    parts = [
        _HEADER.format("Tape Certificate"),
        f"Definition tape : list instr := {instructions(tape)}.\n",
        f"Definition given : list (Z * Z) := {rationals(tape.inputs)}.\n",
    ]
    for road, gradient in gradients.items():
        parts.append(
            f"Definition by_{road} : list (Z * Z) := {rationals(gradient)}.\n"
            f"Theorem {road} i : (i < {len(gradient)})%nat -> exists d,\n"
            f"  is_derive (fun t : R => run tape {d} (upd (inputs given) i t) {tape.output})\n"
            "    (inputs given i) d /\\\n"
            f"  (Rabs (d - rat (nth i by_{road} (0, 1)%Z)) <= rat {tolerance})%R.\n"
            f"Proof. apply (gradient_certificate _ tape given _ by_{road}). "
            "vm_cast_no_check (eq_refl true). Qed.\n"
        )
    return "".join(parts)


def compile_source(scratch: Path, module: str, source: str) -> None:
    """Compile a module written here, beside those it needs."""
    (scratch / f"{module}.v").write_text(source, encoding="utf-8")
    coq.compile_module(scratch, module)


def instructions(tape: Tape) -> str:
    """Return a tape as a term of Coq."""
    return _list(f"{name} {' '.join(map(str, cells))}" for name, cells in tape.instructions)


def rationals(values: Sequence[float] | Sequence[Fraction]) -> str:
    """Return numbers, exactly, as a list of numerators and denominators."""
    exact = map(Fraction, values)
    return _list(f"({q.numerator}, {q.denominator})" for q in exact) + "%Z"


def _list(items: Iterable[str]) -> str:
    return "[" + "; ".join(items) + "]"
