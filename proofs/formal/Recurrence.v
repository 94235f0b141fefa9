(** * Back-propagation through time, for any recurrent cell.

    Serves C-1, C-2, C-3, C-4, C-5, C-6, V-1, V-3.

    First the algebra, for any Jacobians J and immediate terms B: the nested (Horner) form, the
    sum over lags, the adjoint recursion and forward mode (RTRL) are the same gradient. Then the
    calculus: for every cell that meets a local contract, what the algebra computes is the
    derivative. Chapters Network and Gates show that the RNN, the GRU and the LSTM meet it.

    The Jacobians are (out, in); [n] is the size of the state; the columns of [B] belong to the
    parameters, and no statement says how many there are. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox.
Open Scope R_scope.

Section Algebra.
Variable n : nat.
Variables (J B : nat -> mat).

(** [product i d] = J_(i+d-1) ... J_(i+1) J_i: the Jacobian of the d steps that follow s_i. *)
Fixpoint product (i d : nat) : mat :=
  match d with O => idm | S k => mm n (J (i + k)%nat) (product i k) end.

Theorem product_semigroup i d e a b : (a < n)%nat ->
  product i (d + e) a b = mm n (product (i + d) e) (product i d) a b.
Proof.
  revert a. induction e; intros a Ha; simpl.
  - rewrite Nat.add_0_r, idm_mm by exact Ha. reflexivity.
  - rewrite Nat.add_succ_r. simpl. rewrite mm_assoc, Nat.add_assoc.
    apply mm_ext. intros k Hk. now apply IHe.
Qed.

(** The nested form, from the inside: S_(k+1) = B_k + J_k S_k. It is also forward mode. *)
Fixpoint horner (k : nat) : mat :=
  match k with O => fun _ _ => 0 | S k => fun i q => B k i q + mm n (J k) (horner k) i q end.

(** The sum over lags. *)
Definition lags (k : nat) : mat :=
  fun i q => sumR (fun j => mm n (product (S j) (k - S j)) (B j) i q) k.

Theorem horner_is_sum k i q : (i < n)%nat -> horner k i q = lags k i q.
Proof.
  revert i. induction k; intros i Hi; unfold lags; cbn [horner sumR]; [reflexivity|].
  rewrite Nat.sub_diag. cbn [product]. rewrite idm_mm, Rplus_comm by exact Hi. f_equal.
  rewrite (mm_ext n (J k) (horner k) (lags k) i q IHk).
  unfold lags. rewrite (mm_sum n (J k) (fun j => mm n (product (S j) (k - S j)) (B j))).
  apply sumR_ext. intros j Hj.
  replace (S k - S j)%nat with (S (k - S j)) by lia.
  cbn [product]. replace (S j + (k - S j))%nat with k by lia.
  now rewrite mm_assoc.
Qed.

(** Losses at every step: delta_k is the partial derivative of the loss by s_k, k = 0 .. T.
    [adjoint lambda]: lambda_T = delta_T and lambda_k = delta_k + lambda_(k+1) J_k. *)
Variables (T : nat) (delta : nat -> vec).
Definition adjoint (lambda : nat -> vec) : Prop :=
  (forall i, (i < n)%nat -> lambda T i = delta T i) /\
  (forall k i, (k < T)%nat -> (i < n)%nat ->
     lambda k i = delta k i + vm n (lambda (S k)) (J k) i).

(** The adjoint recursion has a solution: the backward sweep makes it. *)
Fixpoint sweep (m : nat) : vec :=
  match m with
  | O => delta T
  | S m => fun i => delta (T - S m)%nat i + vm n (sweep m) (J (T - S m)%nat) i
  end.

Theorem sweep_is_adjoint : adjoint (fun k => sweep (T - k)).
Proof.
  split.
  - intros i Hi. now rewrite Nat.sub_diag.
  - intros k i Hk Hi. replace (T - k)%nat with (S (T - S k)) by lia. cbn [sweep].
    now replace (T - S (T - S k))%nat with k by lia.
Qed.

(** A product of a row with the columns of a matrix: column q. *)
Lemma vm_horner_step (l : vec) k q :
  vm n l (horner (S k)) q = vm n l (B k) q + vm n (vm n l (J k)) (horner k) q.
Proof.
  rewrite vm_mm. unfold vm. rewrite <- sumR_plus. apply sumR_ext. intros i _. simpl. ring.
Qed.

(** Back-propagation is forward mode: sum_k lambda_(k+1) B_k = sum_k delta_k S_k. *)
Theorem bptt_is_rtrl lambda q : adjoint lambda ->
  sumR (fun k => vm n (lambda (S k)) (B k) q) T = sumR (fun k => vm n (delta k) (horner k) q) (S T).
Proof.
  intros [HT HL]. simpl.
  assert (E : vm n (delta T) (horner T) q = vm n (lambda T) (horner T) q).
  { apply sumR_ext. intros i Hi. now rewrite HT. }
  rewrite E. clear E HT.
  enough (H : forall m, (m <= T)%nat ->
    sumR (fun k => vm n (lambda (S k)) (B k) q) m
    = sumR (fun k => vm n (delta k) (horner k) q) m + vm n (lambda m) (horner m) q) by auto.
  induction m; intro Hm.
  - simpl. unfold vm. rewrite sumR_zero; [ring|]. intros; ring.
  - cbn [sumR]. rewrite IHm, vm_horner_step by lia.
    assert (E : vm n (lambda m) (horner m) q
                = vm n (delta m) (horner m) q + vm n (vm n (lambda (S m)) (J m)) (horner m) q).
    { unfold vm at 1 2 3. rewrite <- sumR_plus. apply sumR_ext. intros i Hi.
      rewrite HL by (lia || exact Hi). ring. }
    rewrite E. ring.
Qed.

(** ... and both are the double sum of the notes: every loss, every earlier step. *)
Corollary bptt_is_double_sum lambda q : adjoint lambda ->
  sumR (fun k => vm n (lambda (S k)) (B k) q) T
  = sumR (fun t => sumR (fun j =>
      vm n (vm n (delta t) (product (S j) (t - S j))) (B j) q) t) (S T).
Proof.
  intro H. rewrite (bptt_is_rtrl lambda q H). apply sumR_ext. intros t _.
  transitivity (vm n (delta t) (lags t) q).
  - apply sumR_ext. intros i Hi. now rewrite horner_is_sum.
  - unfold lags. rewrite (vm_sum n (delta t) (fun j => mm n (product (S j) (t - S j)) (B j))).
    apply sumR_ext. intros j _. now rewrite vm_mm.
Qed.

(** With total derivatives S_j in place of the immediate terms B_j, as the notes' formula may be
    read, the term of lag k is counted k + 1 times. *)
Theorem total_derivatives_overcount k i q : (i < n)%nat ->
  sumR (fun j => mm n (product (S j) (k - S j)) (horner (S j)) i q) k
  = sumR (fun j => INR (k - j) * mm n (product (S j) (k - S j)) (B j) i q) k.
Proof.
  revert i. induction k; intros i Hi; [reflexivity|]. cbn [sumR].
  assert (step : forall (C : nat -> mat),
    sumR (fun j => mm n (product (S j) (S k - S j)) (C j) i q) k
    = mm n (J k) (fun l q => sumR (fun j => mm n (product (S j) (k - S j)) (C j) l q) k) i q).
  { intro C. rewrite (mm_sum n (J k) (fun j => mm n (product (S j) (k - S j)) (C j))).
    apply sumR_ext. intros j Hj.
    replace (S k - S j)%nat with (S (k - S j)) by lia. cbn [product].
    replace (S j + (k - S j))%nat with k by lia. now rewrite mm_assoc. }
  rewrite (step (fun j => horner (S j))), Nat.sub_diag. cbn [product].
  rewrite !idm_mm by exact Hi.
  replace (INR (S k - k)) with 1 by (replace (S k - k)%nat with 1%nat by lia; reflexivity).
  rewrite (mm_ext _ _ _ (fun l q => sumR (fun j =>
    INR (k - j) * mm n (product (S j) (k - S j)) (B j) l q) k)) by (intros; now apply IHk).
  cbn [horner]. rewrite (mm_ext _ _ (horner k) (lags k)) by (intros; now apply horner_is_sum).
  unfold lags. rewrite <- (step B).
  rewrite (mm_sum n (J k) (fun j l q => INR (k - j) * mm n (product (S j) (k - S j)) (B j) l q)).
  transitivity (sumR (fun j => INR (k - j) * mm n (product (S j) (S k - S j)) (B j) i q) k
     + sumR (fun j => mm n (product (S j) (S k - S j)) (B j) i q) k + B k i q).
  - rewrite Rplus_assoc, (Rplus_comm (sumR _ k) (B k i q)). f_equal. apply sumR_ext.
    intros j Hj. replace (S k - S j)%nat with (S (k - S j)) by lia. cbn [product].
    replace (S j + (k - S j))%nat with k by lia.
    now rewrite (mm_scal n (J k) (INR (k - j)) (mm n (product (S j) (k - S j)) (B j))), mm_assoc.
  - rewrite <- sumR_plus, Rmult_1_l. f_equal. apply sumR_ext. intros j Hj.
    replace (S k - j)%nat with (S (k - j)) by lia. rewrite S_INR. ring.
Qed.

(** ** Forward and backward mode are transposes

    The Jacobian-vector product of T steps, jointly in the initial state (tangent v) and the
    parameters (tangent dtheta, of p entries), against cotangents delta of every state. *)
Fixpoint push (p : nat) (v dtheta : vec) (k : nat) : vec :=
  match k with
  | O => v
  | S k => fun i => mv n (J k) (push p v dtheta k) i + mv p (B k) dtheta i
  end.

Theorem forward_and_backward_are_transposes p v dtheta lambda : adjoint lambda ->
  sumR (fun k => dot n (delta k) (push p v dtheta k)) (S T)
  = dot n (lambda O) v
    + dot p (fun q => sumR (fun k => vm n (lambda (S k)) (B k) q) T) dtheta.
Proof.
  intros [HT HL]. cbn [sumR]. rewrite (dot_ext_l n (delta T) (lambda T)) by (intros; now rewrite HT).
  clear HT.
  enough (H : forall m, (m <= T)%nat ->
    sumR (fun k => dot n (delta k) (push p v dtheta k)) m + dot n (lambda m) (push p v dtheta m)
    = dot n (lambda O) v + dot p (fun q => sumR (fun k => vm n (lambda (S k)) (B k) q) m) dtheta)
    by auto.
  induction m; intro Hm.
  - simpl. rewrite (dot_comm p), (dot_zero_r p dtheta) by reflexivity. ring.
  - specialize (IHm ltac:(lia)).
    assert (E : dot n (lambda m) (push p v dtheta m)
      = dot n (delta m) (push p v dtheta m) + dot n (lambda (S m)) (mv n (J m) (push p v dtheta m))).
    { rewrite <- dot_vm, <- dot_plus_l. apply dot_ext_l. intros. apply HL; [lia | assumption]. }
    cbn [sumR push]. rewrite (dot_plus_l p), dot_vm, dot_plus_r. lra.
Qed.
End Algebra.

(** ** The derivative of a recurrence *)
Section Calculus.
Variable n : nat.
(** A step may depend on a parameter t; fixing all parameters but one makes t that one. *)
Variable F : nat -> R -> vec -> vec.

Fixpoint states (t : R) (s0 : vec) (k : nat) : vec :=
  match k with O => s0 | S k => F k t (states t s0 k) end.

(** The local contract of one step at t0 and s: along every differentiable path through s, the
    step moves by J times the motion of the state plus the immediate term B (by t). *)
Definition step_ok (t0 : R) (Fk : R -> vec -> vec) (s : vec) (Jk : mat) (Bk : vec) : Prop :=
  forall (path : R -> vec) (ds : vec),
  (forall i, path t0 i = s i) ->
  (forall i, (i < n)%nat -> is_derive (fun t => path t i) t0 (ds i)) ->
  forall i, (i < n)%nat -> is_derive (fun t => Fk t (path t) i) t0 (mv n Jk ds i + Bk i).

Variables (t0 : R) (s0 : vec) (J : nat -> mat) (B : nat -> vec).
Hypothesis F_ok : forall k, step_ok t0 (F k) (states t0 s0 k) (J k) (B k).

(** The immediate terms as matrices of one column. *)
Let column (k : nat) : mat := fun i _ => B k i.

Theorem total_derivative k i : (i < n)%nat ->
  is_derive (fun t => states t s0 k i) t0 (horner n J column k i O).
Proof.
  revert i. induction k; intros i Hi; simpl; [apply D_const|].
  eapply D_eq.
  - apply (F_ok k (fun t => states t s0 k) (fun j => horner n J column k j O)); auto.
  - unfold mv, mm, column. ring.
Qed.

(** A loss at every step, each differentiable at the states. *)
Variables (T : nat) (loss : nat -> vec -> R) (delta : nat -> vec).
Hypothesis loss_ok : forall k (path : R -> vec) (ds : vec),
  (forall i, path t0 i = states t0 s0 k i) ->
  (forall i, (i < n)%nat -> is_derive (fun t => path t i) t0 (ds i)) ->
  is_derive (fun t => loss k (path t)) t0 (dot n (delta k) ds).

(** Back-propagation through time is the gradient. *)
Theorem bptt lambda : adjoint n J T delta lambda ->
  is_derive (fun t => sumR (fun k => loss k (states t s0 k)) (S T)) t0
            (sumR (fun k => dot n (lambda (S k)) (B k)) T).
Proof.
  intro H. eapply D_eq.
  - apply (sumR_derive (fun k t => loss k (states t s0 k))
             (fun k => dot n (delta k) (fun i => horner n J column k i O))).
    intros k _. apply loss_ok; [reflexivity|]. intros i Hi. now apply total_derivative.
  - symmetry. exact (bptt_is_rtrl n J column T delta lambda O H).
Qed.
End Calculus.

(** ** C-3: term i of the sum is the gradient by the copy of the weight that step i alone uses *)
Definition copy (F : nat -> R -> vec -> vec) (t0 : R) (i k : nat) (t : R) : vec -> vec :=
  F k (if (k =? i)%nat then t else t0).

Lemma states_of_copy F t0 i s0 k : states (copy F t0 i) t0 s0 k = states F t0 s0 k.
Proof.
  induction k; [reflexivity|]. simpl. rewrite IHk. unfold copy. now destruct (k =? i)%nat.
Qed.

Theorem bptt_by_copy n F t0 s0 J B T loss delta lambda i :
  (forall k, step_ok n t0 (F k) (states F t0 s0 k) (J k) (B k)) ->
  (forall k, step_ok n t0 (fun _ => F k t0) (states F t0 s0 k) (J k) (fun _ => 0)) ->
  (forall k (path : R -> vec) (ds : vec),
     (forall j, path t0 j = states F t0 s0 k j) ->
     (forall j, (j < n)%nat -> is_derive (fun t => path t j) t0 (ds j)) ->
     is_derive (fun t => loss k (path t)) t0 (dot n (delta k) ds)) ->
  (i < T)%nat -> adjoint n J T delta lambda ->
  is_derive (fun t => sumR (fun k => loss k (states (copy F t0 i) t s0 k)) (S T)) t0
            (dot n (lambda (S i)) (B i)).
Proof.
  intros HF H0 Hl Hi Ha.
  set (B' := fun k => if (k =? i)%nat then B k else fun _ => 0).
  eapply D_eq.
  - apply (bptt n (copy F t0 i) t0 s0 J B') with (delta := delta) (lambda := lambda); [| |exact Ha].
    + intro k. rewrite states_of_copy. unfold copy, B'. destruct (k =? i)%nat; [apply HF | apply H0].
    + intros k path ds Hp. apply Hl. intro j. now rewrite Hp, states_of_copy.
  - rewrite <- (sumR_pick (fun k => dot n (lambda (S k)) (B k)) i T Hi). apply sumR_ext.
    intros k _. unfold B'. destruct (k =? i)%nat; [reflexivity | now apply dot_zero_r].
Qed.

(** The derivative by the initial state, or by any earlier one: a product of step Jacobians,
    later steps on the left. *)
Theorem chain_rule_through_time n (F : nat -> vec -> vec) (J : nat -> mat)
    (s : R -> vec) (ds : vec) t0 k i :
  (forall k, step_ok n t0 (fun _ => F k) (states (fun k _ => F k) t0 (s t0) k) (J k) (fun _ => 0)) ->
  (forall i, (i < n)%nat -> is_derive (fun t => s t i) t0 (ds i)) -> (i < n)%nat ->
  is_derive (fun t => states (fun k _ => F k) t0 (s t) k i) t0 (mv n (product n J 0 k) ds i).
Proof.
  intros HF Hs. revert i. induction k; intros i Hi.
  - simpl. rewrite idm_mv by exact Hi. now apply Hs.
  - cbn [states product Nat.add]. eapply D_eq.
    + apply (HF k (fun t => states (fun k _ => F k) t0 (s t) k) (fun j => mv n (product n J 0 k) ds j));
        [reflexivity | exact IHk | exact Hi].
    + now rewrite mv_mm, Rplus_0_r.
Qed.
