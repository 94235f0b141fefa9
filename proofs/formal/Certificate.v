(** * Certificates of linear size: the backward pass over a memory already computed.

    Serves C-6. From [tape_certificate] and interval arithmetic it can be proved, for one network
    with numbers in it, that a floating-point gradient is close to the true derivative. *)
From Coq Require Import Reals Lra Lia List Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Tape.
Import ListNotations.
Open Scope R_scope.

Fixpoint bwdv (p : list instr) (d : nat) (v seed : nat -> R) : nat -> R :=
  match p with
  | [] => seed
  | ins :: q => let a := bwdv q (S d) v seed in scatter (a d) (partials ins v) a
  end.

(** [v] is a memory in which every instruction's equation holds. *)
Fixpoint sat (p : list instr) (d : nat) (v : nat -> R) : Prop :=
  match p with [] => True | ins :: q => v d = value ins v /\ sat q (S d) v end.

Lemma agree_value ins d m v : (forall i, In i (args ins) -> (i < d)%nat) ->
  (forall j, (j < d)%nat -> m j = v j) -> value ins m = value ins v /\ partials ins m = partials ins v.
Proof. intros Ha H. destruct ins; simpl in *; rewrite ?H by auto; auto. Qed.

Lemma run_below p : forall d m j, (j < d)%nat -> run p d m j = m j.
Proof.
  induction p; intros d m j Hj; simpl; [reflexivity|]. rewrite IHp by lia.
  unfold upd. destruct (Nat.eq_dec j d); [lia | reflexivity].
Qed.

Lemma run_sat p : forall d m, wf p d -> sat p d (run p d m).
Proof.
  induction p as [|ins p IH]; intros d m [Ha Hw] || intros d m _; simpl; [exact I|].
  split; [|now apply IH].
  rewrite run_below by lia.
  replace (upd m d (value ins m) d) with (value ins m) by (unfold upd; destruct (Nat.eq_dec d d); congruence).
  apply (agree_value ins d); [exact Ha|]. intros j Hj. rewrite run_below by lia.
  unfold upd. destruct (Nat.eq_dec j d); [lia | reflexivity].
Qed.

Lemma scatter_ext s l : forall a b, (forall k, a k = b k) -> forall k, scatter s l a k = scatter s l b k.
Proof.
  induction l as [|[i c] l IH]; intros a b H k; simpl; [apply H|].
  apply IH. intro r. unfold upd. rewrite !H. destruct (Nat.eq_dec r i); auto.
Qed.

Lemma bwd_bwdv p : forall d m v seed, wf p d -> sat p d v ->
  (forall j, (j < d)%nat -> m j = v j) -> forall k, bwd p d m seed k = bwdv p d v seed k.
Proof.
  induction p as [|ins p IH]; intros d m v seed Hw Hs H k; simpl; [reflexivity|].
  destruct Hw as [Ha Hw], Hs as [E Hs].
  destruct (agree_value ins d m v Ha H) as [Ev ->]. rewrite Ev.
  assert (Hb : forall k, bwd p (S d) (upd m d (value ins v)) seed k = bwdv p (S d) v seed k).
  { apply IH; auto. intros j Hj. unfold upd. destruct (Nat.eq_dec j d) as [->|]; [now symmetry | apply H; lia]. }
  rewrite Hb. now apply scatter_ext.
Qed.

Theorem tape_certificate p d m out i : wf p d -> (i < d)%nat -> (out < d + length p)%nat ->
  exists v, (forall j, (j < d)%nat -> v j = m j) /\ sat p d v /\
  is_derive (fun t : R => run p d (upd m i t) out) (m i)
            (bwdv p d v (fun l => if Nat.eq_dec l out then 1 else 0) i).
Proof.
  intros Hw Hi Ho. exists (run p d m). split; [|split].
  - intros j Hj. now apply run_below.
  - now apply run_sat.
  - rewrite <- (bwd_bwdv p d m); auto using tape_reverse_mode_correct, run_sat.
    intros j Hj. symmetry. now apply run_below.
Qed.
