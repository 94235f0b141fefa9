(** * The truncation error of the central difference.

    Serves N-1: at step h the error is at most M h^2 / 6, M a bound on the third derivative. *)
From Coq Require Import Reals Lra Lia.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox.
Open Scope R_scope.

Lemma nondecreasing (f f' : R -> R) (h : R) : 0 <= h ->
  (forall t, is_derive f t (f' t)) -> (forall t, 0 <= t <= h -> 0 <= f' t) -> f 0 <= f h.
Proof.
  intros Hh Hd Hp. destruct (MVT_gen f 0 h f') as [c [Hc E]].
  - intros; apply Hd.
  - intros t _. apply continuity_pt_filterlim, (ex_derive_continuous f). eexists; apply Hd.
  - rewrite Rmin_left, Rmax_right in Hc by lra. specialize (Hp c Hc).
    assert (0 <= f' c * (h - 0)) by (apply Rmult_le_pos; lra). lra.
Qed.

(** If |g'| <= p' on [0,h] and g 0 = p 0 = 0 then |g h| <= p h. *)
Lemma dominated (g g' p p' : R -> R) (h : R) : 0 <= h ->
  (forall t, is_derive g t (g' t)) -> (forall t, is_derive p t (p' t)) ->
  g 0 = 0 -> p 0 = 0 -> (forall t, 0 <= t <= h -> Rabs (g' t) <= p' t) -> Rabs (g h) <= p h.
Proof.
  intros Hh Hg Hp g0 p0 Hb. apply Rabs_le. split.
  - assert (p 0 + g 0 <= p h + g h); [|lra].
    apply (nondecreasing (fun t => p t + g t) (fun t => p' t + g' t)); [exact Hh | |].
    + intro t; apply D_plus; auto.
    + intros t Ht. specialize (Hb t Ht). apply Rabs_le_between in Hb. lra.
  - assert (p 0 - g 0 <= p h - g h); [|lra].
    apply (nondecreasing (fun t => p t - g t) (fun t => p' t - g' t)); [exact Hh | |].
    + intro t. exact (is_derive_minus (V := R_NormedModule) p g t (p' t) (g' t) (Hp t) (Hg t)).
    + intros t Ht. specialize (Hb t Ht). apply Rabs_le_between in Hb. lra.
Qed.

Section Central.
Variables f f1 f2 f3 : R -> R.
Hypothesis H1 : forall t, is_derive f t (f1 t).
Hypothesis H2 : forall t, is_derive f1 t (f2 t).
Hypothesis H3 : forall t, is_derive f2 t (f3 t).

Lemma D_shift (u : R -> R) du x s t : is_derive u (x + s * t) du ->
  is_derive (fun t : R => u (x + s * t)) t (du * s).
Proof. intro H. apply (D_comp u (fun t => x + s * t)); [exact H|]. auto_derive; [exact I | ring]. Qed.

Theorem central_difference_error (x h M : R) : 0 < h ->
  (forall t, Rabs (t - x) <= h -> Rabs (f3 t) <= M) ->
  Rabs ((f (x + h) - f (x - h)) / (2 * h) - f1 x) <= M * h ^ 2 / 6.
Proof.
  intros Hh HM.
  set (g := fun t => f (x + 1 * t) + - f (x + (-1) * t) + - (2 * f1 x) * t).
  set (g1 := fun t => f1 (x + 1 * t) * 1 + - (f1 (x + (-1) * t) * (-1)) + - (2 * f1 x)).
  set (g2 := fun t => f2 (x + 1 * t) + - f2 (x + (-1) * t)).
  set (g3 := fun t => f3 (x + 1 * t) + f3 (x + (-1) * t)).
  assert (Dopp : forall u t d, is_derive u t d -> is_derive (fun t : R => - u t) t (- d))
    by (intros u t d Hd; exact (is_derive_opp (V := R_NormedModule) u t d Hd)).
  assert (E1 : forall t, is_derive g t (g1 t)).
  { intro t. unfold g, g1. apply D_plus; [apply D_plus; [|apply Dopp]; apply D_shift, H1|].
    auto_derive; [exact I | ring]. }
  assert (E2 : forall t, is_derive g1 t (g2 t)).
  { intro t. unfold g1. eapply D_eq.
    - apply D_plus; [apply D_plus; [|apply Dopp]; (apply D_mult; [apply D_shift, H2 | apply D_const]) | apply D_const].
    - cbv beta. unfold g2. ring. }
  assert (E3 : forall t, is_derive g2 t (g3 t)).
  { intro t. unfold g2. eapply D_eq.
    - apply D_plus; [|apply Dopp]; apply D_shift, H3.
    - unfold g3. ring. }
  assert (P1 : forall t, is_derive (fun t : R => M * t ^ 3 / 3) t (M * t ^ 2)) by (intro; auto_derive; [exact I | field]).
  assert (P2 : forall t, is_derive (fun t : R => M * t ^ 2) t (2 * M * t)) by (intro; auto_derive; [exact I | ring]).
  assert (P3 : forall t, is_derive (fun t : R => 2 * M * t) t (2 * M)) by (intro; auto_derive; [exact I | ring]).
  assert (B3 : forall t, 0 <= t <= h -> Rabs (g3 t) <= 2 * M).
  { intros t Ht. unfold g3. eapply Rle_trans; [apply Rabs_triang|].
    assert (Rabs (f3 (x + 1 * t)) <= M) by (apply HM, Rabs_le; lra).
    assert (Rabs (f3 (x + (-1) * t)) <= M) by (apply HM, Rabs_le; lra). lra. }
  assert (B2 : forall t, 0 <= t <= h -> Rabs (g2 t) <= 2 * M * t).
  { intros t Ht. apply (dominated g2 g3 (fun t => 2 * M * t) (fun _ => 2 * M)); try lra; auto.
    - unfold g2. rewrite !Rmult_0_r. ring.
    - intros s Hs. apply B3. lra. }
  assert (B1 : forall t, 0 <= t <= h -> Rabs (g1 t) <= M * t ^ 2).
  { intros t Ht. apply (dominated g1 g2 (fun t => M * t ^ 2) (fun t => 2 * M * t)); try lra; auto.
    - unfold g1. rewrite !Rmult_0_r, Rplus_0_r. ring.
    - intros s Hs. apply B2. lra. }
  assert (B0 : Rabs (g h) <= M * h ^ 3 / 3).
  { apply (dominated g g1 (fun t => M * t ^ 3 / 3) (fun t => M * t ^ 2)); try lra; auto.
    unfold g. rewrite !Rmult_0_r, Rplus_0_r. ring. }
  replace ((f (x + h) - f (x - h)) / (2 * h) - f1 x) with (g h * / (2 * h)).
  - assert (Hi : 0 < / (2 * h)) by (apply Rinv_0_lt_compat; lra).
    rewrite Rabs_mult, (Rabs_pos_eq (/ _)) by lra.
    apply Rle_trans with (M * h ^ 3 / 3 * / (2 * h)); [apply Rmult_le_compat_r; lra|].
    right. field. lra.
  - unfold g. replace (x + 1 * h) with (x + h) by ring. replace (x + -1 * h) with (x - h) by ring.
    field. lra.
Qed.
End Central.
