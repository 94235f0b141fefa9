(** * The scalar network h_k+1 = f (x_k w_x + h_k w_h).

    Serves J-1, B-1, B-5, B-6, C-1, C-5 where one number tells the story of the notes: the
    derivative is a product of n factors f'(a_k) w_h; it vanishes for gamma |w_h| < 1, and grows
    only for gamma |w_h| > 1. *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations.
Open Scope R_scope.

Section RNN.
Variables phi phi' : R -> R.
Hypothesis phi_derive : forall t, is_derive phi t (phi' t).
Variable x : nat -> R.

Fixpoint out (wi wh o0 : R) (n : nat) : R :=
  match n with
  | O => o0
  | S k => phi (x k * wi + out wi wh o0 k * wh)
  end.

Section Fixed.
Variables wi wh o0 : R.
Let o := out wi wh o0.
Definition pre (k : nat) : R := x k * wi + out wi wh o0 k * wh.
(** Jacobian of one step: d o_{k+1} / d o_k *)
Definition J (k : nat) : R := phi' (pre k) * wh.

Theorem step_jacobian (k : nat) :
  is_derive (fun s : R => phi (x k * wi + s * wh)) (o k) (J k).
Proof.
  apply (D_comp phi (fun s => x k * wi + s * wh)); [apply phi_derive|].
  auto_derive; [exact I | ring].
Qed.

(** d o_n / d o_0 is the product of the step Jacobians. *)
Theorem chain_product (n : nat) :
  is_derive (fun s : R => out wi wh s n) o0 (prodR J n).
Proof.
  induction n; simpl; [apply D_id|].
  eapply D_eq.
  - apply (D_comp phi (fun s => x n * wi + out wi wh s n * wh)); [apply phi_derive|].
    apply D_plus; [apply D_const|]. apply D_mult; [exact IHn | apply D_const].
  - unfold J, pre. ring.
Qed.

Theorem chain_bound (gamma : R) (n : nat) :
  (forall t, Rabs (phi' t) <= gamma) -> Rabs (prodR J n) <= (gamma * Rabs wh) ^ n.
Proof.
  intros Hg. apply prodR_bound. intros k _. unfold J. rewrite Rabs_mult.
  apply Rmult_le_compat_r; [apply Rabs_pos | apply Hg].
Qed.

Theorem vanishing (gamma : R) :
  0 <= gamma -> (forall t, Rabs (phi' t) <= gamma) -> gamma * Rabs wh < 1 ->
  is_lim_seq (fun n => Derive (fun s => out wi wh s n) o0) 0.
Proof.
  intros H0 Hg Hlt. apply is_lim_seq_0_of_bound with (gamma * Rabs wh).
  - split; [|exact Hlt]. apply Rmult_le_pos; [exact H0 | apply Rabs_pos].
  - intro n. rewrite (is_derive_unique _ _ _ (chain_product n)).
    now apply chain_bound.
Qed.

(** Contrapositive: if the gradient does not tend to 0 then gamma * |wh| >= 1,
    and if it exceeds 1 even once then gamma * |wh| > 1. *)
Corollary not_vanishing_needs (gamma : R) :
  0 <= gamma -> (forall t, Rabs (phi' t) <= gamma) ->
  ~ is_lim_seq (fun n => Derive (fun s => out wi wh s n) o0) 0 -> 1 <= gamma * Rabs wh.
Proof.
  intros H0 Hg Hn. destruct (Rle_lt_dec 1 (gamma * Rabs wh)); [assumption|].
  exfalso; apply Hn; eapply vanishing; eauto.
Qed.

Corollary exploding_needs (gamma : R) (n : nat) :
  0 <= gamma -> (forall t, Rabs (phi' t) <= gamma) ->
  1 < Rabs (Derive (fun s => out wi wh s n) o0) -> 1 < gamma * Rabs wh.
Proof.
  intros H0 Hg Hn. rewrite (is_derive_unique _ _ _ (chain_product n)) in Hn.
  destruct (Rle_lt_dec (gamma * Rabs wh) 1) as [H1|]; [|assumption].
  exfalso. apply (Rlt_not_le _ _ Hn).
  eapply Rle_trans; [apply (chain_bound gamma n Hg)|].
  rewrite <- (pow1 n). apply pow_incr. split; [|exact H1].
  apply Rmult_le_pos; [exact H0 | apply Rabs_pos].
Qed.

(** BPTT. [imm k] is the immediate (direct) partial derivative at step k, the
    one with o_k held fixed: phi'(pre k) * x_k for wi, phi'(pre k) * o_k for wh.
    [horner] is the nested, forward form of the total derivative. *)
Definition imm_wi (k : nat) : R := phi' (pre k) * x k.
Definition imm_wh (k : nat) : R := phi' (pre k) * o k.

Fixpoint horner (imm : nat -> R) (n : nat) : R :=
  match n with O => 0 | S k => imm k + J k * horner imm k end.

Definition bptt (imm : nat -> R) (n : nat) : R :=
  sumR (fun j => prd J (S j) n * imm j) n.

Lemma horner_bptt (imm : nat -> R) (n : nat) : horner imm n = bptt imm n.
Proof.
  unfold bptt. induction n; simpl; [reflexivity|].
  rewrite IHn, sumR_scal, prd_nil, Rmult_1_l, Rplus_comm. f_equal.
  apply sumR_ext. intros i Hi. rewrite prd_S by lia. ring.
Qed.

Theorem bptt_wi (n : nat) : is_derive (fun w : R => out w wh o0 n) wi (bptt imm_wi n).
Proof.
  rewrite <- horner_bptt. induction n; simpl; [apply D_const|].
  eapply D_eq.
  - apply (D_comp phi (fun w => x n * w + out w wh o0 n * wh)); [apply phi_derive|].
    apply D_plus; apply D_mult; [apply D_const | apply D_id | exact IHn | apply D_const].
  - unfold imm_wi, J, pre. ring.
Qed.

Theorem bptt_wh (n : nat) : is_derive (fun w : R => out wi w o0 n) wh (bptt imm_wh n).
Proof.
  rewrite <- horner_bptt. induction n; simpl; [apply D_const|].
  eapply D_eq.
  - apply (D_comp phi (fun w => x n * wi + out wi w o0 n * w)); [apply phi_derive|].
    apply D_plus; [apply D_const | apply D_mult; [exact IHn | apply D_id]].
  - unfold imm_wh, J, pre, o. ring.
Qed.

(** What the backward pass computes: delta_n = 1, delta_k = delta_{k+1} * J_k,
    grad = sum_j delta_{j+1} * imm_j.  [back imm m d] runs it over steps m-1, ..., 0
    with incoming adjoint d. *)
Fixpoint back (imm : nat -> R) (m : nat) (d : R) : R :=
  match m with O => 0 | S k => d * imm k + back imm k (d * J k) end.

Lemma back_horner (imm : nat -> R) (m : nat) (d : R) : back imm m d = d * horner imm m.
Proof. revert d; induction m; simpl; intro d; [ring | rewrite IHm; ring]. Qed.

Theorem backward_pass_wi (n : nat) : is_derive (fun w : R => out w wh o0 n) wi (back imm_wi n 1).
Proof. rewrite back_horner, Rmult_1_l, horner_bptt. apply bptt_wi. Qed.

Theorem backward_pass_wh (n : nat) : is_derive (fun w : R => out wi w o0 n) wh (back imm_wh n 1).
Proof. rewrite back_horner, Rmult_1_l, horner_bptt. apply bptt_wh. Qed.

(** With a differentiable loss on the last output. *)
Theorem bptt_loss_wh (L : R -> R) (dL : R) (n : nat) :
  is_derive L (o n) dL ->
  is_derive (fun w : R => L (out wi w o0 n)) wh (dL * bptt imm_wh n).
Proof. intro HL. apply (D_comp L (fun w => out wi w o0 n)); [exact HL | apply bptt_wh]. Qed.

End Fixed.
End RNN.

(** Instances. *)
Theorem tanh_rnn_chain_bound x wi wh o0 n :
  Rabs (Derive (fun s => out tanh x wi wh s n) o0) <= Rabs wh ^ n.
Proof.
  rewrite (is_derive_unique _ _ _ (chain_product tanh _ is_derive_tanh x wi wh o0 n)).
  rewrite <- (Rmult_1_l (Rabs wh)). apply chain_bound.
  intro t. pose proof (tanh'_bound t). rewrite Rabs_pos_eq; lra.
Qed.

Theorem tanh_rnn_vanishing x wi wh o0 : Rabs wh < 1 ->
  is_lim_seq (fun n => Derive (fun s => out tanh x wi wh s n) o0) 0.
Proof.
  intro H. apply (vanishing tanh _ is_derive_tanh) with 1; try lra.
  intro t. pose proof (tanh'_bound t). rewrite Rabs_pos_eq; lra.
Qed.

Theorem sigmoid_rnn_vanishing x wi wh o0 : Rabs wh < 4 ->
  is_lim_seq (fun n => Derive (fun s => out sigmoid x wi wh s n) o0) 0.
Proof.
  intro H. apply (vanishing sigmoid _ is_derive_sigmoid) with (/ 4); try lra.
  intro t. pose proof (sigmoid'_bound t). rewrite Rabs_pos_eq; lra.
Qed.

(** The condition |wh| > 1 is necessary for explosion, not sufficient:
    with large inputs tanh saturates. A linear unit does explode. *)
Theorem linear_rnn_exact x wi wh o0 n :
  Derive (fun s => out (fun t => t) x wi wh s n) o0 = wh ^ n.
Proof.
  rewrite (is_derive_unique _ _ _ (chain_product (fun t => t) (fun _ => 1) D_id x wi wh o0 n)).
  induction n; simpl; [reflexivity|]. rewrite IHn. unfold J. ring.
Qed.

(** ** C-5 (a): three steps, and a first state that depends on the weights, too *)
Section Nested.
Variables g g' : R -> R.
Hypothesis g_derive : forall t, is_derive g t (g' t).

Lemma nested_by_W c (H : R -> R) dH W : is_derive H W dH ->
  is_derive (fun w : R => g (c + w * H w)) W (g' (c + W * H W) * (H W + W * dH)).
Proof.
  intro D. eapply D_eq.
  - apply (D_comp g (fun w => c + w * H w)); [apply g_derive|].
    apply D_plus; [apply D_const | apply D_mult; [apply D_id | exact D]].
  - cbv beta. ring.
Qed.

Lemma nested_by_U x W b (H : R -> R) dH U : is_derive H U dH ->
  is_derive (fun u : R => g (u * x + b + W * H u)) U (g' (U * x + b + W * H U) * (x + W * dH)).
Proof.
  intro D. eapply D_eq.
  - apply (D_comp g (fun u => u * x + b + W * H u)); [apply g_derive|].
    apply D_plus; [|apply D_mult; [apply D_const | exact D]].
    apply D_plus; [apply D_mult; [apply D_id | apply D_const] | apply D_const].
  - cbv beta. ring.
Qed.

Variables (x1 x2 x3 b : R) (H0 : R -> R -> R) (dW dU W U : R).
Definition H1 w u := g (u * x1 + b + w * H0 w u).
Definition H2 w u := g (u * x2 + b + w * H1 w u).
Definition H3 w u := g (u * x3 + b + w * H2 w u).
Let s1 := g' (U * x1 + b + W * H0 W U).
Let s2 := g' (U * x2 + b + W * H1 W U).
Let s3 := g' (U * x3 + b + W * H2 W U).

Theorem three_steps_by_W : is_derive (fun w => H0 w U) W dW ->
  is_derive (fun w => H3 w U) W
    (s3 * (H2 W U + W * (s2 * (H1 W U + W * (s1 * (H0 W U + W * dW)))))).
Proof.
  intro D. apply (nested_by_W (U * x3 + b) (fun w => H2 w U)).
  apply (nested_by_W (U * x2 + b) (fun w => H1 w U)).
  exact (nested_by_W (U * x1 + b) (fun w => H0 w U) dW W D).
Qed.

Theorem three_steps_by_U : is_derive (fun u => H0 W u) U dU ->
  is_derive (fun u => H3 W u) U (s3 * (x3 + W * (s2 * (x2 + W * (s1 * (x1 + W * dU)))))).
Proof.
  intro D. apply (nested_by_U x3 W b (fun u => H2 W u)).
  apply (nested_by_U x2 W b (fun u => H1 W u)).
  exact (nested_by_U x1 W b (fun u => H0 W u) dU U D).
Qed.
End Nested.
