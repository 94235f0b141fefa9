(** * The engine's contract, for operations on tensors.

    Serves C-6. An operation comes with its value, its JVP and its VJP. If every operation meets
    its local contract (the JVP is the derivative of the value, the VJP the transpose of the JVP),
    then the whole backward pass computes the gradient. That every rule of the engine's table meets
    its contract is not proved here but tested, rule by rule (tests/test_rules.py). *)
From Coq Require Import Reals Lra Lia List Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations.
Import ListNotations.
Open Scope R_scope.

Record prim := {
  width : nat;                                        (* number of output entries *)
  val : (nat -> R) -> nat -> R;                       (* memory -> output *)
  jvp : (nat -> R) -> (nat -> R) -> nat -> R;         (* memory, tangent -> output tangent *)
  vjp : (nat -> R) -> (nat -> R) -> nat -> R }.       (* memory, output adjoint -> memory adjoint *)

(** Contract of an operation that reads cells below d. *)
Definition derivative_ok (d : nat) (q : prim) : Prop :=
  forall (m : R -> nat -> R) dm t0,
  (forall i, (i < d)%nat -> is_derive (fun t => m t i) t0 (dm i)) ->
  forall r, (r < width q)%nat -> is_derive (fun t => val q (m t) r) t0 (jvp q (m t0) dm r).
Definition transpose_ok (d : nat) (q : prim) : Prop :=
  forall m dm s, dot (width q) s (jvp q m dm) = dot d (vjp q m s) dm.

Fixpoint ok (p : list prim) (d : nat) : Prop :=
  match p with
  | [] => True
  | q :: p => derivative_ok d q /\ transpose_ok d q /\ ok p (d + width q)
  end.

Fixpoint total (p : list prim) (d : nat) : nat :=
  match p with [] => d | q :: p => total p (d + width q) end.

Definition write (d : nat) (q : prim) (m : nat -> R) : nat -> R :=
  fun j => if (j <? d)%nat then m j else val q m (j - d).

Fixpoint run (p : list prim) (d : nat) (m : nat -> R) : nat -> R :=
  match p with [] => m | q :: p => run p (d + width q) (write d q m) end.

Fixpoint bwd (p : list prim) (d : nat) (m seed : nat -> R) : nat -> R :=
  match p with
  | [] => seed
  | q :: p =>
      let a := bwd p (d + width q) (write d q m) seed in
      fun i => a i + vjp q m (fun r => a (d + r)%nat) i
  end.

Theorem backward_total_derivative p : forall d (m : R -> nat -> R) dm seed t0, ok p d ->
  (forall i, (i < d)%nat -> is_derive (fun t => m t i) t0 (dm i)) ->
  is_derive (fun t : R => dot (total p d) seed (run p d (m t))) t0 (dot d (bwd p d (m t0) seed) dm).
Proof.
  induction p as [|q p IH]; intros d m dm seed t0 Hok Hm; simpl.
  - apply (sumR_derive (fun i t => seed i * m t i)). intros i Hi.
    eapply D_eq; [apply D_mult; [apply D_const | now apply Hm] | cbv beta; ring].
  - destruct Hok as [Hd [Ht Hok]].
    set (dm' := fun j => if (j <? d)%nat then dm j else jvp q (m t0) dm (j - d)).
    eapply D_eq.
    + apply (IH (d + width q)%nat (fun t => write d q (m t)) dm' seed t0 Hok).
      intros i Hi. unfold write, dm'. destruct (Nat.ltb_spec i d); [now apply Hm|].
      apply Hd; [exact Hm | lia].
    + set (a := bwd p (d + width q) (write d q (m t0)) seed).
      unfold dot at 1. rewrite sumR_app.
      transitivity (dot d a dm + dot (width q) (fun r => a (d + r)%nat) (jvp q (m t0) dm)).
      * f_equal; apply sumR_ext; intros i Hi; unfold dm'.
        -- destruct (Nat.ltb_spec i d); [reflexivity | lia].
        -- destruct (Nat.ltb_spec (d + i) d); [lia|]. now replace (d + i - d)%nat with i by lia.
      * rewrite Ht. unfold dot. rewrite <- sumR_plus. apply sumR_ext. intros; ring.
Qed.

(** ** Two operations meeting the contract *)

Lemma sum_indicator (f : nat -> R) (o n d : nat) : (o + n <= d)%nat ->
  sumR (fun i => if andb (o <=? i)%nat (i <? o + n)%nat then f i else 0) d = sumR (fun r => f (o + r)%nat) n.
Proof.
  intro H. replace d with (o + (n + (d - o - n)))%nat by lia.
  rewrite 2!sumR_app.
  assert (Z : forall k, sumR (fun _ => 0) k = 0) by (induction k; simpl; lra).
  rewrite (sumR_ext _ (fun _ => 0) o), Z.
  2:{ intros i Hi. destruct (Nat.leb_spec o i); [lia | reflexivity]. }
  rewrite (sumR_ext _ (fun r => f (o + r)%nat) n).
  2:{ intros i Hi. destruct (Nat.leb_spec o (o + i)); [|lia].
      destruct (Nat.ltb_spec (o + i) (o + n)); [reflexivity | lia]. }
  rewrite (sumR_ext _ (fun _ => 0) (d - o - n)), Z; [ring|].
  intros i Hi. destruct (Nat.ltb_spec (o + (n + i)) (o + n)); [lia|]. now rewrite Bool.andb_false_r.
Qed.

(** Element-wise activation of the block of n cells starting at o. *)
Definition map_op (phi phi' : R -> R) (o n : nat) : prim := {|
  width := n;
  val := fun m r => phi (m (o + r)%nat);
  jvp := fun m dm r => phi' (m (o + r)%nat) * dm (o + r)%nat;
  vjp := fun m s i => if andb (o <=? i)%nat (i <? o + n)%nat then phi' (m i) * s (i - o)%nat else 0 |}.

Theorem map_op_ok phi phi' o n d : (forall t, is_derive phi t (phi' t)) -> (o + n <= d)%nat ->
  derivative_ok d (map_op phi phi' o n) /\ transpose_ok d (map_op phi phi' o n).
Proof.
  intros Hp Hd. split.
  - intros m dm t0 Hm r Hr. simpl in *.
    apply (D_comp phi (fun t => m t (o + r)%nat)); [apply Hp | apply Hm; lia].
  - intros m dm s. unfold dot; simpl.
    rewrite (sumR_ext _
      (fun i => if andb (o <=? i)%nat (i <? o + n)%nat then phi' (m i) * s (i - o)%nat * dm i else 0) d).
    + rewrite (sum_indicator (fun i => phi' (m i) * s (i - o)%nat * dm i)) by exact Hd.
      apply sumR_ext. intros i Hi. replace (o + i - o)%nat with i by lia. ring.
    + intros i Hi. destruct (andb _ _); ring.
Qed.

(** Matrix-vector product: the n x n matrix sits row by row in cells oW ..,
    the vector in cells ov .. ; both are differentiated. *)
Definition matvec_op (oW ov n : nat) : prim := {|
  width := n;
  val := fun m r => sumR (fun j => m (oW + (r * n + j))%nat * m (ov + j)%nat) n;
  jvp := fun m dm r => sumR (fun j => dm (oW + (r * n + j))%nat * m (ov + j)%nat
                                      + m (oW + (r * n + j))%nat * dm (ov + j)%nat) n;
  vjp := fun m s i =>
    (if andb (oW <=? i)%nat (i <? oW + n * n)%nat
     then s ((i - oW) / n)%nat * m (ov + (i - oW) mod n)%nat else 0)
    + (if andb (ov <=? i)%nat (i <? ov + n)%nat
       then sumR (fun r => s r * m (oW + (r * n + (i - ov)))%nat) n else 0) |}.

Lemma sumR_rows (f : nat -> R) n k : sumR f (k * n) = sumR (fun r => sumR (fun j => f (r * n + j)%nat) n) k.
Proof. induction k; simpl; [reflexivity|]. rewrite Nat.add_comm, sumR_app, IHk. reflexivity. Qed.

Theorem matvec_op_ok oW ov n d : (oW + n * n <= d)%nat -> (ov + n <= d)%nat ->
  derivative_ok d (matvec_op oW ov n) /\ transpose_ok d (matvec_op oW ov n).
Proof.
  intros HW Hv. split.
  - intros m dm t0 Hm r Hr. simpl in *.
    apply (sumR_derive (fun j t => m t (oW + (r * n + j))%nat * m t (ov + j)%nat)).
    intros j Hj. apply D_mult; apply Hm; nia.
  - intros m dm s. unfold dot; simpl.
    set (fW := fun i => s ((i - oW) / n)%nat * m (ov + (i - oW) mod n)%nat * dm i).
    set (fv := fun i => sumR (fun r => s r * m (oW + (r * n + (i - ov)))%nat) n * dm i).
    rewrite (sumR_ext _
      (fun i => (if andb (oW <=? i)%nat (i <? oW + n * n)%nat then fW i else 0)
                + (if andb (ov <=? i)%nat (i <? ov + n)%nat then fv i else 0)) d).
    + rewrite sumR_plus, 2!sum_indicator by assumption.
      rewrite (sumR_rows (fun i => fW (oW + i)%nat)).
      rewrite (sumR_ext (fun r => fv (ov + r)%nat) (fun j => sumR (fun r => s r * m (oW + (r * n + j))%nat * dm (ov + j)%nat) n)).
      * rewrite (sumR_swap (fun j r => s r * m (oW + (r * n + j))%nat * dm (ov + j)%nat)), <- sumR_plus.
        apply sumR_ext. intros r Hr. rewrite sumR_scal, <- sumR_plus. apply sumR_ext. intros j Hj.
        unfold fW. replace (oW + (r * n + j) - oW)%nat with (j + r * n)%nat by lia.
        rewrite Nat.div_add, Nat.mod_add, Nat.div_small, Nat.mod_small by lia. simpl. ring.
      * intros j Hj. unfold fv. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros r Hr.
        replace (ov + j - ov)%nat with j by lia. ring.
    + intros i Hi. unfold fW, fv. destruct (andb _ _), (andb _ _); ring.
Qed.

(** Not vacuous: the layer tanh (W v) meets the contract for every size. *)
Corollary tanh_layer_ok n :
  ok [matvec_op 0 (n * n) n; map_op tanh (fun t => 1 - tanh t ^ 2) (n * n + n) n] (n * n + n).
Proof.
  destruct (matvec_op_ok 0 (n * n) n (n * n + n)) as [H1 H2]; [lia | lia|].
  destruct (map_op_ok tanh (fun t => 1 - tanh t ^ 2) (n * n + n) n (n * n + n + n)) as [H3 H4];
    [apply is_derive_tanh | lia|]. exact (conj H1 (conj H2 (conj H3 (conj H4 I)))).
Qed.
