(** * The tape of an unrolled tanh network: its backward pass returns the BPTT sum.

    Serves C-5: what the engine computes on its tape is the sum of Scalar.v, for every T. *)
From Coq Require Import Reals Lra Lia List Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Scalar Tape.
Import ListNotations.
Open Scope R_scope.

(** Cells 0..T-1 hold the inputs, T holds wi, T+1 holds wh, T+2 holds o_0.
    [rnn_tape T k s next o]: record s steps from step k on; the state is in
    cell o, the next free cell is [next]. *)
Fixpoint rnn_tape (T k s next o : nat) : list instr :=
  match s with
  | O => []
  | S s => IMul k T :: IMul o (S T) :: IAdd next (S next) :: ITanh (S (S next))
           :: rnn_tape T (S k) s (4 + next) (3 + next)
  end.
Fixpoint last_cell (s next o : nat) : nat :=
  match s with O => o | S s => last_cell s (4 + next) (3 + next) end.

Lemma upd_eq m i v : upd m i v i = v.
Proof. unfold upd. destruct (Nat.eq_dec i i); congruence. Qed.
Lemma upd_neq m i v j : j <> i -> upd m i v j = m j.
Proof. intro H. unfold upd. destruct (Nat.eq_dec j i); congruence. Qed.
Ltac cells := repeat first [rewrite upd_eq | rewrite upd_neq by lia].

Lemma rnn_tape_wf T : forall s k next o,
  (k + s <= T)%nat -> (o < next)%nat -> (T + 3 <= next)%nat -> wf (rnn_tape T k s next o) next.
Proof.
  induction s; intros k next o Hk Ho Hn; simpl; [exact I|].
  repeat split; try (intros; intuition lia). apply IHs; lia.
Qed.

Lemma rnn_tape_length T : forall s k next o, length (rnn_tape T k s next o) = (4 * s)%nat.
Proof. induction s; intros; simpl; [reflexivity | rewrite IHs; lia]. Qed.

Lemma last_cell_lt : forall s next o, (o < next)%nat -> (last_cell s next o < next + 4 * s)%nat.
Proof. induction s; intros; cbn [last_cell]; [lia|]. specialize (IHs (4 + next)%nat (3 + next)%nat ltac:(lia)). lia. Qed.

Lemma rnn_tape_run (x : nat -> R) (wi wh o0 : R) (T : nat) : forall s k next o m,
  (k + s <= T)%nat -> (o < next)%nat -> (T + 3 <= next)%nat ->
  (forall j, (j < T)%nat -> m j = x j) -> m T = wi -> m (S T) = wh ->
  m o = out tanh x wi wh o0 k ->
  run (rnn_tape T k s next o) next m (last_cell s next o) = out tanh x wi wh o0 (k + s).
Proof.
  induction s; intros k next o m Hk Ho Hn Hx Hwi Hwh Hm.
  - simpl. now rewrite Nat.add_0_r.
  - cbn [rnn_tape run last_cell]. rewrite Nat.add_succ_r.
    replace (S (S (S (S next)))) with (4 + next)%nat by lia.
    apply (IHs (S k)); try lia.
    + intros j Hj. cells. now apply Hx.
    + now cells.
    + now cells.
    + cbn [value]. cells. now rewrite Hx, Hwi, Hwh, Hm by lia.
Qed.

Definition memory (T : nat) (x : nat -> R) (wi wh o0 : R) (j : nat) : R :=
  if (j <? T)%nat then x j else if (j =? T)%nat then wi else if (j =? S T)%nat then wh else o0.

Definition engine_grad T x wi wh o0 :=
  bwd (rnn_tape T 0 T (T + 3) (T + 2)) (T + 3) (memory T x wi wh o0)
      (fun l => if Nat.eq_dec l (last_cell T (T + 3) (T + 2)) then 1 else 0).

Theorem engine_computes_bptt T x wi wh o0 :
  engine_grad T x wi wh o0 (S T)
    = bptt tanh (fun t => 1 - tanh t ^ 2) x wi wh o0
           (imm_wh tanh (fun t => 1 - tanh t ^ 2) x wi wh o0) T.
Proof.
  set (m := memory T x wi wh o0).
  assert (Hm : m (S T) = wh).
  { unfold m, memory. destruct (Nat.ltb_spec (S T) T); [lia|].
    destruct (Nat.eqb_spec (S T) T); [lia|]. now rewrite Nat.eqb_refl. }
  rewrite <- (is_derive_unique _ _ _ (bptt_wh tanh _ is_derive_tanh x wi wh o0 T)).
  symmetry. apply is_derive_unique.
  assert (Hwf : wf (rnn_tape T 0 T (T + 3) (T + 2)) (T + 3)) by (apply rnn_tape_wf; lia).
  assert (Hlast : (last_cell T (T + 3) (T + 2) < T + 3 + length (rnn_tape T 0 T (T + 3) (T + 2)))%nat).
  { rewrite rnn_tape_length. apply last_cell_lt. lia. }
  assert (H := tape_reverse_mode_correct _ _ m _ (S T) Hwf ltac:(lia) Hlast).
  rewrite Hm in H. eapply is_derive_ext; [|exact H].
  intro t. apply (rnn_tape_run x wi t o0 T T 0); try lia.
  - intros j Hj. cells. unfold m, memory. destruct (Nat.ltb_spec j T); [reflexivity | lia].
  - cells. unfold m, memory. destruct (Nat.ltb_spec T T); [lia|]. now rewrite Nat.eqb_refl.
  - now cells.
  - cells. unfold m, memory. simpl.
    destruct (Nat.ltb_spec (T + 2) T); [lia|]. destruct (Nat.eqb_spec (T + 2) T); [lia|].
    destruct (Nat.eqb_spec (T + 2) (S T)); [lia | reflexivity].
Qed.
