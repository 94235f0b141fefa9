(** * Products of Jacobians in any submultiplicative norm, and on any normed space.

    Serves B-1, B-5, B-6 beyond R^n: only N (A B) <= N A * N B and N 1 <= 1 are used. *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox.
Open Scope R_scope.

(** ** Algebra with a submultiplicative norm *)
Section Submultiplicative.
Variables (M : Type) (mul : M -> M -> M) (one : M) (N : M -> R).
Hypothesis N_pos : forall a, 0 <= N a.
Hypothesis N_one : N one <= 1.
Hypothesis N_mul : forall a b, N (mul a b) <= N a * N b.

Fixpoint product (A : nat -> M) (n : nat) : M :=
  match n with O => one | S k => mul (A k) (product A k) end.

Variables (D : nat -> M) (W : M) (gamma s : R).
Hypothesis D_bound : forall k, N (D k) <= gamma.
Hypothesis W_bound : N W <= s.

Lemma gs_pos : 0 <= gamma * s.
Proof.
  apply Rmult_le_pos; [apply Rle_trans with (N (D 0%nat)) | apply Rle_trans with (N W)]; auto.
Qed.

Theorem product_bound n : N (product (fun k => mul (D k) W) n) <= (gamma * s) ^ n.
Proof.
  induction n; simpl; [exact N_one|].
  eapply Rle_trans; [apply N_mul|].
  apply Rmult_le_compat; auto.
  eapply Rle_trans; [apply N_mul|].
  apply Rmult_le_compat; auto.
Qed.

Theorem product_vanishes : gamma * s < 1 ->
  is_lim_seq (fun n => N (product (fun k => mul (D k) W) n)) 0.
Proof.
  intro H. apply is_lim_seq_0_of_bound with (gamma * s).
  - split; [apply gs_pos | exact H].
  - intro n. rewrite Rabs_pos_eq by apply N_pos. apply product_bound.
Qed.

(** Necessary condition for explosion. *)
Theorem explosion_needs (n : nat) :
  1 < N (product (fun k => mul (D k) W) n) -> 1 < gamma * s.
Proof.
  intro H. destruct (Rle_lt_dec (gamma * s) 1) as [H1|]; [|assumption].
  exfalso. apply (Rlt_not_le _ _ H). eapply Rle_trans; [apply product_bound|].
  rewrite <- (pow1 n). apply pow_incr. split; [apply gs_pos | exact H1].
Qed.

Theorem unbounded_needs :
  ~ (exists B, forall n, N (product (fun k => mul (D k) W) n) <= B) -> 1 < gamma * s.
Proof.
  intro H. destruct (Rle_lt_dec (gamma * s) 1) as [H1|]; [|assumption].
  exfalso. apply H. exists 1. intro n.
  destruct (Rle_lt_dec (N (product (fun k => mul (D k) W) n)) 1) as [|Hn]; [assumption|].
  apply explosion_needs in Hn. lra.
Qed.
End Submultiplicative.

(** ** Operators on a normed space *)
Section Operators.
Context {V : NormedModule R_AbsRing}.
Definition bounded_by (f : V -> V) (c : R) : Prop := forall v, norm (f v) <= c * norm v.

Fixpoint iter_ops (A : nat -> V -> V) (n : nat) (v : V) : V :=
  match n with O => v | S k => A k (iter_ops A k v) end.

Variables (D : nat -> V -> V) (W : V -> V) (gamma s : R).
Hypothesis gamma_pos : 0 <= gamma.
Hypothesis s_pos : 0 <= s.
Hypothesis D_bound : forall k, bounded_by (D k) gamma.
Hypothesis W_bound : bounded_by W s.

Theorem ops_bound n : bounded_by (iter_ops (fun k v => D k (W v)) n) ((gamma * s) ^ n).
Proof.
  intro v. induction n; simpl; [lra|].
  eapply Rle_trans; [apply D_bound|].
  rewrite 2!Rmult_assoc. apply Rmult_le_compat_l; [exact gamma_pos|].
  eapply Rle_trans; [apply W_bound|]. apply Rmult_le_compat_l; assumption.
Qed.

Theorem ops_vanish : gamma * s < 1 ->
  forall v, is_lim_seq (fun n => norm (iter_ops (fun k v => D k (W v)) n v)) 0.
Proof.
  intros H v.
  apply is_lim_seq_le_le with (u := fun _ => 0) (w := fun n => (gamma * s) ^ n * norm v).
  - intro n. split; [apply norm_ge_0 | apply ops_bound].
  - apply is_lim_seq_const.
  - replace (Finite 0) with (Rbar_mult 0 (norm v)) by (simpl; f_equal; ring).
    apply (is_lim_seq_scal_r (fun n => (gamma * s) ^ n) (norm v) 0).
    apply is_lim_seq_geom. rewrite Rabs_pos_eq; [exact H | apply Rmult_le_pos; assumption].
Qed.
End Operators.
