(** * The tape of an unrolled tanh network: its backward pass returns the BPTT sum.

    Serves C-5: what the engine computes on its tape is the sum of Scalar.v, for every T. That the
    engine records this tape of a tanh RNNCell is for `tape` to check (links.py). *)
From Coq Require Import Reals Lra Lia List Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Scalar Tape.
Import ListNotations.
Open Scope R_scope.

(** Cells 0..T-1 hold the inputs, T holds wi, T+1 holds wh, T+2 holds b, T+3 holds o_0.
    [rnn_tape T k s next o]: record s steps from step k on; the state is in
    cell o, the next free cell is [next]. *)
Fixpoint rnn_tape (T k s next o : nat) : list instr :=
  match s with
  | O => []
  | S s => IMul k T :: IMul o (S T) :: IAdd next (S next) :: IAdd (S (S next)) (S (S T))
           :: ITanh (S (S (S next))) :: rnn_tape T (S k) s (5 + next) (4 + next)
  end.
Fixpoint last_cell (s next o : nat) : nat :=
  match s with O => o | S s => last_cell s (5 + next) (4 + next) end.

Lemma upd_eq m i v : upd m i v i = v.
Proof. unfold upd. destruct (Nat.eq_dec i i); congruence. Qed.
Lemma upd_neq m i v j : j <> i -> upd m i v j = m j.
Proof. intro H. unfold upd. destruct (Nat.eq_dec j i); congruence. Qed.
Ltac cells := repeat first [rewrite upd_eq | rewrite upd_neq by lia].

Lemma rnn_tape_wf T : forall s k next o,
  (k + s <= T)%nat -> (o < next)%nat -> (T + 4 <= next)%nat -> wf (rnn_tape T k s next o) next.
Proof.
  induction s; intros k next o Hk Ho Hn; simpl; [exact I|].
  repeat split; try (intros; intuition lia). apply IHs; lia.
Qed.

Lemma rnn_tape_length T : forall s k next o, length (rnn_tape T k s next o) = (5 * s)%nat.
Proof. induction s; intros; simpl; [reflexivity | rewrite IHs; lia]. Qed.

Lemma last_cell_lt : forall s next o, (o < next)%nat -> (last_cell s next o < next + 5 * s)%nat.
Proof. induction s; intros; cbn [last_cell]; [lia|]. specialize (IHs (5 + next)%nat (4 + next)%nat ltac:(lia)). lia. Qed.

(** The bias is part of the activation: h_k+1 = tanh ((x_k wi + h_k wh) + b). *)
Definition phi (b t : R) : R := tanh (t + b).
Definition phi' (b t : R) : R := 1 - tanh (t + b) ^ 2.

Lemma phi_derive b t : is_derive (phi b) t (phi' b t).
Proof.
  eapply D_eq; [apply (D_comp tanh (fun t => t + b)); [apply is_derive_tanh|]|].
  - apply D_plus; [apply D_id | apply D_const].
  - cbv beta. unfold phi'. ring.
Qed.

Lemma rnn_tape_run (x : nat -> R) (wi wh b o0 : R) (T : nat) : forall s k next o m,
  (k + s <= T)%nat -> (o < next)%nat -> (T + 4 <= next)%nat ->
  (forall j, (j < T)%nat -> m j = x j) -> m T = wi -> m (S T) = wh -> m (S (S T)) = b ->
  m o = out (phi b) x wi wh o0 k ->
  run (rnn_tape T k s next o) next m (last_cell s next o) = out (phi b) x wi wh o0 (k + s).
Proof.
  induction s; intros k next o m Hk Ho Hn Hx Hwi Hwh Hb Hm.
  - simpl. now rewrite Nat.add_0_r.
  - cbn [rnn_tape run last_cell]. rewrite Nat.add_succ_r.
    replace (S (S (S (S (S next))))) with (5 + next)%nat by lia.
    apply (IHs (S k)); try lia; try (now cells).
    + intros j Hj. cells. now apply Hx.
    + cbn [value]. cells. now rewrite Hx, Hwi, Hwh, Hb, Hm by lia.
Qed.

Definition engine_tape (T : nat) : list instr := rnn_tape T 0 T (T + 4) (T + 3).
Definition engine_loss (T : nat) : nat := last_cell T (T + 4) (T + 3).
Definition engine_grad (T : nat) (m : nat -> R) : nat -> R :=
  bwd (engine_tape T) (T + 4) m (fun l => if Nat.eq_dec l (engine_loss T) then 1 else 0).

Section Memory.
Variables (T : nat) (m : nat -> R).
Let wi := m T.
Let wh := m (S T).
Let b := m (S (S T)).
Let o0 := m (T + 3)%nat.

(** Run, the tape leaves the network's last state in its last cell. *)
Theorem engine_computes_state :
  run (engine_tape T) (T + 4) m (engine_loss T) = out (phi b) m wi wh o0 T.
Proof. now apply (rnn_tape_run m wi wh b o0 T T 0); try lia. Qed.

Lemma run_with_wi t :
  run (engine_tape T) (T + 4) (upd m T t) (engine_loss T) = out (phi b) m t wh o0 T.
Proof. apply (rnn_tape_run m t wh b o0 T T 0); try lia; intros; now cells. Qed.
Lemma run_with_wh t :
  run (engine_tape T) (T + 4) (upd m (S T) t) (engine_loss T) = out (phi b) m wi t o0 T.
Proof. apply (rnn_tape_run m wi t b o0 T T 0); try lia; intros; now cells. Qed.

Lemma engine_derive i : (i < T + 4)%nat ->
  is_derive (fun t : R => run (engine_tape T) (T + 4) (upd m i t) (engine_loss T))
    (m i) (engine_grad T m i).
Proof.
  intro Hi. apply tape_reverse_mode_correct; [apply rnn_tape_wf; lia | exact Hi|].
  unfold engine_tape. rewrite rnn_tape_length. apply last_cell_lt. lia.
Qed.

Theorem engine_computes_bptt_wi :
  engine_grad T m T = bptt (phi b) (phi' b) m wi wh o0 (imm_wi (phi b) (phi' b) m wi wh o0) T.
Proof.
  rewrite <- (is_derive_unique _ _ _ (bptt_wi (phi b) _ (phi_derive b) m wi wh o0 T)).
  symmetry. apply is_derive_unique.
  eapply is_derive_ext; [exact run_with_wi | apply engine_derive; lia].
Qed.

Theorem engine_computes_bptt :
  engine_grad T m (S T) = bptt (phi b) (phi' b) m wi wh o0 (imm_wh (phi b) (phi' b) m wi wh o0) T.
Proof.
  rewrite <- (is_derive_unique _ _ _ (bptt_wh (phi b) _ (phi_derive b) m wi wh o0 T)).
  symmetry. apply is_derive_unique.
  eapply is_derive_ext; [exact run_with_wh | apply engine_derive; lia].
Qed.
End Memory.
