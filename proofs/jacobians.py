"""Step Jacobians: how one step of a recurrent cell moves its state, in closed form.

Three roads meet in every theorem: the tape's derivative of `cell.step`, the closed form of
`cell.jacobian`, and the formula written out with explicit sums over indices and the textbook
derivatives 1 − y² and y(1 − y). The LSTM's Jacobian has a road of its own, its factorisation into
"first the memory, then the output". Rows are examples: h_t = f(x_t W_x + h_{t−1} W_h + b), and
J[i, j] = ∂h_{t,i}/∂h_{t−1,j}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.activations import ACTIVATIONS
from tinygrad_rnn.autodiff import jacobian, vjp
from tinygrad_rnn.cells import GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.cells.cell import Params, State, rows
from tinygrad_rnn.recurrent import unroll

from . import one_step
from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .norms import Array, largest
from .one_step import apart, grid, meet
from .strategies import RNN_ACTIVATIONS, Draw, dyadics, gated, matrices, rnns, sizes, states

# ---- the plain cell -----------------------------------------------------------------------------


@st.composite
def _trajectories(draw: Draw, system: str) -> Case:
    """Draw an RNN, a short sequence, and cotangents of one state.

    For balls a unit cotangent, as good by linearity: a sum that cancels to 0 is undecidable there.
    """
    case: Case = draw(rnns(system, T=2, N=2, D=2, H=2))
    d_h = draw(dyadics(case["state"][0].shape))
    unit = np.arange(d_h.size).reshape(d_h.shape) == draw(st.integers(0, d_h.size - 1))
    return case | {"d_h": unit * 1.0 if system == "ball" else d_h}


def _stale(a: Array) -> Array:
    return np.concatenate([a[:1], a[:-1]])


@theorem(
    "J-1",
    "The derivatives of one step of an RNN",
    statement=r"Let $h_t=f(a_t)$, $a_t=x_tW_x+h_{t-1}W_h+b$, $f$ differentiable at every $a_{t,i}$ "
    r"(at a kink: with the value the library takes for $f'$), $D_t=\mathrm{diag}f'(a_t)$. Then "
    r"$\partial h_t/\partial h_{t-1}=D_tW_h^\top$, $\partial h_t/\partial x_t=D_tW_x^\top$, "
    r"$\partial^+h_{t,i}/\partial W_{h,kj}=\delta_{ij}f'(a_{t,i})h_{t-1,k}$, "
    r"$\partial^+h_{t,i}/\partial W_{x,kj}=\delta_{ij}f'(a_{t,i})x_{t,k}$, "
    r"$\partial^+h_{t,i}/\partial b_j=\delta_{ij}f'(a_{t,i})$. "
    r"The preactivation is that of step $t$ itself: of $x_t$ and $h_{t-1}$.",
    hypotheses=("row vectors; J has shape (out, in)",),
    proof="a_{t,i} = Σ_k x_{t,k} W_x[k,i] + Σ_k h_{t−1,k} W_h[k,i] + b_i depends on h_{t−1,j} with "
    "the coefficient W_h[j,i], on x_{t,j} with W_x[j,i], on W_h[k,j] with δ_ij h_{t−1,k}, on "
    "W_x[k,j] with δ_ij x_{t,k}, on b_j with δ_ij. The chain rule multiplies each by f'(a_{t,i}).",
    sources=("S0-9", "S1-28", "S2-1", "S2-5", "Pascanu, Mikolov & Bengio 2013"),
    cases=_trajectories,
    systems=("rational", "field", "ball"),
    sensitivity=(
        Mistake(
            "S1-28: f for f', the prime missing",
            "tinygrad_rnn.cells.rnn.RNNCell.jacobian",
            lambda _: lambda cell, p, x_t, state: rows(cell.step(p, x_t, state)[0], p["W_h"].T),
        ),
        Mistake(
            "S2-5: the free index i, here i = k instead of k + 1",
            "tinygrad_rnn.proofs.one_step.in_closed_form",
            lambda right: (
                lambda cell, p, x, before: right(cell, p, _stale(x), tuple(map(_stale, before)))
            ),
        ),
        Mistake(
            "the index one too late: f' at h_t",
            "tinygrad_rnn.cells.rnn.RNNCell.jacobian",
            lambda right: lambda cell, p, x_t, h: right(cell, p, x_t, cell.step(p, x_t, h)),
        ),
        Mistake(
            "∂⁺ with h_t for h_{t−1}",
            "tinygrad_rnn.cells.rnn.RNNCell.local",
            lambda right: (
                lambda cell, p, x_t, h, d_h: {
                    **right(cell, p, x_t, h, d_h),
                    "W_h": right(cell, p, x_t, cell.step(p, x_t, h), d_h)["W_h"],
                }
            ),
        ),
    ),
)
def rnn(cell: RNNCell, params: Params, x: Array, state: State, d_h: Array) -> Iterator[Comparison]:
    """All derivatives of every step of a trajectory; ∂⁺ as its product with a cotangent."""
    before = tuple(s[:-1] for s in unroll(cell, params, x, state).states)
    closed = one_step.in_closed_form(cell, params, x, before)
    for x_t, h, J in zip(x, *before, closed, strict=True):
        yield from _rnn_step(cell, params, x_t, h, J, d_h)


def _rnn_step(
    cell: RNNCell, params: Params, x_t: Array, h: Array, J: Array, d_h: Array
) -> Iterator[Comparison]:
    W_x, (N, H) = params["W_x"], h.shape
    slopes = one_step.slopes(cell.activation, params, x_t, h)
    by_h = [one_step.outside(s, params["W_h"]) for s in slopes]
    yield from meet(cell, params, x_t, (h,), J, by_h)

    def step(params: Params, x_t: Array) -> Array:
        return cell.step(params, x_t, (h,))[0]

    by_x = [one_step.outside(s, W_x) for s in slopes]
    yield equal("∂h/∂x = D W_xᵀ", jacobian(step, argnums=1)(params, x_t), apart(by_x))

    d = d_h * slopes
    formula = {
        "W_x": grid(cell.D, H, lambda k, j: sum(x_t[n, k] * d[n, j] for n in range(N))),
        "W_h": grid(H, H, lambda k, j: sum(h[n, k] * d[n, j] for n in range(N))),
        "b": sum(d[n] for n in range(N)),
        "x": grid(N, cell.D, lambda n, k: sum(d[n, j] * W_x[k, j] for j in range(H))),
    }
    closed = cell.local(params, x_t, (h,), (d_h,))
    d_params, d_x = vjp(step, params, x_t)[1](d_h)
    for name, taped in {**d_params, "x": d_x}.items():
        yield equal(f"∂⁺{name}: the tape = the closed form", taped, closed[name])
        yield equal(f"∂⁺{name}: the closed form = the formula", closed[name], formula[name])


@st.composite
def _lopsided(draw: Draw, system: str) -> Case:
    """Draw one step with a recurrent matrix that is not symmetric, by at least 1/16."""
    n = draw(sizes(N=2, D=2))
    H = draw(st.integers(2, 3))
    cell = RNNCell(n["D"], H, draw(st.sampled_from(RNN_ACTIVATIONS[system])))
    family, W = draw(matrices(H))
    if abs(W - W.T).max() < 1 / 16:
        W = W + np.triu(np.full((H, H), 1 / 8), 1)
    gain = draw(st.sampled_from((0.25, 1.0, 8.0)))
    params = {"W_x": draw(dyadics((n["D"], H))) * gain, "W_h": W, "b": draw(dyadics((H,)))}
    x_t, state = draw(dyadics((n["N"], n["D"]))), draw(states(cell, n["N"]))
    return {
        "cell": cell, "params": params, "x_t": x_t, "state": state, "ordered": system != "field",
        "family": family,
    }  # fmt: skip


def _symmetric() -> Case:
    params = {"W_x": np.zeros((1, 2)), "W_h": np.array([[0.5, 1.0], [1.0, 0.0]]), "b": np.zeros(2)}
    return {
        "cell": RNNCell(1, 2), "params": params, "x_t": np.zeros((1, 1)),
        "state": (np.zeros((1, 2)),), "ordered": True,
    }  # fmt: skip


@theorem(
    "J-2",
    "Where the transpose belongs, and why a symmetric W cannot tell",
    statement=r"With row vectors, $h_t=f(h_{t-1}W+\dots)$ has $\partial h_t/\partial h_{t-1}="
    r"D_tW^\top$, and the recursion of the preactivation, $a_t=f(a_{t-1})W+\dots$, has "
    r"$\partial a_t/\partial a_{t-1}=W^\top D_{t-1}$ (in columns, $\mathbf x_t=W\sigma(\mathbf "
    r"x_{t-1})+\dots$: $W\,\mathrm{diag}\,\sigma'(\mathbf x_{t-1})$, where equation (5) of Pascanu "
    r"et al. has $W^\top$). If $\max|W-W^\top|\ge\frac1{16}$, the formula without transpose is off "
    r"by $\max|D_tW^\top-D_tW|\ge\frac1{32}\min f'(a_t)$; for $W=W^\top$ it is right by accident.",
    hypotheses=("W is not symmetric: max|W − Wᵀ| ≥ 1/16",),
    proof="The first two are J-1 and the chain rule: a_{t,i} = Σ_j f(a_{t−1,j}) W_ji + … has "
    "the derivative W_ji f'(a_{t−1,j}) by a_{t−1,j}. Entry (i, j) of D Wᵀ − D W is f'(a_i)(W_ji − "
    "W_ij), in modulus at least min f' times the largest |W_ji − W_ij|, for that pair.",
    sources=("S0-9", "Pascanu, Mikolov & Bengio 2013"),
    cases=_lopsided,
    systems=("field", "ball"),
    necessity=(Necessity("W is not symmetric: max|W − Wᵀ| ≥ 1/16", _symmetric, system="ball"),),
    sensitivity=(
        Mistake(
            "the transpose missing",
            "tinygrad_rnn.cells.rnn.rows",
            lambda right: lambda v, W: right(v, W.T),
        ),
        Mistake(
            "Wᵀ D for D Wᵀ",
            "tinygrad_rnn.cells.rnn.rows",
            lambda _: lambda v, W: v[:, None, :] * W,
        ),
    ),
)
def transpose(
    cell: RNNCell, params: Params, x_t: Array, state: State, ordered: bool
) -> Iterator[Comparison]:
    """Both places of the nonlinearity; and the error made without the transpose."""
    (h,), W = state, params["W_h"]
    slopes = one_step.slopes(cell.activation, params, x_t, h)
    (J,) = one_step.in_closed_form(cell, params, x_t[None], (h[None],))
    yield from meet(cell, params, x_t, state, J, [one_step.outside(s, W) for s in slopes])

    f = ACTIVATIONS[cell.activation].value
    taped = jacobian(lambda a: f(a) @ W + x_t @ params["W_x"] + params["b"])(h)
    before = one_step.textbook(cell.activation, h)
    formula = [one_step.inside(s, W) for s in before]
    yield equal("∂a_t/∂a_{t−1} = Wᵀ D_{t−1}", taped, apart(formula))
    if ordered:
        for J_n, s in zip(J, slopes, strict=True):
            error = abs(J_n - s[:, None] * W)
            yield at_most("the trap shows", -largest(-s), 32 * largest(error))


# ---- the GRU ------------------------------------------------------------------------------------


def _one_step(*kinds: str) -> Callable[[str], st.SearchStrategy[Case]]:
    """Draw one step; D = 1, as x_t only shifts the preactivations."""

    def cases(system: str) -> st.SearchStrategy[Case]:
        return gated(*kinds, T=1, N=2, D=1, H=2).map(
            lambda case: {**{k: v for k, v in case.items() if k != "x"}, "x_t": case["x"][0]}
        )

    return cases


def _gru_roads(
    variant: str, cell: GRUCell, params: Params, x_t: Array, state: State
) -> Iterator[Comparison]:
    """Let the roads meet; ``variant`` is the form of the GRU whose formula is written out."""
    written = [one_step.gru_jacobian(variant, params, *at) for at in zip(x_t, *state, strict=True)]
    yield from meet(cell, params, x_t, state, cell.jacobian(params, x_t, state), written)


GRU_MISTAKES = (
    Mistake("the candidate's prime missing", "tinygrad_rnn.cells.gru.d_tanh", lambda _: np.tanh),
    Mistake(
        "gates held constant", "tinygrad_rnn.cells.gru.d_sigmoid", lambda _: lambda a: 0 * a
    ),
    Mistake(
        "the transposes missing",
        "tinygrad_rnn.cells.gru.rows",
        lambda right: lambda v, W: right(v, np.swapaxes(W, -1, -2)),
    ),
)  # fmt: skip


def _halves(cell: Any) -> Callable[[], Case]:
    """Store the step of ``cell`` with every parameter 1/2, and everything else 1."""
    params = {name: np.full(shape, 0.5) for name, shape in cell.shapes.items()}
    state = tuple(np.ones((1, cell.H)) for _ in cell.state_names)
    return lambda: {"cell": cell, "params": params, "x_t": np.ones((1, cell.D)), "state": state}


@theorem(
    "J-3",
    "The Jacobian of the GRU without reset gate",
    statement=r"Let $h_t=z\circ\tilde c+(1-z)\circ h_{t-1}$, $z=\sigma(x_tW_{xz}+h_{t-1}W_z+b_z)$, "
    r"$\tilde c=\tanh(x_tW_{xc}+h_{t-1}W_c+b_c)$. Then $\partial h_t/\partial h_{t-1}="
    r"\mathrm{diag}(1-z)+\mathrm{diag}(z\circ(1-\tilde c^2))W_c^\top"
    r"+\mathrm{diag}((\tilde c-h_{t-1})\circ z\circ(1-z))W_z^\top$.",
    hypotheses=("there is no reset gate",),
    proof="The product rule on z_i c_i + (1 − z_i) h_i gives δ_ij (1 − z_i) + z_i ∂c_i/∂h_j + "
    "(c_i − h_i) ∂z_i/∂h_j, and A-1, A-2 give ∂c_i/∂h_j = (1 − c_i²) W_c[j,i] and ∂z_i/∂h_j = "
    "z_i (1 − z_i) W_z[j,i].",
    sources=("S3-6", "Cho et al. 2014"),
    cases=_one_step("GRU minimal"),
    systems=("field", "ball"),
    necessity=(Necessity("there is no reset gate", _halves(GRUCell(1, 1)), system="ball"),),
    sensitivity=GRU_MISTAKES,
)
def gru_minimal(cell: GRUCell, params: Params, x_t: Array, state: State) -> Iterator[Comparison]:
    """The three roads to the Jacobian of the GRU with an update gate only."""
    yield from _gru_roads("minimal", cell, params, x_t, state)


@theorem(
    "J-4",
    "The Jacobian of the full GRU, in both its forms",
    statement=r"With a reset gate $r=\sigma(x_tW_{xr}+h_{t-1}W_r+b_r)$, $W_c^\top$ in J-3 becomes "
    r"$K=\partial a_c/\partial h_{t-1}$: for $a_c=x_tW_{xc}+(r\circ h_{t-1})W_c+b_c$ it is "
    r"$W_c^\top(\mathrm{diag}\,r+\mathrm{diag}(h_{t-1}\circ r\circ(1-r))W_r^\top)$; for "
    r"$a_c=x_tW_{xc}+b_c+r\circ u$, $u=h_{t-1}W_c+b_h$ (cuDNN, PyTorch), it is "
    r"$\mathrm{diag}(r)W_c^\top+\mathrm{diag}(u\circ r\circ(1-r))W_r^\top$.",
    hypotheses=("z multiplies the candidate (PyTorch's z is 1 − z)",),
    proof="∂(r_k h_k)/∂h_j = δ_kj r_k + h_k r_k (1 − r_k) W_r[j,k], summed with W_c[k,i] over k, "
    "is the first; ∂(r_i u_i)/∂h_j = r_i W_c[j,i] + u_i r_i (1 − r_i) W_r[j,i] is the second. The "
    "rest is J-3.",
    sources=("S3-7", "S3-8", "S3-9", "Cho et al. 2014"),
    cases=_one_step("GRU reset before", "GRU reset after"),
    systems=("field", "ball"),
    sensitivity=(
        *GRU_MISTAKES,
        Mistake(
            "PyTorch's formula for Cho's cell",
            "tinygrad_rnn.cells.gru.GRUCell.jacobian",
            lambda right: (
                lambda cell, p, x_t, state: right(
                    replace(cell, variant="reset_after"),
                    {"b_h": 0 * p["b"][: cell.H], **p},
                    x_t,
                    state,
                )
            ),
        ),
    ),
)
def gru(cell: GRUCell, params: Params, x_t: Array, state: State) -> Iterator[Comparison]:
    """The three roads to the Jacobian of the GRU with a reset gate before or after the product."""
    yield from _gru_roads(cell.variant, cell, params, x_t, state)


# ---- the LSTM -----------------------------------------------------------------------------------


def _lstm_roads(
    V: list[Array], cell: LSTMCell, params: Params, x_t: Array, state: State
) -> Iterator[Comparison]:
    """Let the roads meet; V_i, V_f, V_o are the peepholes of the formula written out."""
    factors = (one_step.lstm_factors(params, V, *at) for at in zip(x_t, *state, strict=True))
    written = [output @ memory for output, memory in factors]
    yield from meet(cell, params, x_t, state, cell.jacobian(params, x_t, state), written)


LSTM_MISTAKES = (
    Mistake("tanh's prime missing", "tinygrad_rnn.cells.lstm.d_tanh", lambda _: np.tanh),
    Mistake(
        "gates held constant, as in the truncated gradient of 1997",
        "tinygrad_rnn.cells.lstm.d_sigmoid",
        lambda _: lambda a: 0 * a,
    ),
    Mistake(
        "the state in the order (c, h)",
        "tinygrad_rnn.cells.lstm.LSTMCell.jacobian",
        lambda right: lambda cell, *args: np.roll(right(cell, *args), cell.H, axis=(1, 2)),
    ),
)


@theorem(
    "J-5",
    "The LSTM's Jacobian is a product: first the memory, then the output",
    statement=r"Let $c_t=f\circ c_{t-1}+i\circ g$, $h_t=o\circ\tanh c_t$, with gates "
    r"$i,f,o=\sigma(\cdot)$ and $g=\tanh(\cdot)$ of $x_t$ and $h_{t-1}$. In the order $(h,c)$, "
    r"with $f'=f(1-f)$ and so on, $$\frac{\partial(h_t,c_t)}{\partial(h_{t-1},c_{t-1})}="
    r"\begin{pmatrix}I&E\\0&I\end{pmatrix}\begin{pmatrix}G&0\\A&F\end{pmatrix},$$ "
    r"$F=\mathrm{diag}f$, $E=\mathrm{diag}(o\circ(1-\tanh^2c_t))$, "
    r"$G=\mathrm{diag}(\tanh(c_t)\circ o')W_o^\top$, $A=\mathrm{diag}(c_{t-1}\circ f')W_f^\top+"
    r"\mathrm{diag}(g\circ i')W_i^\top+\mathrm{diag}(i\circ g')W_g^\top$.",
    hypotheses=("no peepholes: the gates read x_t and h_{t−1} only",),
    proof="c_t = f c_{t−1} + i g depends on c_{t−1} by F and, through f, i and g, on h_{t−1} by A. "
    "h_t = o tanh(c_t) depends on c_t by E and, through o, on h_{t−1} by G. So dc_t = A dh + F dc "
    "and dh_t = G dh + E dc_t: the product of the two factors.",
    sources=("S3-12", "S3-14", "Hochreiter & Schmidhuber 1997"),
    cases=_one_step("LSTM"),
    systems=("field", "ball"),
    necessity=(
        Necessity(
            "no peepholes: the gates read x_t and h_{t−1} only",
            _halves(LSTMCell(1, 1, peephole="diagonal")),
            system="ball",
        ),
    ),
    sensitivity=LSTM_MISTAKES,
)
def lstm(cell: LSTMCell, params: Params, x_t: Array, state: State) -> Iterator[Comparison]:
    """The tape, the closed form, and the two factors written out."""
    yield from _lstm_roads(one_step.no_peepholes(cell.H), cell, params, x_t, state)


@theorem(
    "J-6",
    "The LSTM's Jacobian with peepholes",
    statement=r"If $i$ and $f$ also read $c_{t-1}$, by $c_{t-1}V_i$ and $c_{t-1}V_f$, and $o$ "
    r"reads $c_t$, by $c_tV_o$ (full matrices, or diagonal ones), the factorisation of J-5 holds "
    r"with $F=\mathrm{diag}f+\mathrm{diag}(c_{t-1}\circ f')V_f^\top+\mathrm{diag}(g\circ i')"
    r"V_i^\top$ and "
    r"$E=\mathrm{diag}(o\circ(1-\tanh^2c_t))+\mathrm{diag}(\tanh(c_t)\circ o')V_o^\top$.",
    hypotheses=("row vectors; the state in the order (h, c)",),
    proof="As J-5: through f and i, c_t depends on c_{t−1} also by diag(c_{t−1} f') V_fᵀ + "
    "diag(g i') V_iᵀ; through o, h_t depends on c_t also by diag(tanh(c_t) o') V_oᵀ.",
    sources=("S3-13", "Gers & Schmidhuber 2000"),
    cases=_one_step("LSTM diagonal peephole", "LSTM full peephole"),
    systems=("field", "ball"),
    sensitivity=(
        *LSTM_MISTAKES,
        Mistake(
            "the output gate's peephole forgotten",
            "tinygrad_rnn.cells.lstm.LSTMCell._peep_matrices",
            lambda right: lambda cell, p: [*right(cell, p)[:2], 0 * right(cell, p)[2]],
        ),
        Mistake(
            "the peepholes transposed",
            "tinygrad_rnn.cells.lstm.LSTMCell._peep_matrices",
            lambda right: lambda cell, p: [V.T for V in right(cell, p)],
        ),
    ),
)
def lstm_peephole(cell: LSTMCell, params: Params, x_t: Array, state: State) -> Iterator[Comparison]:
    """As J-5, for diagonal and for full peepholes."""
    yield from _lstm_roads(one_step.peepholes(params), cell, params, x_t, state)
