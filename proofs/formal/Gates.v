(** * The step Jacobians of the GRU and the LSTM, gates depending on the state.

    Serves J-3, J-4, J-5, J-6, J-7, C-1.

    Vectors are rows; what x_t and the biases contribute to a gate is collected in a vector [a..].
    Each theorem says how the step moves along any differentiable path of states: by the closed
    form times the motion of the state. *)
From Coq Require Import Reals Lra Lia Arith FunctionalExtensionality.
From Coquelicot Require Import Coquelicot.
From TG Require Import Toolbox Activations Recurrence Network.
Open Scope R_scope.

Definition dsigmoid (s : R) : R := s * (1 - s).
Definition dtanh (y : R) : R := 1 - y ^ 2.
Definition pregate (n : nat) (a : vec) (W : mat) (h : vec) : vec := fun i => a i + vm n h W i.

(** The Jacobian of a pregate is W^T; a gate's has its slope in front. *)
Lemma vm_is_mv n dh W i : vm n dh W i = mv n (tr W) dh i.
Proof. apply sumR_ext. intros; unfold tr; ring. Qed.

Lemma D_pregate n a W (h : R -> vec) dh t0 i :
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => pregate n a W (h t) i) t0 (mv n (tr W) dh i).
Proof.
  intro H. eapply D_eq.
  - apply D_plus; [apply D_const|].
    apply (vm_derive n h (fun _ => W) dh (fun _ _ => 0)); [exact H | intros; apply D_const].
  - rewrite vm_zero, vm_is_mv. ring.
Qed.

Lemma D_sigmoid_of (u : R -> R) du t0 : is_derive u t0 du ->
  is_derive (fun t => sigmoid (u t)) t0 (dsigmoid (sigmoid (u t0)) * du).
Proof. intro H. apply (D_comp sigmoid u); [apply is_derive_sigmoid | exact H]. Qed.

Lemma D_tanh_of (u : R -> R) du t0 : is_derive u t0 du ->
  is_derive (fun t => tanh (u t)) t0 (dtanh (tanh (u t0)) * du).
Proof. intro H. apply (D_comp tanh u); [apply is_derive_tanh | exact H]. Qed.

(** ** GRU *)
Section GRU.
Variable n : nat.
Variables (az ar ac bh : vec) (Wz Wr Wc : mat).

Definition update (h : vec) : vec := fun i => sigmoid (pregate n az Wz h i).
Definition reset (h : vec) : vec := fun i => sigmoid (pregate n ar Wr h i).

(** The candidate's preactivation, in three variants. *)
Definition pre_minimal (h : vec) : vec := pregate n ac Wc h.
Definition pre_before (h : vec) : vec := pregate n ac Wc (fun j => reset h j * h j).
Definition pre_after (h : vec) : vec := fun i => ac i + reset h i * pregate n bh Wc h i.

Definition gru (pre_c : vec -> vec) (h : vec) : vec :=
  fun i => update h i * tanh (pre_c h i) + (1 - update h i) * h i.

(** diag(1 - z) + diag(z (1 - c^2)) K + diag((c - h) z (1 - z)) W_z^T *)
Definition gru_jacobian (pre_c : vec -> vec) (K : mat) (h : vec) : mat := fun i j =>
  (1 - update h i) * idm i j
  + update h i * dtanh (tanh (pre_c h i)) * K i j
  + (tanh (pre_c h i) - h i) * dsigmoid (update h i) * Wz j i.

Lemma gru_derive pre_c K (h : R -> vec) dh t0 i : (i < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => pre_c (h t) i) t0 (mv n K dh i) ->
  is_derive (fun t => gru pre_c (h t) i) t0 (mv n (gru_jacobian pre_c K (h t0)) dh i).
Proof.
  intros Hi Hh Hc. unfold gru. eapply D_eq.
  - apply D_plus; apply D_mult.
    + apply D_sigmoid_of, D_pregate, Hh.
    + apply D_tanh_of, Hc.
    + apply D_minus; [apply D_const | apply D_sigmoid_of, D_pregate, Hh].
    + now apply Hh.
  - cbv beta. fold (update (h t0) i). set (z := update (h t0) i).
    transitivity ((1 - z) * mv n idm dh i + z * dtanh (tanh (pre_c (h t0) i)) * mv n K dh i
      + (tanh (pre_c (h t0) i) - h t0 i) * dsigmoid z * mv n (tr Wz) dh i).
    + rewrite idm_mv by exact Hi. ring.
    + unfold mv, gru_jacobian, tr. fold z. rewrite !sumR_scal, <- !sumR_plus.
      apply sumR_ext. intros; ring.
Qed.

(** J-3: without reset gate, K = W_c^T. *)
Theorem gru_minimal_jacobian (h : R -> vec) dh t0 i : (i < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => gru pre_minimal (h t) i) t0
    (mv n (gru_jacobian pre_minimal (tr Wc) (h t0)) dh i).
Proof. intros Hi Hh. apply gru_derive; [exact Hi | exact Hh | now apply D_pregate]. Qed.

(** J-4, the reset gate before the product (Cho et al. 2014):
    K = W_c^T (diag r + diag(h r (1 - r)) W_r^T). *)
Definition K_before (h : vec) : mat := mm n (tr Wc)
  (fun k j => reset h k * idm k j + h k * dsigmoid (reset h k) * Wr j k).

Theorem gru_before_jacobian (h : R -> vec) dh t0 i : (i < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => gru pre_before (h t) i) t0
    (mv n (gru_jacobian pre_before (K_before (h t0)) (h t0)) dh i).
Proof.
  intros Hi Hh. apply gru_derive; [exact Hi | exact Hh|].
  eapply D_eq.
  - apply (D_pregate n ac Wc (fun t j => reset (h t) j * h t j)). intros j Hj.
    apply D_mult; [apply D_sigmoid_of, D_pregate, Hh | now apply Hh].
  - unfold K_before. rewrite mv_mm. apply mv_ext. intros k Hk. fold (reset (h t0) k).
    set (r := reset (h t0) k).
    transitivity (r * mv n idm dh k + h t0 k * dsigmoid r * mv n (tr Wr) dh k).
    + rewrite idm_mv by exact Hk. ring.
    + unfold mv, tr. fold r. rewrite !sumR_scal, <- sumR_plus. apply sumR_ext. intros; ring.
Qed.

(** J-4, the reset gate after the product (cuDNN, PyTorch):
    K = diag(r) W_c^T + diag(u r (1 - r)) W_r^T, u = h W_c + b_h. *)
Definition K_after (h : vec) : mat := fun i j =>
  reset h i * Wc j i + pregate n bh Wc h i * dsigmoid (reset h i) * Wr j i.

Theorem gru_after_jacobian (h : R -> vec) dh t0 i : (i < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  is_derive (fun t => gru pre_after (h t) i) t0
    (mv n (gru_jacobian pre_after (K_after (h t0)) (h t0)) dh i).
Proof.
  intros Hi Hh. apply gru_derive; [exact Hi | exact Hh|].
  eapply D_eq.
  - apply D_plus; [apply D_const|].
    apply D_mult; [apply D_sigmoid_of, D_pregate, Hh | apply D_pregate, Hh].
  - cbv beta. fold (reset (h t0) i). unfold K_after.
    transitivity (reset (h t0) i * mv n (tr Wc) dh i
      + pregate n bh Wc (h t0) i * dsigmoid (reset (h t0) i) * mv n (tr Wr) dh i); [ring|].
    unfold mv, tr. rewrite !sumR_scal, <- sumR_plus. apply sumR_ext. intros; ring.
Qed.

(** C-1: over k steps (the inputs held, for brevity of the statement) the Jacobians multiply. *)
Theorem gru_chain (s : R -> vec) ds t0 k i :
  let states := states (fun _ _ h => gru pre_before h) t0 (s t0) in
  (forall i, (i < n)%nat -> is_derive (fun t => s t i) t0 (ds i)) -> (i < n)%nat ->
  is_derive (fun t => Recurrence.states (fun _ _ h => gru pre_before h) t0 (s t) k i) t0
    (mv n (product n (fun k => gru_jacobian pre_before (K_before (states k)) (states k)) 0 k) ds i).
Proof.
  intros st Hs Hi.
  apply (chain_rule_through_time n (fun _ h => gru pre_before h)); [|exact Hs | exact Hi].
  intros l path dp Hp Hd j Hj. rewrite Rplus_0_r. eapply D_eq; [exact (gru_before_jacobian path dp t0 j Hj Hd)|].
  replace (path t0) with (st l); [reflexivity|].
  apply functional_extensionality. intro q. symmetry. apply Hp.
Qed.
End GRU.

(** ** LSTM, with or without peepholes *)

(** Blocks of a state (h, c) of 2n entries. *)
Definition upper (s : vec) : vec := s.
Definition lower (n : nat) (s : vec) : vec := fun i => s (n + i)%nat.
Definition stack (n : nat) (u v : vec) : vec := fun i => if (i <? n)%nat then u i else v (i - n)%nat.
Definition block (n : nat) (A B C D : mat) : mat := fun i j =>
  if (i <? n)%nat then (if (j <? n)%nat then A i j else B i (j - n)%nat)
  else (if (j <? n)%nat then C (i - n)%nat j else D (i - n)%nat (j - n)%nat).

Lemma block_mv n A B C D v i : mv (n + n) (block n A B C D) v i
  = stack n (fun i => mv n A v i + mv n B (lower n v) i)
            (fun i => mv n C v i + mv n D (lower n v) i) i.
Proof.
  unfold mv at 1. rewrite sumR_app. unfold stack, block, lower.
  destruct (i <? n)%nat; f_equal; apply sumR_ext; intros j Hj;
    destruct (Nat.ltb_spec j n) as [H1|H1]; destruct (Nat.ltb_spec (n + j) n) as [H2|H2]; try lia;
    now rewrite ?(Nat.add_comm n j), ?Nat.add_sub.
Qed.

Section LSTM.
Variable n : nat.
Variables (ai af ag ao : vec) (Wi Wf Wg Wo Vi Vf Vo : mat).

(** i and f read c_(t-1), o reads c_t, as in Gers & Schmidhuber; Vi = Vf = Vo = 0 is no peephole. *)
Definition gate_i (h c : vec) : vec := fun k => sigmoid (pregate n ai Wi h k + vm n c Vi k).
Definition gate_f (h c : vec) : vec := fun k => sigmoid (pregate n af Wf h k + vm n c Vf k).
Definition gate_g (h : vec) : vec := fun k => tanh (pregate n ag Wg h k).
Definition memory (h c : vec) : vec :=
  fun k => gate_f h c k * c k + gate_i h c k * gate_g h k.
Definition gate_o (h c' : vec) : vec := fun k => sigmoid (pregate n ao Wo h k + vm n c' Vo k).
Definition output (h c' : vec) : vec := fun k => gate_o h c' k * tanh (c' k).
Definition lstm (s : vec) : vec :=
  let h := upper s in let c := lower n s in
  let c' := memory h c in stack n (output h c') c'.

(** The four blocks. *)
Definition block_F (h c : vec) : mat := fun k j =>
  gate_f h c k * idm k j + c k * dsigmoid (gate_f h c k) * Vf j k
  + gate_g h k * dsigmoid (gate_i h c k) * Vi j k.
Definition block_A (h c : vec) : mat := fun k j =>
  c k * dsigmoid (gate_f h c k) * Wf j k + gate_g h k * dsigmoid (gate_i h c k) * Wi j k
  + gate_i h c k * dtanh (gate_g h k) * Wg j k.
Definition block_E (h c' : vec) : mat := fun k j =>
  gate_o h c' k * dtanh (tanh (c' k)) * idm k j + tanh (c' k) * dsigmoid (gate_o h c' k) * Vo j k.
Definition block_G (h c' : vec) : mat := fun k j =>
  tanh (c' k) * dsigmoid (gate_o h c' k) * Wo j k.
Definition zero : mat := fun _ _ => 0.

(** [[I, E], [0, I]] [[G, 0], [A, F]]: first the memory, then the output. *)
Definition lstm_jacobian (s : vec) : mat :=
  let h := upper s in let c := lower n s in let c' := memory h c in
  mm (n + n) (block n idm (block_E h c') zero idm)
             (block n (block_G h c') zero (block_A h c) (block_F h c)).

Lemma D_gate a W V (h c : R -> vec) dh dc t0 k :
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  (forall j, (j < n)%nat -> is_derive (fun t => c t j) t0 (dc j)) ->
  is_derive (fun t => pregate n a W (h t) k + vm n (c t) V k) t0
            (mv n (tr W) dh k + mv n (tr V) dc k).
Proof.
  intros Hh Hc. apply D_plus; [now apply D_pregate|].
  apply (D_ext (fun t => pregate n (fun _ => 0) V (c t) k)).
  - intro t. unfold pregate. ring.
  - now apply D_pregate.
Qed.

Lemma memory_derive (h c : R -> vec) dh dc t0 k : (k < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  (forall j, (j < n)%nat -> is_derive (fun t => c t j) t0 (dc j)) ->
  is_derive (fun t => memory (h t) (c t) k) t0
    (mv n (block_A (h t0) (c t0)) dh k + mv n (block_F (h t0) (c t0)) dc k).
Proof.
  intros Hk Hh Hc. unfold memory. eapply D_eq.
  - apply D_plus; apply D_mult.
    + apply D_sigmoid_of, D_gate; eassumption.
    + now apply Hc.
    + apply D_sigmoid_of, D_gate; eassumption.
    + apply D_tanh_of, D_pregate, Hh.
  - cbv beta. fold (gate_f (h t0) (c t0) k) (gate_i (h t0) (c t0) k) (gate_g (h t0) k).
    set (f := gate_f (h t0) (c t0) k). set (i := gate_i (h t0) (c t0) k). set (g := gate_g (h t0) k).
    transitivity ((c t0 k * dsigmoid f * mv n (tr Wf) dh k + g * dsigmoid i * mv n (tr Wi) dh k
                   + i * dtanh g * mv n (tr Wg) dh k)
      + (f * mv n idm dc k + c t0 k * dsigmoid f * mv n (tr Vf) dc k
         + g * dsigmoid i * mv n (tr Vi) dc k)).
    + rewrite idm_mv by exact Hk. ring.
    + unfold mv, block_A, block_F, tr. fold f i g. rewrite !sumR_scal, <- !sumR_plus.
      apply sumR_ext. intros; ring.
Qed.

Lemma output_derive (h c' : R -> vec) dh dc' t0 k : (k < n)%nat ->
  (forall j, (j < n)%nat -> is_derive (fun t => h t j) t0 (dh j)) ->
  (forall j, (j < n)%nat -> is_derive (fun t => c' t j) t0 (dc' j)) ->
  is_derive (fun t => output (h t) (c' t) k) t0
    (mv n (block_G (h t0) (c' t0)) dh k + mv n (block_E (h t0) (c' t0)) dc' k).
Proof.
  intros Hk Hh Hc. unfold output. eapply D_eq.
  - apply D_mult; [apply D_sigmoid_of, D_gate; eassumption | apply D_tanh_of; now apply Hc].
  - cbv beta. fold (gate_o (h t0) (c' t0) k). set (o := gate_o (h t0) (c' t0) k).
    set (y := tanh (c' t0 k)).
    transitivity (y * dsigmoid o * mv n (tr Wo) dh k
      + (o * dtanh y * mv n idm dc' k + y * dsigmoid o * mv n (tr Vo) dc' k)).
    + rewrite idm_mv by exact Hk. ring.
    + unfold mv, block_G, block_E, tr. fold o y. rewrite !sumR_scal, <- !sumR_plus.
      apply sumR_ext. intros; ring.
Qed.

(** J-6, and J-5 when there are no peepholes. *)
Theorem lstm_jacobian_factors (s : R -> vec) ds t0 i : (i < n + n)%nat ->
  (forall j, (j < n + n)%nat -> is_derive (fun t => s t j) t0 (ds j)) ->
  is_derive (fun t => lstm (s t) i) t0 (mv (n + n) (lstm_jacobian (s t0)) ds i).
Proof.
  intros Hi Hs.
  assert (Hh : forall j, (j < n)%nat -> is_derive (fun t => upper (s t) j) t0 (ds j))
    by (intros; apply Hs; lia).
  assert (Hc : forall j, (j < n)%nat -> is_derive (fun t => lower n (s t) j) t0 (lower n ds j))
    by (intros; apply Hs; lia).
  set (h := fun t => upper (s t)) in *. set (c := fun t => lower n (s t)) in *.
  set (c' := fun t => memory (h t) (c t)).
  set (dc' := fun k => mv n (block_A (h t0) (c t0)) ds k + mv n (block_F (h t0) (c t0)) (lower n ds) k).
  assert (Hc' : forall j, (j < n)%nat -> is_derive (fun t => c' t j) t0 (dc' j))
    by (intros; now apply memory_derive).
  unfold lstm_jacobian. rewrite mv_mm, block_mv. fold (h t0) (c t0) (c' t0).
  unfold lstm, stack at 1 2. fold (h t0) (c t0).
  destruct (Nat.ltb_spec i n) as [Hn|Hn].
  - eapply D_eq; [apply (output_derive h c' ds dc'); assumption|].
    rewrite idm_mv, block_mv by exact Hn. unfold stack. destruct (Nat.ltb_spec i n); [|lia].
    f_equal.
    + rewrite <- (Rplus_0_r (mv n (block_G _ _) ds i)) at 1. f_equal. symmetry.
      apply sumR_zero. intros; unfold zero; ring.
    + apply mv_ext. intros j Hj. unfold lower at 1. rewrite block_mv. unfold stack.
      destruct (Nat.ltb_spec (n + j) n); [lia|]. now rewrite (Nat.add_comm n j), Nat.add_sub.
  - eapply D_eq; [apply Hc'; lia|].
    rewrite idm_mv by lia. unfold zero at 1.
    replace (mv n (fun _ _ => 0) _ (i - n)%nat) with 0
      by (symmetry; apply sumR_zero; intros; ring).
    rewrite Rplus_0_l. unfold lower at 1. rewrite block_mv. unfold stack.
    destruct (Nat.ltb_spec (n + (i - n)) n); [lia|].
    now replace (n + (i - n) - n)%nat with (i - n)%nat by lia.
Qed.

(** C-1: the Jacobians of the whole state (h, c) multiply. *)
Theorem lstm_chain (s : R -> vec) ds t0 k i :
  let states := states (fun _ _ s => lstm s) t0 (s t0) in
  (forall i, (i < n + n)%nat -> is_derive (fun t => s t i) t0 (ds i)) -> (i < n + n)%nat ->
  is_derive (fun t => Recurrence.states (fun _ _ s => lstm s) t0 (s t) k i) t0
    (mv (n + n) (product (n + n) (fun k => lstm_jacobian (states k)) 0 k) ds i).
Proof.
  intros st Hs Hi.
  apply (chain_rule_through_time (n + n) (fun _ s => lstm s)); [|exact Hs | exact Hi].
  intros l path dp Hp Hd j Hj. rewrite Rplus_0_r. eapply D_eq; [exact (lstm_jacobian_factors path dp t0 j Hj Hd)|].
  replace (path t0) with (st l); [reflexivity|].
  apply functional_extensionality. intro q. symmetry. apply Hp.
Qed.
End LSTM.

(** J-5: without peepholes the memory block is diag f, and E is diagonal. *)
Theorem no_peephole_blocks n ai af ag ao Wi Wf Wg Wo h c k j :
  block_F n ai af ag Wi Wf Wg zero zero h c k j
    = diag (gate_f n af Wf zero h c) k j /\
  block_E n ao Wo zero h c k j
    = diag (fun k => gate_o n ao Wo zero h c k * dtanh (tanh (c k))) k j.
Proof.
  unfold block_F, block_E, diag, idm, zero. split; destruct (k =? j)%nat; ring.
Qed.

(** J-7, for one unit: the determinant of the step is that of the diagonal blocks. *)
Theorem lstm_determinant_one_unit ai af ag ao Wi Wf Wg Wo Vi Vf Vo s :
  let J := lstm_jacobian 1 ai af ag ao Wi Wf Wg Wo Vi Vf Vo s in
  let h := upper s in let c := lower 1 s in
  let c' := memory 1 ai af ag Wi Wf Wg Vi Vf h c in
  J 0%nat 0%nat * J 1%nat 1%nat - J 0%nat 1%nat * J 1%nat 0%nat
  = block_F 1 ai af ag Wi Wf Wg Vi Vf h c O O * block_G 1 ao Wo Vo h c' O O.
Proof.
  cbv zeta. unfold lstm_jacobian, mm, block. cbn [sumR Nat.add Nat.ltb Nat.leb Nat.sub].
  unfold zero, idm. cbn [Nat.eqb]. ring.
Qed.
