(** * Clipping gradients, by norm and by value.

    Serves K-1, K-3, K-4. *)
From Coq Require Import Reals Lra Lia Arith.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Norms.
Open Scope R_scope.

Lemma dot_minus n (g w : vec) :
  dot n (fun i => g i - w i) (fun i => g i - w i) = dot n g g - 2 * dot n g w + dot n w w.
Proof. unfold dot. induction n; simpl; [ring | rewrite IHn; ring]. Qed.

Lemma norm2_scal n c g : norm2 n (fun i => c * g i) = Rabs c * norm2 n g.
Proof.
  unfold norm2. rewrite <- sqrt_Rsqr_abs, <- sqrt_mult_alt by apply Rle_0_sqr. f_equal.
  unfold dot, Rsqr. rewrite sumR_scal. apply sumR_ext. intros; ring.
Qed.

(** ** K-1: clipping by norm *)
Section ByNorm.
Variables (n : nat) (theta : R).
Hypothesis theta_pos : 0 < theta.

Definition factor (g : vec) : R := if Rle_dec (norm2 n g) theta then 1 else theta / norm2 n g.
Definition clip (g : vec) : vec := fun i => factor g * g i.

Lemma factor_range g : 0 < factor g <= 1.
Proof.
  unfold factor. destruct (Rle_dec (norm2 n g) theta) as [|H]; [lra|].
  apply Rnot_le_lt in H. split; [apply Rdiv_lt_0_compat; lra|].
  apply Rle_div_l; lra.
Qed.

Theorem clip_norm g : norm2 n (clip g) = Rmin theta (norm2 n g).
Proof.
  unfold clip. rewrite norm2_scal. destruct (factor_range g) as [Hp _].
  rewrite Rabs_pos_eq by lra. unfold factor, Rmin.
  destruct (Rle_dec (norm2 n g) theta), (Rle_dec theta (norm2 n g)); try lra. field. lra.
Qed.

Theorem clip_keeps_direction g : exists c, 0 < c <= 1 /\ forall i, clip g i = c * g i.
Proof. exists (factor g). split; [apply factor_range | reflexivity]. Qed.

Theorem clip_identity g i : norm2 n g <= theta -> clip g i = g i.
Proof. intro H. unfold clip, factor. destruct (Rle_dec (norm2 n g) theta); [ring | lra]. Qed.

Theorem clip_idempotent g i : clip (clip g) i = clip g i.
Proof. apply clip_identity. rewrite clip_norm. apply Rmin_l. Qed.

(** Minus the clipped gradient is still a descent direction. *)
Theorem clip_descends g : 0 < norm2 n g -> 0 < dot n g (clip g).
Proof.
  intro H. destruct (factor_range g) as [Hp _].
  replace (dot n g (clip g)) with (factor g * dot n g g).
  - rewrite <- norm2_sqr. apply Rmult_lt_0_compat; [exact Hp | nra].
  - unfold dot, clip. rewrite sumR_scal. apply sumR_ext. intros; ring.
Qed.

(** The obtuse angle: (g - clip g) . (v - clip g) <= 0 for every v of the ball. *)
Theorem clip_obtuse_angle g v : norm2 n v <= theta ->
  dot n (fun i => g i - clip g i) (fun i => v i - clip g i) <= 0.
Proof.
  intro Hv.
  assert (E : dot n (fun i => g i - clip g i) (fun i => v i - clip g i)
              = (1 - factor g) * (dot n g v - factor g * dot n g g)).
  { unfold dot. rewrite !sumR_scal, <- sumR_minus, sumR_scal. apply sumR_ext. intros; unfold clip; ring. }
  rewrite E, <- norm2_sqr. pose proof (dot_le_norms n g v).
  pose proof (norm2_pos n g). pose proof (norm2_pos n v).
  unfold factor. destruct (Rle_dec (norm2 n g) theta) as [|Hg]; [lra|].
  apply Rnot_le_lt in Hg.
  replace (theta / norm2 n g * norm2 n g ^ 2) with (theta * norm2 n g) by (field; lra).
  assert (0 <= 1 - theta / norm2 n g).
  { assert (theta / norm2 n g <= 1) by (apply Rle_div_l; lra). lra. }
  assert (norm2 n g * norm2 n v <= theta * norm2 n g) by nra.
  assert (0 <= (1 - theta / norm2 n g) * (theta * norm2 n g - dot n g v)) by (apply Rmult_le_pos; lra).
  lra.
Qed.

(** ... so clip g is the nearest point of the ball ... *)
Theorem clip_is_projection g v : norm2 n v <= theta ->
  norm2 n (fun i => g i - clip g i) <= norm2 n (fun i => g i - v i).
Proof.
  intro Hv. apply sqrt_le_1_alt.
  pose proof (clip_obtuse_angle g v Hv) as H.
  assert (E : dot n (fun i => g i - v i) (fun i => g i - v i)
    = dot n (fun i => g i - clip g i) (fun i => g i - clip g i)
      - 2 * dot n (fun i => g i - clip g i) (fun i => v i - clip g i)
      + dot n (fun i => v i - clip g i) (fun i => v i - clip g i)).
  { rewrite <- dot_minus. apply sumR_ext. intros; ring. }
  rewrite E. pose proof (dot_self_pos n (fun i => v i - clip g i)). lra.
Qed.

(** ... and clipping brings no two gradients further apart. *)
Theorem clip_nonexpansive g k :
  norm2 n (fun i => clip g i - clip k i) <= norm2 n (fun i => g i - k i).
Proof.
  assert (ball : forall u, norm2 n (clip u) <= theta) by (intro; rewrite clip_norm; apply Rmin_l).
  pose proof (clip_obtuse_angle g (clip k) (ball k)) as H1.
  pose proof (clip_obtuse_angle k (clip g) (ball g)) as H2.
  apply sqrt_le_1_alt.
  set (p := clip g) in *. set (q := clip k) in *.
  assert (E : dot n (fun i => g i - k i) (fun i => g i - k i)
    = dot n (fun i => p i - q i) (fun i => p i - q i)
      + dot n (fun i => (g i - k i) - (p i - q i)) (fun i => (g i - k i) - (p i - q i))
      - 2 * dot n (fun i => g i - p i) (fun i => q i - p i)
      - 2 * dot n (fun i => k i - q i) (fun i => p i - q i)).
  { unfold dot. rewrite !sumR_scal, <- sumR_plus, <- !sumR_minus. apply sumR_ext. intros; ring. }
  rewrite E. pose proof (dot_self_pos n (fun i => (g i - k i) - (p i - q i))). lra.
Qed.
End ByNorm.

(** ** K-3: clipping by value, on both sides *)

Definition vclip (theta x : R) : R := Rmax (- theta) (Rmin theta x).

Lemma vclip_cases theta x : 0 <= theta ->
  (x < - theta /\ vclip theta x = - theta) \/ (- theta <= x <= theta /\ vclip theta x = x)
  \/ (theta < x /\ vclip theta x = theta).
Proof.
  intro H. unfold vclip, Rmax, Rmin.
  destruct (Rle_dec theta x), (Rle_dec (- theta) theta); try lra;
    destruct (Rle_dec (- theta) x); lra.
Qed.

Theorem vclip_bounded theta x : 0 <= theta -> Rabs (vclip theta x) <= theta.
Proof. intro H. apply Rabs_le. destruct (vclip_cases theta x H) as [[? ->]|[[? ->]|[? ->]]]; lra. Qed.

Theorem vclip_identity theta x : Rabs x <= theta -> vclip theta x = x.
Proof.
  intro H. assert (Ht : 0 <= theta) by (eapply Rle_trans; [apply Rabs_pos | exact H]).
  apply Rabs_le_between in H. destruct (vclip_cases theta x Ht) as [?|[?|?]]; lra.
Qed.

(** It is the projection onto the box: the nearest point, entry by entry. *)
Theorem vclip_is_projection theta x v : 0 <= theta -> - theta <= v <= theta ->
  (x - vclip theta x) * (v - vclip theta x) <= 0.
Proof. intros H Hv. destruct (vclip_cases theta x H) as [[? ->]|[[? ->]|[? ->]]]; nra. Qed.

(** Direction is not kept: (2, 1) becomes (1, 1) ... *)
Theorem vclip_changes_direction : ~ exists c, (vclip 1 2, vclip 1 1) = (c * 2, c * 1).
Proof.
  intros [c H]. unfold vclip in H. injection H.
  rewrite (Rmin_left 1 2), (Rmin_left 1 1), Rmax_right by lra. lra.
Qed.

(** ... but the cosine between a gradient and its clip is at least 1 / sqrt n. *)
Theorem vclip_cosine n theta (g : vec) : 0 <= theta ->
  norm2 n g * norm2 n (fun i => vclip theta (g i))
  <= sqrt (INR n) * dot n g (fun i => vclip theta (g i)).
Proof.
  intro Ht. set (u := fun i => vclip theta (g i)).
  (* s sums the moduli of the clipped entries, r the squares of the others *)
  set (big := fun i => if Rle_dec (Rabs (g i)) theta then 0 else Rabs (g i)).
  set (small := fun i => if Rle_dec (Rabs (g i)) theta then g i * g i else 0).
  set (s := sumR big n). set (r := sumR small n).
  assert (big_pos : forall i, 0 <= big i) by
    (intro i; unfold big; destruct (Rle_dec _ _); [lra | apply Rabs_pos]).
  assert (Hs : 0 <= s) by (apply sumR_nonneg; auto).
  assert (Hr : 0 <= r) by
    (apply sumR_nonneg; intros; unfold small; destruct (Rle_dec _ _); [nra | lra]).
  assert (Edot : dot n g u = theta * s + r).
  { unfold dot, s, r. rewrite sumR_scal, <- sumR_plus. apply sumR_ext. intros i _. unfold u, big, small.
    destruct (Rle_dec (Rabs (g i)) theta) as [H|H].
    - rewrite vclip_identity by exact H. ring.
    - apply Rnot_le_lt in H. revert H. unfold Rabs. destruct (Rcase_abs (g i)); intro H;
        destruct (vclip_cases theta (g i) Ht) as [[? ->]|[[? ->]|[? ->]]]; try lra. }
  assert (Egg : dot n g g <= s ^ 2 + r).
  { assert (Esq : dot n g g = sumR (fun i => big i * big i) n + r).
    { unfold dot, r. rewrite <- sumR_plus. apply sumR_ext. intros i _. unfold big, small.
      destruct (Rle_dec (Rabs (g i)) theta); [ring|]. rewrite <- Rabs_mult, Rabs_pos_eq; nra. }
    rewrite Esq. apply Rplus_le_compat_r.
    apply Rle_trans with (sumR (fun i => big i * s) n).
    - apply sumR_le. intros i Hi. apply Rmult_le_compat_l; [apply big_pos|].
      now apply (sumR_term_le big).
    - right. rewrite (sumR_ext _ (fun i => s * big i)) by (intros; ring).
      rewrite <- sumR_scal. fold s. ring. }
  assert (Euu : dot n u u <= INR n * theta ^ 2).
  { rewrite <- sumR_const. apply sumR_le. intros i _. unfold u.
    pose proof (vclip_bounded theta (g i) Ht) as H. apply Rabs_le_between in H. nra. }
  assert (Eus : dot n u u <= dot n g u).
  { apply sumR_le. intros i _. unfold u.
    destruct (vclip_cases theta (g i) Ht) as [[? ->]|[[? ->]|[? ->]]]; nra. }
  assert (Hd : 0 <= dot n g u) by (rewrite Edot; nra).
  (* either an entry is clipped, and then s >= theta, or none is and u = g *)
  assert (Hcase : theta <= s \/ s = 0).
  { clear -big_pos. unfold s. induction n as [|k IH]; [now right|]. simpl.
    unfold big at 2 4. destruct (Rle_dec (Rabs (g k)) theta) as [|H].
    - rewrite Rplus_0_r. exact IH.
    - left. apply Rnot_le_lt in H. assert (0 <= sumR big k) by (apply sumR_nonneg; auto). lra. }
  apply Rsqr_incr_0_var; [|apply Rmult_le_pos; [apply sqrt_pos | exact Hd]].
  unfold Rsqr.
  replace (norm2 n g * norm2 n u * (norm2 n g * norm2 n u)) with (norm2 n g ^ 2 * norm2 n u ^ 2) by ring.
  replace (sqrt (INR n) * dot n g u * (sqrt (INR n) * dot n g u))
    with (sqrt (INR n) * sqrt (INR n) * dot n g u ^ 2) by ring.
  rewrite !norm2_sqr, sqrt_sqrt by apply pos_INR.
  assert (Hn : 0 <= INR n) by apply pos_INR.
  pose proof (dot_self_pos n g). pose proof (dot_self_pos n u).
  destruct Hcase as [Hc|Hc].
  - apply Rle_trans with ((s ^ 2 + r) * (INR n * theta ^ 2)); [apply Rmult_le_compat; assumption|].
    replace ((s ^ 2 + r) * (INR n * theta ^ 2)) with (INR n * ((s ^ 2 + r) * theta ^ 2)) by ring.
    apply Rmult_le_compat_l; [exact Hn|]. rewrite Edot.
    assert (r * (theta * theta) <= r * (theta * s)) by (apply Rmult_le_compat_l; nra). nra.
  - (* nothing is clipped *)
    rewrite Hc in Egg, Edot. assert (Eg : dot n g g <= dot n g u) by lra.
    destruct n as [|k]; [unfold dot; simpl; lra|].
    assert (1 <= INR (S k)) by (rewrite S_INR; pose proof (pos_INR k); lra).
    apply Rle_trans with (dot (S k) g u * dot (S k) g u).
    + apply Rmult_le_compat; assumption.
    + simpl pow. rewrite Rmult_1_r. assert (0 <= dot (S k) g u * dot (S k) g u) by nra. nra.
Qed.

Theorem vclip_idempotent theta x : 0 <= theta -> vclip theta (vclip theta x) = vclip theta x.
Proof. intro H. apply vclip_identity. now apply vclip_bounded. Qed.

Theorem vclip_nonexpansive n theta (g h : vec) : 0 <= theta ->
  norm2 n (fun i => vclip theta (g i) - vclip theta (h i)) <= norm2 n (fun i => g i - h i).
Proof.
  intro H. apply (norm_mono n (norm2 n) (norm2_absolute n)). intros i _.
  destruct (vclip_cases theta (g i) H) as [[? ->]|[[? ->]|[? ->]]],
    (vclip_cases theta (h i) H) as [[? ->]|[[? ->]|[? ->]]];
    unfold Rabs; repeat (destruct (Rcase_abs _)); lra.
Qed.

(** If anything is clipped, the descent is at least theta |g|: entry by entry,
    |g| g_i c_i >= theta g_i^2. *)
Theorem vclip_descent n theta (g : vec) : 0 <= theta ->
  (exists i, (i < n)%nat /\ theta < Rabs (g i)) ->
  theta * norm2 n g <= dot n g (fun i => vclip theta (g i)).
Proof.
  intros Ht [k [Hk Hg]].
  assert (entry : forall i, (i < n)%nat -> Rabs (g i) <= norm2 n g).
  { intros i Hi. rewrite <- (Rabs_pos_eq (norm2 n g)) by apply norm2_pos. apply Rsqr_le_abs_0.
    unfold Rsqr. replace (norm2 n g * norm2 n g) with (norm2 n g ^ 2) by ring. rewrite norm2_sqr.
    apply (sumR_term_le (fun i => g i * g i)); [intros; nra | exact Hi]. }
  assert (Hn : theta < norm2 n g) by (eapply Rlt_le_trans; [exact Hg | now apply entry]).
  apply Rmult_le_reg_l with (norm2 n g); [lra|].
  replace (norm2 n g * (theta * norm2 n g)) with (theta * norm2 n g ^ 2) by ring.
  rewrite norm2_sqr. unfold dot. rewrite !sumR_scal. apply sumR_le. intros i Hi.
  specialize (entry i Hi). apply Rabs_le_between in entry. set (N := norm2 n g) in *.
  destruct (vclip_cases theta (g i) Ht) as [[? ->]|[[? ->]|[? ->]]].
  - assert (0 <= theta * (- g i * (N + g i))) by (repeat apply Rmult_le_pos; lra). lra.
  - assert (0 <= (N - theta) * (g i * g i)) by (apply Rmult_le_pos; nra). lra.
  - assert (0 <= theta * (g i * (N - g i))) by (repeat apply Rmult_le_pos; lra). lra.
Qed.

(** ... with equality where one entry is not zero, ... *)
Theorem vclip_descent_attained n theta (g : vec) k : 0 <= theta -> (k < n)%nat ->
  theta < Rabs (g k) -> (forall i, i <> k -> g i = 0) ->
  dot n g (fun i => vclip theta (g i)) = theta * norm2 n g.
Proof.
  intros Ht Hk Hg H0.
  assert (E : forall f, dot n g f = g k * f k).
  { intro f. rewrite <- (sumR_pick (fun i => g i * f i) k n Hk). apply sumR_ext. intros i _.
    destruct (Nat.eqb_spec i k) as [->|]; [reflexivity | rewrite H0 by assumption; ring]. }
  unfold norm2. rewrite !E. fold (Rsqr (g k)). rewrite sqrt_Rsqr_abs.
  destruct (vclip_cases theta (g k) Ht) as [[? ->]|[[? ->]|[? ->]]];
    revert Hg; unfold Rabs; destruct (Rcase_abs (g k)); lra.
Qed.

(** ... and 1 / sqrt n is sharp: (G, theta, ..., theta) comes as near as theta / G is small. *)
Definition spike (theta G : R) : vec := fun i => match i with O => G | _ => theta end.

Theorem vclip_cosine_sharp m theta G : 0 < theta -> theta <= G ->
  sqrt (INR (S m)) * dot (S m) (spike theta G) (fun i => vclip theta (spike theta G i))
  <= (1 + INR m * theta / G)
     * (norm2 (S m) (spike theta G) * norm2 (S m) (fun i => vclip theta (spike theta G i))).
Proof.
  intros Ht HG. set (g := spike theta G).
  assert (C : forall i, vclip theta (g i) = theta).
  { intro i. assert (theta <= g i) by (unfold g; destruct i; simpl; lra).
    destruct (vclip_cases theta (g i) ltac:(lra)) as [[? ->]|[[? ->]|[? ->]]]; lra. }
  assert (Sg : sumR g (S m) = G + INR m * theta).
  { clear. induction m; [simpl; ring|]. cbn [sumR] in *. rewrite IHm, S_INR. simpl. ring. }
  assert (D : dot (S m) g (fun i => vclip theta (g i)) = theta * (G + INR m * theta)).
  { rewrite <- Sg, sumR_scal. apply sumR_ext. intros i _. rewrite C. ring. }
  assert (Nc : norm2 (S m) (fun i => vclip theta (g i)) = sqrt (INR (S m)) * theta).
  { unfold norm2, dot. rewrite (sumR_ext _ (fun _ => theta * theta)) by (intros; now rewrite C).
    rewrite sumR_const, sqrt_mult_alt by apply pos_INR. rewrite sqrt_square by lra. reflexivity. }
  assert (Ng : G <= norm2 (S m) g).
  { unfold norm2. rewrite <- (sqrt_square G) at 1 by lra. apply sqrt_le_1_alt.
    apply (sumR_term_le (fun i => g i * g i) (S m) 0); [intros; nra | lia]. }
  rewrite D, Nc. pose proof (sqrt_pos (INR (S m))). pose proof (pos_INR m).
  assert (0 <= 1 + INR m * theta / G).
  { assert (0 <= INR m * theta / G); [|lra]. apply Rmult_le_pos; [nra|].
    left. apply Rinv_0_lt_compat. lra. }
  apply Rle_trans with ((1 + INR m * theta / G) * (G * (sqrt (INR (S m)) * theta))).
  - right. field. lra.
  - apply Rmult_le_compat_l; [assumption|]. apply Rmult_le_compat_r; [nra | exact Ng].
Qed.

(** ** K-4: the notes' one-sided rule, "if g > theta then theta" *)

Definition one_sided (theta x : R) : R := if Rlt_dec theta x then theta else x.

Theorem one_sided_unbounded theta M : exists x, one_sided theta x < - M.
Proof.
  exists (Rmin theta (- M) - 1). unfold one_sided.
  pose proof (Rmin_l theta (- M)). pose proof (Rmin_r theta (- M)).
  destruct (Rlt_dec theta (Rmin theta (- M) - 1)); lra.
Qed.

Corollary one_sided_is_no_clip theta : ~ exists B, forall x, Rabs (one_sided theta x) <= B.
Proof.
  intros [B H]. destruct (one_sided_unbounded theta B) as [x Hx].
  specialize (H x). apply Rabs_le_between in H. lra.
Qed.

Theorem one_sided_never_turns n theta g : 0 <= theta ->
  0 <= dot n g (fun i => one_sided theta (g i)).
Proof.
  intro Ht. apply sumR_nonneg. intros i _. unfold one_sided.
  destruct (Rlt_dec theta (g i)); nra.
Qed.

Theorem one_sided_is_projection n theta g v :
  (forall i, (i < n)%nat -> v i <= theta) ->
  dot n (fun i => g i - one_sided theta (g i)) (fun i => v i - one_sided theta (g i)) <= 0 /\
  (forall i, one_sided theta (g i) <= theta).
Proof.
  intro Hv. split.
  - rewrite <- (Rmult_0_r (INR n)), <- sumR_const. apply sumR_le. intros i Hi. specialize (Hv i Hi).
    unfold one_sided. destruct (Rlt_dec theta (g i)); nra.
  - intro i. unfold one_sided. destruct (Rlt_dec theta (g i)); lra.
Qed.

Theorem one_sided_keeps_negatives theta (g : vec) i : 0 <= theta ->
  one_sided theta (- Rabs (g i)) = - Rabs (g i).
Proof.
  intro Ht. pose proof (Rabs_pos (g i)). unfold one_sided.
  destruct (Rlt_dec theta (- Rabs (g i))); lra.
Qed.
