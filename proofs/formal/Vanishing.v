(** * What vanishes, and what does not.

    Serves V-2, V-3, V-4, V-5, V-7, B-7, I-2. *)
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

(** ** V-2: the whole gradient does not vanish with its terms *)

(** For h_k+1 = w h_k + 1 the derivative by w is the sum of k w^(k-1) ... *)
Fixpoint running_sum (w : R) (n : nat) : R :=
  match n with O => 0 | S k => w * running_sum w k + 1 end.

Theorem running_sum_derivative (w : R) (n : nat) :
  is_derive (fun w => running_sum w n) w (sumR (fun k => INR k * w ^ (k - 1)) n).
Proof.
  assert (closed : forall w n, running_sum w n = sumR (fun k => w ^ k) n).
  { clear. intros w n.
    assert (H : forall n, sumR (fun k => w ^ k) (S n) = w * sumR (fun k => w ^ k) n + 1).
    { clear. induction n; [simpl; ring|].
      transitivity (w * sumR (fun k => w ^ k) n + 1 + w ^ S n); [now rewrite <- IHn | simpl; ring]. }
    induction n; [reflexivity|]. rewrite H. simpl. now rewrite IHn. }
  apply (D_ext (fun w => sumR (fun k => w ^ k) n)); [intro; symmetry; apply closed|].
  apply (sumR_derive (fun k w => w ^ k)). intros k _.
  destruct k as [|k].
  - apply D_eq with 0; [exact (D_const 1 w) | simpl; ring].
  - replace (S k - 1)%nat with k by lia.
    apply D_eq with (INR (S k) * w ^ k); [|reflexivity].
    apply is_derive_Reals. exact (derivable_pt_lim_pow w (S k)).
Qed.

(** ... which stays above 1 and below 1 / (1 - w)^2, though the term of the longest lag vanishes. *)
Theorem sum_of_lags (w : R) (n : nat) : w <> 1 ->
  sumR (fun k => INR (S k) * w ^ k) n = (1 - (INR n + 1) * w ^ n + INR n * w ^ S n) / (1 - w) ^ 2.
Proof.
  intro H. induction n; [simpl; field; lra|]. cbn [sumR]. rewrite IHn, !S_INR. simpl. field. lra.
Qed.

Theorem sum_of_lags_between (w : R) (n : nat) : 0 <= w < 1 -> (1 <= n)%nat ->
  1 <= sumR (fun k => INR (S k) * w ^ k) n <= / (1 - w) ^ 2.
Proof.
  intros Hw Hn. split.
  - apply Rle_trans with (INR 1 * w ^ 0); [simpl; lra|].
    apply (sumR_term_le (fun k => INR (S k) * w ^ k)); [|lia].
    intros i _. apply Rmult_le_pos; [apply pos_INR | apply pow_le; lra].
  - rewrite sum_of_lags by lra. assert (Hp : 0 < (1 - w) ^ 2) by (apply pow_lt; lra).
    rewrite <- (Rmult_1_l (/ (1 - w) ^ 2)). unfold Rdiv.
    apply Rmult_le_compat_r; [left; now apply Rinv_0_lt_compat|].
    assert (0 <= w ^ n) by (apply pow_le; lra). pose proof (pos_INR n).
    assert (INR n * w ^ S n <= INR n * w ^ n).
    { apply Rmult_le_compat_l; [assumption|]. simpl. nra. }
    lra.
Qed.

(** ... and tends to the upper bound, ... *)
Lemma power_times_n v n : 0 <= v < 1 -> INR n * v ^ n <= / (1 - v).
Proof.
  intro Hv. apply Rle_trans with (sumR (fun k => v ^ k) n).
  - rewrite <- sumR_const. apply sumR_le. intros k Hk.
    replace n with (k + (n - k))%nat at 1 by lia. rewrite pow_add.
    rewrite <- (Rmult_1_r (v ^ k)) at 2. apply Rmult_le_compat_l; [apply pow_le; lra|].
    rewrite <- (pow1 (n - k)). apply pow_incr. lra.
  - rewrite sumR_geom by lra. unfold Rdiv. rewrite <- (Rmult_1_l (/ (1 - v))) at 2.
    apply Rmult_le_compat_r; [left; apply Rinv_0_lt_compat; lra|].
    assert (0 <= v ^ n) by (apply pow_le; lra). lra.
Qed.

Theorem sum_of_lags_limit (w : R) : 0 <= w < 1 ->
  is_lim_seq (fun n => sumR (fun k => INR (S k) * w ^ k) n) (/ (1 - w) ^ 2).
Proof.
  intro Hw. set (v := sqrt w).
  assert (Hv : 0 <= v < 1).
  { split; [apply sqrt_pos|]. rewrite <- sqrt_1. apply sqrt_lt_1_alt. lra. }
  assert (E : w = v * v) by (unfold v; rewrite sqrt_sqrt; lra).
  assert (Hp : is_lim_seq (fun n => w ^ n) 0) by (apply is_lim_seq_geom; rewrite Rabs_pos_eq; lra).
  assert (Hn : is_lim_seq (fun n => INR n * w ^ n) 0).
  { apply is_lim_seq_le_le with (u := fun _ => 0) (w := fun n => v ^ n * / (1 - v)).
    - intro n. split; [apply Rmult_le_pos; [apply pos_INR | apply pow_le; lra]|].
      rewrite E, Rpow_mult_distr, <- Rmult_assoc, Rmult_comm.
      apply Rmult_le_compat_l; [apply pow_le; lra | now apply power_times_n].
    - apply is_lim_seq_const.
    - replace (Finite 0) with (Rbar_mult 0 (/ (1 - v))) by (simpl; f_equal; ring).
      apply (is_lim_seq_scal_r (fun n => v ^ n) (/ (1 - v)) 0).
      apply is_lim_seq_geom. rewrite Rabs_pos_eq; lra. }
  apply is_lim_seq_ext with (fun n => / (1 - w) ^ 2 + (w - 1) / (1 - w) ^ 2 * (INR n * w ^ n)
    + - / (1 - w) ^ 2 * w ^ n).
  - intro n. rewrite sum_of_lags by lra. cbn [pow]. field. lra.
  - replace (/ (1 - w) ^ 2) with (/ (1 - w) ^ 2 + (w - 1) / (1 - w) ^ 2 * 0 + - / (1 - w) ^ 2 * 0)
      at 1 by ring.
    apply is_lim_seq_plus'; [apply is_lim_seq_plus'; [apply is_lim_seq_const|]|].
    + apply (is_lim_seq_scal_l _ _ 0 Hn).
    + apply (is_lim_seq_scal_l _ _ 0 Hp).
Qed.

(** ... while the term of the longest lag, by the copy of w that the second step uses, vanishes. *)
Fixpoint go_on (w : R) (n : nat) (h : R) : R :=
  match n with O => h | S k => w * go_on w k h + 1 end.

Theorem longest_lag (w : R) (n : nat) :
  is_derive (fun u => go_on w n (u * running_sum w 1 + 1)) w (w ^ n).
Proof.
  induction n; cbn [go_on].
  - apply (D_ext (fun u => u + 1)); [intro t; simpl; ring|].
    eapply D_eq; [apply D_plus; [apply D_id | apply D_const] | simpl; ring].
  - eapply D_eq; [apply D_plus; [apply D_mult; [apply D_const | exact IHn] | apply D_const]|].
    simpl. ring.
Qed.

(** ** V-4: the share of the long lags, with factors that are all q *)
Theorem share_of_long_lags (q : R) (T K : nat) : 0 < q -> q <> 1 -> (1 <= T)%nat -> (K <= T)%nat ->
  (sumR (fun k => q ^ k) T - sumR (fun k => q ^ k) K) / sumR (fun k => q ^ k) T
  = (q ^ K - q ^ T) / (1 - q ^ T).
Proof.
  intros Hq H1 HT HK.
  assert (HqT : sumR (fun k => q ^ k) T <> 0).
  { apply Rgt_not_eq, Rlt_le_trans with (q ^ 0); [simpl; lra|].
    apply (sumR_term_le (fun k => q ^ k)); [intros; apply pow_le; lra | lia]. }
  rewrite !sumR_geom in * by exact H1.
  assert (1 - q ^ T <> 0).
  { intro E. apply HqT. rewrite E. field. lra. }
  field. split; [assumption | lra].
Qed.

(** ** V-5: latching: where a value h <> 0 is stored, h = tanh (w h), gradients shrink *)
Theorem latching_vanishes (w h : R) : h = tanh (w * h) -> h <> 0 -> w * (1 - h ^ 2) < 1.
Proof.
  intros Hfix Hh.
  destruct (Rle_lt_dec w 0) as [Hw|Hw].
  { assert (0 < 1 - h ^ 2) by (rewrite Hfix; apply tanh'_bound). nra. }
  (* u = w h, t = tanh u: t (1 - t^2) u < t^2 follows from sinh u cosh u > u *)
  set (u := w * h) in *.
  assert (Hu : u <> 0) by (unfold u; intro E; apply Rmult_integral in E; lra).
  pose proof (cosh_pos u) as Hc.
  assert (Hcs : 1 - tanh u ^ 2 = / cosh u ^ 2) by apply tanh'_cosh.
  assert (grow : forall v, 0 < v -> v < sinh v * cosh v).
  { intros v Hv.
    assert (E : sinh v * cosh v = sinh (2 * v) / 2).
    { unfold sinh, cosh. replace (2 * v) with (v + v) by ring.
      replace (- (v + v)) with (- v + - v) by ring. rewrite 2!exp_plus. field. }
    rewrite E.
    destruct (MVT_cor2 sinh cosh 0 (2 * v)) as [c [Ec Hcr]]; [lra | intros; apply derivable_pt_lim_sinh|].
    assert (S0 : sinh 0 = 0) by (unfold sinh; rewrite Ropp_0; field).
    rewrite S0 in Ec. assert (1 < cosh c).
    { unfold cosh. rewrite exp_Ropp. pose proof (exp_ineq1 c ltac:(lra)) as He.
      set (e := exp c) in *. assert (1 < e) by lra.
      apply Rmult_lt_reg_r with (2 * e); [lra|]. field_simplify; [|lra]. nra. }
    nra. }
  assert (Hkey : u * u < u * (sinh u * cosh u)).
  { destruct (Rdichotomy u 0 Hu) as [Hn|Hp].
    - assert (G := grow (- u) ltac:(lra)). unfold sinh, cosh in *. rewrite Ropp_involutive in G. nra.
    - assert (G := grow u Hp). nra. }
  apply Rmult_lt_reg_r with (h * h); [nra|].
  replace (w * (1 - h ^ 2) * (h * h)) with (u * h * (1 - h ^ 2)) by (unfold u; ring).
  rewrite Hfix at 2. rewrite Hcs.
  assert (Eh : h = sinh u / cosh u) by exact Hfix.
  assert (E1 : u * h * / cosh u ^ 2 = (u * sinh u * / cosh u) * / cosh u ^ 2) by (rewrite Eh at 1; field; lra).
  assert (E2 : 1 * (h * h) = (sinh u * sinh u) * / cosh u ^ 2) by (rewrite Eh; field; lra).
  rewrite E1, E2. apply Rmult_lt_compat_r; [apply Rinv_0_lt_compat, pow_lt; lra|].
  apply Rmult_lt_reg_r with (cosh u); [lra|].
  replace (u * sinh u * / cosh u * cosh u) with (u * sinh u) by (field; lra).
  set (s := sinh u) in *. set (k := cosh u) in *.
  assert (Hs : 0 < u * s).
  { assert (0 < u * u) by nra. nra. }
  nra.
Qed.

(** ** V-7: factors below 1, each of them, do not make a product vanish *)
Theorem factors_below_one (n : nat) :
  prodR (fun k => 1 - / (INR k + 2) ^ 2) n = (INR n + 2) / (2 * (INR n + 1)).
Proof.
  induction n; [simpl; field|]. cbn [prodR]. rewrite IHn, S_INR. pose proof (pos_INR n). field. lra.
Qed.

Corollary factors_below_one_do_not_vanish (n : nat) :
  / 2 < prodR (fun k => 1 - / (INR k + 2) ^ 2) n.
Proof.
  rewrite factors_below_one. pose proof (pos_INR n).
  apply Rmult_lt_reg_r with (2 * (INR n + 1)); [lra|]. field_simplify; lra.
Qed.

(** ... nor do factors above 1 make it explode: P_n = (1 + 1/1) ... (1 + 1/n^2) increases, the
    first of these sequences too, the second decreases, and they are as near as n grows. *)
Definition above_one (n : nat) : R := prodR (fun k => 1 + / (INR k + 1) ^ 2) n.

Lemma above_one_pos n : 0 < above_one n.
Proof.
  unfold above_one. induction n; cbn [prodR]; [lra|]. pose proof (pos_INR n).
  apply Rmult_lt_0_compat; [|exact IHn].
  assert (0 < / (INR n + 1) ^ 2) by (apply Rinv_0_lt_compat, pow_lt; lra). lra.
Qed.

Theorem factors_above_one_lower n :
  (INR n + 2) / (INR n + 1) * above_one n <= (INR (S n) + 2) / (INR (S n) + 1) * above_one (S n).
Proof.
  unfold above_one; cbn [prodR]; fold (above_one n). rewrite S_INR.
  pose proof (pos_INR n). pose proof (above_one_pos n). set (m := INR n) in *.
  apply Rle_trans with ((m + 2) / (m + 1) * above_one n
    + 2 / ((m + 2) * (m + 1) ^ 2) * above_one n); [|right; field; lra].
  assert (0 < 2 / ((m + 2) * (m + 1) ^ 2)).
  { apply Rdiv_lt_0_compat; [lra | apply Rmult_lt_0_compat; [lra | apply pow_lt; lra]]. } nra.
Qed.

Theorem factors_above_one_upper n :
  (INR (S n) + 2) / (INR (S n) + 1) * above_one (S (S n))
  <= (INR n + 2) / (INR n + 1) * above_one (S n).
Proof.
  unfold above_one; cbn [prodR]; fold (above_one n). rewrite S_INR.
  pose proof (pos_INR n). pose proof (above_one_pos n). set (m := INR n) in *.
  assert (0 < (1 + / (m + 1) ^ 2) * above_one n).
  { apply Rmult_lt_0_compat; [|assumption].
    assert (0 < / (m + 1) ^ 2) by (apply Rinv_0_lt_compat, pow_lt; lra). lra. }
  set (P := (1 + / (m + 1) ^ 2) * above_one n) in *.
  apply Rle_trans with ((m + 2) / (m + 1) * P - / ((m + 1) * (m + 2) ^ 3) * P);
    [right; field; lra|].
  assert (0 < / ((m + 1) * (m + 2) ^ 3)).
  { apply Rinv_0_lt_compat, Rmult_lt_0_compat; [lra | apply pow_lt; lra]. } nra.
Qed.

Corollary factors_above_one_do_not_explode n : above_one n < 4.
Proof.
  destruct n; [unfold above_one; simpl; lra|].
  assert (H : (INR n + 2) / (INR n + 1) * above_one (S n) <= 4).
  { induction n; [unfold above_one; simpl; lra|].
    eapply Rle_trans; [apply factors_above_one_upper | exact IHn]. }
  pose proof (pos_INR n). pose proof (above_one_pos (S n)).
  assert (E : (INR n + 2) / (INR n + 1) = 1 + / (INR n + 1)) by (field; lra). rewrite E in H.
  assert (0 < / (INR n + 1)) by (apply Rinv_0_lt_compat; lra). nra.
Qed.

(** ** I-2: a relu unit that reads itself with the weight g, as each unit of an IRNN does *)
Definition active (x : nat -> R) (wi g h0 : R) (k : nat) : R :=
  leaky_step 0 (pre relu x wi g h0 k).

Theorem relu_unit_derivative x wi g h0 n :
  (forall k, (k < n)%nat -> pre relu x wi g h0 k <> 0) ->
  is_derive (fun h => out relu x wi g h n) h0 (g ^ n * prodR (active x wi g h0) n).
Proof.
  induction n; intro H; simpl.
  - eapply D_eq; [apply D_id | ring].
  - assert (D := IHn ltac:(intros; apply H; lia)). specialize (H n ltac:(lia)).
    apply (D_ext (fun h => leaky 0 (x n * wi + out relu x wi g h n * g)));
      [intro; symmetry; apply relu_leaky|].
    assert (S : is_derive (leaky 0) (pre relu x wi g h0 n) (active x wi g h0 n)).
    { unfold active, leaky_step. destruct (Rlt_dec 0 (pre relu x wi g h0 n)).
      - now apply is_derive_leaky_pos.
      - apply is_derive_leaky_neg. lra. }
    eapply D_eq.
    + apply (D_comp (leaky 0) (fun h => x n * wi + out relu x wi g h n * g)); [exact S|].
      apply D_plus; [apply D_const | apply D_mult; [exact D | apply D_const]].
    + cbv beta. ring.
Qed.

Theorem irnn_passes_or_not x wi g h0 n :
  let m := prodR (active x wi g h0) in (m n = 0 \/ m n = 1) /\ (m n = 0 -> m (S n) = 0).
Proof.
  split; [|intro H; simpl; rewrite H; ring]. induction n; simpl; [now right|].
  destruct (leaky_step_is_mask 0 (pre relu x wi g h0 n)) as [E|E]; unfold active at 1 3; rewrite E.
  - left. ring.
  - destruct IHn as [Z|O]; [left; rewrite Z; ring | right; rewrite O; ring].
Qed.

Theorem irnn_always_active x wi h0 n : (forall k, 0 < pre relu x wi 1 h0 k) ->
  prodR (active x wi 1 h0) n = 1 /\ out relu x wi 1 h0 n = h0 + sumR (fun k => x k * wi) n.
Proof.
  intro H. induction n; cbn [prodR out sumR]; [split; ring|]. destruct IHn as [M E].
  specialize (H n). split.
  - rewrite M. unfold active, leaky_step.
    destruct (Rlt_dec 0 (pre relu x wi 1 h0 n)); [ring | contradiction].
  - unfold pre in H. unfold relu at 1. rewrite Rmax_right by lra. rewrite E. ring.
Qed.
