(** * Certificates: a gradient with numbers in it, enclosed by the backward pass over intervals.

    Serves C-6. Every cell of a tape, and every adjoint, is enclosed in an interval with end points
    m * 2^e; [certified] computes whether the enclosures lie within [tol] of a given gradient, and
    [gradient_certificate] says that then the true derivatives do. *)
From Coq Require Import Reals Lra Lia List Arith ZArith Bool.
From Coquelicot Require Import Coquelicot.
From Interval.Real Require Import Xreal.
From Interval.Interval Require Import Interval Float_full.
From Interval.Float Require Import Basic Specific_ops Specific_stdz.
From TG Require Import Toolbox Activations Tape.
Import ListNotations.
Open Scope R_scope.

Module F := SpecificFloat StdZRadix2.
Module I := FloatIntervalFull F.

Definition bits : F.precision := F.PtoP 64.

Definition encloses (X : I.type) (x : R) : Prop := contains (I.convert X) (Xreal x).

(** A rational number, and its enclosure. *)
Definition rat (q : Z * Z) : R := IZR (fst q) / IZR (snd q).
Definition irat (q : Z * Z) : I.type := I.div bits (I.fromZ bits (fst q)) (I.fromZ bits (snd q)).

(** tanh x = 1 - 2 / (exp 2x + 1). *)
Definition itanh (X : I.type) : I.type :=
  I.sub bits (I.fromZ bits 1)
    (I.div bits (I.fromZ bits 2) (I.add bits (I.exp bits (I.add bits X X)) (I.fromZ bits 1))).
Definition isigmoid (X : I.type) : I.type :=
  I.div bits (I.fromZ bits 1) (I.add bits (I.fromZ bits 1) (I.exp bits (I.neg X))).

Lemma enc_add X Y x y : encloses X x -> encloses Y y -> encloses (I.add bits X Y) (x + y).
Proof. exact (I.add_correct bits X Y (Xreal x) (Xreal y)). Qed.
Lemma enc_sub X Y x y : encloses X x -> encloses Y y -> encloses (I.sub bits X Y) (x - y).
Proof. exact (I.sub_correct bits X Y (Xreal x) (Xreal y)). Qed.
Lemma enc_mul X Y x y : encloses X x -> encloses Y y -> encloses (I.mul bits X Y) (x * y).
Proof. exact (I.mul_correct bits X Y (Xreal x) (Xreal y)). Qed.
Lemma enc_abs X x : encloses X x -> encloses (I.abs X) (Rabs x).
Proof. exact (I.abs_correct X (Xreal x)). Qed.
Lemma enc_Z z : encloses (I.fromZ bits z) (IZR z).
Proof. apply I.fromZ_correct. Qed.
Lemma enc_div X Y x y : encloses X x -> encloses Y y -> encloses (I.div bits X Y) (x / y).
Proof.
  intros Hx Hy. assert (H := I.div_correct bits X Y (Xreal x) (Xreal y) Hx Hy).
  revert H. unfold encloses, Xdiv, Xdiv'. destruct (is_zero y); [|trivial].
  now destruct (I.convert (I.div bits X Y)).
Qed.

Lemma enc_rat q : encloses (irat q) (rat q).
Proof. apply enc_div; apply enc_Z. Qed.

Lemma enc_tanh X x : encloses X x -> encloses (itanh X) (tanh x).
Proof.
  intro H. replace (tanh x) with (1 - 2 / (exp (x + x) + 1)).
  - apply enc_sub; [apply enc_Z|]. apply enc_div; [apply enc_Z|]. apply enc_add; [|apply enc_Z].
    exact (I.exp_correct bits _ (Xreal (x + x)) (enc_add X X x x H H)).
  - unfold tanh, sinh, cosh. rewrite exp_plus, exp_Ropp. pose proof (exp_pos x). field. nra.
Qed.

Lemma enc_sigmoid X x : encloses X x -> encloses (isigmoid X) (sigmoid x).
Proof.
  intro H. replace (sigmoid x) with (1 / (1 + exp (- x))) by (unfold sigmoid; lra).
  apply enc_div; [apply enc_Z|]. apply enc_add; [apply enc_Z|].
  exact (I.exp_correct bits _ (Xreal (- x)) (I.neg_correct X (Xreal x) H)).
Qed.

(** ** The two passes of Tape.v over intervals *)

Definition iupd (m : nat -> I.type) (i : nat) (v : I.type) : nat -> I.type :=
  fun j => if Nat.eq_dec j i then v else m j.

(** A constant of a tape is any real number: nothing is known of it. *)
Definition ivalue (p : instr) (m : nat -> I.type) : I.type :=
  match p with
  | ICst _ => I.nai
  | IAdd i j => I.add bits (m i) (m j)
  | ISub i j => I.sub bits (m i) (m j)
  | IMul i j => I.mul bits (m i) (m j)
  | ITanh i => itanh (m i)
  | ISigm i => isigmoid (m i)
  end.

Definition ione : I.type := I.fromZ bits 1.
Definition ipartials (p : instr) (m : nat -> I.type) : list (nat * I.type) :=
  match p with
  | ICst _ => []
  | IAdd i j => [(i, ione); (j, ione)]
  | ISub i j => [(i, ione); (j, I.fromZ bits (-1))]
  | IMul i j => [(i, m j); (j, m i)]
  | ITanh i => let y := itanh (m i) in [(i, I.sub bits ione (I.mul bits y y))]
  | ISigm i => let y := isigmoid (m i) in [(i, I.mul bits y (I.sub bits ione y))]
  end.

Fixpoint iscatter (s : I.type) (l : list (nat * I.type)) (a : nat -> I.type) : nat -> I.type :=
  match l with
  | [] => a
  | (i, c) :: l' => iscatter s l' (iupd a i (I.add bits (a i) (I.mul bits s c)))
  end.

Fixpoint ibwd (p : list instr) (d : nat) (m seed : nat -> I.type) : nat -> I.type :=
  match p with
  | [] => seed
  | ins :: q =>
      let a := ibwd q (S d) (iupd m d (ivalue ins m)) seed in
      iscatter (a d) (ipartials ins m) a
  end.

Definition all_enclosed (M : nat -> I.type) (m : nat -> R) : Prop := forall j, encloses (M j) (m j).

Lemma enc_upd M m i V v : all_enclosed M m -> encloses V v -> all_enclosed (iupd M i V) (upd m i v).
Proof. intros H Hv j. unfold iupd, upd. now destruct (Nat.eq_dec j i). Qed.

Lemma enc_value ins M m : all_enclosed M m -> encloses (ivalue ins M) (value ins m).
Proof.
  intro H. destruct ins; cbn [ivalue value]; auto using enc_add, enc_sub, enc_mul, enc_tanh, enc_sigmoid.
  unfold encloses. now rewrite I.nai_correct.
Qed.

Lemma enc_partials ins M m : all_enclosed M m ->
  Forall2 (fun C c => fst C = fst c /\ encloses (snd C) (snd c)) (ipartials ins M) (partials ins m).
Proof.
  intro H. destruct ins; cbn [ipartials partials]; cbv zeta;
    repeat (apply Forall2_cons; [split; [reflexivity | cbv [snd]]|]); try apply Forall2_nil;
    try apply enc_Z; try apply H.
  - replace (tanh (m i) ^ 2) with (tanh (m i) * tanh (m i)) by ring. apply enc_sub; [apply enc_Z | apply enc_mul; now apply enc_tanh].
  - apply enc_mul; [|apply enc_sub; [apply enc_Z|]]; now apply enc_sigmoid.
Qed.

Lemma enc_scatter S s L l : encloses S s ->
  Forall2 (fun C c => fst C = fst c /\ encloses (snd C) (snd c)) L l ->
  forall A a, all_enclosed A a -> all_enclosed (iscatter S L A) (scatter s l a).
Proof.
  intros Hs H. induction H as [|[i C] [i' c] L l [E Hc] _ IH]; intros A a Ha; [exact Ha|].
  simpl in E, Hc. subst i'. apply IH, enc_upd; [exact Ha|].
  apply enc_add; [apply Ha | now apply enc_mul].
Qed.

Lemma enc_bwd p : forall d M m SEED seed, all_enclosed M m -> all_enclosed SEED seed ->
  all_enclosed (ibwd p d M SEED) (bwd p d m seed).
Proof.
  induction p as [|ins p IH]; intros d M m SEED seed Hm Hs; [exact Hs|]. simpl.
  assert (H : all_enclosed (ibwd p (S d) (iupd M d (ivalue ins M)) SEED)
                (bwd p (S d) (upd m d (value ins m)) seed))
    by (apply IH; [apply enc_upd; [|apply enc_value]|]; assumption).
  apply enc_scatter; [apply H | now apply enc_partials | exact H].
Qed.

(** ** The certificate *)

Fixpoint well_formed (p : list instr) (d : nat) : bool :=
  match p with
  | [] => true
  | ins :: q => forallb (fun i => (i <? d)%nat) (args ins) && well_formed q (S d)
  end.

Lemma well_formed_wf p : forall d, well_formed p d = true -> wf p d.
Proof.
  induction p as [|ins p IH]; intros d H; [exact I|]. simpl in *.
  apply andb_prop in H. destruct H as [H Hp]. split; [|now apply IH].
  intros i Hi. apply Nat.ltb_lt. now apply (proj1 (forallb_forall _ _) H).
Qed.

Definition near (tol g : Z * Z) (D : I.type) : bool :=
  match I.sign_large (I.sub bits (irat tol) (I.abs (I.sub bits D (irat g)))) with
  | Xgt => true
  | _ => false
  end.

Lemma near_correct tol g D d : near tol g D = true -> encloses D d -> Rabs (d - rat g) <= rat tol.
Proof.
  unfold near. intros H Hd.
  assert (E := enc_sub _ _ _ _ (enc_rat tol) (enc_abs _ _ (enc_sub _ _ _ _ Hd (enc_rat g)))).
  assert (S := I.sign_large_correct (I.sub bits (irat tol) (I.abs (I.sub bits D (irat g))))).
  destruct (I.sign_large _); try discriminate. apply S in E. simpl in E. lra.
Qed.

(** The numbers in the first cells, and a gradient by the first of them. *)
Definition inputs (q : list (Z * Z)) (i : nat) : R := rat (nth i q (0, 1)%Z).

Definition certified (tol : Z * Z) (p : list instr) (q : list (Z * Z)) (out : nat)
    (g : list (Z * Z)) : bool :=
  let d := length q in
  let cells := map irat q in
  let a := ibwd p d (fun i => nth i cells (irat (0, 1)%Z))
             (fun l => if Nat.eq_dec l out then ione else I.fromZ bits 0) in
  well_formed p d && (out <? d + length p)%nat && (length g <=? d)%nat
  && forallb (fun i => near tol (nth i g (0, 1)%Z) (a i)) (seq 0 (length g)).

Theorem gradient_certificate tol p q out g : certified tol p q out g = true ->
  forall i, (i < length g)%nat -> exists d,
    is_derive (fun t : R => run p (length q) (upd (inputs q) i t) out) (inputs q i) d /\
    Rabs (d - rat (nth i g (0, 1)%Z)) <= rat tol.
Proof.
  unfold certified. intros H i Hi. apply andb_prop in H. destruct H as [H Hg].
  apply andb_prop in H. destruct H as [H Hl]. apply andb_prop in H. destruct H as [Hw Ho].
  apply Nat.leb_le in Hl.
  eexists. split.
  - apply tape_reverse_mode_correct; [now apply well_formed_wf | lia | now apply Nat.ltb_lt].
  - eapply near_correct.
    + apply (proj1 (forallb_forall _ _) Hg). apply in_seq. lia.
    + apply enc_bwd.
      * intro j. rewrite map_nth. apply enc_rat.
      * intro j. destruct (Nat.eq_dec j out); apply enc_Z.
Qed.
