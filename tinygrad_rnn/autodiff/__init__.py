"""A small reverse- and forward-mode autodiff engine whose language is NumPy itself."""

from . import products  # noqa: F401  # fills the table of rules
from .elementwise import d_sigmoid, d_tanh, leaky_relu, leaky_step, relu, sigmoid, softplus, step
from .rule import differentiable
from .tensor import Tensor
from .transforms import checkpoint, grad, hvp, jacobian, jvp, value_and_grad, vjp

# fmt: off
__all__ = [
    "Tensor", "checkpoint", "d_sigmoid", "d_tanh", "differentiable", "grad", "hvp", "jacobian",
    "jvp", "leaky_relu", "leaky_step", "relu", "sigmoid", "softplus", "step", "value_and_grad",
    "vjp",
]
