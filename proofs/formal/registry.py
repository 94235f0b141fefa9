"""Which theorems of the Coq development serve which theorem of the catalogue.

An id counts as proved only if its Coq theorems say all that its statement says, over the reals; a
*gap* names what they leave out, and an id with a gap is proved in part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .audit import Audit


@dataclass(frozen=True)
class Formal:
    """The Coq theorems behind one id, and what they do not show of it."""

    theorems: tuple[str, ...]
    gap: str = ""


def _of(module: str, names: str, gap: str = "") -> Formal:
    return Formal(tuple(f"{module}.{name}" for name in names.split()), gap)


def _all(*parts: Formal, gap: str = "") -> Formal:
    return Formal(tuple(name for part in parts for name in part.theorems), gap)


FORMAL: dict[str, Formal] = {
    "A-1": _of(
        "Activations",
        "is_derive_tanh tanh'_bound tanh'_attained tanh'_attained_only_at_0 is_derive_tanh' "
        "lipschitz_of_derive tanh_lipschitz",
    ),
    "A-2": _of(
        "Activations",
        "is_derive_sigmoid sigmoid'_bound sigmoid'_attained sigmoid'_attained_only_at_0 "
        "is_derive_sigmoid' sigmoid_opp sigmoid_is_tanh sigmoid_lipschitz",
    ),
    "A-3": _of(
        "Activations",
        "is_derive_tanh' tanh''_bound tanh''_attained tanh''_abs is_derive_sigmoid' "
        "sigmoid''_bound sigmoid''_is_tanh'' sigmoid''_abs tanh'_lipschitz sigmoid'_lipschitz",
    ),
    "A-4": _of(
        "Activations",
        "sigmoid'_saturates sigmoid'_attained sigmoid'_saturation_sharp tanh'_saturates "
        "tanh'_attained tanh'_saturation_sharp",
    ),
    "A-5": _of(
        "Activations",
        "is_derive_leaky_pos is_derive_leaky_neg leaky_lipschitz relu_lipschitz "
        "leaky_step_is_mask leaky_locally_linear leaky_euler leaky_step_at_0 product_of_masks",
    ),
    "L-1": _of(
        "Losses", "bce_is_softplus bce_gradient bce_gradient_range bce_curvature bce_convex"
    ),
    "L-2": _of(
        "Losses", "softmax_is_distribution cross_entropy_gradient cross_entropy_gradient_size"
    ),
    "J-1": _all(
        _of(
            "Network",
            "jacobian_is_diagonal_times_transpose step_by_state step_by_input immediate_W_h "
            "immediate_W_x immediate_b",
        ),
        _of("Scalar", "step_jacobian"),
        gap="the activation is differentiable everywhere: a ReLU at its kink is not covered",
    ),
    "J-2": _of(
        "Network",
        "step_by_state preactivation_jacobian missing_transpose_error missing_transpose_lower",
    ),
    "J-3": _of("Gates", "gru_minimal_jacobian"),
    "J-4": _of("Gates", "gru_before_jacobian gru_after_jacobian"),
    "J-5": _of("Gates", "lstm_jacobian_factors no_peephole_blocks"),
    "J-6": _of("Gates", "lstm_jacobian_factors"),
    "J-7": _of("Gates", "lstm_determinant_one_unit", gap="one unit only"),
    "C-1": _all(
        _of("Recurrence", "chain_rule_through_time product_semigroup"),
        _of("Network", "states_by_initial_state"),
        _of("Gates", "gru_chain lstm_chain"),
        _of("Scalar", "chain_product"),
    ),
    "C-2": _of("Recurrence", "bptt sweep_is_adjoint total_derivative bptt_is_rtrl"),
    "C-3": _of("Recurrence", "total_derivative horner_is_sum bptt bptt_is_double_sum bptt_by_copy"),
    "C-4": _of("Recurrence", "total_derivatives_overcount"),
    "C-5": _all(
        _of("Recurrence", "horner_is_sum bptt_is_rtrl bptt_is_double_sum sweep_is_adjoint"),
        _of("Network", "bptt_W_h bptt_W_x bptt_b"),
        _of("Scalar", "bptt_wi bptt_wh backward_pass_wi backward_pass_wh bptt_loss_wh"),
        _of("Scalar", "three_steps_by_W three_steps_by_U"),
        _of("Unrolled", "engine_computes_state engine_computes_bptt_wi engine_computes_bptt"),
    ),
    "C-6": _all(
        _of("Recurrence", "forward_and_backward_are_transposes"),
        _of("Tensors", "backward_total_derivative map_op_ok matvec_op_ok tanh_layer_ok"),
        _of("Tape", "tree_reverse_mode_correct tape_total_derivative tape_reverse_mode_correct"),
        _of("Certificate", "gradient_certificate"),
    ),
    "B-1": _all(
        _of("Norms", "norm1_absolute norm2_absolute norm_inf_absolute global_bound"),
        _of("Norms", "cauchy_schwarz frobenius_bounds_operator"),
        _of("Operators", "product_bound ops_bound"),
        _of("Scalar", "chain_bound tanh_rnn_chain_bound"),
    ),
    "B-2": _of("Norms", "product_of_norms local_bound local_bound_is_tighter"),
    "B-5": _all(
        _of("Norms", "vanishing halved_after"),
        _of("Operators", "product_vanishes ops_vanish"),
        _of("Lags", "loss_gradient_bound"),
        _of("Scalar", "vanishing not_vanishing_needs tanh_rnn_vanishing sigmoid_rnn_vanishing"),
    ),
    "B-6": _all(
        _of("Norms", "growth_needs"),
        _of("Operators", "explosion_needs unbounded_needs"),
        _of("Scalar", "exploding_needs linear_rnn_exact"),
    ),
    "B-7": _all(
        _of("Norms", "triangular_product_is_zero one_column_bounded saturated_vanishes"),
        _of("Vanishing", "saturated_rnn_vanishes"),
    ),
    "B-8": _of(
        "Norms",
        "nilpotent_eigenvalues nilpotent_grows spiral_squares_to_zero spiral_explodes",
        gap="that inputs can pin the preactivations is not stated",
    ),
    "B-9": _of(
        "Norms", "entrywise_bound", gap="that the powers of |W| then vanish (Gelfand) is not stated"
    ),
    "V-1": _all(
        _of("Lags", "lag_bound"),
        _of("Recurrence", "bptt_is_double_sum"),
        _of("Network", "bptt_W_h bptt_W_x bptt_b"),
    ),
    "V-2": _all(
        _of("Vanishing", "running_sum_derivative sum_of_lags sum_of_lags_between"),
        _of("Vanishing", "sum_of_lags_limit longest_lag"),
        _of("Lags", "tail_bound tail_of_powers all_powers_below"),
    ),
    "V-3": _all(
        _of("Lags", "tail_bound tail_of_powers row_bound"),
        _of("Recurrence", "bptt_is_double_sum"),
        _of("Network", "bptt_W_h bptt_W_x bptt_b"),
        _of("Vanishing", "truncation_error tanh_rnn_truncation"),
    ),
    "V-4": _all(
        _of("Lags", "scaled_orthogonal_terms short_lags_dominate long_lags_dominate"),
        _of("Vanishing", "share_of_long_lags"),
    ),
    "V-5": _of(
        "Vanishing",
        "latching_vanishes",
        gap="that the slope at the fixed point is below 1; nothing of the way there",
    ),
    "V-7": _of(
        "Vanishing",
        "factors_below_one factors_below_one_do_not_vanish factors_above_one_lower "
        "factors_above_one_upper factors_above_one_do_not_explode",
        gap="that a tanh unit has such factors, and that sinh π/π is the limit",
    ),
    "G-5": _of(
        "Invariants",
        "comparison_contracts comparison_may_not_contract",
        gap="for the sequences of norms; the equivalence with ρ(M) < 1 is not stated",
    ),
    "G-6": _of(
        "Invariants",
        "forget_product constant_error_carousel",
        gap="gates held fixed: not the total derivative",
    ),
    "G-7": _of(
        "Invariants",
        "forget_product forget_bias_keeps forget_keeps forget_product_lower half_is_left "
        "half_life_bounds forget_bias_of_length left_after",
    ),
    "G-8": _of(
        "Invariants",
        "lstm_memory_growth lstm_memory_bounded coupled_memory_stays_in_the_box "
        "lstm_output_bounded",
        gap="that the growth is attained",
    ),
    "G-9": _of("Invariants", "gru_jacobian_bound", gap="with a bound κ on K given"),
    "G-11": _of("Invariants", "gru_contracts", gap="for |h| ≤ 1"),
    "G-13": _of("Invariants", "gru_invariant", gap="over the reals, not in floating point"),
    "K-1": _of(
        "Clipping",
        "clip_norm clip_keeps_direction clip_identity clip_idempotent clip_descends "
        "clip_obtuse_angle clip_is_projection clip_nonexpansive",
    ),
    "K-3": _of(
        "Clipping",
        "vclip_bounded vclip_identity vclip_idempotent vclip_is_projection vclip_nonexpansive "
        "vclip_changes_direction vclip_descent vclip_descent_attained vclip_cosine "
        "vclip_cosine_sharp",
    ),
    "K-4": _of(
        "Clipping",
        "one_sided_unbounded one_sided_is_no_clip one_sided_never_turns "
        "one_sided_is_projection one_sided_keeps_negatives",
    ),
    "I-1": _all(
        _of("Norms", "orthogonal_keeps_norm"), _of("Lags", "orthogonal_lower orthogonal_upper")
    ),
    "I-2": _all(
        _of("Norms", "identity_network_masks"),
        _of("Vanishing", "relu_unit_derivative irnn_passes_or_not irnn_always_active"),
        gap="where a preactivation is exactly 0, relu has no derivative",
    ),
    "N-1": _of(
        "Differences", "central_difference_error", gap="exact arithmetic: not the rounding term"
    ),
}


def evidence(id: str, result: Audit) -> dict[str, Any]:
    """Return what an audit says of a theorem of the catalogue, for `verify`'s report."""
    formal = FORMAL.get(id)
    if formal is None:
        return {"verdict": "NOT CHECKED", "coq": None, "reason": "no formal proof is registered"}
    found = {"coq": list(formal.theorems), "gap": formal.gap}
    if result.objections and not result.definitions:  # another version, or a library is missing
        why = f"does not compile with the Coq that is here: {result.objections[0].splitlines()[0]}"
        return {"verdict": "NOT CHECKED", **found, "reason": why}
    states = {name: result.theorems[name].status for name in formal.theorems}
    if "failed" in states.values():
        names = ", ".join(name for name, status in states.items() if status == "failed")
        return {"verdict": "INCONCLUSIVE", **found, "reason": f"failed in Coq: {names}"}
    if set(states.values()) != {"checked"}:
        from .coq import INSTALL

        state = ", ".join(sorted(set(states.values())))
        return {
            "verdict": "NOT CHECKED",
            **found,
            "reason": f"not checked here ({state}): install Coq with `{INSTALL}`",
        }
    if formal.gap:
        return {"verdict": "NOT CHECKED", **found, "reason": f"proved in part: {formal.gap}"}
    return {"verdict": "PROVED", **found, "reason": ""}
