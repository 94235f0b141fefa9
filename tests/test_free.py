"""Free gates have the ranges, the monotony and the laws of σ and tanh, and cells run on them."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells import GRUCell, LSTMCell
from tinygrad_rnn.proofs.free import Free, floats, freed
from tinygrad_rnn.scalars import rational

fractions = st.fractions(-100, 100)


@given(fractions, fractions)
def test_the_stand_ins_have_the_laws_of_the_functions(a, b):
    x = np.array([Free(a), Free(-a), Free(b)])
    y, s = np.tanh(x), sigmoid(x)
    assert y[1] == -y[0]
    assert s[1] == 1 - s[0]
    assert np.all(abs(y) < 1)
    assert np.all((s > 0) & (s < 1))
    assert np.all(d_tanh(x) == 1 - y * y)
    assert np.all(d_sigmoid(x) == s * (1 - s))
    assert (a < b) == (y[0] < y[2]) == (s[0] < s[2])


@given(st.fractions(0, 1).filter(lambda q: 0 < q < 1))
def test_a_bias_sets_the_gate_to_any_rational(q):
    y = 2 * q - 1
    a = y / (1 - abs(y))
    assert Free(a).tanh() == y
    assert Free(a).sigmoid() == q


def test_only_fractions_are_freed():
    case = {"a": rational([0.5]), "b": (np.array([0.5]), "text")}
    lifted = freed(case)
    assert isinstance(lifted["a"][0], Free)
    assert lifted["b"][0].dtype == float
    assert floats(lifted["a"]).tolist() == [0.5]


def test_cells_run_on_free_gates():
    for cell in (GRUCell(1, 2), LSTMCell(1, 2, peephole=True)):
        params = {k: freed(rational(np.full(s, 0.5))) for k, s in cell.shapes.items()}
        state = tuple(freed(rational(s)) for s in cell.initial_state(1))
        J = cell.jacobian(params, freed(rational([[1.0]])), state)
        assert all(isinstance(e, (Free, int)) for e in J.flat)
        assert Free(Fraction(1, 3)) + 1 == Fraction(4, 3)
