(** * What vanishes, and what does not.

    Serves V-2, V-3, V-4, V-5, V-7, B-7. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Scalar.
Open Scope R_scope.

(** ** B-7 (c): gamma |w_h| > 1 does not make gradients explode: a saturated network *)

Lemma tanh'_cosh (t : R) : 1 - tanh t ^ 2 = / (cosh t ^ 2).
Proof.
  unfold tanh. pose proof (cosh_pos t) as Hc.
  assert (H : cosh t ^ 2 - sinh t ^ 2 = 1).
  { assert (He : exp t * exp (- t) = 1) by (rewrite <- exp_plus, Rplus_opp_r; apply exp_0).
    transitivity (exp t * exp (- t)); [unfold cosh, sinh; field | exact He]. }
  transitivity ((cosh t ^ 2 - sinh t ^ 2) / cosh t ^ 2); [field; lra | rewrite H; field; lra].
Qed.

Lemma tanh'_small (t : R) : 8 <= t -> 1 - tanh t ^ 2 <= / 4.
Proof.
  intro H. rewrite tanh'_cosh.
  assert (Hc : 2 <= cosh t).
  { unfold cosh. pose proof (exp_ineq1 t ltac:(lra)). pose proof (exp_pos (- t)). lra. }
  apply Rinv_le_contravar; nra.
Qed.

Theorem saturated_rnn_vanishes :
  is_lim_seq (fun n => Derive (fun s => out tanh (fun _ => 10) 1 2 s n) 0) 0.
Proof.
  set (x := fun _ : nat => 10).
  apply is_lim_seq_0_of_bound with (/ 2); [lra|]. intro n.
  rewrite (is_derive_unique _ _ _ (chain_product tanh _ is_derive_tanh x 1 2 0 n)).
  apply prodR_bound. intros k _. unfold J. rewrite Rabs_mult.
  assert (Ho : -1 <= out tanh x 1 2 0 k <= 1).
  { destruct k; simpl; [lra | destruct (tanh_range (x k * 1 + out tanh x 1 2 0 k * 2)); lra]. }
  assert (Hp : 8 <= pre tanh x 1 2 0 k) by (unfold pre, x in *; lra).
  apply tanh'_small in Hp. destruct (tanh'_bound (pre tanh x 1 2 0 k)).
  rewrite (Rabs_pos_eq (1 - _)), (Rabs_pos_eq 2) by lra. lra.
Qed.

(** ** V-3: the error of truncated BPTT *)

Lemma geom_tail (rho : R) (n m : nat) : 0 < rho < 1 -> (m <= n)%nat ->
  sumR (fun j => rho ^ (n - S j)) m <= rho ^ (n - m) / (1 - rho).
Proof.
  intros Hr. induction m; intros Hm; simpl.
  - apply Rmult_le_pos; [apply pow_le; lra | left; apply Rinv_0_lt_compat; lra].
  - eapply Rle_trans; [apply Rplus_le_compat_r, IHm; lia|].
    replace (n - m)%nat with (S (n - S m)) by lia. simpl.
    right. field. lra.
Qed.

(** Keep only the last K immediate terms. *)
Definition truncated (A imm : nat -> R) (n K : nat) : R :=
  sumR (fun j => if (j <? n - K)%nat then 0 else prd A (S j) n * imm j) n.

Definition dropped (A imm : nat -> R) (n K : nat) : R :=
  sumR (fun j => prd A (S j) n * imm j) (n - K).

Lemma split_truncated (A imm : nat -> R) (n K : nat) :
  sumR (fun j => prd A (S j) n * imm j) n - truncated A imm n K = dropped A imm n K.
Proof.
  unfold truncated, dropped.
  set (F := fun j => prd A (S j) n * imm j). set (M := (n - K)%nat).
  enough (H : forall m, sumR F m - sumR (fun j => if (j <? M)%nat then 0 else F j) m
                        = sumR F (Nat.min m M)).
  { rewrite H. f_equal. lia. }
  induction m; simpl; [ring|].
  destruct (Nat.ltb_spec m M).
  - rewrite Nat.min_l in IHm by lia. destruct M; [lia|]. 
    rewrite Nat.min_l by lia. simpl. lra.
  - rewrite Nat.min_r in IHm by lia. destruct M; simpl in *; [lra|].
    rewrite Nat.min_r by lia. simpl in *. lra.
Qed.

Theorem truncation_error (A imm : nat -> R) (rho c : R) (n K : nat) :
  0 < rho < 1 -> (K <= n)%nat ->
  (forall k, Rabs (A k) <= rho) -> (forall k, Rabs (imm k) <= c) ->
  Rabs (sumR (fun j => prd A (S j) n * imm j) n - truncated A imm n K)
    <= c * rho ^ K / (1 - rho).
Proof.
  intros Hr HK HA Hi. rewrite split_truncated. unfold dropped.
  assert (Hc : 0 <= c) by (eapply Rle_trans; [apply Rabs_pos | apply (Hi 0%nat)]).
  eapply Rle_trans; [apply sumR_abs|].
  eapply Rle_trans.
  - apply sumR_le with (g := fun j => c * rho ^ (n - S j)). intros j _.
    rewrite Rabs_mult, Rmult_comm.
    apply Rmult_le_compat; auto using Rabs_pos. now apply prd_bound.
  - rewrite <- sumR_scal. unfold Rdiv. rewrite Rmult_assoc.
    apply Rmult_le_compat_l; [exact Hc|].
    replace (rho ^ K) with (rho ^ (n - (n - K))) by (f_equal; lia).
    apply geom_tail; [exact Hr | lia].
Qed.

(** For the scalar tanh RNN with |wh| < 1 and |x| <= X. *)
Theorem tanh_rnn_truncation x wi wh o0 X n K :
  0 < Rabs wh < 1 -> (K <= n)%nat -> (forall k, Rabs (x k) <= X) ->
  Rabs (Derive (fun w => out tanh x w wh o0 n) wi
        - truncated (J tanh (fun t => 1 - tanh t ^ 2) x wi wh o0)
                    (imm_wi tanh (fun t => 1 - tanh t ^ 2) x wi wh o0) n K)
  <= X * Rabs wh ^ K / (1 - Rabs wh).
Proof.
  intros Hw HK Hx.
  rewrite (is_derive_unique _ _ _ (bptt_wi tanh _ is_derive_tanh x wi wh o0 n)).
  unfold bptt. apply truncation_error; try assumption.
  - intro k. unfold J. rewrite Rabs_mult.
    pose proof (tanh'_bound (pre tanh x wi wh o0 k)) as Hb.
    rewrite (Rabs_pos_eq (1 - _)) by lra.
    pose proof (Rabs_pos wh). nra.
  - intro k. unfold imm_wi. rewrite Rabs_mult.
    pose proof (tanh'_bound (pre tanh x wi wh o0 k)) as Hb.
    rewrite (Rabs_pos_eq (1 - _)) by lra.
    specialize (Hx k). pose proof (Rabs_pos (x k)). nra.
Qed.
