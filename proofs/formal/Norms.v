(** * Norms, and bounds on products of Jacobians.

    Serves B-1, B-2, B-5, B-6, B-7, B-8, B-9, I-1, I-2.

    A norm enters through three properties only: it is not negative, it is homogeneous, and it is
    absolute (it grows with the moduli of the entries). The 1-, 2- and infinity-norm have them. A
    bound [omega] on a matrix is a bound on its operator norm: N (A v) <= omega N v for all v. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Recurrence.
Open Scope R_scope.

Record absolute_norm (n : nat) (N : vec -> R) : Prop := {
  norm_pos : forall v, 0 <= N v;
  norm_scal_le : forall c v, N (fun i => c * v i) <= Rabs c * N v;
  norm_mono : forall u v, (forall i, (i < n)%nat -> Rabs (u i) <= Rabs (v i)) -> N u <= N v }.

(** ** The three norms *)
Definition norm1 (n : nat) (v : vec) : R := sumR (fun i => Rabs (v i)) n.
Definition norm2 (n : nat) (v : vec) : R := sqrt (dot n v v).
Fixpoint norm_inf (n : nat) (v : vec) : R :=
  match n with O => 0 | S k => Rmax (norm_inf k v) (Rabs (v k)) end.

Lemma norm_inf_pos n v : 0 <= norm_inf n v.
Proof. induction n; simpl; [lra|]. eapply Rle_trans; [exact IHn | apply Rmax_l]. Qed.

Lemma norm_inf_entry n v i : (i < n)%nat -> Rabs (v i) <= norm_inf n v.
Proof.
  induction n; intro Hi; [lia|]. simpl. destruct (Nat.eq_dec i n) as [->|]; [apply Rmax_r|].
  eapply Rle_trans; [apply IHn; lia | apply Rmax_l].
Qed.

Lemma norm_inf_le n v c : 0 <= c -> (forall i, (i < n)%nat -> Rabs (v i) <= c) -> norm_inf n v <= c.
Proof. intros Hc H. induction n; simpl; [exact Hc|]. apply Rmax_lub; auto. Qed.

Theorem norm1_absolute n : absolute_norm n (norm1 n).
Proof.
  split; unfold norm1.
  - intro v. apply sumR_nonneg. intros; apply Rabs_pos.
  - intros c v. right. rewrite sumR_scal. apply sumR_ext. intros; apply Rabs_mult.
  - intros u v. apply sumR_le.
Qed.

Theorem norm2_absolute n : absolute_norm n (norm2 n).
Proof.
  split; unfold norm2.
  - intro v. apply sqrt_pos.
  - intros c v. right. rewrite <- (sqrt_Rsqr_abs c), <- sqrt_mult_alt by apply Rle_0_sqr.
    f_equal. unfold dot, Rsqr. rewrite sumR_scal. apply sumR_ext. intros; ring.
  - intros u v H. apply sqrt_le_1_alt, sumR_le. intros i Hi. exact (Rsqr_le_abs_1 _ _ (H i Hi)).
Qed.

Theorem norm_inf_absolute n : absolute_norm n (norm_inf n).
Proof.
  split.
  - apply norm_inf_pos.
  - intros c v. apply norm_inf_le.
    + apply Rmult_le_pos; [apply Rabs_pos | apply norm_inf_pos].
    + intros i Hi. rewrite Rabs_mult. apply Rmult_le_compat_l; [apply Rabs_pos|].
      now apply norm_inf_entry.
  - intros u v H. apply norm_inf_le; [apply norm_inf_pos|]. intros i Hi.
    eapply Rle_trans; [now apply H | now apply norm_inf_entry].
Qed.

(** ** Products of step Jacobians *)
Section Bounds.
Variables (n : nat) (N : vec -> R).
Hypothesis HN : absolute_norm n N.

Lemma norm_ext u v : (forall i, (i < n)%nat -> u i = v i) -> N u = N v.
Proof.
  intro H. apply Rle_antisym; apply (norm_mono n N HN); intros i Hi; rewrite H by exact Hi; lra.
Qed.

Definition operator_bound (A : mat) (c : R) : Prop := forall v, N (mv n A v) <= c * N v.

Lemma scaled_norm (e : vec) g v : 0 <= g -> (forall i, (i < n)%nat -> Rabs (e i) <= g) ->
  N (fun i => e i * v i) <= g * N v.
Proof.
  intros Hg He. eapply Rle_trans; [|rewrite <- (Rabs_pos_eq g Hg) at 1; apply (norm_scal_le n N HN)].
  apply (norm_mono n N HN). intros i Hi. rewrite !Rabs_mult, (Rabs_pos_eq g Hg).
  apply Rmult_le_compat_r; [apply Rabs_pos | now apply He].
Qed.

(** Submultiplicativity: the product's norm is at most the product of the norms. *)
Theorem product_of_norms (J : nat -> mat) (c : nat -> R) i d :
  (forall k, 0 <= c k) -> (forall k, operator_bound (J k) (c k)) ->
  operator_bound (product n J i d) (prodR (fun k => c (i + k)%nat) d).
Proof.
  intros Hc HJ v. induction d.
  - cbn. rewrite Rmult_1_l. right. apply norm_ext. intros j Hj. now apply idm_mv.
  - cbn [product prodR].
    rewrite (norm_ext _ (mv n (J (i + d)%nat) (mv n (product n J i d) v)))
      by (intros; apply mv_mm).
    eapply Rle_trans; [apply HJ|]. rewrite Rmult_assoc. apply Rmult_le_compat_l; [apply Hc | exact IHd].
Qed.

Section Network.
Variables (e : nat -> vec) (W : mat).           (* e_k = f'(a_k) *)
Definition J (k : nat) : mat := fun i j => e k i * W j i.

Variables (gamma omega : R) (m : nat -> R).
Hypothesis gamma_bound : forall k i, (i < n)%nat -> Rabs (e k i) <= gamma.
Hypothesis gamma_pos : 0 <= gamma.
Hypothesis omega_pos : 0 <= omega.
Hypothesis W_bound : operator_bound (tr W) omega.

Lemma step_bound k c : 0 <= c -> (forall i, (i < n)%nat -> Rabs (e k i) <= c) ->
  operator_bound (J k) (c * omega).
Proof.
  intros Hc He v.
  rewrite (norm_ext _ (fun i => e k i * mv n (tr W) v i)).
  - eapply Rle_trans; [apply scaled_norm; eassumption|].
    rewrite Rmult_assoc. apply Rmult_le_compat_l; [exact Hc | apply W_bound].
  - intros i _. unfold mv, J, tr. rewrite sumR_scal. apply sumR_ext. intros; ring.
Qed.

(** B-1: n steps, at most (gamma ||W||)^n. *)
Theorem global_bound i d : operator_bound (product n J i d) ((gamma * omega) ^ d).
Proof.
  intro v. eapply Rle_trans; [apply (product_of_norms J (fun _ => gamma * omega))|].
  - intro. now apply Rmult_le_pos.
  - intro k. apply step_bound; auto.
  - right. f_equal. clear. induction d; simpl; [reflexivity | now rewrite IHd].
Qed.

(** B-2: the bound along the trajectory lies between the product and the global bound. *)
Hypothesis m_bound : forall k i, (i < n)%nat -> Rabs (e k i) <= m k.
Hypothesis m_range : forall k, 0 <= m k <= gamma.

Theorem local_bound i d :
  operator_bound (product n J i d) (prodR (fun k => m (i + k)%nat * omega) d).
Proof.
  apply (product_of_norms J (fun k => m k * omega)).
  - intro k. apply Rmult_le_pos; [apply m_range | exact omega_pos].
  - intro k. apply step_bound; [apply m_range | apply m_bound].
Qed.

Theorem local_bound_is_tighter i d :
  prodR (fun k => m (i + k)%nat * omega) d <= (gamma * omega) ^ d.
Proof.
  assert (H : 0 <= prodR (fun k => m (i + k)%nat * omega) d <= (gamma * omega) ^ d); [|tauto].
  induction d; simpl; [lra|]. destruct (m_range (i + d)%nat).
  assert (0 <= m (i + d)%nat * omega <= gamma * omega).
  { split; [now apply Rmult_le_pos | now apply Rmult_le_compat_r]. }
  split; [apply Rmult_le_pos; tauto | apply Rmult_le_compat; tauto].
Qed.

(** B-5: gamma ||W|| < 1 makes them vanish, for all inputs. *)
Theorem vanishing i v : gamma * omega < 1 -> is_lim_seq (fun d => N (mv n (product n J i d) v)) 0.
Proof.
  intro H.
  apply is_lim_seq_le_le with (u := fun _ => 0) (w := fun d => (gamma * omega) ^ d * N v).
  - intro d. split; [apply (norm_pos n N HN) | apply global_bound].
  - apply is_lim_seq_const.
  - replace (Finite 0) with (Rbar_mult 0 (N v)) by (simpl; f_equal; ring).
    apply (is_lim_seq_scal_r (fun d => (gamma * omega) ^ d) (N v) 0).
    apply is_lim_seq_geom. rewrite Rabs_pos_eq; [exact H | now apply Rmult_le_pos].
Qed.

(** B-6: any growth at all needs gamma ||W|| > 1. *)
Theorem growth_needs i d v : N v < N (mv n (product n J i d) v) -> 1 < gamma * omega.
Proof.
  intro H. destruct (Rle_lt_dec (gamma * omega) 1) as [H1|]; [|assumption]. exfalso.
  assert (Hp : (gamma * omega) ^ d <= 1).
  { rewrite <- (pow1 d). apply pow_incr. split; [now apply Rmult_le_pos | exact H1]. }
  pose proof (global_bound i d v). pose proof (norm_pos n N HN v). nra.
Qed.
End Network.

(** B-5, how soon: q^(t-i) is at most 1/2 after any d with d (1 - q) >= 1. *)
Theorem halved_after q d : 0 <= q < 1 -> 1 <= INR d * (1 - q) -> q ^ d <= / 2.
Proof.
  intros Hq Hd.
  assert (B : (1 + INR d * (1 - q)) * q ^ d <= 1).
  { clear Hd. induction d; [simpl; lra|]. rewrite S_INR. simpl.
    assert (0 <= INR d) by apply pos_INR. assert (0 <= q ^ d) by (apply pow_le; lra).
    apply Rle_trans with ((1 + INR d * (1 - q)) * q ^ d); [|exact IHd].
    rewrite <- Rmult_assoc. apply Rmult_le_compat_r; [assumption|].
    assert (0 <= (INR d + 1) * (1 - q) ^ 2) by (apply Rmult_le_pos; [lra | apply pow2_ge_0]). nra. }
  assert (0 <= q ^ d) by (apply pow_le; lra). nra.
Qed.
End Bounds.

(** ** The Frobenius norm can always serve as omega *)

Lemma dot_combination n p q u v :
  dot n (fun i => p * u i - q * v i) (fun i => p * u i - q * v i)
  = p * p * dot n u u - 2 * p * q * dot n u v + q * q * dot n v v.
Proof. unfold dot. induction n; simpl; [ring | rewrite IHn; ring]. Qed.

Theorem cauchy_schwarz n u v : dot n u v ^ 2 <= dot n u u * dot n v v.
Proof.
  set (a := dot n v v). set (b := dot n u v). set (c := dot n u u).
  assert (H := dot_self_pos n (fun i => a * u i - b * v i)).
  rewrite dot_combination in H. fold a b c in H.
  assert (Ha : 0 <= a) by apply dot_self_pos.
  assert (Hc : 0 <= c) by apply dot_self_pos.
  destruct (Rle_lt_or_eq_dec 0 a Ha) as [Hp|Hz].
  - apply Rmult_le_reg_l with a; [exact Hp | nra].
  - assert (Hv : forall i, (i < n)%nat -> v i = 0).
    { intros i Hi. assert (Hs : v i * v i <= a).
      { apply (sumR_term_le (fun i => v i * v i)); [intros; nra | exact Hi]. } nra. }
    assert (b = 0) as -> by now apply dot_zero_r.
    rewrite <- Hz. lra.
Qed.

Lemma norm2_pos n v : 0 <= norm2 n v.
Proof. apply sqrt_pos. Qed.

Lemma norm2_sqr n v : norm2 n v ^ 2 = dot n v v.
Proof. unfold norm2. rewrite pow2_sqrt; [reflexivity | apply dot_self_pos]. Qed.

Lemma dot_le_norms n u v : dot n u v <= norm2 n u * norm2 n v.
Proof.
  pose proof (cauchy_schwarz n u v) as H. rewrite <- 2!norm2_sqr in H.
  pose proof (norm2_pos n u). pose proof (norm2_pos n v).
  apply Rsqr_incr_0_var; [unfold Rsqr; nra | nra].
Qed.

Definition frobenius n (A : mat) : R := sqrt (sumR (fun i => dot n (A i) (A i)) n).

Theorem frobenius_bounds_operator n A : operator_bound n (norm2 n) A (frobenius n A).
Proof.
  intro v. unfold norm2, frobenius.
  rewrite <- sqrt_mult_alt by (apply sumR_nonneg; intros; apply dot_self_pos).
  apply sqrt_le_1_alt. unfold dot at 1. rewrite Rmult_comm, sumR_scal. apply sumR_le.
  intros i _. pose proof (cauchy_schwarz n (A i) v). unfold mv. fold (dot n (A i) v). nra.
Qed.

(** I-1: an orthogonal matrix keeps the 2-norm: over any number of steps nothing is lost. *)
Definition orthogonal n (Q : mat) : Prop :=
  forall i j, (i < n)%nat -> (j < n)%nat -> mm n (tr Q) Q i j = idm i j.

Lemma orthogonal_step n Q u : orthogonal n Q -> norm2 n (mv n Q u) = norm2 n u.
Proof.
  intro HQ. unfold norm2. f_equal. rewrite <- dot_vm.
  apply dot_ext_l. intros j Hj. unfold vm.
  transitivity (mv n (mm n (tr Q) Q) u j).
  - rewrite mv_mm. apply sumR_ext. intros; unfold tr; ring.
  - rewrite <- (idm_mv n u j Hj). apply sumR_ext. intros k Hk. now rewrite HQ.
Qed.

Theorem orthogonal_keeps_norm n Q i d v : orthogonal n Q ->
  norm2 n (mv n (product n (fun _ => Q) i d) v) = norm2 n v.
Proof.
  intro HQ. assert (one := fun u => orthogonal_step n Q u HQ).
  induction d.
  - unfold norm2. f_equal. cbn. rewrite (dot_ext_l _ _ v) by (intros; now apply idm_mv).
    apply dot_ext. intros; now apply idm_mv.
  - cbn [product]. transitivity (norm2 n (mv n Q (mv n (product n (fun _ => Q) i d) v))).
    + apply (norm_ext n (norm2 n) (norm2_absolute n)). intros; apply mv_mm.
    + now rewrite one.
Qed.

(** I-2: with W = I and masks (ReLU), the product is a mask: an entry once cut off stays so, and
    one never cut off is passed on exactly. *)
Theorem identity_network_masks n (mask : nat -> vec) i d a b : (a < n)%nat ->
  product n (fun k => diag (mask k)) i d a b
  = if (a =? b)%nat then prodR (fun k => mask (i + k)%nat a) d else 0.
Proof.
  intro Ha. induction d; cbn [product prodR]; [reflexivity|].
  rewrite diag_mm by exact Ha. rewrite IHd. destruct (a =? b)%nat; ring.
Qed.

(** ** Entrywise: the norm of |W| may be smaller than that of W *)

(** B-9: |P| <= gamma^n |W|^n entry by entry, so rho(|W|) < 1/gamma suffices. *)
Theorem entrywise_bound n (e : nat -> vec) (W : mat) gamma i d a b :
  0 <= gamma -> (forall k i, (i < n)%nat -> Rabs (e k i) <= gamma) -> (a < n)%nat ->
  Rabs (product n (J e W) i d a b)
  <= gamma ^ d * product n (fun _ i j => Rabs (W j i)) i d a b.
Proof.
  intros Hg He. revert a. induction d; intros a Ha; cbn [product pow].
  - rewrite Rmult_1_l. unfold idm. destruct (a =? b)%nat; [rewrite Rabs_R1 | rewrite Rabs_R0]; lra.
  - unfold mm, J. eapply Rle_trans; [apply sumR_abs|].
    rewrite Rmult_assoc, !sumR_scal. apply sumR_le. intros k Hk.
    rewrite !Rabs_mult. specialize (IHd k Hk). fold (J e W) in *.
    specialize (He (i + d)%nat a Ha).
    assert (0 <= Rabs (e (i + d)%nat a)) by apply Rabs_pos.
    assert (0 <= Rabs (W k a)) by apply Rabs_pos.
    assert (0 <= Rabs (product n (J e W) i d k b)) by apply Rabs_pos.
    rewrite Rmult_assoc.
    apply Rle_trans with (gamma * (Rabs (W k a) * (gamma ^ d * product n (fun _ i j => Rabs (W j i)) i d k b))).
    + apply Rmult_le_compat; [assumption | nra | assumption |].
      apply Rmult_le_compat_l; assumption.
    + right. ring.
Qed.

(** ** Traps *)

(** B-7: gamma ||W|| > 1 does not make gradients explode: a strictly triangular W kills every
    product of n steps, whatever its entries. *)
Theorem triangular_product_is_zero n (e : nat -> vec) (W : mat) i a b :
  (forall k j, (j <= k)%nat -> W k j = 0) -> (a < n)%nat -> product n (J e W) i n a b = 0.
Proof.
  intros HW Ha.
  enough (H : forall d a b, (a < n)%nat -> (a < b + d)%nat -> product n (J e W) i d a b = 0)
    by (apply H; [exact Ha | lia]).
  clear a b Ha. induction d; intros a b Ha Hd.
  - cbn. unfold idm. destruct (Nat.eqb_spec a b); [lia | reflexivity].
  - cbn [product]. apply sumR_zero. intros k Hk. unfold J at 1.
    destruct (le_lt_dec a k) as [Hle|Hlt].
    + rewrite HW by exact Hle. ring.
    + rewrite (IHd k b) by lia. ring.
Qed.

(** ... (b) one column: all units read the first, which does not amplify itself. *)
Lemma one_column_row n (e : nat -> vec) (c : vec) i d b :
  (0 < n)%nat -> (forall k i, (i < n)%nat -> Rabs (e k i) <= 1) -> Rabs (c O) <= 1 ->
  Rabs (product n (J e (fun j i => if (j =? 0)%nat then c i else 0)) i d O b)
  <= (if (b =? 0)%nat then 1 else 0).
Proof.
  intros Hn He Hc. induction d; cbn [product].
  - unfold idm. destruct b; simpl; [rewrite Rabs_R1 | rewrite Rabs_R0]; lra.
  - unfold mm. rewrite (sumR_ext _ (fun k => if (k =? 0)%nat
      then e (i + d)%nat O * c O * product n (J e (fun j i => if (j =? 0)%nat then c i else 0)) i d k b
      else 0)) by (intros k _; unfold J; destruct (k =? 0)%nat; ring).
    rewrite (sumR_pick (fun k => e (i + d)%nat O * c O * product n _ i d k b) O n Hn), !Rabs_mult.
    pose proof (He (i + d)%nat O Hn). pose proof (Rabs_pos (e (i + d)%nat O)).
    pose proof (Rabs_pos (c O)). set (r := if (b =? 0)%nat then 1 else 0) in *.
    assert (Hr : 0 <= r) by (unfold r; destruct (b =? 0)%nat; lra).
    rewrite <- (Rmult_1_l r). apply Rmult_le_compat; [nra | apply Rabs_pos | nra | exact IHd].
Qed.

Theorem one_column_bounded n (e : nat -> vec) (c : vec) i d :
  (0 < n)%nat -> (forall k i, (i < n)%nat -> Rabs (e k i) <= 1) -> Rabs (c O) <= 1 ->
  operator_bound n (norm_inf n)
    (product n (J e (fun j i => if (j =? 0)%nat then c i else 0)) i (S d)) (norm_inf n c).
Proof.
  intros Hn He Hc v. apply norm_inf_le; [apply Rmult_le_pos; apply norm_inf_pos|].
  intros a Ha. unfold mv. eapply Rle_trans; [apply sumR_abs|].
  set (P := product n (J e (fun j i => if (j =? 0)%nat then c i else 0)) i d).
  apply Rle_trans with (sumR (fun b => if (b =? 0)%nat then norm_inf n c * norm_inf n v else 0) n).
  - apply sumR_le. intros b Hb. cbn [product]. fold P. unfold mm.
    rewrite (sumR_ext _ (fun k => if (k =? 0)%nat then e (i + d)%nat a * c a * P k b else 0))
      by (intros k _; unfold J; destruct (k =? 0)%nat; ring).
    rewrite (sumR_pick (fun k => e (i + d)%nat a * c a * P k b) O n Hn), !Rabs_mult.
    pose proof (one_column_row n e c i d b Hn He Hc) as HP. fold P in HP.
    pose proof (He (i + d)%nat a Ha). pose proof (norm_inf_entry n c a Ha).
    pose proof (norm_inf_entry n v b Hb). pose proof (Rabs_pos (e (i + d)%nat a)).
    pose proof (Rabs_pos (c a)). pose proof (Rabs_pos (P O b)). pose proof (Rabs_pos (v b)).
    assert (Hec : Rabs (e (i + d)%nat a) * Rabs (c a) <= norm_inf n c) by nra.
    destruct (b =? 0)%nat.
    + apply Rmult_le_compat; [|assumption| |assumption].
      * repeat apply Rmult_le_pos; assumption.
      * rewrite <- (Rmult_1_r (norm_inf n c)). apply Rmult_le_compat; nra.
    + replace (Rabs (P O b)) with 0 by lra. lra.
  - rewrite (sumR_pick (fun _ => norm_inf n c * norm_inf n v) O n Hn). lra.
Qed.

(** ... (c) saturated units: |f'| ||W|| <= 1/2 along the trajectory. *)
Theorem saturated_vanishes n N (HN : absolute_norm n N) (e : nat -> vec) (W : mat) m omega i d :
  (forall k i, (i < n)%nat -> Rabs (e k i) <= m) -> 0 <= m -> 0 <= omega ->
  operator_bound n N (tr W) omega -> m * omega <= / 2 ->
  operator_bound n N (product n (J e W) i d) ((/ 2) ^ d).
Proof.
  intros He Hm Ho HW Hs v. eapply Rle_trans; [now apply (global_bound n N HN e W m omega)|].
  apply Rmult_le_compat_r; [apply (norm_pos n N HN)|]. apply pow_incr. split; [nra | exact Hs].
Qed.

(** B-8: the spectral radius cannot replace the norm: [[0, c], [0, 0]] has only the eigenvalue 0,
    and one step multiplies a vector by c. *)
Definition nilpotent (c : R) : mat := fun i j => match i, j with O, S O => c | _, _ => 0 end.

Theorem nilpotent_eigenvalues c lambda v :
  (forall i, (i < 2)%nat -> mv 2 (nilpotent c) v i = lambda * v i) ->
  (v 0%nat <> 0 \/ v 1%nat <> 0) -> lambda = 0.
Proof.
  intros H Hv. pose proof (H 0%nat ltac:(lia)) as H0. pose proof (H 1%nat ltac:(lia)) as H1.
  unfold mv in *; simpl in *. destruct (Req_dec lambda 0) as [|Hl]; [assumption|]. exfalso.
  assert (v 1%nat = 0) by (apply Rmult_eq_reg_l with lambda; lra).
  assert (v 0%nat = 0) by (apply Rmult_eq_reg_l with lambda; nra). tauto.
Qed.

Theorem nilpotent_grows c : 0 <= c ->
  let v := fun i => match i with S O => 1 | _ => 0 end in
  norm2 2 (mv 2 (nilpotent c) v) = c /\ norm2 2 v = 1.
Proof.
  intros Hc v. unfold norm2, dot, mv, v, nilpotent; simpl. split.
  - replace (_ + _) with (c * c) by ring. now apply sqrt_square.
  - replace (_ + _) with 1 by ring. apply sqrt_1.
Qed.

(** ... and over many steps it explodes: W = c [[1, -1], [1, -1]] has W^2 = 0, but between slopes
    that differ the product grows without bound. *)
Definition spiral (c : R) : mat := fun i j => match j with O => c | S O => - c | _ => 0 end.

Theorem spiral_squares_to_zero c i j : mm 2 (spiral c) (spiral c) i j = 0.
Proof. unfold mm, spiral; simpl. destruct j as [|[|j]]; ring. Qed.

Lemma spiral_product c (e : nat -> vec) i d a : (a < 2)%nat ->
  product 2 (fun k i j => e k i * spiral c i j) i (S d) a O
  = c ^ S d * prodR (fun k => e (i + k)%nat 0%nat - e (i + k)%nat 1%nat) d * e (i + d)%nat a.
Proof.
  set (A := fun k i j => e k i * spiral c i j).
  revert a. induction d; intros a Ha.
  - cbn. unfold mm, A, spiral, idm; simpl. rewrite Nat.add_0_r. ring.
  - change (product 2 A i (S (S d)) a O) with (mm 2 (A (i + S d)%nat) (product 2 A i (S d)) a O).
    unfold mm. cbn [sumR]. rewrite !IHd by lia. unfold A, spiral. cbn [prodR pow].
    rewrite (Nat.add_succ_r i d). ring.
Qed.

Theorem spiral_explodes c (e : nat -> vec) i d : 0 <= c ->
  (forall k, 3 / 4 <= e k 0%nat - e k 1%nat) -> (forall k, 0 <= e k 1%nat) ->
  (3 / 4 * c) ^ S d <= Rabs (product 2 (fun k i j => e k i * spiral c i j) i (S d) O O).
Proof.
  intros Hc He H1. rewrite spiral_product by lia.
  rewrite Rpow_mult_distr, (Rmult_comm (_ ^ _) (c ^ S d)).
  assert (Hp : (3 / 4) ^ d <= prodR (fun k => e (i + k)%nat 0%nat - e (i + k)%nat 1%nat) d).
  { induction d; cbn [prodR pow]; [lra|].
    apply Rmult_le_compat; [lra | apply pow_le; lra | apply He | exact IHd]. }
  assert (0 <= (3 / 4) ^ d) by (apply pow_le; lra).
  assert (0 <= c ^ S d) by now apply pow_le.
  specialize (He (i + d)%nat). specialize (H1 (i + d)%nat).
  rewrite Rmult_assoc. rewrite Rabs_pos_eq.
  - apply Rmult_le_compat_l; [assumption|]. cbn [pow]. rewrite Rmult_comm.
    apply Rmult_le_compat; lra.
  - apply Rmult_le_pos; [assumption|]. apply Rmult_le_pos; lra.
Qed.
