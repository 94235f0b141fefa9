(** * Activation functions: derivatives, ranges, Lipschitz constants, saturation.

    Serves A-1, A-2, A-3, A-4, A-5. *)
From Coq Require Import Reals Lra Lia Psatz.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox.
Open Scope R_scope.

(** ** A-2: the logistic sigmoid *)

Definition sigmoid (x : R) : R := / (1 + exp (- x)).

Lemma sigmoid_range (x : R) : 0 < sigmoid x < 1.
Proof.
  unfold sigmoid. pose proof (exp_pos (- x)) as H. split.
  - apply Rinv_0_lt_compat; lra.
  - rewrite <- Rinv_1 at 2. apply Rinv_lt_contravar; lra.
Qed.

Theorem is_derive_sigmoid (x : R) :
  is_derive sigmoid x (sigmoid x * (1 - sigmoid x)).
Proof.
  unfold sigmoid. pose proof (exp_pos (- x)) as H.
  auto_derive; [lra | field; lra].
Qed.

Theorem sigmoid'_bound (x : R) : 0 < sigmoid x * (1 - sigmoid x) <= / 4.
Proof.
  destruct (sigmoid_range x). pose proof (pow2_ge_0 (sigmoid x - / 2)). split; nra.
Qed.

(** The bound 1/4 is attained at 0 ... *)
Theorem sigmoid'_attained : sigmoid 0 * (1 - sigmoid 0) = / 4.
Proof. unfold sigmoid. rewrite Ropp_0, exp_0. field. Qed.

(** ... and only there. *)
Theorem sigmoid'_attained_only_at_0 (x : R) : sigmoid x * (1 - sigmoid x) = / 4 -> x = 0.
Proof.
  intro H. assert (Hs : sigmoid x = / 2) by nra.
  unfold sigmoid in Hs. pose proof (exp_pos (- x)).
  assert (E : exp (- x) = 1).
  { apply (f_equal Rinv) in Hs. rewrite 2!Rinv_inv in Hs. lra. }
  rewrite <- exp_0 in E. apply exp_inv in E. lra.
Qed.

Theorem is_derive_sigmoid' (x : R) :
  is_derive (fun x => sigmoid x * (1 - sigmoid x)) x
    (sigmoid x * (1 - sigmoid x) * (1 - 2 * sigmoid x)).
Proof.
  eapply D_eq.
  - apply D_mult; [apply is_derive_sigmoid | apply D_minus; [apply D_const | apply is_derive_sigmoid]].
  - cbv beta. ring.
Qed.

Theorem sigmoid_opp (x : R) : sigmoid (- x) = 1 - sigmoid x.
Proof.
  unfold sigmoid. rewrite Ropp_involutive, exp_Ropp. pose proof (exp_pos x). field. lra.
Qed.

(** ** A-1: the hyperbolic tangent of the standard library *)

Lemma cosh_pos (x : R) : 0 < cosh x.
Proof. unfold cosh. pose proof (exp_pos x). pose proof (exp_pos (- x)). lra. Qed.

Lemma tanh_range (x : R) : -1 < tanh x < 1.
Proof.
  unfold tanh. pose proof (cosh_pos x) as Hc.
  assert (Hs : - cosh x < sinh x < cosh x).
  { unfold sinh, cosh. pose proof (exp_pos x). pose proof (exp_pos (- x)). lra. }
  split.
  - apply Rmult_lt_reg_r with (cosh x); [lra|]. unfold Rdiv.
    rewrite Rmult_assoc, Rinv_l; lra.
  - apply Rmult_lt_reg_r with (cosh x); [lra|]. unfold Rdiv.
    rewrite Rmult_assoc, Rinv_l; lra.
Qed.

Theorem is_derive_tanh (x : R) : is_derive tanh x (1 - tanh x ^ 2).
Proof.
  unfold tanh. pose proof (cosh_pos x) as Hc. unfold sinh, cosh in *.
  auto_derive; [lra | field; lra].
Qed.

Theorem tanh'_bound (x : R) : 0 < 1 - tanh x ^ 2 <= 1.
Proof. destruct (tanh_range x). split; nra. Qed.

Theorem tanh'_attained : 1 - tanh 0 ^ 2 = 1.
Proof. unfold tanh, sinh. rewrite Ropp_0, exp_0. field. unfold cosh; rewrite Ropp_0, exp_0; lra. Qed.

Theorem tanh'_attained_only_at_0 (x : R) : 1 - tanh x ^ 2 = 1 -> x = 0.
Proof.
  intro H. assert (Ht : tanh x = 0) by nra. unfold tanh in Ht. pose proof (cosh_pos x) as Hc.
  assert (Hs : sinh x = 0).
  { apply Rmult_eq_reg_r with (/ cosh x); [|apply Rinv_neq_0_compat; lra].
    rewrite Rmult_0_l. exact Ht. }
  unfold sinh in Hs. assert (E : exp x = exp (- x)) by lra. apply exp_inv in E. lra.
Qed.

Theorem is_derive_tanh' (x : R) :
  is_derive (fun x => 1 - tanh x ^ 2) x (- 2 * tanh x * (1 - tanh x ^ 2)).
Proof.
  apply (D_ext (fun x => 1 - tanh x * tanh x)); [intro; ring|].
  eapply D_eq.
  - apply D_minus; [apply D_const | apply D_mult; apply is_derive_tanh].
  - ring.
Qed.

Theorem sigmoid_is_tanh (x : R) : sigmoid x = (1 + tanh (x / 2)) / 2.
Proof.
  unfold sigmoid, tanh, sinh, cosh.
  replace (- x) with (- (x / 2) + - (x / 2)) by field. rewrite exp_plus, exp_Ropp.
  pose proof (exp_pos (x / 2)) as H. set (e := exp (x / 2)) in *.
  assert (0 < e * e) by nra. field. split; nra.
Qed.

(** A-3, squared: |tanh''| <= 4 / (3 sqrt 3) and |sigmoid''| <= 1 / (6 sqrt 3). *)
Theorem tanh''_bound (x : R) : (2 * tanh x * (1 - tanh x ^ 2)) ^ 2 <= 16 / 27.
Proof.
  destruct (tanh_range x). set (s := tanh x ^ 2).
  assert (Hs : 0 <= s <= 1) by (unfold s; nra).
  replace ((2 * tanh x * (1 - s)) ^ 2) with (4 * s * (1 - s) ^ 2) by (unfold s; ring).
  assert (E : 16 / 27 - 4 * s * (1 - s) ^ 2 = 4 / 27 * ((4 - 3 * s) * (1 - 3 * s) ^ 2)) by field.
  assert (0 <= (4 - 3 * s) * (1 - 3 * s) ^ 2) by (apply Rmult_le_pos; [lra | apply pow2_ge_0]). lra.
Qed.

Theorem sigmoid''_bound (x : R) :
  (sigmoid x * (1 - sigmoid x) * (1 - 2 * sigmoid x)) ^ 2 <= 1 / 108.
Proof.
  destruct (sigmoid_range x). set (s := (1 - 2 * sigmoid x) ^ 2).
  assert (Hs : 0 <= s <= 1).
  { pose proof (sigmoid'_bound x). unfold s. split; [apply pow2_ge_0|]. simpl. lra. }
  replace ((sigmoid x * (1 - sigmoid x) * (1 - 2 * sigmoid x)) ^ 2) with (s * (1 - s) ^ 2 / 16)
    by (unfold s; field).
  assert (E : 1 / 108 - s * (1 - s) ^ 2 / 16 = / 432 * ((4 - 3 * s) * (1 - 3 * s) ^ 2)) by field.
  assert (0 <= (4 - 3 * s) * (1 - 3 * s) ^ 2) by (apply Rmult_le_pos; [lra | apply pow2_ge_0]). lra.
Qed.

Theorem tanh''_attained (x : R) :
  tanh x ^ 2 = 1 / 3 -> (2 * tanh x * (1 - tanh x ^ 2)) ^ 2 = 16 / 27.
Proof.
  intro H. replace (_ ^ 2) with (4 * tanh x ^ 2 * (1 - tanh x ^ 2) ^ 2) at 1 by ring.
  rewrite H. field.
Qed.

Lemma Rabs_le_of_square (x y : R) : 0 <= y -> x ^ 2 <= y ^ 2 -> Rabs x <= y.
Proof.
  intros Hy H. rewrite <- (Rabs_pos_eq y Hy). apply Rsqr_le_abs_0. unfold Rsqr. lra.
Qed.

Lemma sqrt_3_square : sqrt 3 * sqrt 3 = 3 /\ 0 < sqrt 3.
Proof. split; [apply sqrt_sqrt | apply sqrt_lt_R0]; lra. Qed.

Theorem tanh''_abs (x : R) : Rabs (- 2 * tanh x * (1 - tanh x ^ 2)) <= 4 / (3 * sqrt 3).
Proof.
  destruct sqrt_3_square as [E Hp]. apply Rabs_le_of_square.
  - left. apply Rdiv_lt_0_compat; lra.
  - replace ((4 / (3 * sqrt 3)) ^ 2) with (16 / (9 * (sqrt 3 * sqrt 3))) by (field; lra).
    rewrite E. pose proof (tanh''_bound x). lra.
Qed.

Theorem sigmoid''_is_tanh'' (x : R) :
  sigmoid x * (1 - sigmoid x) * (1 - 2 * sigmoid x)
  = / 8 * (- 2 * tanh (x / 2) * (1 - tanh (x / 2) ^ 2)).
Proof. rewrite !sigmoid_is_tanh. field. Qed.

Theorem sigmoid''_abs (x : R) :
  Rabs (sigmoid x * (1 - sigmoid x) * (1 - 2 * sigmoid x)) <= 1 / (6 * sqrt 3).
Proof.
  destruct sqrt_3_square as [E Hp]. apply Rabs_le_of_square.
  - left. apply Rdiv_lt_0_compat; lra.
  - replace ((1 / (6 * sqrt 3)) ^ 2) with (1 / (36 * (sqrt 3 * sqrt 3))) by (field; lra).
    rewrite E. pose proof (sigmoid''_bound x). lra.
Qed.

(** A-4: how fast they saturate. *)
Lemma sigmoid'_exp (x : R) : sigmoid x * (1 - sigmoid x) = exp (- x) / (1 + exp (- x)) ^ 2.
Proof. unfold sigmoid. pose proof (exp_pos (- x)). field. lra. Qed.

Lemma sigmoid'_even (x : R) :
  sigmoid x * (1 - sigmoid x) = sigmoid (Rabs x) * (1 - sigmoid (Rabs x)).
Proof.
  unfold Rabs. destruct (Rcase_abs x); [rewrite sigmoid_opp; ring | reflexivity].
Qed.

Lemma exp_neg_le_1 (x : R) : 0 <= x -> 0 < exp (- x) <= 1.
Proof.
  intro Hx. split; [apply exp_pos|]. rewrite <- exp_0. destruct Hx as [Hx | <-].
  - left. apply exp_increasing. lra.
  - rewrite Ropp_0. lra.
Qed.

Theorem sigmoid'_saturates (x : R) :
  exp (- Rabs x) / 4 <= sigmoid x * (1 - sigmoid x) <= exp (- Rabs x).
Proof.
  rewrite sigmoid'_even, sigmoid'_exp. destruct (exp_neg_le_1 (Rabs x) (Rabs_pos x)).
  set (e := exp (- Rabs x)) in *. unfold Rdiv. split.
  - apply Rmult_le_compat_l; [lra|]. apply Rinv_le_contravar; nra.
  - rewrite <- (Rmult_1_r e) at 3. rewrite <- Rinv_1.
    apply Rmult_le_compat_l; [lra|]. apply Rinv_le_contravar; nra.
Qed.

(** The upper bound is approached: the ratio tends to 1. *)
Theorem sigmoid'_saturation_sharp (x : R) :
  exp (- Rabs x) * (1 - 2 * exp (- Rabs x)) <= sigmoid x * (1 - sigmoid x).
Proof.
  rewrite sigmoid'_even, sigmoid'_exp. destruct (exp_neg_le_1 (Rabs x) (Rabs_pos x)).
  set (e := exp (- Rabs x)) in *. apply Rmult_le_compat_l; [lra|].
  apply Rmult_le_reg_r with ((1 + e) ^ 2); [nra|]. rewrite Rinv_l by nra.
  assert (0 <= e ^ 2 * (3 + 2 * e)) by (apply Rmult_le_pos; [apply pow2_ge_0 | lra]). nra.
Qed.

Lemma tanh'_sigmoid' (x : R) : 1 - tanh x ^ 2 = 4 * (sigmoid (2 * x) * (1 - sigmoid (2 * x))).
Proof. rewrite (sigmoid_is_tanh (2 * x)). replace (2 * x / 2) with x by field. field. Qed.

Lemma Rabs_double (x : R) : Rabs (2 * x) = 2 * Rabs x.
Proof. rewrite Rabs_mult, (Rabs_pos_eq 2); lra. Qed.

Theorem tanh'_saturates (x : R) :
  exp (- (2 * Rabs x)) <= 1 - tanh x ^ 2 <= 4 * exp (- (2 * Rabs x)).
Proof.
  rewrite tanh'_sigmoid', <- Rabs_double. pose proof (sigmoid'_saturates (2 * x)). lra.
Qed.

Theorem tanh'_saturation_sharp (x : R) :
  4 * exp (- (2 * Rabs x)) * (1 - 2 * exp (- (2 * Rabs x))) <= 1 - tanh x ^ 2.
Proof.
  rewrite tanh'_sigmoid', <- Rabs_double. pose proof (sigmoid'_saturation_sharp (2 * x)). lra.
Qed.

(** ** A derivative bounded by L makes the function L-Lipschitz *)

Theorem lipschitz_of_derive (f f' : R -> R) (L : R) :
  (forall x, is_derive f x (f' x)) -> (forall x, Rabs (f' x) <= L) ->
  forall x y, Rabs (f x - f y) <= L * Rabs (x - y).
Proof.
  intros Hd Hb x y.
  destruct (MVT_gen f y x f') as [c [_ Hc]].
  - intros; apply Hd.
  - intros t _. apply continuity_pt_filterlim.
    apply (ex_derive_continuous f). eexists; apply Hd.
  - rewrite Hc, Rabs_mult. apply Rmult_le_compat_r; [apply Rabs_pos | apply Hb].
Qed.

Corollary tanh_lipschitz (x y : R) : Rabs (tanh x - tanh y) <= 1 * Rabs (x - y).
Proof.
  apply lipschitz_of_derive with (f' := fun x => 1 - tanh x ^ 2).
  - apply is_derive_tanh.
  - intro t. pose proof (tanh'_bound t). rewrite Rabs_pos_eq; lra.
Qed.

Corollary sigmoid_lipschitz (x y : R) :
  Rabs (sigmoid x - sigmoid y) <= / 4 * Rabs (x - y).
Proof.
  apply lipschitz_of_derive with (f' := fun x => sigmoid x * (1 - sigmoid x)).
  - apply is_derive_sigmoid.
  - intro t. pose proof (sigmoid'_bound t). rewrite Rabs_pos_eq; lra.
Qed.

(** A-3: the derivatives are Lipschitz. *)
Corollary tanh'_lipschitz (x y : R) :
  Rabs ((1 - tanh x ^ 2) - (1 - tanh y ^ 2)) <= 4 / (3 * sqrt 3) * Rabs (x - y).
Proof. exact (lipschitz_of_derive _ _ _ is_derive_tanh' tanh''_abs x y). Qed.

Corollary sigmoid'_lipschitz (x y : R) :
  Rabs (sigmoid x * (1 - sigmoid x) - sigmoid y * (1 - sigmoid y))
  <= 1 / (6 * sqrt 3) * Rabs (x - y).
Proof. exact (lipschitz_of_derive _ _ _ is_derive_sigmoid' sigmoid''_abs x y). Qed.

(** ** A-5: ReLU and leaky ReLU *)

Definition leaky (a x : R) : R := if Rle_dec 0 x then x else a * x.
Definition relu (x : R) : R := Rmax 0 x.

Lemma relu_leaky (x : R) : relu x = leaky 0 x.
Proof. unfold relu, leaky, Rmax. destruct (Rle_dec 0 x); lra. Qed.

Theorem leaky_lipschitz (a : R) : 0 <= a <= 1 ->
  forall x y, Rabs (leaky a x - leaky a y) <= Rabs (x - y).
Proof.
  intros Ha x y. unfold leaky.
  destruct (Rle_dec 0 x), (Rle_dec 0 y);
  unfold Rabs; repeat destruct Rcase_abs; nra.
Qed.

Corollary relu_lipschitz (x y : R) : Rabs (relu x - relu y) <= Rabs (x - y).
Proof. rewrite 2!relu_leaky. apply leaky_lipschitz; lra. Qed.

(** Away from the kink the derivative is 1 or a; at the kink there is none. *)
Theorem is_derive_leaky_pos (a x : R) : 0 < x -> is_derive (leaky a) x 1.
Proof.
  intro Hx. apply (is_derive_ext_loc (fun t => t)).
  - exists (mkposreal x Hx). intros y Hy. unfold leaky.
    destruct (Rle_dec 0 y); [reflexivity|].
    change (Rabs (y - x) < x) in Hy. apply Rabs_def2 in Hy. lra.
  - auto_derive; [exact I | ring].
Qed.

Theorem is_derive_leaky_neg (a x : R) : x < 0 -> is_derive (leaky a) x a.
Proof.
  intro Hx. apply (is_derive_ext_loc (fun t => a * t)).
  - assert (H : 0 < - x) by lra. exists (mkposreal (- x) H). intros y Hy. unfold leaky.
    destruct (Rle_dec 0 y); [|reflexivity].
    change (Rabs (y - x) < - x) in Hy. apply Rabs_def2 in Hy. lra.
  - auto_derive; [exact I | ring].
Qed.


(** The library's derivative, with f'(0) = a: a mask. *)
Definition leaky_step (a x : R) : R := if Rlt_dec 0 x then 1 else a.

Theorem leaky_step_is_mask (a x : R) : leaky_step a x = a \/ leaky_step a x = 1.
Proof. unfold leaky_step. destruct (Rlt_dec 0 x); auto. Qed.

Theorem leaky_euler (a x : R) : leaky_step a x * x = leaky a x.
Proof.
  unfold leaky_step, leaky. destruct (Rlt_dec 0 x), (Rle_dec 0 x); try lra.
  replace x with 0 by lra. ring.
Qed.

Theorem leaky_locally_linear (a x h : R) : Rabs h < Rabs x ->
  leaky a (x + h) - leaky a x = h * leaky_step a x.
Proof.
  unfold leaky, leaky_step, Rabs. intro H.
  destruct (Rcase_abs h), (Rcase_abs x), (Rle_dec 0 (x + h)), (Rle_dec 0 x), (Rlt_dec 0 x); lra.
Qed.

(** At the kink: any slope between a and 1 is in Clarke's subdifferential, and a is. *)
Theorem leaky_step_at_0 (a : R) : a <= 1 -> a <= leaky_step a 0 <= 1.
Proof. unfold leaky_step. destruct (Rlt_dec 0 0); lra. Qed.

(** A product of masks is a power of a: a mask again for ReLU. *)
Fixpoint inactive (x : nat -> R) (n : nat) : nat :=
  match n with O => O | S k => if Rlt_dec 0 (x k) then inactive x k else S (inactive x k) end.

Theorem product_of_masks (a : R) (x : nat -> R) (n : nat) :
  prodR (fun k => leaky_step a (x k)) n = a ^ inactive x n.
Proof.
  induction n; simpl; [reflexivity|]. rewrite IHn. unfold leaky_step.
  destruct (Rlt_dec 0 (x n)); simpl; ring.
Qed.
