"""The determinant of the LSTM's Jacobian: how one step changes volumes in its state.

The factorisation of J-5 has a triangular factor with ones on its diagonal, so the determinant is
that of the forget path times that of the output gate. What the candidate and the input gate do is
invisible to it, unless they read the memory through peepholes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import sigmoid
from tinygrad_rnn.cells import LSTMCell
from tinygrad_rnn.cells.cell import Params, State

from . import one_step
from .catalogue import Case, Comparison, Mistake, Necessity, equal, theorem
from .mistakes import RULES, of_rule
from .norms import Array, determinant
from .strategies import Draw, gated
from .unrolled import tape_jacobian, trajectory


@st.composite
def _runs(draw: Draw, system: str) -> Case:
    """Draw an LSTM; in balls W_o, c and tanh(c_t) stay away from 0, where nothing is decidable."""
    case: Case = draw(
        gated("LSTM", "LSTM diagonal peephole", "LSTM full peephole", T=2, N=1, D=1, H=2)
    )
    if system == "ball":
        H = case["cell"].H
        params = {name: np.abs(p) + 1 / 16 for name, p in case["params"].items()}
        params["W_h"][:, 3 * H :] += 32 * np.eye(H)  # dominates entries of at most 16 + 1/16
        case["params"], case["x"] = params, np.abs(case["x"])
        case["state"] = tuple(np.abs(s) for s in case["state"])
    return case


def _peephole_case() -> Case:
    """Return an LSTM of one unit with peepholes, all weights 1/2, and the formula without them."""
    cell = LSTMCell(1, 1, peephole="diagonal")
    return {
        "cell": cell,
        "params": {name: np.full(shape, 0.5) for name, shape in cell.shapes.items()},
        "x": np.ones((1, 1, 1)),
        "state": (np.ones((1, 1)), np.ones((1, 1))),
        "diagonal": True,
    }


def factors(cell: LSTMCell, params: Params, x_n: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Return det F and det G of one example, F and G as J-5 and J-6 write them out."""
    H = cell.H
    V = one_step.peepholes(params) if cell.peephole else one_step.no_peepholes(H)
    _, memory = one_step.lstm_factors(params, V, x_n, h, c)
    return determinant(memory[H:, H:]), determinant(memory[:H, :H])


@theorem(
    "J-7",
    "The determinant of the LSTM's Jacobian: the forget path times the output gate",
    statement=r"""Let $J_t = \partial(h_t, c_t)/\partial(h_{t-1}, c_{t-1})$ be the Jacobian of an
LSTM of $H$ units, with $F = \partial c_t/\partial c_{t-1}$, $G = \partial^+ h_t/\partial h_{t-1} =
\mathrm{diag}(\tanh(c_t) \circ o(1-o)) W_o^\top$ as in J-5 and J-6. Then $\det J_t = \det F \cdot
\det G = \det F \cdot \det W_o \prod_i \tanh(c_{t,i})\, o_i (1 - o_i)$, and $\det
\frac{\partial(h_T, c_T)}{\partial(h_0, c_0)} = \prod_t \det J_t$. If the gates $i$ and $f$ have no
peepholes, $\det F = \prod_i f_i$: then $\det J_t$ depends on $W_i$, $W_f$ and $W_g$ through the
values of the gates only.""",
    hypotheses=("for det F = Π f_i: i and f do not read c_{t−1}",),
    proof="""By J-5 and J-6, in the order (h, c), J_t = [[I, E], [0, I]] [[G, 0], [A, F]]: a
triangular matrix with unit diagonal, of determinant 1, times a block triangular one, of determinant
det G det F. G is a diagonal matrix times W_oᵀ. Without peepholes in i and f, F = diag f. By C-1 the
Jacobian of T steps is J_T ⋯ J_1, and determinants multiply.""",
    sources=("S3-13", "S3-14", "derived here"),
    cases=_runs,
    systems=("field", "ball"),
    necessity=(Necessity("i and f have peepholes", _peephole_case, system="ball"),),
    sensitivity=(
        Mistake(
            "gates held constant, as in the truncated gradient of 1997",
            "tinygrad_rnn.cells.lstm.d_sigmoid",
            lambda _: lambda a: 0 * a,
        ),
        Mistake(
            "the path from c_{t−1} to h_t forgotten",
            "tinygrad_rnn.cells.lstm.LSTMCell.jacobian",
            lambda right: (
                lambda cell, *at: (
                    right(cell, *at)
                    * (1 - np.eye(2, k=1, dtype=int)).repeat(cell.H, 0).repeat(cell.H, 1)
                )
            ),
        ),
        Mistake(
            "the forget gate forgotten",
            "tinygrad_rnn.cells.lstm.diag",
            lambda right: lambda v: right(v * 0 + 1),
        ),
        Mistake(
            "a product rule without its second term",
            RULES,
            of_rule(np.multiply, vjps=lambda right: (right[0], None)),
        ),
    ),
)
def lstm_determinant(
    cell: LSTMCell, params: Params, x: Array, state: State, diagonal: bool = False
) -> Iterator[Comparison]:
    """Compare determinants of the closed form and of the engine with the product of the factors."""
    whole: list[Any] = [1] * x.shape[1]
    for x_t, before in zip(x, trajectory(cell, params, x, state)[:-1], strict=True):
        J = cell.jacobian(params, x_t, before)
        _, a_f, _, a_o, c_t = cell._forward(params, x_t, before)
        forget, output = sigmoid(a_f), np.tanh(c_t) * sigmoid(a_o) * (1 - sigmoid(a_o))
        det_W = determinant(params["W_h"][:, 3 * cell.H :])
        for n, at in enumerate(zip(x_t, *before, strict=True)):
            det_F, det_G = factors(cell, params, *at)
            yield equal("det J = det F det G", determinant(J[n]), det_F * det_G)
            yield equal("det G = det W_o Π tanh(c) o'", det_G, det_W * math.prod(output[n]))
            if diagonal or not cell.peephole:
                yield equal("det F = Π f", det_F, math.prod(forget[n]))
            whole[n] = whole[n] * det_F * det_G
    for P, product in zip(tape_jacobian(cell, params, x, state), whole, strict=True):
        yield equal("det ∂(h_T, c_T)/∂(h_0, c_0) = Π det J", determinant(P), product)
