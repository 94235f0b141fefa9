(** * Reverse mode is right: expression trees, then tapes with shared nodes.

    Serves C-6: on scalars, for any program of +, -, *, tanh and sigmoid, the backward pass with
    accumulation in buffers returns the partial derivative. *)
From Coq Require Import Reals Lra Lia List Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations.
Import ListNotations.
Open Scope R_scope.

Definition upd (m : nat -> R) (i : nat) (v : R) : nat -> R :=
  fun j => if Nat.eq_dec j i then v else m j.

(** ** 1. Expression trees *)
Inductive expr :=
| Cst (c : R) | Var (i : nat)
| Add (a b : expr) | Mul (a b : expr)
| Tanh (a : expr) | Sigm (a : expr).

Fixpoint eval (e : expr) (env : nat -> R) : R :=
  match e with
  | Cst c => c
  | Var i => env i
  | Add a b => eval a env + eval b env
  | Mul a b => eval a env * eval b env
  | Tanh a => tanh (eval a env)
  | Sigm a => sigmoid (eval a env)
  end.

(** Backward pass: push the incoming adjoint [s] down, add into the buffer. *)
Fixpoint backward (e : expr) (env : nat -> R) (s : R) (acc : nat -> R) : nat -> R :=
  match e with
  | Cst _ => acc
  | Var i => upd acc i (acc i + s)
  | Add a b => backward b env s (backward a env s acc)
  | Mul a b => backward b env (s * eval a env) (backward a env (s * eval b env) acc)
  | Tanh a => backward a env (s * (1 - tanh (eval a env) ^ 2)) acc
  | Sigm a => backward a env (s * (sigmoid (eval a env) * (1 - sigmoid (eval a env)))) acc
  end.

Definition grad (e : expr) (env : nat -> R) : nat -> R := backward e env 1 (fun _ => 0).

(** The backward pass is linear in the seed and additive in the buffer. *)
Lemma backward_linear (e : expr) env s acc l :
  backward e env s acc l = acc l + s * grad e env l.
Proof.
  unfold grad. revert s acc.
  induction e; intros s acc; simpl.
  - ring.
  - unfold upd. destruct (Nat.eq_dec l i) as [->|]; ring.
  - rewrite IHe2, IHe1, (IHe2 1 (backward e1 _ _ _)), (IHe1 1 (fun _ => 0)). ring.
  - rewrite IHe2, IHe1. rewrite (IHe2 (1 * _)), (IHe1 (1 * _)). ring.
  - rewrite IHe. rewrite (IHe (1 * _)). ring.
  - rewrite IHe. rewrite (IHe (1 * _)). ring.
Qed.

Lemma eval_ext (e : expr) (m1 m2 : nat -> R) :
  (forall j, m1 j = m2 j) -> eval e m1 = eval e m2.
Proof. intro H. induction e; simpl; congruence. Qed.

Lemma upd_same (m : nat -> R) i j : upd m i (m i) j = m j.
Proof. unfold upd. destruct (Nat.eq_dec j i); congruence. Qed.

Theorem tree_reverse_mode_correct (e : expr) (env : nat -> R) (i : nat) :
  is_derive (fun t : R => eval e (upd env i t)) (env i) (grad e env i).
Proof.
  assert (Hs : forall e, eval e (upd env i (env i)) = eval e env).
  { intro e0. apply eval_ext, upd_same. }
  induction e; unfold grad; simpl; rewrite ?backward_linear.
  - apply D_const.
  - unfold upd. destruct (Nat.eq_dec i0 i) as [->|Hn].
    + destruct (Nat.eq_dec i i) as [_|]; [|congruence].
      apply D_eq with 1; [apply D_id | ring].
    + destruct (Nat.eq_dec i i0); [congruence | apply D_const].
  - eapply D_eq; [apply D_plus; eassumption | ring].
  - eapply D_eq; [apply D_mult; eassumption|]. cbv beta. rewrite !Hs. ring.
  - eapply D_eq.
    + apply (D_comp tanh (fun t => eval e (upd env i t))); [apply is_derive_tanh | exact IHe].
    + cbv beta. rewrite Hs. ring.
  - eapply D_eq.
    + apply (D_comp sigmoid (fun t => eval e (upd env i t))); [apply is_derive_sigmoid | exact IHe].
    + cbv beta. rewrite Hs. ring.
Qed.

(** ** 2. Tapes: every value is stored once and may be used many times *)

(** Instruction number k of a tape writes cell d + k, d the number of inputs. *)
Inductive instr :=
| ICst (c : R) | IAdd (i j : nat) | ISub (i j : nat) | IMul (i j : nat) | ITanh (i : nat)
| ISigm (i : nat).

(** A primitive is given by its value and its list of local partials
    (argument cell, partial derivative). *)
Definition value (p : instr) (m : nat -> R) : R :=
  match p with
  | ICst c => c
  | IAdd i j => m i + m j
  | ISub i j => m i - m j
  | IMul i j => m i * m j
  | ITanh i => tanh (m i)
  | ISigm i => sigmoid (m i)
  end.

Definition partials (p : instr) (m : nat -> R) : list (nat * R) :=
  match p with
  | ICst _ => []
  | IAdd i j => [(i, 1); (j, 1)]
  | ISub i j => [(i, 1); (j, -1)]
  | IMul i j => [(i, m j); (j, m i)]
  | ITanh i => [(i, 1 - tanh (m i) ^ 2)]
  | ISigm i => [(i, sigmoid (m i) * (1 - sigmoid (m i)))]
  end.

(** The arguments of an instruction do not depend on the memory. *)
Definition args (p : instr) : list nat :=
  match p with
  | ICst _ => [] | IAdd i j | ISub i j | IMul i j => [i; j] | ITanh i | ISigm i => [i]
  end.

Fixpoint wf (p : list instr) (d : nat) : Prop :=
  match p with
  | [] => True
  | ins :: q => (forall i, In i (args ins) -> (i < d)%nat) /\ wf q (S d)
  end.

Fixpoint run (p : list instr) (d : nat) (m : nat -> R) : nat -> R :=
  match p with
  | [] => m
  | ins :: q => run q (S d) (upd m d (value ins m))
  end.

(** Backward: reverse order; each instruction adds adjoint * partial into the
    adjoint cells of its arguments. *)
Fixpoint scatter (s : R) (l : list (nat * R)) (a : nat -> R) : nat -> R :=
  match l with
  | [] => a
  | (i, c) :: l' => scatter s l' (upd a i (a i + s * c))
  end.

Fixpoint bwd (p : list instr) (d : nat) (m : nat -> R) (seed : nat -> R) : nat -> R :=
  match p with
  | [] => seed
  | ins :: q =>
      let a := bwd q (S d) (upd m d (value ins m)) seed in
      scatter (a d) (partials ins m) a
  end.

Definition tangent (l : list (nat * R)) (dm : nat -> R) : R :=
  fold_right (fun ic r => snd ic * dm (fst ic) + r) 0 l.

Lemma partials_args ins m i c : In (i, c) (partials ins m) -> In i (args ins).
Proof. destruct ins; simpl; intuition; repeat match goal with H : (_, _) = _ |- _ => injection H; intros; subst; auto end. Qed.

(** Local correctness of every primitive -- the only place where the
    primitives' derivatives are used. *)
Lemma value_derive ins (m : R -> nat -> R) (dm : nat -> R) (t0 : R) :
  (forall i, In i (args ins) -> is_derive (fun t => m t i) t0 (dm i)) ->
  is_derive (fun t => value ins (m t)) t0 (tangent (partials ins (m t0)) dm).
Proof.
  intro H. destruct ins; unfold tangent; simpl in *.
  - apply D_const.
  - eapply D_eq; [apply D_plus; apply H; auto | ring].
  - eapply D_eq; [apply D_minus; apply H; auto | ring].
  - eapply D_eq; [apply D_mult; apply H; auto | cbv beta; ring].
  - eapply D_eq; [apply (D_comp tanh (fun t => m t i)); [apply is_derive_tanh | apply H; auto] | cbv beta; ring].
  - eapply D_eq; [apply (D_comp sigmoid (fun t => m t i)); [apply is_derive_sigmoid | apply H; auto] | cbv beta; ring].
Qed.

Lemma dot_upd (a dm : nat -> R) (i d : nat) (v : R) : (i < d)%nat ->
  sumR (fun l => upd a i (a i + v) l * dm l) d = sumR (fun l => a l * dm l) d + v * dm i.
Proof.
  induction d; intro Hi; [lia|]. simpl.
  destruct (Nat.eq_dec i d) as [->|Hn].
  - rewrite (sumR_ext _ (fun l => a l * dm l)).
    + unfold upd. destruct (Nat.eq_dec d d); [ring | congruence].
    + intros l Hl. unfold upd. destruct (Nat.eq_dec l d); [lia | reflexivity].
  - rewrite IHd by lia. unfold upd at 1. destruct (Nat.eq_dec d i); [lia | ring].
Qed.

(** Scatter is the transpose of the local tangent. *)
Lemma dot_scatter (s : R) l (a dm : nat -> R) (d : nat) :
  (forall i c, In (i, c) l -> (i < d)%nat) ->
  sumR (fun k => scatter s l a k * dm k) d = sumR (fun k => a k * dm k) d + s * tangent l dm.
Proof.
  revert a; induction l as [|[i c] l IH]; intros a H; simpl.
  - ring.
  - rewrite IH by (intros; eapply H; right; eassumption).
    rewrite dot_upd by (eapply H; left; reflexivity). unfold tangent; simpl. ring.
Qed.

Theorem tape_total_derivative (p : list instr) : forall (d : nat) (m : R -> nat -> R)
    (dm seed : nat -> R) (t0 : R),
  wf p d ->
  (forall l, (l < d)%nat -> is_derive (fun t => m t l) t0 (dm l)) ->
  is_derive (fun t => sumR (fun l => seed l * run p d (m t) l) (d + length p)) t0
            (sumR (fun l => bwd p d (m t0) seed l * dm l) d).
Proof.
  induction p as [|ins p IH]; intros d m dm seed t0 Hwf Hm; simpl.
  - rewrite Nat.add_0_r. clear Hwf. induction d; simpl; [apply D_const|].
    eapply D_eq.
    + apply D_plus; [apply IHd; intros; apply Hm; lia|].
      apply D_mult; [apply D_const | apply Hm; lia].
    + cbv beta. ring.
  - destruct Hwf as [Ha Hwf].
    set (m' := fun t => upd (m t) d (value ins (m t))).
    set (dm' := upd dm d (tangent (partials ins (m t0)) dm)).
    rewrite Nat.add_succ_r.
    eapply D_eq.
    + apply (IH (S d) m' dm' seed t0 Hwf). intros l Hl. unfold m', dm', upd.
      destruct (Nat.eq_dec l d) as [->|]; [|apply Hm; lia].
      apply value_derive. intros i Hi. apply Hm. auto.
    + rewrite dot_scatter by (intros i c Hi; eauto using partials_args).
      unfold m'. simpl. set (a := bwd p (S d) _ seed).
      rewrite (sumR_ext _ (fun l => a l * dm l)).
      * unfold dm', upd. destruct (Nat.eq_dec d d); [ring | congruence].
      * intros l Hl. unfold dm', upd. destruct (Nat.eq_dec l d); [lia | reflexivity].
Qed.

Lemma sumR_indicator (f : nat -> R) (i d : nat) : (i < d)%nat ->
  sumR (fun l => f l * (if Nat.eq_dec l i then 1 else 0)) d = f i.
Proof.
  induction d; intro Hi; [lia|]. simpl.
  destruct (Nat.eq_dec d i) as [->|].
  - rewrite (sumR_ext _ (fun _ => 0)).
    + replace (sumR (fun _ => 0) i) with 0; [ring|]. clear. induction i; simpl; lra.
    + intros l Hl. destruct (Nat.eq_dec l i); [lia | ring].
  - rewrite IHd by lia. ring.
Qed.

(** The core theorem of the engine: after the backward pass seeded with 1 at
    the output cell, the adjoint of input i is the partial derivative. *)
Theorem tape_reverse_mode_correct (p : list instr) (d : nat) (m : nat -> R) (out i : nat) :
  wf p d -> (i < d)%nat -> (out < d + length p)%nat ->
  is_derive (fun t : R => run p d (upd m i t) out) (m i)
            (bwd p d m (fun l => if Nat.eq_dec l out then 1 else 0) i).
Proof.
  intros Hwf Hi Ho.
  set (seed := fun l => if Nat.eq_dec l out then 1 else 0).
  assert (H := tape_total_derivative p d (fun t => upd m i t)
                 (fun l => if Nat.eq_dec l i then 1 else 0) seed (m i) Hwf).
  eapply is_derive_ext; [|eapply D_eq; [apply H|]].
  - intro t. cbv beta. rewrite (sumR_ext _ (fun l => run p d (upd m i t) l * seed l)) by (intros; ring).
    now apply sumR_indicator.
  - intros l _. unfold upd. destruct (Nat.eq_dec l i); [apply D_id | apply D_const].
  - rewrite sumR_indicator by exact Hi.
    assert (E : forall p d m1 m2, (forall j, m1 j = m2 j) -> forall k, bwd p d m1 seed k = bwd p d m2 seed k).
    { clear. induction p as [|ins p IH]; intros d m1 m2 H k; simpl; [reflexivity|].
      assert (Hv : value ins m1 = value ins m2) by (destruct ins; simpl; rewrite ?H; reflexivity).
      assert (Hp : partials ins m1 = partials ins m2) by (destruct ins; simpl; rewrite ?H; reflexivity).
      rewrite Hv, Hp.
      assert (Hb : forall l, bwd p (S d) (upd m1 d (value ins m2)) seed l = bwd p (S d) (upd m2 d (value ins m2)) seed l).
      { apply IH. intro j. unfold upd. destruct (Nat.eq_dec j d); auto. }
      rewrite Hb. generalize (bwd p (S d) (upd m2 d (value ins m2)) seed d). intro s.
      revert Hb. generalize (bwd p (S d) (upd m1 d (value ins m2)) seed).
      generalize (bwd p (S d) (upd m2 d (value ins m2)) seed).
      clear Hp. induction (partials ins m2) as [|[q c] l IHl]; intros b1 b2 Hb; simpl; [apply Hb|].
      apply IHl. intro r. unfold upd. rewrite !Hb. destruct (Nat.eq_dec r q); auto. }
    apply E. apply upd_same.
Qed.
