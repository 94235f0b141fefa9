"""What backpropagation through time costs: operations counted one by one (C-8)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import recurrent
from tinygrad_rnn.cells import Cell, GRUCell, RNNCell
from tinygrad_rnn.scalars import Tally, counted

from .catalogue import Case, Comparison, Mistake, Necessity, at_most, equal, theorem
from .mistakes import RULES, of_rule
from .strategies import GATED, Draw

Array = Any

CELLS: list[Callable[[int, int], Any]] = [
    *(lambda D, H, f=f: RNNCell(D, H, f) for f in ("tanh", "relu", "identity")),
    *GATED.values(),
]


@st.composite
def _networks(draw: Draw, system: str) -> Case:
    """Draw a cell and numbers only: what is counted does not depend on the values."""
    make, T = draw(st.sampled_from(CELLS)), draw(st.integers(1, 3))
    D, H, N = (draw(st.integers(1, 2)) for _ in range(3))
    return {"cell": make(D, H), "T": T, "N": N, "k": draw(st.integers(1, T))}


def operations(cell: Cell, T: int, N: int, work: Callable[..., Any]) -> tuple[int, int, int]:
    """Count the multiplications, additions and function evaluations of ``work`` on a network."""
    tally = Tally()

    def of(*shape: int) -> Array:
        return counted(np.full(shape, 0.5), tally)

    params = {name: of(*shape) for name, shape in cell.shapes.items()}
    state, d_state = (tuple(of(N, cell.H) for _ in cell.state_names) for _ in range(2))
    work(cell, params, of(T, N, cell.D), of(T, N, cell.H), state, d_state)
    additions, products, divisions, functions = astuple(tally)
    return products + divisions, additions, functions


def forward(cell: Any, params: Any, x: Array, d_outputs: Array, state: Any, d_state: Any) -> None:
    """Run the network."""
    recurrent.unroll(cell, params, x, state, "tape")


def backward(
    cell: Any, params: Any, x: Array, d_outputs: Array, state: Any, d_state: Any, **options: Any
) -> None:
    """Run the network and sweep back."""
    recurrent.bptt(cell, params, x, d_outputs, state, "tape", d_state=d_state, **options)


@theorem(
    "C-8",
    "The exact cost of a gradient: twice the forward run's multiplications more",
    statement=r"""Let a run of $T$ steps on $N$ sequences cost $m$ multiplications, $a$ additions
and $f$ evaluations of functions; a derivative $f'$ is one evaluation, a change of sign is free. Let
$n$ be the number of entries of the parameters, the inputs and $s_0$, $c$ the number of additions of
a constant (the $1$ of $1 - z$), and $r$ the number of entries of the cotangents of the outputs and
of $s_T$. Then the gradient, by one reverse sweep, run included, costs exactly $3m + f$
multiplications, $2f$ evaluations and $2a + m + r - n - c$ additions. For an RNN $m = a = TNH(D +
H)$ and $f = TNH$, or $0$ if linear. All operations together are at most $37/12$ times those of the
run, for every cell here, and no smaller number will do. Keeping only the states before every $k$-th
step costs $k(\lceil T/k \rceil - 1)$ steps of the run more.""",
    hypotheses=(
        "every factor of a product is differentiated",
        "one sweep over all steps, not one for each loss",
    ),
    proof="""In reverse, a product y = ab costs two products, ȳb and ȳa, and y = f(a) one evaluation
of f' and one product; a sum or a change of sign costs none. That makes 2m + f products and f
evaluations. A variable that is used u times, and has w cotangents from outside (0, 1 or 2), adds up
u + w numbers in u + w − 1 additions; here u + w ≥ 1 for all. There are n + m + a + f variables: the
inputs, and one for each operation. The uses are two for each product, two for each sum but one
where a constant is added, one for each function: 2m + 2a − c + f. So adding up takes (2m + 2a − c +
f) + r − (n + m + a + f) = m + a + r − n − c additions. Together with the run this is the first
claim; m, a and f of an RNN are read off a_t = x_t W_x + h_{t−1} W_h + b, h_t = f(a_t), where each
entry takes D + H products and as many additions, b included.
All together: the excess over three runs is E = m − a + r − n − c, with r − n = TN(H − D) − P, P
parameters. To show: 12 E ≤ m + a + f. RNN: m = a and c = 0. Per step and sequence 2H(D + H) − 12(H
− D) ≥ 2H(1 + H) − 12(H − 1) = 2(H − 2)(H − 3) ≥ 0, as D ≥ 1 and H is an integer. GRU: c = TNH and
m − a is 0, or TNH with the reset gate before the product; so E is at most that of an RNN, and the
run costs more. LSTM: m − a = 2TNH, so E = TN(3H − D) − P, and m + a + f ≥ TN(8H(D + H) + 9H), where
8H(D + H) + 9H − 12(3H − D) ≥ 8H² − 19H + 12 > 0. For the linear RNN with D = 1, H = 2 the ratio is
(36TN + TN − 8)/(12TN), which comes as close to 37/12 as one likes.
With segments, all but the last are run twice, k(⌈T/k⌉ − 1) steps; the sweep is the same (C-7).""",
    sources=("Griewank & Walther 2008", "derived here"),
    cases=_networks,
    systems=("rational",),
    necessity=(
        Necessity(
            "every factor is differentiated: leaky_relu multiplies by a constant",
            lambda: {"cell": RNNCell(1, 1, "leaky_relu"), "T": 1, "N": 1, "k": 1},
        ),
        Necessity(
            "one sweep over all steps: each loss has one of its own",
            lambda: {"cell": RNNCell(1, 1), "T": 2, "N": 1, "k": 2, "options": {"truncate": 2}},
        ),
    ),
    sensitivity=(
        Mistake(
            "a sweep for every loss: T² steps",
            "tinygrad_rnn.recurrent._ROADS",
            lambda right: {**right, "tape": lambda problem, _: right["tape"](problem, 9)},
        ),
        Mistake(
            "a product formed twice in the pullback of @",
            RULES,
            of_rule(np.matmul, vjps=lambda v: (lambda *at: (v[0](*at), v[0](*at))[0], v[1])),
        ),
        Mistake(
            "1 − y² computed in place of tanh'",
            RULES,
            of_rule(np.tanh, vjps=lambda _: (lambda g, y, a: g * (1 - y * y),)),
        ),
        Mistake(
            "checkpoints that keep nothing but the first state",
            "tinygrad_rnn.recurrent.checkpointed._segments",
            lambda right: lambda problem, k, *rest: right(problem, len(problem.x), *rest),
        ),
    ),
    witness=lambda: {"cell": RNNCell(1, 2, "identity"), "T": 60, "N": 1, "k": 60},
)
def exact_cost(
    cell: Any, T: int, N: int, k: int, options: dict[str, Any] | None = None
) -> Iterator[Comparison]:
    """Count a run, a gradient and a checkpointed gradient of the library."""
    m, a, f = operations(cell, T, N, forward)
    once = operations(cell, T, N, lambda *at: backward(*at, **(options or {})))
    states = N * cell.H * len(cell.state_names)
    n = sum(int(np.prod(s)) for s in cell.shapes.values()) + T * N * cell.D + states
    c = T * N * cell.H if isinstance(cell, GRUCell) else 0
    r = T * N * cell.H + states
    exact = [3 * m + f, 2 * a + m + r - n - c, 2 * f]
    yield equal("multiplications, additions, evaluations", np.array(once), np.array(exact))
    if isinstance(cell, RNNCell):
        products, functions = T * N * cell.H * (cell.D + cell.H), T * N * cell.H
        written = products, products, functions * (cell.activation != "identity")
        yield equal("the run of an RNN", np.array([m, a, f]), np.array(written))
    yield at_most("12 · all operations ≤ 37 · those of the run", 12 * sum(once), 37 * (m + a + f))
    if k < T:
        again = operations(cell, T, N, lambda *at: backward(*at, checkpoint=k))
        steps = k * (-(-T // k) - 1)
        extra = T * (np.array(again) - np.array(exact))
        yield equal("checkpoints run k(⌈T/k⌉ − 1) steps twice", extra, steps * np.array([m, a, f]))
