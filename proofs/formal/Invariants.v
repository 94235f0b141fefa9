(** * Gated cells: invariants, memory, and what makes their Jacobians contract.

    Serves G-5, G-6, G-7, G-8, G-9, G-11, G-13.

    One coordinate of a state at a time where that is enough; the gates' values are arbitrary
    numbers in their ranges, whatever computed them. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Recurrence Network Norms Gates.
Open Scope R_scope.

(** ** G-13: the GRU's state stays in the box it started in *)
Section GRU.
Variables a b : nat -> R.                       (* preactivations of the gate and the candidate *)
Fixpoint gru_state (h0 : R) (k : nat) : R :=
  match k with
  | O => h0
  | S k => sigmoid (a k) * tanh (b k) + (1 - sigmoid (a k)) * gru_state h0 k
  end.

Theorem gru_invariant h0 k : Rabs (gru_state h0 k) <= Rmax 1 (Rabs h0).
Proof.
  pose proof (Rmax_l 1 (Rabs h0)). pose proof (Rmax_r 1 (Rabs h0)).
  set (M := Rmax 1 (Rabs h0)) in *.
  induction k; simpl; [assumption|].
  destruct (sigmoid_range (a k)), (tanh_range (b k)).
  apply Rabs_le_between in IHk. apply Rabs_le. split; nra.
Qed.
End GRU.

(** ** The LSTM's memory *)
Section LSTM.
Variables f i g : nat -> R.
Fixpoint memory_cell (c0 : R) (k : nat) : R :=
  match k with O => c0 | S k => f k * memory_cell c0 k + i k * g k end.

(** G-8 *)
Theorem lstm_memory_growth c0 k :
  (forall k, 0 <= f k <= 1) -> (forall k, 0 <= i k <= 1) -> (forall k, -1 <= g k <= 1) ->
  Rabs (memory_cell c0 k) <= Rabs c0 + INR k.
Proof.
  intros Hf Hi Hg. induction k; [simpl; lra|].
  rewrite S_INR. simpl. specialize (Hf k). specialize (Hi k). specialize (Hg k).
  eapply Rle_trans; [apply Rabs_triang|]. rewrite 2!Rabs_mult.
  assert (Rabs (f k) <= 1 /\ Rabs (i k) <= 1 /\ Rabs (g k) <= 1) as (?&?&?)
    by (repeat split; apply Rabs_le; lra).
  pose proof (Rabs_pos (f k)). pose proof (Rabs_pos (i k)). pose proof (Rabs_pos (g k)).
  pose proof (Rabs_pos (memory_cell c0 k)). nra.
Qed.

(** It is bounded for all time if the forget gate stays below 1. *)
Theorem lstm_memory_bounded c0 k fbar ibar : 0 <= fbar < 1 ->
  (forall k, 0 <= f k <= fbar) -> (forall k, 0 <= i k <= ibar) -> (forall k, -1 <= g k <= 1) ->
  Rabs (memory_cell c0 k) <= Rmax (Rabs c0) (ibar / (1 - fbar)).
Proof.
  intros Hb Hf Hi Hg. set (M := Rmax _ _).
  assert (HM : ibar <= (1 - fbar) * M).
  { apply Rle_trans with ((1 - fbar) * (ibar / (1 - fbar))); [right; field; lra|].
    apply Rmult_le_compat_l; [lra | apply Rmax_r]. }
  assert (H0 : 0 <= M) by (eapply Rle_trans; [apply (Rabs_pos c0) | apply Rmax_l]).
  induction k; simpl; [apply Rmax_l|].
  specialize (Hf k). specialize (Hi k). specialize (Hg k).
  apply Rabs_le_between in IHk. apply Rabs_le. split; nra.
Qed.

(** |c| <= 1 only with coupled gates, i = 1 - f. *)
Theorem coupled_memory_stays_in_the_box c0 k :
  (forall k, 0 <= f k <= 1) -> (forall k, i k = 1 - f k) -> (forall k, -1 <= g k <= 1) ->
  -1 <= c0 <= 1 -> -1 <= memory_cell c0 k <= 1.
Proof.
  intros Hf Hi Hg H0. induction k; simpl; [exact H0|].
  specialize (Hf k). specialize (Hg k). rewrite Hi. nra.
Qed.

(** G-6, gates held fixed: along the memory the derivative is the product of forget gates. *)
Theorem forget_product c0 k : is_derive (fun c : R => memory_cell c k) c0 (prodR f k).
Proof.
  induction k; simpl; [apply D_id|].
  eapply D_eq.
  - apply D_plus; [apply D_mult; [apply D_const | exact IHk] | apply D_const].
  - cbv beta. ring.
Qed.

Corollary constant_error_carousel c0 k :
  (forall k, f k = 1) -> is_derive (fun c : R => memory_cell c k) c0 1.
Proof.
  intros H. apply D_eq with (prodR f k); [apply forget_product|].
  induction k; simpl; [reflexivity|]. rewrite H, IHk. ring.
Qed.

(** G-7: what a forget gate of at least fmin keeps. *)
Theorem forget_keeps fmin k : 0 <= fmin -> (forall k, fmin <= f k) -> fmin ^ k <= prodR f k.
Proof.
  intros H0 H. induction k; simpl; [lra|].
  apply Rmult_le_compat; [exact H0 | now apply pow_le | apply H | exact IHk].
Qed.

Theorem forget_product_lower e k :
  0 <= e <= 1 -> (forall k, 1 - e <= f k) -> 1 - INR k * e <= prodR f k.
Proof.
  intros He Hf. apply Rle_trans with ((1 - e) ^ k).
  - clear Hf. induction k; [simpl; lra|]. rewrite S_INR. simpl.
    assert (0 <= INR k) by apply pos_INR.
    assert (0 <= (1 - e) ^ k) by (apply pow_le; lra).
    destruct (Rle_lt_dec 0 (1 - INR k * e)); nra.
  - apply forget_keeps; [lra | exact Hf].
Qed.
End LSTM.

(** G-7: forget gates whose preactivations are at least b keep at least sigmoid(b)^T of a memory,
    and exactly that where they are b. *)
Lemma sigmoid_increasing x y : x <= y -> sigmoid x <= sigmoid y.
Proof.
  intro H. unfold sigmoid. apply Rinv_le_contravar; [pose proof (exp_pos (- y)); lra|].
  destruct H as [H | <-]; [|lra].
  pose proof (exp_increasing (- y) (- x) ltac:(lra)). lra.
Qed.

Theorem forget_bias_keeps (a : nat -> R) b T : (forall k, b <= a k) ->
  sigmoid b ^ T <= prodR (fun k => sigmoid (a k)) T /\ prodR (fun _ => sigmoid b) T = sigmoid b ^ T.
Proof.
  intro H. split.
  - apply forget_keeps; [left; apply sigmoid_range|]. intro k. now apply sigmoid_increasing.
  - induction T; simpl; [reflexivity | now rewrite IHT].
Qed.

(** With a forget bias b, sigmoid(b)^n is 1/2 at n = ln 2 / ln (1 + e^-b), about e^b ln 2. *)
Definition half_life (b : R) : R := ln 2 / ln (1 + exp (- b)).

Lemma ln_1p_upper x : 0 < x -> 0 < ln (1 + x) <= x.
Proof.
  intro Hx. split; [rewrite <- ln_1; apply ln_increasing; lra|].
  rewrite <- (ln_exp x) at 2. apply Rcomplements.ln_le; [lra|]. left. apply exp_ineq1. lra.
Qed.

Lemma ln_1p_lower x : 0 < x -> 2 * x / (2 + x) <= ln (1 + x).
Proof.
  intro Hx. set (f := fun t => ln (1 + t) - 2 * t / (2 + t)).
  destruct (MVT_gen f 0 x (fun t => t ^ 2 / ((1 + t) * (2 + t) ^ 2))) as [c [Hc E]].
  - intros t Ht. rewrite Rmin_left, Rmax_right in Ht by lra. unfold f.
    auto_derive; [repeat split; lra | field; lra].
  - intros t Ht. rewrite Rmin_left, Rmax_right in Ht by lra. apply continuity_pt_filterlim.
    apply (ex_derive_continuous f). unfold f. auto_derive. repeat split; lra.
  - rewrite Rmin_left, Rmax_right in Hc by lra. unfold f in E.
    rewrite Rplus_0_r, ln_1 in E.
    assert (0 <= c ^ 2 / ((1 + c) * (2 + c) ^ 2) * (x - 0)).
    { apply Rmult_le_pos; [|lra]. apply Rmult_le_pos; [apply pow2_ge_0|].
      left. apply Rinv_0_lt_compat, Rmult_lt_0_compat; [lra | apply pow_lt; lra]. }
    lra.
Qed.

Theorem half_is_left b : exp (half_life b * ln (sigmoid b)) = / 2.
Proof.
  destruct (ln_1p_upper (exp (- b)) (exp_pos _)).
  unfold half_life, sigmoid. rewrite ln_Rinv by (pose proof (exp_pos (- b)); lra).
  replace (ln 2 / ln (1 + exp (- b)) * - ln (1 + exp (- b))) with (- ln 2) by (field; lra).
  rewrite exp_Ropp, exp_ln by lra. reflexivity.
Qed.

Theorem half_life_bounds b : exp b * ln 2 <= half_life b <= (exp b + / 2) * ln 2.
Proof.
  set (x := exp (- b)). assert (Hx : 0 < x) by apply exp_pos.
  destruct (ln_1p_upper x Hx) as [Hp Hu]. pose proof (ln_1p_lower x Hx) as Hl.
  assert (Hb : exp b = / x) by (unfold x; rewrite exp_Ropp, Rinv_inv; reflexivity).
  assert (H2 : 0 < ln 2) by (rewrite <- ln_1; apply ln_increasing; lra).
  unfold half_life. fold x. rewrite Hb. unfold Rdiv. rewrite (Rmult_comm (ln 2)). split.
  - apply Rmult_le_compat_r; [lra|]. apply Rinv_le_contravar; lra.
  - apply Rmult_le_compat_r; [lra|]. replace (/ x + / 2) with (/ (2 * x / (2 + x))) by (field; lra).
    apply Rinv_le_contravar; [|exact Hl]. apply Rdiv_lt_0_compat; lra.
Qed.

(** ... and with b = ln (T - 1) after T steps between 1/4 and 1/e are left. *)
Theorem forget_bias_of_length T : 1 < T -> sigmoid (ln (T - 1)) = 1 - / T.
Proof.
  intro HT. unfold sigmoid. rewrite exp_Ropp, exp_ln by lra. field. lra.
Qed.

Lemma left_after_increases n :
  (1 - / INR (2 + n)) ^ (2 + n) <= (1 - / INR (3 + n)) ^ (3 + n).
Proof.
  set (T := INR (2 + n)). assert (HT : 2 <= T) by (apply (le_INR 2); lia).
  replace (INR (3 + n)) with (T + 1) by (unfold T; rewrite <- S_INR; f_equal; lia).
  replace (1 - / (T + 1)) with ((1 - / T) * (1 + / (T ^ 2 - 1))) by (field; nra).
  rewrite Rpow_mult_distr.
  assert (H1 : 0 < (1 - / T) ^ (2 + n)).
  { apply pow_lt. assert (/ T < 1) by (rewrite <- Rinv_1; apply Rinv_lt_contravar; lra). lra. }
  assert (B : 1 + INR (3 + n) * / (T ^ 2 - 1) <= (1 + / (T ^ 2 - 1)) ^ (3 + n)).
  { apply poly. apply Rinv_0_lt_compat. nra. }
  replace (INR (3 + n)) with (T + 1) in B by (unfold T; rewrite <- S_INR; f_equal; lia).
  replace (1 + (T + 1) * / (T ^ 2 - 1)) with (/ (1 - / T)) in B by (field; nra).
  change (3 + n)%nat with (S (2 + n)). cbn [pow]. fold T.
  change ((1 + / (T ^ 2 - 1)) * (1 + / (T ^ 2 - 1)) ^ (2 + n)) with ((1 + / (T ^ 2 - 1)) ^ (3 + n)).
  assert (H0 : 0 < 1 - / T).
  { assert (/ T < 1) by (rewrite <- Rinv_1; apply Rinv_lt_contravar; lra). lra. }
  apply Rle_trans with ((1 - / T) * (1 - / T) ^ (2 + n) * / (1 - / T)); [right; field; lra|].
  apply Rmult_le_compat_l; [nra | exact B].
Qed.

Lemma exp_pow x n : exp x ^ n = exp (INR n * x).
Proof.
  induction n; [simpl; rewrite Rmult_0_l, exp_0; reflexivity|].
  cbn [pow]. rewrite IHn, S_INR, <- exp_plus. f_equal. ring.
Qed.

Theorem left_after T : (2 <= T)%nat -> / 4 <= (1 - / INR T) ^ T <= exp (- 1).
Proof.
  intro HT. replace T with (2 + (T - 2))%nat by lia. set (n := (T - 2)%nat). split.
  - induction n; [simpl; lra|]. eapply Rle_trans; [exact IHn|].
    replace (2 + S n)%nat with (3 + n)%nat by lia. apply left_after_increases.
  - set (t := INR (2 + n)). assert (Ht : 2 <= t) by (apply (le_INR 2); lia).
    apply Rle_trans with (exp (- / t) ^ (2 + n)).
    + apply pow_incr. assert (/ t <= 1) by (rewrite <- Rinv_1; apply Rinv_le_contravar; lra).
      split; [lra|]. assert (0 < / t) by (apply Rinv_0_lt_compat; lra).
      left. pose proof (exp_ineq1 (- / t)). lra.
    + right. rewrite exp_pow. f_equal. fold t. field. lra.
Qed.

(** G-8: the output is always below 1. *)
Theorem lstm_output_bounded a c : Rabs (sigmoid a * tanh c) < 1.
Proof.
  destruct (sigmoid_range a), (tanh_range c). apply Rabs_def1; nra.
Qed.

(** ** G-5: the LSTM contracts if (1 - f)(1 - g) > e a

    u and v are the norms of the tangents of h and c; the inequalities are those of the two
    factors of J-5, with f, a, e, g bounds on the norms of the blocks F, A, E, G. *)
Section Contraction.
Variables f g e a : R.
Hypothesis f_range : 0 <= f < 1.
Hypothesis g_range : 0 <= g < 1.
Hypothesis e_pos : 0 <= e.
Hypothesis a_pos : 0 <= a.
Hypothesis margin : e * a < (1 - f) * (1 - g).

(** Weights (1, q) in which the 2 x 2 comparison matrix shrinks by a factor rho < 1. *)
Lemma weights : exists q rho, 0 < q /\ 0 <= rho < 1 /\
  (g + e * a) + e * f * q <= rho /\ a + f * q <= rho * q.
Proof.
  set (eta := ((1 - f) * (1 - g) - e * a) / (2 * (e * f + 1))).
  assert (Hef : 0 <= e * f) by (apply Rmult_le_pos; lra).
  assert (Heta : 0 < eta) by (apply Rdiv_lt_0_compat; lra).
  assert (Hd : (e * f + 1) * eta * 2 = (1 - f) * (1 - g) - e * a) by (unfold eta; field; lra).
  set (q := (a + eta) / (1 - f)).
  assert (Hq : 0 < q) by (apply Rdiv_lt_0_compat; lra).
  assert (Hq' : q * (1 - f) = a + eta) by (unfold q; field; lra).
  assert (H1 : (g + e * a) + e * f * q < 1).
  { apply Rmult_lt_reg_r with (1 - f); [lra|].
    replace ((g + e * a + e * f * q) * (1 - f)) with ((g + e * a) * (1 - f) + e * f * (q * (1 - f))) by ring.
    rewrite Hq'. nra. }
  assert (H2 : a + f * q < q) by lra.
  assert (H3 : (a + f * q) / q < 1) by (apply Rmult_lt_reg_r with q; [lra|]; field_simplify; lra).
  exists q, (Rmax (g + e * a + e * f * q) ((a + f * q) / q)).
  assert (0 <= e * f * q) by (apply Rmult_le_pos; lra).
  assert (0 <= e * a) by now apply Rmult_le_pos.
  split; [exact Hq|]. split; [split; [|now apply Rmax_lub_lt]|split].
  - eapply Rle_trans; [|apply Rmax_l]. lra.
  - apply Rmax_l.
  - apply Rle_trans with ((a + f * q) / q * q); [right; field; lra|].
    apply Rmult_le_compat_r; [lra | apply Rmax_r].
Qed.

Theorem comparison_contracts (u v : nat -> R) :
  (forall k, 0 <= u k) -> (forall k, 0 <= v k) ->
  (forall k, v (S k) <= a * u k + f * v k) ->
  (forall k, u (S k) <= g * u k + e * v (S k)) ->
  is_lim_seq u 0 /\ is_lim_seq v 0.
Proof.
  intros Hu Hv Sv Su. destruct weights as (q & rho & Hq & Hr & H1 & H2).
  set (M := Rmax (u O) (v O / q)).
  assert (H : forall k, u k <= rho ^ k * M /\ v k <= rho ^ k * (q * M)).
  { induction k as [|k [Iu Iv]].
    - rewrite pow_O, 2!Rmult_1_l. split; [apply Rmax_l|].
      apply Rle_trans with (q * (v O / q)); [right; field; lra|].
      apply Rmult_le_compat_l; [lra | apply Rmax_r].
    - assert (HM : 0 <= rho ^ k * M).
      { apply Rmult_le_pos; [now apply pow_le|].
        eapply Rle_trans; [apply (Hu O) | apply Rmax_l]. }
      set (m := rho ^ k * M) in *.
      replace (rho ^ k * (q * M)) with (q * m) in Iv by (unfold m; ring).
      replace (rho ^ S k * (q * M)) with (rho * q * m) by (unfold m; simpl; ring).
      replace (rho ^ S k * M) with (rho * m) by (unfold m; simpl; ring).
      specialize (Sv k). specialize (Su k).
      assert (Bv : v (S k) <= (a + f * q) * m).
      { eapply Rle_trans; [exact Sv|]. rewrite Rmult_plus_distr_r, (Rmult_assoc f).
        apply Rplus_le_compat; apply Rmult_le_compat_l; lra. }
      split.
      + eapply Rle_trans; [exact Su|].
        apply Rle_trans with (g * m + e * ((a + f * q) * m)).
        * apply Rplus_le_compat; apply Rmult_le_compat_l; lra.
        * replace (g * m + e * ((a + f * q) * m)) with ((g + e * a + e * f * q) * m) by ring.
          now apply Rmult_le_compat_r.
      + eapply Rle_trans; [exact Bv|]. now apply Rmult_le_compat_r. }
  assert (L : forall C, is_lim_seq (fun k => rho ^ k * C) 0).
  { intro C. replace (Finite 0) with (Rbar_mult 0 C) by (simpl; f_equal; ring).
    apply (is_lim_seq_scal_r (fun k => rho ^ k) C 0), is_lim_seq_geom.
    rewrite Rabs_pos_eq; lra. }
  split.
  - apply (is_lim_seq_le_le (fun _ => 0) u (fun k => rho ^ k * M)).
    + intro k. split; [apply Hu | apply H].
    + apply is_lim_seq_const.
    + apply L.
  - apply (is_lim_seq_le_le (fun _ => 0) v (fun k => rho ^ k * (q * M))).
    + intro k. split; [apply Hv | apply H].
    + apply is_lim_seq_const.
    + apply L.
Qed.
End Contraction.

(** The hypothesis is sharp in this sense: without it the comparison matrix has a fixed or growing
    direction, whatever the margin missed by. *)
Theorem comparison_may_not_contract f g e a : 0 <= f < 1 -> 0 <= g -> 0 < a -> 0 <= e ->
  (1 - f) * (1 - g) <= e * a ->
  exists u v : nat -> R, u O = 1 /\ (forall k, 1 <= u k) /\ (forall k, 0 <= v k) /\
    (forall k, v (S k) = a * u k + f * v k) /\ (forall k, u (S k) = g * u k + e * v (S k)).
Proof.
  intros Hf Hg Ha He H.
  set (step := fun uv : R * R => let v := a * fst uv + f * snd uv in (g * fst uv + e * v, v)).
  set (s := fun k => Nat.iter k step (1, a / (1 - f))).
  assert (Hq : 0 < a / (1 - f)) by (apply Rdiv_lt_0_compat; lra).
  assert (Hqf : a / (1 - f) * (1 - f) = a) by (field; lra).
  assert (G : 1 <= g + e * (a / (1 - f))).
  { apply Rmult_le_reg_r with (1 - f); [lra|].
    replace ((g + e * (a / (1 - f))) * (1 - f)) with (g * (1 - f) + e * (a / (1 - f) * (1 - f))) by ring.
    rewrite Hqf. lra. }
  assert (I : forall k, 1 <= fst (s k) /\ a / (1 - f) <= snd (s k)).
  { induction k as [|k [I1 I2]]; [simpl; lra|].
    change (s (S k)) with (step (s k)). unfold step; simpl.
    assert (B : a / (1 - f) <= a * fst (s k) + f * snd (s k)) by nra.
    split; [|exact B]. nra. }
  exists (fun k => fst (s k)), (fun k => snd (s k)).
  split; [reflexivity|]. split; [intro; apply I|]. split; [intro k; destruct (I k); lra|].
  split; intro k; change (s (S k)) with (step (s k)); reflexivity.
Qed.

(** ** The GRU *)

Lemma norm2_triangle n u v : norm2 n (fun i => u i + v i) <= norm2 n u + norm2 n v.
Proof.
  pose proof (norm2_pos n u). pose proof (norm2_pos n v). pose proof (dot_le_norms n u v).
  apply Rsqr_incr_0_var; [|lra]. unfold Rsqr.
  pose proof (norm2_sqr n (fun i => u i + v i)) as E.
  pose proof (norm2_sqr n u). pose proof (norm2_sqr n v).
  assert (dot n (fun i => u i + v i) (fun i => u i + v i) = dot n u u + 2 * dot n u v + dot n v v).
  { rewrite dot_plus_l, !dot_plus_r, (dot_comm n v u). ring. }
  nra.
Qed.

Section GRUJacobian.
Variable n : nat.
Variables (z c h : vec) (K Wz : mat) (kappa zeta : R).
Hypothesis z_range : forall i, (i < n)%nat -> 0 <= z i <= 1.
Hypothesis c_range : forall i, (i < n)%nat -> -1 <= c i <= 1.
Hypothesis h_range : forall i, (i < n)%nat -> -1 <= h i <= 1.

(** The closed form of J-3 and J-4, applied to a vector. *)
Definition gru_push (v : vec) : vec := fun i =>
  (1 - z i) * v i + z i * (1 - c i ^ 2) * mv n K v i
  + (c i - h i) * (z i * (1 - z i)) * mv n (tr Wz) v i.

Lemma gru_push_is_jacobian v i : (i < n)%nat ->
  gru_push v i = mv n (fun i j => (1 - z i) * idm i j + z i * (1 - c i ^ 2) * K i j
                                  + (c i - h i) * (z i * (1 - z i)) * Wz j i) v i.
Proof.
  intro Hi. unfold gru_push. rewrite <- (idm_mv n v i Hi) at 1. unfold mv, tr.
  rewrite !sumR_scal, <- !sumR_plus. apply sumR_ext. intros; ring.
Qed.

(** G-9: ||J||_2 <= sqrt(1 + kappa^2) + ||W_z|| / 2. *)
Theorem gru_jacobian_bound v :
  operator_bound n (norm2 n) K kappa -> operator_bound n (norm2 n) (tr Wz) zeta ->
  norm2 n (gru_push v) <= (sqrt (1 + kappa ^ 2) + zeta / 2) * norm2 n v.
Proof.
  intros HK HZ. rewrite Rmult_plus_distr_r.
  eapply Rle_trans; [apply norm2_triangle|]. apply Rplus_le_compat.
  - pose proof (norm2_pos n v) as Hv.
    unfold norm2 at 1. rewrite <- (sqrt_square (norm2 n v)) by exact Hv.
    rewrite <- sqrt_mult_alt by nra. apply sqrt_le_1_alt.
    apply Rle_trans with (dot n v v + dot n (mv n K v) (mv n K v)).
    + unfold dot. rewrite <- sumR_plus. apply sumR_le. intros i Hi.
      specialize (z_range i Hi). specialize (c_range i Hi).
      set (x := v i). set (y := mv n K v i). set (p := 1 - z i). set (r := z i * (1 - c i ^ 2)).
      assert (p * p + r * r <= 1).
      { assert (0 <= 1 - c i ^ 2 <= 1) by nra. assert (0 <= r <= z i) by (unfold r; nra).
        unfold p. nra. }
      assert (0 <= (p * y - r * x) * (p * y - r * x)) by apply Rle_0_sqr.
      assert (0 <= x * x + y * y) by nra. nra.
    + rewrite <- !norm2_sqr. specialize (HK v). pose proof (norm2_pos n (mv n K v)). nra.
  - eapply Rle_trans; [apply (scaled_norm n (norm2 n) (norm2_absolute n)
      (fun i => (c i - h i) * (z i * (1 - z i))) (/ 2)); [lra|]|].
    + intros i Hi. specialize (z_range i Hi). specialize (c_range i Hi). specialize (h_range i Hi).
      assert (0 <= z i * (1 - z i) <= / 4) by (pose proof (pow2_ge_0 (z i - / 2)); nra).
      apply Rabs_le. split; nra.
    + replace (zeta / 2 * norm2 n v) with (/ 2 * (zeta * norm2 n v)) by field.
      apply Rmult_le_compat_l; [lra | apply HZ].
Qed.

(** G-11: in the infinity-norm the step contracts if kappa + 2 (1 - zmin) ||W_z|| < 1. *)
Theorem gru_contracts zmin v : 0 < zmin -> (forall i, (i < n)%nat -> zmin <= z i) ->
  0 <= kappa -> 0 <= zeta ->
  operator_bound n (norm_inf n) K kappa -> operator_bound n (norm_inf n) (tr Wz) zeta ->
  kappa + 2 * (1 - zmin) * zeta <= 1 ->
  norm_inf n (gru_push v) <= (1 - zmin * (1 - (kappa + 2 * (1 - zmin) * zeta))) * norm_inf n v.
Proof.
  intros Hm Hz Hk Hzeta HK HZ Hlt. pose proof (norm_inf_pos n v) as Hv. set (N := norm_inf n v) in *.
  assert (Hone : zmin <= 1 \/ n = O).
  { destruct (Nat.eq_dec n 0) as [|Hn]; [now right|]. left.
    specialize (Hz O ltac:(lia)). specialize (z_range O ltac:(lia)). lra. }
  destruct Hone as [Hone|Hn]; [|unfold N; rewrite Hn; simpl; lra].
  apply norm_inf_le.
  - apply Rmult_le_pos; [|exact Hv].
    assert (0 <= 2 * (1 - zmin) * zeta) by (apply Rmult_le_pos; lra). nra.
  - intros i Hi. specialize (Hz i Hi). specialize (z_range i Hi).
    specialize (c_range i Hi). specialize (h_range i Hi).
    assert (B1 : Rabs (v i) <= N) by now apply norm_inf_entry.
    assert (B2 : Rabs (mv n K v i) <= kappa * N).
    { eapply Rle_trans; [apply (norm_inf_entry n (mv n K v) i Hi) | apply HK]. }
    assert (B3 : Rabs (mv n (tr Wz) v i) <= zeta * N).
    { eapply Rle_trans; [apply (norm_inf_entry n (mv n (tr Wz) v) i Hi) | apply HZ]. }
    unfold gru_push.
    eapply Rle_trans; [apply Rabs_triang|]. eapply Rle_trans; [apply Rplus_le_compat_r, Rabs_triang|].
    rewrite !Rabs_mult, (Rabs_pos_eq (1 - z i)), (Rabs_pos_eq (z i)) by lra.
    assert (0 <= 1 - c i ^ 2 <= 1) by nra.
    rewrite (Rabs_pos_eq (1 - c i ^ 2)) by lra.
    assert (Rabs (c i - h i) <= 2) by (apply Rabs_le; lra).
    apply Rle_trans with ((1 - z i) * N + z i * (kappa * N) + z i * (2 * (1 - zmin) * (zeta * N))).
    + apply Rplus_le_compat; [apply Rplus_le_compat|].
      * apply Rmult_le_compat_l; lra.
      * rewrite Rmult_assoc. apply Rmult_le_compat_l; [lra|].
        pose proof (Rabs_pos (mv n K v i)). nra.
      * replace (Rabs (c i - h i) * (z i * (1 - z i)) * Rabs (mv n (tr Wz) v i))
          with (z i * (Rabs (c i - h i) * (1 - z i) * Rabs (mv n (tr Wz) v i))) by ring.
        apply Rmult_le_compat_l; [lra|]. pose proof (Rabs_pos (c i - h i)).
        apply Rmult_le_compat; [apply Rmult_le_pos; lra | apply Rabs_pos | nra | exact B3].
    + set (s := kappa + 2 * (1 - zmin) * zeta) in *.
      replace ((1 - z i) * N + z i * (kappa * N) + z i * (2 * (1 - zmin) * (zeta * N)))
        with ((1 - z i * (1 - s)) * N) by (unfold s; ring).
      apply Rmult_le_compat_r; [exact Hv|]. nra.
Qed.
End GRUJacobian.
