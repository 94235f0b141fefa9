(** * Lags: what a cotangent becomes on its way back, and what it adds to the gradient.

    Serves B-5, I-1, V-1, V-2, V-3, V-4. The term of step k in the gradient of a weight is the
    outer product of an immediate input h_k (the state before the step, its input, or 1) and the
    row (delta P) e_k that arrives there from the loss; its Frobenius norm decays with the lag, and
    so does the tail that truncation drops. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Recurrence Norms.
Open Scope R_scope.

(** B-5, the gradient of a loss: the 1-norm of P bounds the largest entry of delta P. *)
Lemma row_by_norm1 n P c delta j : operator_bound n (norm1 n) P c -> (j < n)%nat ->
  Rabs (vm n delta P j) <= c * norm_inf n delta.
Proof.
  intros HP Hj. set (unit := fun k => if (k =? j)%nat then 1 else 0).
  assert (Hu : norm1 n unit = 1).
  { rewrite <- (sumR_pick (fun _ => 1) j n Hj). apply sumR_ext. intros k _. unfold unit.
    destruct (k =? j)%nat; [apply Rabs_R1 | apply Rabs_R0]. }
  assert (Hc : sumR (fun i => Rabs (P i j)) n <= c).
  { rewrite <- (Rmult_1_r c), <- Hu. eapply Rle_trans; [right | apply (HP unit)].
    apply sumR_ext. intros i _. f_equal. unfold mv, unit.
    rewrite <- (sumR_pick (fun k => P i k) j n Hj). apply sumR_ext. intros k _.
    destruct (k =? j)%nat; ring. }
  unfold vm. eapply Rle_trans; [apply sumR_abs|].
  apply Rle_trans with (norm_inf n delta * sumR (fun i => Rabs (P i j)) n).
  - rewrite sumR_scal. apply sumR_le. intros i Hi. rewrite Rabs_mult.
    apply Rmult_le_compat_r; [apply Rabs_pos | now apply norm_inf_entry].
  - rewrite Rmult_comm. apply Rmult_le_compat_r; [apply norm_inf_pos | exact Hc].
Qed.

Theorem loss_gradient_bound n (e : nat -> vec) (W : mat) gamma omega delta i d j :
  (forall k i, (i < n)%nat -> Rabs (e k i) <= gamma) -> 0 <= gamma -> 0 <= omega ->
  operator_bound n (norm1 n) (tr W) omega -> (j < n)%nat ->
  Rabs (vm n delta (product n (J e W) i d) j) <= (gamma * omega) ^ d * norm_inf n delta.
Proof.
  intros He Hg Ho HW. apply row_by_norm1.
  apply (global_bound n (norm1 n) (norm1_absolute n) e W); assumption.
Qed.

Lemma row_by_norm2 n P c delta : operator_bound n (norm2 n) P c ->
  norm2 n (vm n delta P) <= c * norm2 n delta.
Proof.
  intro HP. set (u := vm n delta P).
  assert (H : norm2 n u ^ 2 <= norm2 n delta * (c * norm2 n u)).
  { rewrite norm2_sqr. unfold u at 1. rewrite dot_vm.
    eapply Rle_trans; [apply dot_le_norms|].
    apply Rmult_le_compat_l; [apply norm2_pos | apply HP]. }
  pose proof (norm2_pos n u). pose proof (norm2_pos n delta).
  destruct (Req_dec (norm2 n u) 0) as [Hz|Hz].
  - pose proof (HP delta). pose proof (norm2_pos n (mv n P delta)). lra.
  - apply Rmult_le_reg_r with (norm2 n u); [lra | nra].
Qed.

(** ** Sums of outer products, p rows and n columns *)

Definition fro (p n : nat) (A : mat) : R := sqrt (sumR (fun a => dot n (A a) (A a)) p).

Lemma fro_sqr p n A : fro p n A ^ 2 = sumR (fun a => dot n (A a) (A a)) p.
Proof.
  unfold fro. rewrite pow2_sqrt; [reflexivity|].
  apply sumR_nonneg. intros; apply dot_self_pos.
Qed.

Lemma fro_bounds p n A v : norm2 p (mv n A v) <= fro p n A * norm2 n v.
Proof.
  unfold norm2, fro. rewrite <- sqrt_mult_alt by (apply sumR_nonneg; intros; apply dot_self_pos).
  apply sqrt_le_1_alt. unfold dot at 1. rewrite Rmult_comm, sumR_scal. apply sumR_le.
  intros i _. pose proof (cauchy_schwarz n (A i) v). unfold mv. fold (dot n (A i) v). nra.
Qed.

(** ||S||^2 = <S, S> is the sum of h_k . (S mu_k), and each is at most |h_k| ||S|| |mu_k|. *)
Lemma fro_of_outer p n m (h mu : nat -> vec) :
  fro p n (fun a b => sumR (fun k => h k a * mu k b) m)
  <= sumR (fun k => norm2 p (h k) * norm2 n (mu k)) m.
Proof.
  set (A := fun a b => sumR (fun k => h k a * mu k b) m).
  assert (H : fro p n A ^ 2 <= fro p n A * sumR (fun k => norm2 p (h k) * norm2 n (mu k)) m).
  { rewrite fro_sqr, sumR_scal.
    rewrite (sumR_ext _ (fun a => sumR (fun k => h k a * mv n A (mu k) a) m)).
    - rewrite sumR_swap. apply sumR_le. intros k _. fold (dot p (h k) (mv n A (mu k))).
      eapply Rle_trans; [apply dot_le_norms|].
      pose proof (fro_bounds p n A (mu k)). pose proof (norm2_pos p (h k)). nra.
    - intros a _. unfold dot, mv.
      rewrite (sumR_ext _ (fun b => sumR (fun k => h k a * (A a b * mu k b)) m)).
      + rewrite sumR_swap. apply sumR_ext. intros k _. now rewrite sumR_scal.
      + intros b _. unfold A at 2. rewrite sumR_scal. apply sumR_ext. intros; ring. }
  assert (0 <= fro p n A) by apply sqrt_pos.
  assert (0 <= sumR (fun k => norm2 p (h k) * norm2 n (mu k)) m)
    by (apply sumR_nonneg; intros; apply Rmult_le_pos; apply norm2_pos).
  destruct (Req_dec (fro p n A) 0); nra.
Qed.

(** ** The terms of a gradient *)
Section Terms.
Variables (n p : nat) (e : nat -> vec) (W : mat) (gamma omega : R) (delta : vec) (h : nat -> vec).
Hypothesis gamma_bound : forall k i, (i < n)%nat -> Rabs (e k i) <= gamma.
Hypothesis gamma_pos : 0 <= gamma.
Hypothesis omega_pos : 0 <= omega.
Hypothesis W_bound : operator_bound n (norm2 n) (tr W) omega.

(** The cotangent of the state that d steps lead from to the loss, whose own is delta. *)
Theorem row_bound i d :
  norm2 n (vm n delta (product n (J e W) i d)) <= (gamma * omega) ^ d * norm2 n delta.
Proof.
  apply row_by_norm2. apply (global_bound n (norm2 n) (norm2_absolute n) e W); assumption.
Qed.

(** What arrives at the preactivation of step k, T - 1 - k steps before the loss. *)
Definition arrives (T k : nat) : vec :=
  fun b => e k b * vm n delta (product n (J e W) (S k) (T - S k)) b.

Lemma arrives_bound T k :
  norm2 n (arrives T k) <= gamma * norm2 n delta * (gamma * omega) ^ (T - S k).
Proof.
  eapply Rle_trans.
  - apply (scaled_norm n (norm2 n) (norm2_absolute n) (e k) gamma _ gamma_pos (gamma_bound k)).
  - rewrite Rmult_assoc, (Rmult_comm (norm2 n delta)).
    apply Rmult_le_compat_l; [exact gamma_pos | apply row_bound].
Qed.

(** V-1: one term. *)
Theorem lag_bound T k : fro p n (fun a b => h k a * arrives T k b)
  <= gamma * norm2 n delta * norm2 p (h k) * (gamma * omega) ^ (T - S k).
Proof.
  pose proof (fro_of_outer p n 1 (fun _ => h k) (fun _ => arrives T k)) as H. simpl in H.
  rewrite Rplus_0_l in H.
  apply Rle_trans with (norm2 p (h k) * norm2 n (arrives T k)).
  - eapply Rle_trans; [right | exact H]. unfold fro. f_equal. apply sumR_ext. intros a _.
    apply sumR_ext. intros; ring.
  - pose proof (arrives_bound T k). pose proof (norm2_pos p (h k)). nra.
Qed.

(** V-2 (m = T) and V-3 (m = T - K): the m oldest terms together. *)
Theorem tail_bound T m M : (forall k, (k < m)%nat -> norm2 p (h k) <= M) ->
  fro p n (fun a b => sumR (fun k => h k a * arrives T k b) m)
  <= gamma * norm2 n delta * M * sumR (fun k => (gamma * omega) ^ (T - S k)) m.
Proof.
  intro HM. eapply Rle_trans; [apply fro_of_outer|]. rewrite sumR_scal. apply sumR_le.
  intros k Hk. specialize (HM k Hk). pose proof (arrives_bound T k).
  pose proof (norm2_pos p (h k)). pose proof (norm2_pos n (arrives T k)).
  apply Rle_trans with (M * (gamma * norm2 n delta * (gamma * omega) ^ (T - S k))).
  - apply Rmult_le_compat; assumption.
  - right. ring.
Qed.
End Terms.

(** The powers of the lags from K on, in closed form; for K = 0 below 1 / (1 - q). *)
Theorem tail_of_powers q T K : q <> 1 -> (K <= T)%nat ->
  sumR (fun k => q ^ (T - S k)) (T - K) = (q ^ K - q ^ T) / (1 - q).
Proof.
  intros Hq HK.
  enough (H : forall m, (m <= T)%nat ->
    sumR (fun k => q ^ (T - S k)) m = (q ^ (T - m) - q ^ T) / (1 - q)).
  { rewrite H by lia. now replace (T - (T - K))%nat with K by lia. }
  induction m; intro Hm; cbn [sumR].
  - rewrite Nat.sub_0_r. field. lra.
  - rewrite IHm by lia. replace (T - m)%nat with (S (T - S m)) by lia. cbn [pow]. field. lra.
Qed.

Corollary all_powers_below q T : 0 <= q < 1 -> (1 <= T)%nat -> 0 < q ->
  sumR (fun k => q ^ (T - S k)) T < 1 / (1 - q).
Proof.
  intros Hq HT H0. pose proof (tail_of_powers q T 0 ltac:(lra) ltac:(lia)) as H.
  rewrite Nat.sub_0_r in H. rewrite H. cbn [pow]. unfold Rdiv.
  apply Rmult_lt_compat_r; [apply Rinv_0_lt_compat; lra|].
  assert (0 < q ^ T) by now apply pow_lt. lra.
Qed.

(** ** Orthogonal weights: W_h = Q, with Q^T Q = 1, leaves all lengths to the slopes *)
Section Orthogonal.
Variables (n : nat) (Q : mat) (e : nat -> vec).
Hypothesis Q_orthogonal : orthogonal n Q.

Lemma vm_idm (u : vec) j : (j < n)%nat -> vm n u idm j = u j.
Proof.
  intro Hj. rewrite <- (sumR_pick u j n Hj). apply sumR_ext. intros i _. unfold idm.
  destruct (i =? j)%nat; ring.
Qed.

Lemma row_step delta k :
  norm2 n (vm n delta (J e Q k)) = norm2 n (fun a => e k a * delta a).
Proof.
  rewrite <- (orthogonal_step n Q (fun a => e k a * delta a) Q_orthogonal). unfold norm2. f_equal.
  apply sumR_ext. intros b _.
  replace (vm n delta (J e Q k) b) with (mv n Q (fun a => e k a * delta a) b); [reflexivity|].
  unfold mv, vm, J. apply sumR_ext. intros; ring.
Qed.

(** I-1: of every row delta, P keeps at least the product of the least slopes, and at most that of
    the greatest: these bound the least and the greatest singular value of P. *)
Theorem orthogonal_lower lo i d : forall delta,
  (forall k, 0 <= lo k) -> (forall k a, (a < n)%nat -> lo k <= Rabs (e k a)) ->
  prodR (fun k => lo (i + k)%nat) d * norm2 n delta <= norm2 n (vm n delta (product n (J e Q) i d)).
Proof.
  induction d; intros delta H0 Hlo; cbn [product prodR].
  - rewrite Rmult_1_l. right. apply (norm_ext n (norm2 n) (norm2_absolute n)).
    intros j Hj. symmetry. now apply vm_idm.
  - rewrite (norm_ext n (norm2 n) (norm2_absolute n) (vm n delta _)
      (vm n (vm n delta (J e Q (i + d)%nat)) (product n (J e Q) i d)))
      by (intros; symmetry; apply vm_mm).
    eapply Rle_trans; [|now apply IHd]. rewrite row_step.
    assert (Hp : 0 <= prodR (fun k => lo (i + k)%nat) d).
    { clear -H0. induction d; simpl; [lra | now apply Rmult_le_pos]. }
    rewrite (Rmult_comm (lo _)), Rmult_assoc. apply Rmult_le_compat_l; [exact Hp|].
    apply Rle_trans with (norm2 n (fun a => lo (i + d)%nat * delta a)).
    + unfold norm2. rewrite <- (sqrt_square (lo (i + d)%nat)) at 1 by apply H0.
      rewrite <- sqrt_mult_alt by (apply Rmult_le_pos; apply H0). right. f_equal.
      unfold dot. rewrite sumR_scal. apply sumR_ext. intros; ring.
    + apply (norm_mono n (norm2 n) (norm2_absolute n)). intros a Ha. rewrite !Rabs_mult.
      apply Rmult_le_compat_r; [apply Rabs_pos|]. rewrite Rabs_pos_eq by apply H0. now apply Hlo.
Qed.

Theorem orthogonal_upper hi i d : forall delta,
  (forall k, 0 <= hi k) -> (forall k a, (a < n)%nat -> Rabs (e k a) <= hi k) ->
  norm2 n (vm n delta (product n (J e Q) i d)) <= prodR (fun k => hi (i + k)%nat) d * norm2 n delta.
Proof.
  induction d; intros delta H0 Hhi; cbn [product prodR].
  - rewrite Rmult_1_l. right. apply (norm_ext n (norm2 n) (norm2_absolute n)).
    intros j Hj. now apply vm_idm.
  - rewrite (norm_ext n (norm2 n) (norm2_absolute n) (vm n delta _)
      (vm n (vm n delta (J e Q (i + d)%nat)) (product n (J e Q) i d)))
      by (intros; symmetry; apply vm_mm).
    eapply Rle_trans; [now apply IHd|]. rewrite row_step.
    assert (Hp : 0 <= prodR (fun k => hi (i + k)%nat) d).
    { clear -H0. induction d; simpl; [lra | now apply Rmult_le_pos]. }
    rewrite (Rmult_comm (hi _)), Rmult_assoc. apply Rmult_le_compat_l; [exact Hp|].
    apply (scaled_norm n (norm2 n) (norm2_absolute n)); auto.
Qed.
End Orthogonal.

(** V-4: with W_h = q Q and linear units the terms have the norms |h| |delta| q^lag, ... *)
Theorem scaled_orthogonal_terms n p Q q delta h i d : orthogonal n Q -> 0 <= q ->
  fro p n (fun a b => h a * vm n delta (product n (J (fun _ _ => q) Q) i d) b)
  = norm2 p h * norm2 n delta * q ^ d.
Proof.
  intros HQ Hq. set (mu := vm n delta _).
  assert (Hm : norm2 n mu = q ^ d * norm2 n delta).
  { assert (E : prodR (fun _ => q) d = q ^ d) by (clear; induction d; simpl; congruence).
    rewrite <- E. apply Rle_antisym.
    - apply (orthogonal_upper n Q (fun _ _ => q) HQ (fun _ => q)); [auto|].
      intros; rewrite Rabs_pos_eq; lra.
    - apply (orthogonal_lower n Q (fun _ _ => q) HQ (fun _ => q)); [auto|].
      intros; rewrite Rabs_pos_eq; lra. }
  replace (norm2 p h * norm2 n delta * q ^ d) with (norm2 p h * norm2 n mu) by (rewrite Hm; ring).
  unfold fro, norm2. rewrite <- sqrt_mult_alt by apply dot_self_pos. f_equal.
  rewrite Rmult_comm. unfold dot at 3. rewrite sumR_scal. apply sumR_ext. intros a _.
  unfold dot. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros; ring.
Qed.

(** ... so that their sums have the ratios of Vanishing.v: the long lags, from K on, have at most the
    share q^K if q <= 1, and the short ones at most q^(K - T) if q >= 1. *)
Theorem short_lags_dominate q T K : 0 <= q <= 1 -> (K <= T)%nat ->
  sumR (fun k => q ^ k) T - sumR (fun k => q ^ k) K <= q ^ K * sumR (fun k => q ^ k) T.
Proof.
  intros Hq HK. replace T with (K + (T - K))%nat at 1 by lia. rewrite sumR_app.
  apply Rle_trans with (q ^ K * sumR (fun k => q ^ k) (T - K)).
  - right. rewrite sumR_scal. unfold Rminus. rewrite Rplus_comm, <- Rplus_assoc, Rplus_opp_l.
    rewrite Rplus_0_l. apply sumR_ext. intros; now rewrite pow_add.
  - apply Rmult_le_compat_l; [apply pow_le; lra|].
    replace T with ((T - K) + K)%nat at 2 by lia. rewrite sumR_app.
    assert (0 <= sumR (fun r => q ^ (T - K + r)) K)
      by (apply sumR_nonneg; intros; apply pow_le; lra). lra.
Qed.

Theorem long_lags_dominate q T K : 1 <= q -> (K <= T)%nat ->
  q ^ (T - K) * sumR (fun k => q ^ k) K <= sumR (fun k => q ^ k) T.
Proof.
  intros Hq HK. replace T with ((T - K) + K)%nat at 2 by lia. rewrite sumR_app, sumR_scal.
  rewrite (sumR_ext (fun i => q ^ (T - K) * q ^ i) (fun r => q ^ (T - K + r)))
    by (intros; now rewrite pow_add).
  assert (0 <= sumR (fun k => q ^ k) (T - K)) by (apply sumR_nonneg; intros; apply pow_le; lra). lra.
Qed.
