(** * The recurrent network h_k+1 = f (x_k W_x + h_k W_h + b), with matrices.

    Serves J-1, J-2, C-1, C-5, V-1, V-3.

    Vectors are rows, as in the library; a Jacobian has shape (out, in). The activation is any
    function differentiable everywhere (tanh, sigmoid, the identity; a ReLU off its kink). *)
From Coq Require Import Reals Lra Lia Arith FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Recurrence.
Open Scope R_scope.

Lemma vm_derive n (u : R -> vec) (A : R -> mat) du dA t0 i :
  (forall j, (j < n)%nat -> is_derive (fun t => u t j) t0 (du j)) ->
  (forall j, (j < n)%nat -> is_derive (fun t => A t j i) t0 (dA j i)) ->
  is_derive (fun t => vm n (u t) (A t) i) t0 (vm n du (A t0) i + vm n (u t0) dA i).
Proof.
  intros Hu HA. unfold vm. rewrite <- sumR_plus.
  apply (sumR_derive (fun j t => u t j * A t j i)). intros j Hj. apply D_mult; auto.
Qed.

Lemma vm_zero m u i : vm m u (fun _ _ => 0) i = 0.
Proof. apply sumR_zero. intros; ring. Qed.

Lemma vm_zero_l m A i : vm m (fun _ => 0) A i = 0.
Proof. apply sumR_zero. intros; ring. Qed.

Lemma set1_id v b : set1 v b (v b) = v.
Proof. apply functional_extensionality. intro i. apply set1_same. Qed.

Lemma set2_id A a b : set2 A a b (A a b) = A.
Proof.
  apply functional_extensionality. intro i. apply functional_extensionality. intro j.
  apply set2_same.
Qed.

Section Network.
Variables phi phi' : R -> R.
Hypothesis phi_derive : forall t, is_derive phi t (phi' t).
Variables n d : nat.                      (* units, inputs *)

Definition pre (Wx Wh : mat) (b x h : vec) : vec := fun i => vm d x Wx i + vm n h Wh i + b i.
Definition cell (Wx Wh : mat) (b x h : vec) : vec := fun i => phi (pre Wx Wh b x h i).

(** D W_h^T: the Jacobian of one step. *)
Definition jacobian (Wx Wh : mat) (b x h : vec) : mat :=
  fun i j => phi' (pre Wx Wh b x h i) * Wh j i.

Theorem jacobian_is_diagonal_times_transpose Wx Wh b x h i j : (i < n)%nat ->
  jacobian Wx Wh b x h i j = mm n (diag (fun i => phi' (pre Wx Wh b x h i))) (tr Wh) i j.
Proof. intro Hi. now rewrite diag_mm. Qed.

(** Everything moves at once: the chain rule of one step. *)
Lemma cell_derive (Wx Wh : R -> mat) (b x h : R -> vec) dWx dWh db dx dh t0 i :
  (forall j k, is_derive (fun t => Wx t j k) t0 (dWx j k)) ->
  (forall j k, is_derive (fun t => Wh t j k) t0 (dWh j k)) ->
  (forall k, is_derive (fun t => b t k) t0 (db k)) ->
  (forall j, (j < d)%nat -> is_derive (fun t => x t j) t0 (dx j)) ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => cell (Wx t) (Wh t) (b t) (x t) (h t) i) t0
    (phi' (pre (Wx t0) (Wh t0) (b t0) (x t0) (h t0) i)
     * (vm d dx (Wx t0) i + vm d (x t0) dWx i + (vm n dh (Wh t0) i + vm n (h t0) dWh i) + db i)).
Proof.
  intros HWx HWh Hb Hx Hh. unfold cell.
  apply (D_comp phi (fun t => pre (Wx t) (Wh t) (b t) (x t) (h t) i)); [apply phi_derive|].
  unfold pre. apply D_plus; [apply D_plus|]; auto using vm_derive.
Qed.

(** ** J-1: the derivatives of one step *)

Theorem step_by_state Wx Wh b x (h : R -> vec) dh t0 i : (i < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => cell Wx Wh b x (h t) i) t0 (mv n (jacobian Wx Wh b x (h t0)) dh i).
Proof.
  intros _ Hh. eapply D_eq.
  - apply (cell_derive (fun _ => Wx) (fun _ => Wh) (fun _ => b) (fun _ => x) h
             (fun _ _ => 0) (fun _ _ => 0) (fun _ => 0) (fun _ => 0) dh);
      intros; auto using D_const.
  - cbv beta. rewrite !vm_zero, vm_zero_l. unfold mv, jacobian, vm.
    rewrite !Rplus_0_r, Rplus_0_l, sumR_scal. apply sumR_ext. intros; ring.
Qed.

Theorem step_by_input Wx Wh b (x : R -> vec) h dx t0 i :
  (forall j, (j < d)%nat -> is_derive (fun t => x t j) t0 (dx j)) ->
  is_derive (fun t => cell Wx Wh b (x t) h i) t0
    (mv d (fun i j => phi' (pre Wx Wh b (x t0) h i) * Wx j i) dx i).
Proof.
  intros Hx. eapply D_eq.
  - apply (cell_derive (fun _ => Wx) (fun _ => Wh) (fun _ => b) x (fun _ => h)
             (fun _ _ => 0) (fun _ _ => 0) (fun _ => 0) dx (fun _ => 0));
      intros; auto using D_const.
  - cbv beta. rewrite !vm_zero, vm_zero_l. unfold mv, vm.
    rewrite !Rplus_0_r, sumR_scal. apply sumR_ext. intros; ring.
Qed.

Lemma vm_unit m u a b i : (a < m)%nat ->
  vm m u (fun j k => if andb (j =? a)%nat (k =? b)%nat then 1 else 0) i
  = if (i =? b)%nat then u a else 0.
Proof.
  intro Ha. unfold vm.
  rewrite (sumR_ext _ (fun j => if (j =? a)%nat then (if (i =? b)%nat then u j else 0) else 0)).
  - now rewrite (sumR_pick (fun j => if (i =? b)%nat then u j else 0)).
  - intros j _. destruct (j =? a)%nat, (i =? b)%nat; simpl; ring.
Qed.

(** How one step moves when only parameters move, h and x held fixed. *)
Definition immediate (dWx dWh : mat) (db : vec) (Wx Wh : mat) (b x h : vec) : vec :=
  fun i => phi' (pre Wx Wh b x h i) * (vm d x dWx i + vm n h dWh i + db i).

Let one (a b : nat) : mat := fun j k => if andb (j =? a)%nat (k =? b)%nat then 1 else 0.
Let none : mat := fun _ _ => 0.

Theorem immediate_W_h Wx Wh b x h k j i : (k < n)%nat ->
  is_derive (fun w => cell Wx (set2 Wh k j w) b x h i) (Wh k j)
    (if (i =? j)%nat then phi' (pre Wx Wh b x h i) * h k else 0).
Proof.
  intro Hk. eapply D_eq.
  - apply (cell_derive (fun _ => Wx) (fun w => set2 Wh k j w) (fun _ => b) (fun _ => x) (fun _ => h)
             none (one k j) (fun _ => 0) (fun _ => 0) (fun _ => 0));
      intros; first [apply set2_derive | apply D_const].
  - cbv beta. rewrite set2_id. unfold one, none. rewrite vm_unit, !vm_zero, !vm_zero_l by exact Hk.
    destruct (i =? j)%nat; ring.
Qed.

Theorem immediate_W_x Wx Wh b x h k j i : (k < d)%nat ->
  is_derive (fun w => cell (set2 Wx k j w) Wh b x h i) (Wx k j)
    (if (i =? j)%nat then phi' (pre Wx Wh b x h i) * x k else 0).
Proof.
  intro Hk. eapply D_eq.
  - apply (cell_derive (fun w => set2 Wx k j w) (fun _ => Wh) (fun _ => b) (fun _ => x) (fun _ => h)
             (one k j) none (fun _ => 0) (fun _ => 0) (fun _ => 0));
      intros; first [apply set2_derive | apply D_const].
  - cbv beta. rewrite set2_id. unfold one, none. rewrite vm_unit, !vm_zero, !vm_zero_l by exact Hk.
    destruct (i =? j)%nat; ring.
Qed.

Theorem immediate_b Wx Wh b x h j i :
  is_derive (fun w => cell Wx Wh (set1 b j w) x h i) (b j)
    (if (i =? j)%nat then phi' (pre Wx Wh b x h i) else 0).
Proof.
  eapply D_eq.
  - apply (cell_derive (fun _ => Wx) (fun _ => Wh) (fun w => set1 b j w) (fun _ => x) (fun _ => h)
             none none (fun i => if (i =? j)%nat then 1 else 0) (fun _ => 0) (fun _ => 0));
      intros; first [apply set1_derive | apply D_const].
  - cbv beta. rewrite set1_id. unfold none. rewrite !vm_zero, !vm_zero_l.
    destruct (i =? j)%nat; ring.
Qed.

(** ** J-2: where the transpose belongs *)

(** The recursion of the preactivation, a' = f(a) W + c, has the Jacobian W^T D. *)
Theorem preactivation_jacobian W (c : vec) (a : R -> vec) da t0 i :
  (forall j, (j < n)%nat -> is_derive (fun t => a t j) t0 (da j)) ->
  is_derive (fun t => vm n (fun j => phi (a t j)) W i + c i) t0
    (mv n (fun i j => W j i * phi' (a t0 j)) da i).
Proof.
  intro Ha. eapply D_eq.
  - apply D_plus; [|apply D_const].
    apply (vm_derive n (fun t j => phi (a t j)) (fun _ => W) (fun j => phi' (a t0 j) * da j) none).
    + intros j Hj. apply (D_comp phi (fun t => a t j)); auto.
    + intros; apply D_const.
  - unfold none. rewrite vm_zero, !Rplus_0_r. apply sumR_ext. intros; ring.
Qed.

(** Without the transpose every entry is off by f'(a_i) |W_ji - W_ij|: zero only if W is symmetric
    there, so a symmetric W cannot tell. *)
Theorem missing_transpose_error Wx W b x h i j :
  Rabs (jacobian Wx W b x h i j - phi' (pre Wx W b x h i) * W i j)
  = Rabs (phi' (pre Wx W b x h i)) * Rabs (W j i - W i j).
Proof. unfold jacobian. rewrite <- Rabs_mult. f_equal. ring. Qed.

Corollary missing_transpose_lower Wx W b x h m c i j :
  0 <= m <= Rabs (phi' (pre Wx W b x h i)) -> 0 <= c <= Rabs (W j i - W i j) ->
  m * c <= Rabs (jacobian Wx W b x h i j - phi' (pre Wx W b x h i) * W i j).
Proof. intros Hm Hc. rewrite missing_transpose_error. apply Rmult_le_compat; tauto. Qed.

(** ** Back-propagation through time *)
Section Time.
Variable x : nat -> vec.
Variable h0 : vec.

Fixpoint hidden (Wx Wh : mat) (b : vec) (k : nat) : vec :=
  match k with O => h0 | S k => cell Wx Wh b (x k) (hidden Wx Wh b k) end.

Lemma hidden_is_states (Wx Wh : R -> mat) (b : R -> vec) t k :
  states (fun k t h => cell (Wx t) (Wh t) (b t) (x k) h) t h0 k = hidden (Wx t) (Wh t) (b t) k.
Proof. induction k; simpl; [reflexivity | now rewrite IHk]. Qed.

Variables (Wx Wh : mat) (b : vec).
Let h := hidden Wx Wh b.
(** D_k, and the Jacobian of step k. *)
Definition slope (k : nat) : vec := fun i => phi' (pre Wx Wh b (x k) (h k) i).
Definition J (k : nat) : mat := fun i j => slope k i * Wh j i.

(** C-1: the derivative by the initial state is the product of the step Jacobians. *)
Theorem states_by_initial_state (s : R -> vec) ds t0 k i : s t0 = h0 ->
  (forall i, (i < n)%nat -> is_derive (fun t => s t i) t0 (ds i)) -> (i < n)%nat ->
  is_derive (fun t => states (fun k _ h => cell Wx Wh b (x k) h) t0 (s t) k i) t0
    (mv n (product n J 0 k) ds i).
Proof.
  intros E Hs Hi.
  apply (chain_rule_through_time n (fun k h => cell Wx Wh b (x k) h) J s ds t0 k i); [|exact Hs|exact Hi].
  intros l path dpath Hp Hd m Hm. rewrite Rplus_0_r. rewrite E in Hp.
  rewrite (hidden_is_states (fun _ => Wx) (fun _ => Wh) (fun _ => b)) in Hp.
  eapply D_eq; [apply (step_by_state Wx Wh b (x l) path dpath t0 m Hm Hd)|].
  apply sumR_ext. intros j _. unfold jacobian, J, slope.
  replace (path t0) with (h l); [reflexivity|].
  apply functional_extensionality. intro q. symmetry. apply Hp.
Qed.

Variables (T : nat) (loss : nat -> vec -> R) (delta : nat -> vec).
(** delta_k is the gradient of the loss of step k at h_k. *)
Hypothesis loss_ok : forall k t0 (path : R -> vec) (ds : vec),
  (forall i, path t0 i = h k i) ->
  (forall i, (i < n)%nat -> is_derive (fun t => path t i) t0 (ds i)) ->
  is_derive (fun t => loss k (path t)) t0 (dot n (delta k) ds).
Definition total (Wx Wh : mat) (b : vec) : R :=
  sumR (fun k => loss k (hidden Wx Wh b k)) (S T).

(** The parameters move along any curve. *)
Lemma bptt_along (Wxt Wht : R -> mat) (bt : R -> vec) dWx dWh db t0 lambda :
  Wxt t0 = Wx -> Wht t0 = Wh -> bt t0 = b ->
  (forall j k, is_derive (fun t => Wxt t j k) t0 (dWx j k)) ->
  (forall j k, is_derive (fun t => Wht t j k) t0 (dWh j k)) ->
  (forall k, is_derive (fun t => bt t k) t0 (db k)) ->
  adjoint n J T delta lambda ->
  is_derive (fun t => total (Wxt t) (Wht t) (bt t)) t0
    (sumR (fun k => dot n (lambda (S k)) (immediate dWx dWh db Wx Wh b (x k) (h k))) T).
Proof.
  intros Ex Eh Eb HWx HWh Hb HL.
  set (F := fun k t h => cell (Wxt t) (Wht t) (bt t) (x k) h).
  assert (Est : forall k, states F t0 h0 k = h k).
  { intro k. unfold F. rewrite hidden_is_states. now rewrite Ex, Eh, Eb. }
  apply (D_ext (fun t => sumR (fun k => loss k (states F t h0 k)) (S T))).
  { intro t. apply sumR_ext. intros k _. unfold F. now rewrite hidden_is_states. }
  apply (bptt n F t0 h0 J (fun k => immediate dWx dWh db Wx Wh b (x k) (h k))) with delta; [| |exact HL].
  - intros k path ds Hp Hd i Hi. rewrite Est in Hp. unfold F.
    assert (Ep : path t0 = h k) by (apply functional_extensionality; exact Hp).
    eapply D_eq.
    + apply (cell_derive Wxt Wht bt (fun _ => x k) path dWx dWh db (fun _ => 0) ds);
        intros; auto using D_const.
    + rewrite Ex, Eh, Eb, Ep, vm_zero_l.
      unfold immediate, mv, J, slope.
      replace (vm n ds Wh i) with (sumR (fun j => ds j * Wh j i) n) by reflexivity.
      transitivity (phi' (pre Wx Wh b (x k) (h k) i) * sumR (fun j => ds j * Wh j i) n
        + phi' (pre Wx Wh b (x k) (h k) i) * (vm d (x k) dWx i + vm n (h k) dWh i + db i)); [ring|].
      f_equal. rewrite sumR_scal. apply sumR_ext. intros; ring.
  - intros k path ds Hp Hd. rewrite Est in Hp. now apply loss_ok.
Qed.

Lemma dot_pick (l g : vec) j c : (j < n)%nat ->
  dot n l (fun i => g i * (if (i =? j)%nat then c else 0)) = l j * g j * c.
Proof.
  intro Hj. unfold dot.
  rewrite (sumR_ext _ (fun i => if (i =? j)%nat then l i * g i * c else 0)).
  - now rewrite (sumR_pick (fun i => l i * g i * c)).
  - intros i _. destruct (i =? j)%nat; ring.
Qed.

(** C-5: dL/dW_h = sum_k h_k^T (lambda_(k+1) o f'(a_k)), lambda the adjoint recursion. *)
Theorem bptt_W_h lambda i j : (i < n)%nat -> (j < n)%nat -> adjoint n J T delta lambda ->
  is_derive (fun w => total Wx (set2 Wh i j w) b) (Wh i j)
    (sumR (fun k => h k i * (lambda (S k) j * slope k j)) T).
Proof.
  intros Hi Hj HL. eapply D_eq.
  - apply (bptt_along (fun _ => Wx) (set2 Wh i j) (fun _ => b) none (one i j) (fun _ => 0) _ lambda);
      auto using set2_id; intros; first [apply set2_derive | apply D_const].
  - apply sumR_ext. intros k _. unfold immediate, none, one.
    rewrite (dot_ext _ _ _ (fun q => slope k q * (if (q =? j)%nat then h k i else 0))).
    + rewrite dot_pick by exact Hj. ring.
    + intros q _. rewrite vm_zero, vm_unit by exact Hi. unfold slope. ring.
Qed.

Theorem bptt_W_x lambda i j : (i < d)%nat -> (j < n)%nat -> adjoint n J T delta lambda ->
  is_derive (fun w => total (set2 Wx i j w) Wh b) (Wx i j)
    (sumR (fun k => x k i * (lambda (S k) j * slope k j)) T).
Proof.
  intros Hi Hj HL. eapply D_eq.
  - apply (bptt_along (set2 Wx i j) (fun _ => Wh) (fun _ => b) (one i j) none (fun _ => 0) _ lambda);
      auto using set2_id; intros; first [apply set2_derive | apply D_const].
  - apply sumR_ext. intros k _. unfold immediate, none, one.
    rewrite (dot_ext _ _ _ (fun q => slope k q * (if (q =? j)%nat then x k i else 0))).
    + rewrite dot_pick by exact Hj. ring.
    + intros q _. rewrite vm_zero, vm_unit by exact Hi. unfold slope. ring.
Qed.

Theorem bptt_b lambda j : (j < n)%nat -> adjoint n J T delta lambda ->
  is_derive (fun w => total Wx Wh (set1 b j w)) (b j)
    (sumR (fun k => lambda (S k) j * slope k j) T).
Proof.
  intros Hj HL. eapply D_eq.
  - apply (bptt_along (fun _ => Wx) (fun _ => Wh) (set1 b j) none none
             (fun i => if (i =? j)%nat then 1 else 0) _ lambda);
      auto using set1_id; intros; first [apply set1_derive | apply D_const].
  - apply sumR_ext. intros k _. unfold immediate, none.
    rewrite (dot_ext _ _ _ (fun q => slope k q * (if (q =? j)%nat then 1 else 0))).
    + rewrite dot_pick by exact Hj. ring.
    + intros q _. rewrite !vm_zero. unfold slope. destruct (q =? j)%nat; ring.
Qed.
End Time.
End Network.
