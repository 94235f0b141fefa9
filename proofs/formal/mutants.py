"""Planted mistakes: each changes a definition or a statement, and must break a proof.

That a mutant does not compile shows that these proofs do not prove it, which is what an audit
needs to be worth something.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from . import coq


class Mutant(NamedTuple):
    """In ``module``, the first ``old`` after ``where`` becomes ``new``."""

    module: str
    where: str
    old: str
    new: str


MUTANTS = (
    # activations and losses
    Mutant("Activations", "Theorem sigmoid'_bound", "<= / 4", "<= / 5"),
    Mutant("Activations", "Theorem is_derive_tanh ", "1 - tanh x ^ 2", "1 - tanh x"),
    Mutant("Activations", "Theorem tanh''_bound", "16 / 27", "15 / 27"),
    Mutant("Activations", "Definition leaky_step", "then 1 else a", "then a else 1"),
    Mutant("Activations", "Theorem tanh''_abs", "4 / (3", "4 / (4"),
    Mutant("Activations", "Theorem sigmoid'_saturation_sharp", "1 - 2 * exp", "1 - exp"),
    Mutant("Losses", "Definition bce", "(1 - y) * ln", "(1 + y) * ln"),
    Mutant("Losses", "Theorem bce_gradient ", "sigmoid z - y", "y - sigmoid z"),
    Mutant("Losses", "Definition softmax", "/ total_exp z", "/ (1 + total_exp z)"),
    # recurrences
    Mutant("Recurrence", "Fixpoint product", "mm n (J (i + k)%nat) (product i k)",
           "mm n (product i k) (J (i + k)%nat)"),
    Mutant("Recurrence", "Fixpoint horner", "B k i q + mm", "mm"),
    Mutant("Recurrence", "Definition lags", "product (S j) (k - S j)", "product j (k - j)"),
    Mutant("Recurrence", "Definition adjoint", "(J k) i)", "(tr (J k)) i)"),
    Mutant("Recurrence", "Theorem total_derivatives_overcount", "INR (k - j) *", "INR (k - S j) *"),
    Mutant("Recurrence", "Fixpoint push", "mv p (B k) dtheta i", "0"),
    Mutant("Recurrence", "Theorem bptt_by_copy", "dot n (lambda (S i))", "dot n (lambda i)"),
    # cells
    Mutant("Network", "Definition jacobian", "* Wh j i", "* Wh i j"),
    Mutant("Network", "Definition jacobian", "phi' (pre", "phi (pre"),
    Mutant("Network", "Theorem bptt_W_h", "h k i * (lambda", "h (S k) i * (lambda"),
    Mutant("Network", "Theorem immediate_W_x", "* x k else", "* x j else"),
    Mutant("Gates", "Definition gru_jacobian", "- h i) * dsigmoid", ") * dsigmoid"),
    Mutant("Gates", "Definition K_before", "reset h k * idm k j + ", ""),
    Mutant("Gates", "Definition K_after", "Wr j i", "Wr i j"),
    Mutant("Gates", "Definition block_A", "+ gate_i h c k * dtanh (gate_g h k) * Wg j k", ""),
    Mutant("Gates", "Definition lstm_jacobian", "block n idm (block_E h c') zero idm",
           "block n idm zero (block_E h c') idm"),
    # bounds
    Mutant("Scalar", "Definition bptt ", "prd J (S j) n", "prd J j n"),
    Mutant("Scalar", "Fixpoint back ", "(d * J k)", "d"),
    Mutant("Scalar", "Theorem three_steps_by_W", "s2 * (H1 W U", "s2 * (H2 W U"),
    Mutant("Norms", "Theorem one_column_bounded", "Rabs (c O) <= 1", "Rabs (c O) <= 2"),
    Mutant("Lags", "Theorem loss_gradient_bound", "norm_inf n delta.", "norm_inf n delta / 2."),
    Mutant("Lags", "Theorem lag_bound", "^ (T - S k).", "^ (T - k)."),
    Mutant("Lags", "Theorem orthogonal_upper", "* norm2 n delta.", "* norm2 n delta / 2."),
    Mutant("Lags", "Theorem long_lags_dominate", "q ^ (T - K)", "q ^ S (T - K)"),
    Mutant("Lags", "Theorem tail_of_powers", "q ^ K - q ^ T", "q ^ S K - q ^ T"),
    Mutant("Norms", "Theorem global_bound", "(gamma * omega) ^ d", "(gamma * omega) ^ S d"),
    Mutant("Norms", "Theorem growth_needs", "1 < gamma * omega", "2 < gamma * omega"),
    Mutant("Invariants", "Theorem lstm_memory_growth", "Rabs c0 + INR k", "Rabs c0 + 1"),
    Mutant("Invariants", "Theorem gru_jacobian_bound", "zeta / 2", "zeta / 3"),
    Mutant("Invariants", "Hypothesis margin", "(1 - f) * (1 - g)", "1 - f * g"),
    Mutant("Vanishing", "Theorem factors_below_one ", "INR n + 2) /", "INR n + 1) /"),
    Mutant("Vanishing", "Theorem sum_of_lags_limit", "(1 - w) ^ 2).", "(1 - w) ^ 3)."),
    Mutant("Vanishing", "Theorem relu_unit_derivative", "(g ^ n *", "("),
    Mutant("Vanishing", "Definition above_one", "INR k + 1", "INR k + / 2"),
    Mutant("Invariants", "Theorem half_life_bounds", "exp b + / 2", "exp b + / 3"),
    Mutant("Invariants", "Theorem left_after", "/ 4 <=", "/ 3 <="),
    Mutant("Differences", "Theorem central_difference_error", "h ^ 2 / 6", "h ^ 2 / 7"),
    # clipping
    Mutant("Clipping", "Definition factor", "theta / norm2 n g", "theta / (1 + norm2 n g)"),
    Mutant("Clipping", "Definition one_sided", "else x", "else Rmax (- theta) x"),
    Mutant("Clipping", "Theorem vclip_descent ", "theta * norm2 n g", "2 * theta * norm2 n g"),
    Mutant("Clipping", "Theorem vclip_cosine_sharp", "(1 + INR m", "(INR m"),
    Mutant("Clipping", "Theorem vclip_cosine ", "sqrt (INR n) *", "1 *"),
    # tapes
    Mutant("Tape", "Fixpoint scatter", "(a i + s * c)", "(s * c)"),
    Mutant("Tape", "Definition partials", "(i, m j); (j, m i)", "(i, m i); (j, m j)"),
    Mutant("Tape", "Definition partials", "(j, -1)", "(j, 1)"),
    Mutant("Tensors", "Fixpoint bwd", "a i + vjp", "vjp"),
    Mutant("Unrolled", "Fixpoint rnn_tape", "IMul k T", "IMul (S k) T"),
    Mutant("Unrolled", "Definition phi' ", "tanh (t + b)", "tanh t"),
    Mutant("Certificate", "Definition itanh", "(I.fromZ bits 2)", "(I.fromZ bits 3)"),
    Mutant("Certificate", "Definition ipartials", "(i, m j); (j, m i)", "(i, m i); (j, m j)"),
    Mutant("Certificate", "Definition near", "I.abs (I.sub", "I.neg (I.sub"),
)  # fmt: skip


def plant(mutant: Mutant, text: str) -> str:
    """Return the source with the mistake in it."""
    start = text.index(mutant.where)
    return text[:start] + text[start:].replace(mutant.old, mutant.new, 1)


def _compiles(mutant: Mutant, scratch: Path) -> bool:
    """Compile the mutated module and, as long as that goes well, those after it."""
    try:
        for module in coq.MODULES[coq.MODULES.index(mutant.module) :]:
            coq.compile_module(scratch, module)
    except coq.CoqError as error:
        if "Syntax error" in str(error):
            raise  # this mistake says nothing
        return False
    return True


def survivors(
    mutants: tuple[Mutant, ...] = MUTANTS, progress: Callable[[str], None] = lambda what: None
) -> list[Mutant]:
    """Return the mutants that compile."""
    alive = []
    with tempfile.TemporaryDirectory() as name:
        base, scratch = Path(name) / "base", Path(name) / "mutant"
        base.mkdir()
        coq.build(coq.HERE, base, coq.MODULES)
        for mutant in mutants:
            shutil.rmtree(scratch, ignore_errors=True)
            shutil.copytree(base, scratch)
            source = scratch / f"{mutant.module}.v"
            right = source.read_text(encoding="utf-8")
            wrong = plant(mutant, right)
            if wrong == right:
                raise ValueError(f"{mutant} changes nothing.")
            source.write_text(wrong, encoding="utf-8")
            if _compiles(mutant, scratch):
                alive.append(mutant)
            fate = "SURVIVED" if alive and alive[-1] is mutant else "killed"
            progress(f"{fate}: {mutant.where.strip()}: {mutant.old} -> {mutant.new or 'nothing'}")
    return alive
