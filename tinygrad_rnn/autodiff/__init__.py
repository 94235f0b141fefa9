"""A small reverse- and forward-mode autodiff engine whose language is NumPy itself."""

from tinygrad_rnn.autodiff.composed import log_softmax, logsumexp, softmax
from tinygrad_rnn.autodiff.rule import differentiable
from tinygrad_rnn.autodiff.rules import (
    d_sigmoid,
    d_tanh,
    leaky_relu,
    leaky_step,
    relu,
    sigmoid,
    softplus,
    step,
)
from tinygrad_rnn.autodiff.tensor import Tensor
from tinygrad_rnn.autodiff.transforms import (
    checkpoint,
    grad,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)

__all__ = [
    "Tensor",
    "checkpoint",
    "d_sigmoid",
    "d_tanh",
    "differentiable",
    "grad",
    "hvp",
    "jacobian",
    "jvp",
    "leaky_relu",
    "leaky_step",
    "log_softmax",
    "logsumexp",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "step",
    "value_and_grad",
    "vjp",
]
