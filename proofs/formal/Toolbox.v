(** * Toolbox: derivative rules in plain-R form, finite sums, vectors and matrices.

    Serves every chapter and no id of its own.

    A vector is a function [nat -> R] and a matrix a function [nat -> nat -> R], of which the
    first entries count; how many is an argument of whatever sums over them. So shapes need no
    dependent types, and no library but Coquelicot is used.

    How to differentiate here: apply the rules [D_plus], [D_mult], [D_comp], and close with
    [eapply D_eq; [ ... | ring ]]. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
Open Scope R_scope.

(** ** Derivatives *)

Lemma D_eq (f : R -> R) (x l l' : R) : is_derive f x l -> l = l' -> is_derive f x l'.
Proof. now intros H <-. Qed.

Lemma D_const (c x : R) : is_derive (fun _ => c) x 0.
Proof. exact (is_derive_const (V := R_NormedModule) c x). Qed.

Lemma D_id (x : R) : is_derive (fun t => t) x 1.
Proof. exact (is_derive_id (K := R_AbsRing) x). Qed.

Lemma D_plus (f g : R -> R) (x df dg : R) :
  is_derive f x df -> is_derive g x dg -> is_derive (fun t => f t + g t) x (df + dg).
Proof. exact (is_derive_plus (V := R_NormedModule) f g x df dg). Qed.

Lemma D_mult (f g : R -> R) (x df dg : R) :
  is_derive f x df -> is_derive g x dg ->
  is_derive (fun t => f t * g t) x (df * g x + f x * dg).
Proof. intros Hf Hg. exact (is_derive_mult f g x df dg Hf Hg Rmult_comm). Qed.

Lemma D_comp (f g : R -> R) (x df dg : R) :
  is_derive f (g x) df -> is_derive g x dg -> is_derive (fun t => f (g t)) x (df * dg).
Proof.
  intros Hf Hg. apply D_eq with (dg * df); [|ring].
  exact (is_derive_comp f g x df dg Hf Hg).
Qed.

Lemma D_opp (f : R -> R) (x df : R) : is_derive f x df -> is_derive (fun t => - f t) x (- df).
Proof. exact (is_derive_opp (V := R_NormedModule) f x df). Qed.

Lemma D_minus (f g : R -> R) (x df dg : R) :
  is_derive f x df -> is_derive g x dg -> is_derive (fun t => f t - g t) x (df - dg).
Proof. exact (is_derive_minus (V := R_NormedModule) f g x df dg). Qed.

Lemma D_scal (c : R) (f : R -> R) (x df : R) :
  is_derive f x df -> is_derive (fun t => c * f t) x (c * df).
Proof. intro H. eapply D_eq; [apply D_mult; [apply D_const | exact H] | cbv beta; ring]. Qed.

Lemma D_ext (f g : R -> R) (x l : R) : (forall t, f t = g t) -> is_derive f x l -> is_derive g x l.
Proof. intros H. apply is_derive_ext. exact H. Qed.

(** ** Sums and products *)

(** [sumR f n] is f 0 + ... + f (n-1); [prodR] likewise;
    [prd f j n] is the product of f k for j <= k < n. *)
Fixpoint sumR (f : nat -> R) (n : nat) : R :=
  match n with O => 0 | S k => sumR f k + f k end.
Fixpoint prodR (f : nat -> R) (n : nat) : R :=
  match n with O => 1 | S k => f k * prodR f k end.
Definition prd (f : nat -> R) (j n : nat) : R := prodR (fun i => f (j + i)%nat) (n - j).

Lemma sumR_ext (f g : nat -> R) (n : nat) :
  (forall i, (i < n)%nat -> f i = g i) -> sumR f n = sumR g n.
Proof.
  induction n; simpl; intros H; [reflexivity|].
  rewrite IHn, (H n); auto.
Qed.

Lemma sumR_scal (c : R) (f : nat -> R) (n : nat) : c * sumR f n = sumR (fun i => c * f i) n.
Proof. induction n; simpl; [ring | rewrite <- IHn; ring]. Qed.

Lemma sumR_abs (f : nat -> R) (n : nat) : Rabs (sumR f n) <= sumR (fun i => Rabs (f i)) n.
Proof.
  induction n; simpl; [rewrite Rabs_R0; lra|].
  eapply Rle_trans; [apply Rabs_triang | lra].
Qed.

Lemma sumR_le (f g : nat -> R) (n : nat) :
  (forall i, (i < n)%nat -> f i <= g i) -> sumR f n <= sumR g n.
Proof.
  induction n; simpl; intros H; [lra|].
  apply Rplus_le_compat; auto.
Qed.

Lemma prd_nil (f : nat -> R) (n : nat) : prd f n n = 1.
Proof. unfold prd. now rewrite Nat.sub_diag. Qed.

Lemma prd_S (f : nat -> R) (j n : nat) : (j <= n)%nat -> prd f j (S n) = f n * prd f j n.
Proof.
  intros H. unfold prd. rewrite Nat.sub_succ_l by lia. simpl.
  now replace (j + (n - j))%nat with n by lia.
Qed.

Lemma prd_0 (f : nat -> R) (n : nat) : prd f 0 n = prodR f n.
Proof. unfold prd. now rewrite Nat.sub_0_r. Qed.

Lemma prodR_bound (f : nat -> R) (b : R) (n : nat) :
  (forall k, (k < n)%nat -> Rabs (f k) <= b) -> Rabs (prodR f n) <= b ^ n.
Proof.
  induction n; simpl; intros H; [rewrite Rabs_R1; lra|].
  rewrite Rabs_mult.
  apply Rmult_le_compat; auto using Rabs_pos.
Qed.

Lemma prd_bound (f : nat -> R) (b : R) (j n : nat) :
  (forall k, Rabs (f k) <= b) -> Rabs (prd f j n) <= b ^ (n - j).
Proof. intros H. apply prodR_bound. auto. Qed.

Lemma is_lim_seq_0_of_bound (u : nat -> R) (b : R) :
  0 <= b < 1 -> (forall n, Rabs (u n) <= b ^ n) -> is_lim_seq u 0.
Proof.
  intros Hb Hu. apply is_lim_seq_abs_0.
  apply is_lim_seq_le_le with (u := fun _ => 0) (w := fun n => b ^ n).
  - intro n. split; [apply Rabs_pos | apply Hu].
  - apply is_lim_seq_const.
  - apply is_lim_seq_geom. rewrite Rabs_pos_eq; lra.
Qed.

Lemma sumR_plus f g n : sumR (fun i => f i + g i) n = sumR f n + sumR g n.
Proof. induction n; simpl; [ring | rewrite IHn; ring]. Qed.

Lemma sumR_minus f g n : sumR (fun i => f i - g i) n = sumR f n - sumR g n.
Proof. induction n; simpl; [ring | rewrite IHn; ring]. Qed.

Lemma sumR_zero (f : nat -> R) n : (forall i, (i < n)%nat -> f i = 0) -> sumR f n = 0.
Proof. intro H. induction n; simpl; [reflexivity|]. rewrite IHn, H; auto; ring. Qed.

Lemma sumR_nonneg f n : (forall i, (i < n)%nat -> 0 <= f i) -> 0 <= sumR f n.
Proof.
  intro H. induction n; simpl; [lra|].
  apply Rplus_le_le_0_compat; auto.
Qed.

Lemma sumR_term_le f n i :
  (forall i, (i < n)%nat -> 0 <= f i) -> (i < n)%nat -> f i <= sumR f n.
Proof.
  intros H Hi. induction n; [lia|]. simpl.
  assert (0 <= sumR f n) by (apply sumR_nonneg; auto).
  destruct (Nat.eq_dec i n) as [->|]; [lra|].
  assert (f i <= sumR f n) by (apply IHn; [auto | lia]). assert (0 <= f n) by auto. lra.
Qed.

Lemma sumR_swap (f : nat -> nat -> R) n m :
  sumR (fun i => sumR (fun j => f i j) m) n = sumR (fun j => sumR (fun i => f i j) n) m.
Proof.
  induction n; simpl.
  - symmetry. now apply sumR_zero.
  - rewrite IHn, <- sumR_plus. reflexivity.
Qed.

Lemma sumR_const c n : sumR (fun _ => c) n = INR n * c.
Proof. induction n; [simpl; ring|]. rewrite S_INR. simpl. rewrite IHn. ring. Qed.

Lemma sumR_app f d w : sumR f (d + w) = sumR f d + sumR (fun r => f (d + r)%nat) w.
Proof.
  induction w; simpl; [rewrite Nat.add_0_r; ring|].
  rewrite Nat.add_succ_r. simpl. rewrite IHw. ring.
Qed.

Lemma sumR_pick (f : nat -> R) q n : (q < n)%nat ->
  sumR (fun i => if (i =? q)%nat then f i else 0) n = f q.
Proof.
  induction n; intro Hq; [lia|]. simpl. destruct (Nat.eqb_spec n q) as [->|].
  - rewrite sumR_zero; [ring|]. intros i Hi. destruct (Nat.eqb_spec i q); [lia | reflexivity].
  - rewrite IHn by lia. ring.
Qed.

Lemma sumR_derive (f : nat -> R -> R) (df : nat -> R) t0 n :
  (forall i, (i < n)%nat -> is_derive (f i) t0 (df i)) ->
  is_derive (fun t : R => sumR (fun i => f i t) n) t0 (sumR df n).
Proof.
  induction n; simpl; intro H; [apply D_const|].
  apply D_plus; auto.
Qed.

Lemma sumR_geom q n : q <> 1 -> sumR (fun k => q ^ k) n = (1 - q ^ n) / (1 - q).
Proof. intro H. induction n; simpl; [field; lra | rewrite IHn; field; lra]. Qed.

(** ** Vectors and matrices *)

Definition vec := nat -> R.
Definition mat := nat -> nat -> R.

Definition dot (n : nat) (u v : vec) : R := sumR (fun i => u i * v i) n.
(** A v, u A and A B, summing over n entries. *)
Definition mv (n : nat) (A : mat) (v : vec) : vec := fun i => sumR (fun j => A i j * v j) n.
Definition vm (n : nat) (u : vec) (A : mat) : vec := fun j => sumR (fun i => u i * A i j) n.
Definition mm (n : nat) (A B : mat) : mat := fun i j => sumR (fun k => A i k * B k j) n.
Definition tr (A : mat) : mat := fun i j => A j i.
Definition idm : mat := fun i j => if (i =? j)%nat then 1 else 0.
Definition diag (d : vec) : mat := fun i j => if (i =? j)%nat then d i else 0.

Lemma dot_ext n u v w : (forall i, (i < n)%nat -> v i = w i) -> dot n u v = dot n u w.
Proof. intro H. apply sumR_ext. intros i Hi. now rewrite H. Qed.

Lemma dot_ext_l n u v w : (forall i, (i < n)%nat -> u i = v i) -> dot n u w = dot n v w.
Proof. intro H. apply sumR_ext. intros i Hi. now rewrite H. Qed.

Lemma dot_comm n u v : dot n u v = dot n v u.
Proof. apply sumR_ext. intros; ring. Qed.

Lemma dot_plus_l n u v w : dot n (fun i => u i + v i) w = dot n u w + dot n v w.
Proof. unfold dot. rewrite <- sumR_plus. apply sumR_ext. intros; ring. Qed.

Lemma dot_plus_r n u v w : dot n u (fun i => v i + w i) = dot n u v + dot n u w.
Proof. unfold dot. rewrite <- sumR_plus. apply sumR_ext. intros; ring. Qed.

Lemma dot_scal_l n c u v : dot n (fun i => c * u i) v = c * dot n u v.
Proof. unfold dot. rewrite sumR_scal. apply sumR_ext. intros; ring. Qed.

Lemma dot_zero_r n u v : (forall i, (i < n)%nat -> v i = 0) -> dot n u v = 0.
Proof. intro H. apply sumR_zero. intros i Hi. rewrite H by exact Hi. ring. Qed.

Lemma dot_self_pos n v : 0 <= dot n v v.
Proof. apply sumR_nonneg. intros i _. nra. Qed.

Lemma mv_ext n A u w i : (forall j, (j < n)%nat -> u j = w j) -> mv n A u i = mv n A w i.
Proof. intro H. apply sumR_ext. intros j Hj. now rewrite H. Qed.

Lemma mm_ext n A B C i j : (forall k, (k < n)%nat -> B k j = C k j) -> mm n A B i j = mm n A C i j.
Proof. intro H. apply sumR_ext. intros k Hk. now rewrite H. Qed.

(** Transposes: <u A, v> = <u, A v>. *)
Lemma dot_vm n m u A v : dot n (vm m u A) v = dot m u (mv n A v).
Proof.
  unfold dot, vm, mv.
  rewrite (sumR_ext _ (fun j => sumR (fun i => u i * A i j * v j) m)).
  - rewrite sumR_swap. apply sumR_ext. intros i _. rewrite sumR_scal.
    apply sumR_ext. intros; ring.
  - intros j _. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros; ring.
Qed.

Lemma mm_assoc n m A B C i j : mm m (mm n A B) C i j = mm n A (mm m B C) i j.
Proof.
  unfold mm.
  rewrite (sumR_ext _ (fun k => sumR (fun l => A i l * B l k * C k j) n)).
  - rewrite sumR_swap. apply sumR_ext. intros l _. rewrite sumR_scal.
    apply sumR_ext. intros; ring.
  - intros k _. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros; ring.
Qed.

Lemma mv_mm n m A B v i : mv m (mm n A B) v i = mv n A (mv m B v) i.
Proof.
  unfold mv, mm.
  rewrite (sumR_ext _ (fun k => sumR (fun l => A i l * B l k * v k) n)).
  - rewrite sumR_swap. apply sumR_ext. intros l _. rewrite sumR_scal.
    apply sumR_ext. intros; ring.
  - intros k _. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros; ring.
Qed.

Lemma vm_mm n m u A B j : vm m (vm n u A) B j = vm n u (mm m A B) j.
Proof.
  unfold vm, mm.
  rewrite (sumR_ext _ (fun k => sumR (fun l => u l * A l k * B k j) n)).
  - rewrite sumR_swap. apply sumR_ext. intros l _. rewrite sumR_scal.
    apply sumR_ext. intros; ring.
  - intros k _. rewrite Rmult_comm, sumR_scal. apply sumR_ext. intros; ring.
Qed.

(** Products distribute over sums. *)
Lemma mm_sum n A (C : nat -> mat) k i q :
  mm n A (fun l q => sumR (fun j => C j l q) k) i q = sumR (fun j => mm n A (C j) i q) k.
Proof.
  unfold mm. rewrite sumR_swap. apply sumR_ext. intros l _. apply sumR_scal.
Qed.

Lemma vm_sum n u (C : nat -> mat) k q :
  vm n u (fun l q => sumR (fun j => C j l q) k) q = sumR (fun j => vm n u (C j) q) k.
Proof. exact (mm_sum n (fun _ => u) C k O q). Qed.

Lemma mm_scal n A c C i q : mm n A (fun l q => c * C l q) i q = c * mm n A C i q.
Proof. unfold mm. rewrite sumR_scal. apply sumR_ext. intros; ring. Qed.

Lemma mv_plus n A u w i : mv n A (fun j => u j + w j) i = mv n A u i + mv n A w i.
Proof. unfold mv. rewrite <- sumR_plus. apply sumR_ext. intros; ring. Qed.

Lemma mv_scal n A c u i : mv n A (fun j => c * u j) i = c * mv n A u i.
Proof. unfold mv. rewrite sumR_scal. apply sumR_ext. intros; ring. Qed.

Lemma mv_zero n A u i : (forall j, (j < n)%nat -> u j = 0) -> mv n A u i = 0.
Proof. intro H. apply sumR_zero. intros j Hj. rewrite H by exact Hj. ring. Qed.

Lemma diag_mv n d v i : (i < n)%nat -> mv n (diag d) v i = d i * v i.
Proof.
  intro Hi. unfold mv, diag. rewrite (sumR_ext _ (fun j => if (j =? i)%nat then d i * v j else 0)).
  - now rewrite (sumR_pick (fun j => d i * v j)).
  - intros j _. rewrite Nat.eqb_sym. destruct (j =? i)%nat; ring.
Qed.

Lemma diag_mm n d A i j : (i < n)%nat -> mm n (diag d) A i j = d i * A i j.
Proof. exact (diag_mv n d (fun k => A k j) i). Qed.

Lemma idm_mv n v i : (i < n)%nat -> mv n idm v i = v i.
Proof.
  intro Hi. transitivity (mv n (diag (fun _ => 1)) v i); [reflexivity|].
  rewrite diag_mv by exact Hi. ring.
Qed.

Lemma idm_mm n A i j : (i < n)%nat -> mm n idm A i j = A i j.
Proof. exact (idm_mv n (fun k => A k j) i). Qed.

Lemma mm_idm n A i j : (j < n)%nat -> mm n A idm i j = A i j.
Proof.
  intro Hj. unfold mm, idm.
  rewrite (sumR_ext _ (fun k => if (k =? j)%nat then A i k else 0)).
  - now rewrite (sumR_pick (fun k => A i k)).
  - intros k _. destruct (k =? j)%nat; ring.
Qed.

(** One entry of a matrix, or of a vector, set to t. *)
Definition set1 (v : vec) (b : nat) (t : R) : vec := fun i => if (i =? b)%nat then t else v i.
Definition set2 (A : mat) (a b : nat) (t : R) : mat :=
  fun i j => if andb (i =? a)%nat (j =? b)%nat then t else A i j.

Lemma set1_same v b i : set1 v b (v b) i = v i.
Proof. unfold set1. destruct (Nat.eqb_spec i b) as [->|]; reflexivity. Qed.

Lemma set2_same A a b i j : set2 A a b (A a b) i j = A i j.
Proof. unfold set2. destruct (Nat.eqb_spec i a) as [->|], (Nat.eqb_spec j b) as [->|]; reflexivity. Qed.

Lemma set1_derive v b i t0 : is_derive (fun t : R => set1 v b t i) t0 (if (i =? b)%nat then 1 else 0).
Proof. unfold set1. destruct (i =? b)%nat; [apply D_id | apply D_const]. Qed.

Lemma set2_derive A a b i j t0 : is_derive (fun t : R => set2 A a b t i j) t0
  (if andb (i =? a)%nat (j =? b)%nat then 1 else 0).
Proof. unfold set2. destruct (andb _ _); [apply D_id | apply D_const]. Qed.
