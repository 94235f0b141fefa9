(** * Losses on logits.

    Serves L-1, L-2. *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations.
Open Scope R_scope.

(** ** L-1: binary cross-entropy *)
Definition bce (y z : R) : R := - y * ln (sigmoid z) - (1 - y) * ln (1 - sigmoid z).
Definition softplus (z : R) : R := ln (1 + exp z).

Theorem bce_is_softplus (y z : R) : bce y z = softplus z - y * z.
Proof.
  unfold bce, softplus. rewrite <- sigmoid_opp. unfold sigmoid. rewrite Ropp_involutive.
  pose proof (exp_pos z). pose proof (exp_pos (- z)).
  rewrite 2!ln_Rinv by lra.
  replace (1 + exp (- z)) with ((1 + exp z) * exp (- z)).
  - rewrite ln_mult, ln_exp by lra. ring.
  - rewrite Rmult_plus_distr_r, <- exp_plus, Rplus_opp_r, exp_0. ring.
Qed.

Lemma is_derive_softplus (z : R) : is_derive softplus z (sigmoid z).
Proof.
  unfold softplus, sigmoid. pose proof (exp_pos z).
  auto_derive; [lra|]. rewrite exp_Ropp. field. lra.
Qed.

Theorem bce_gradient (y z : R) : is_derive (bce y) z (sigmoid z - y).
Proof.
  apply (D_ext (fun z => softplus z - y * z)); [intro; symmetry; apply bce_is_softplus|].
  eapply D_eq.
  - apply D_minus; [apply is_derive_softplus | apply D_scal, D_id].
  - ring.
Qed.

Theorem bce_gradient_range (y z : R) : 0 <= y <= 1 -> -1 < sigmoid z - y < 1.
Proof. destruct (sigmoid_range z). lra. Qed.

Theorem bce_curvature (y z : R) :
  is_derive (fun z => sigmoid z - y) z (sigmoid z * (1 - sigmoid z)) /\
  0 < sigmoid z * (1 - sigmoid z) <= / 4.
Proof.
  split; [|apply sigmoid'_bound].
  eapply D_eq; [apply D_minus; [apply is_derive_sigmoid | apply D_const] | ring].
Qed.

(** Convex: above each of its tangents. *)
Theorem bce_convex (y z w : R) : bce y z + (sigmoid z - y) * (w - z) <= bce y w.
Proof.
  destruct (MVT_gen (bce y) z w (fun t => sigmoid t - y)) as [c [Hc E]].
  - intros; apply bce_gradient.
  - intros t _. apply continuity_pt_filterlim, (ex_derive_continuous (bce y)).
    eexists; apply bce_gradient.
  - assert (mono : forall a b, a <= b -> sigmoid a <= sigmoid b).
    { intros a b Hab. unfold sigmoid. pose proof (exp_pos (- a)). pose proof (exp_pos (- b)).
      apply Rinv_le_contravar; [lra|]. apply Rplus_le_compat_l.
      destruct (Req_dec a b) as [->|]; [lra|]. left. apply exp_increasing. lra. }
    revert Hc. unfold Rmin, Rmax. destruct (Rle_dec z w); intros Hc.
    + assert (sigmoid z <= sigmoid c) by (apply mono; lra). nra.
    + assert (sigmoid c <= sigmoid z) by (apply mono; lra). nra.
Qed.

(** ** L-2: softmax and cross-entropy *)
Section Softmax.
Variable C : nat.                                        (* classes *)
Definition total_exp (z : vec) : R := sumR (fun k => exp (z k)) C.
Definition softmax (z : vec) : vec := fun k => exp (z k) / total_exp z.
Definition cross_entropy (q z : vec) : R := - sumR (fun k => q k * ln (softmax z k)) C.

Hypothesis C_pos : (0 < C)%nat.

Lemma total_exp_pos z : 0 < total_exp z.
Proof.
  apply Rlt_le_trans with (exp (z O)); [apply exp_pos|].
  apply (sumR_term_le (fun k => exp (z k))); [intros; left; apply exp_pos | exact C_pos].
Qed.

Theorem softmax_is_distribution z :
  (forall k, 0 < softmax z k) /\ sumR (softmax z) C = 1.
Proof.
  pose proof (total_exp_pos z). split.
  - intro k. apply Rdiv_lt_0_compat; [apply exp_pos | assumption].
  - unfold softmax. rewrite (sumR_ext _ (fun k => / total_exp z * exp (z k))) by (intros; unfold Rdiv; ring).
    rewrite <- sumR_scal. fold (total_exp z). field. lra.
Qed.

Lemma cross_entropy_is_logsumexp q z : sumR q C = 1 ->
  cross_entropy q z = ln (total_exp z) - dot C q z.
Proof.
  intro Hq. unfold cross_entropy. pose proof (total_exp_pos z) as Ht.
  rewrite (sumR_ext _ (fun k => q k * z k - ln (total_exp z) * q k)).
  - rewrite sumR_minus, <- sumR_scal, Hq. unfold dot. ring.
  - intros k _. unfold softmax. rewrite ln_div, ln_exp by (exact Ht || apply exp_pos). ring.
Qed.

(** The gradient along any path of logits: (p - q) . dz. *)
Theorem cross_entropy_gradient q (z : R -> vec) dz t0 : sumR q C = 1 ->
  (forall k, (k < C)%nat -> is_derive (fun t => z t k) t0 (dz k)) ->
  is_derive (fun t => cross_entropy q (z t)) t0 (dot C (fun k => softmax (z t0) k - q k) dz).
Proof.
  intros Hq Hz. pose proof (total_exp_pos (z t0)) as Ht.
  apply (D_ext (fun t => ln (total_exp (z t)) - dot C q (z t))).
  { intro t. symmetry. now apply cross_entropy_is_logsumexp. }
  assert (Dexp : is_derive (fun t => total_exp (z t)) t0 (sumR (fun k => exp (z t0 k) * dz k) C)).
  { apply (sumR_derive (fun k t => exp (z t k))). intros k Hk.
    apply (D_comp exp (fun t => z t k)); [apply is_derive_exp | now apply Hz]. }
  eapply D_eq.
  - apply D_minus.
    + apply (D_comp ln (fun t => total_exp (z t))); [|exact Dexp].
      apply is_derive_ln. exact Ht.
    + apply (sumR_derive (fun k t => q k * z t k)). intros k Hk. apply D_scal. now apply Hz.
  - unfold dot. rewrite sumR_scal, <- sumR_minus. apply sumR_ext. intros k _.
    unfold softmax. field. lra.
Qed.

(** Its entries sum to 0, and it is short. *)
Theorem cross_entropy_gradient_size q z : sumR q C = 1 -> (forall k, 0 <= q k) ->
  let g := fun k => softmax z k - q k in
  sumR g C = 0 /\ sumR (fun k => Rabs (g k)) C <= 2 /\ dot C g g <= 2.
Proof.
  intros Hq Hp g. destruct (softmax_is_distribution z) as [Hs Hsum].
  assert (one : forall u : vec, (forall k, 0 <= u k) -> sumR u C = 1 ->
            forall k, (k < C)%nat -> u k <= 1).
  { intros u Hu Hu1 k Hk. rewrite <- Hu1. apply sumR_term_le; auto. }
  assert (Hs0 : forall k, 0 <= softmax z k) by (intro k; left; apply Hs).
  split; [|split].
  - unfold g. rewrite sumR_minus. lra.
  - apply Rle_trans with (sumR (fun k => softmax z k + q k) C).
    + apply sumR_le. intros k _. unfold g. specialize (Hs0 k). specialize (Hp k).
      apply Rabs_le. lra.
    + rewrite sumR_plus. lra.
  - apply Rle_trans with (sumR (fun k => softmax z k + q k) C).
    + apply sumR_le. intros k Hk. unfold g.
      pose proof (one _ Hs0 Hsum k Hk). pose proof (one q Hp Hq k Hk).
      specialize (Hs0 k). specialize (Hp k). nra.
    + rewrite sumR_plus. lra.
Qed.
End Softmax.
