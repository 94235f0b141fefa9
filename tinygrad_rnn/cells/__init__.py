"""The recurrent cells: parameters, the step equation, and its closed-form derivatives."""

from tinygrad_rnn.cells.cell import Cell, Params, State
from tinygrad_rnn.cells.gru import GRUCell
from tinygrad_rnn.cells.lstm import LSTMCell
from tinygrad_rnn.cells.rnn import RNNCell

__all__ = ["Cell", "GRUCell", "LSTMCell", "Params", "RNNCell", "State"]
