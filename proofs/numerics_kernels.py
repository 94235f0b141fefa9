"""What the compiled kernels compute: the same bits every time, and tanh and σ to a proven accuracy.

The bound of their rounding errors holds for every float. It is computed in ball arithmetic from the
kernels' own constants (:mod:`tinygrad_rnn.proofs.roundings`); drawn floats are compared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygrad_rnn import scalars
from tinygrad_rnn.autodiff import d_sigmoid, d_tanh, sigmoid
from tinygrad_rnn.cells import RNNCell
from tinygrad_rnn.recurrent import bptt, unroll
from tinygrad_rnn.scalars.rounding import FUNCTION

from .catalogue import Case, Comparison, Mistake, at_most, equal, theorem
from .numerics_cases import floats, in_balls, rounding_runs, tree
from .strategies import Draw

Array = Any
FORMATS = "tinygrad_rnn.kernels.elementwise.FORMATS"
VALUES = "tinygrad_rnn.proofs.numerics_kernels.kernel_values"

# |computed − f(x)| ≤ c u |f(x)| + k η, for float32 and float64 and every x.
BOUNDS = {
    "e^(−z)": 1.8,
    "e^(−z) − 1": 2.6,
    "σ": 3.8,
    "σ, x > 0": 3.6,
    "σ'": 5.8,
    "tanh": 5.1,
    "tanh, with its derivative": 5.4,
    "tanh'": 7.8,
}
FUNCTIONS: Any = {"tanh": ("tanh", np.tanh, d_tanh), "σ": ("sigmoid", sigmoid, d_sigmoid)}
UNDERFLOW = {"tanh": 1, "tanh'": 5, "σ": 2, "σ'": 2}


# ---- cases --------------------------------------------------------------------------------------


@st.composite
def _runs(draw: Draw, system: str) -> Case:
    """Draw floats of one precision, of every magnitude; and a network with a loss."""
    dtype = draw(st.sampled_from((np.float32, np.float64)))
    width = 8 * np.dtype(dtype).itemsize
    near = st.floats(-40, 40, width=width)
    far = st.floats(-1e6, 1e6, width=width)
    x = np.array(draw(st.lists(near | near | far, min_size=4, max_size=8)), dtype)
    return {"x": x, "run": draw(rounding_runs()), "dtype": dtype, "family": np.dtype(dtype).name}


def kernel_values(activation: str, x: Array) -> tuple[Array, Array]:
    """Return f(x) and f'(x) by the kernels: one step of one unit with weights 1 and 0."""
    one = np.ones((1, 1), x.dtype)
    params, state = {"W_x": one, "W_h": 0 * one, "b": 0 * one[0]}, (0 * x[:, None],)
    cell, sequence = RNNCell(1, 1, activation), x[None, :, None]
    outputs = unroll(cell, params, sequence, state, method="kernel").outputs
    ones = np.ones_like(sequence)
    gradient = bptt(cell, params, sequence, ones, state, method="kernel")
    return outputs.ravel(), gradient["x"].ravel()


def _spoil(**constants: Any) -> Callable[[Any], Any]:
    """Change constants of the single-precision e^(−z)."""
    return lambda formats: {**formats, np.float32: formats[np.float32]._replace(**constants)}


def _textbook(right: Any) -> Any:
    """Take 1 − y² for tanh', and y(1 − y) for σ'."""

    def values(activation: str, x: Array) -> tuple[Array, Array]:
        y, _ = right(activation, x)
        return y, 1 - y * y if activation == "tanh" else y * (1 - y)

    return values


def _in_single(right: Any) -> Any:
    """Compute in single precision whatever the precision of the arguments."""

    def values(activation: str, x: Array) -> tuple[Array, Array]:
        y, slope = right(activation, x.astype(np.float32))
        return y.astype(x.dtype), slope.astype(x.dtype)

    return values


def _by_size(right: Any) -> Any:
    """Sum in another order where the batch is larger."""

    def run(cell: Any, params: Any, x: Array, *rest: Any, method: str = "", **more: Any) -> Any:
        method = "chain" if x.shape[1] > 1 else method
        return right(cell, params, x, *rest, method=method, **more)

    return run


@theorem(
    "N-5",
    "The kernels' tanh and σ and their derivatives are accurate for every float",
    statement=r"""Let $\hat f(x)$ be what a kernel computes for $f\in\{\tanh,\tanh',\sigma,
\sigma'\}$ and a float $x$ of precision $u=2^{-p}$, $p=24$ or $53$; let $\eta$ be the smallest
positive float. For every $x$ $$|\hat f(x)-f(x)|\le c_f\,u\,|f(x)|+k_f\,\eta,$$ with $c=5.1$ for
$\tanh$ ($5.4$ where it is computed together with its derivative), $7.8$ for $\tanh'$, $3.8$ for
$\sigma$ and $5.8$ for $\sigma'$, and $k=1$ for $\tanh$, $5$ for $\tanh'$, $2$ for $\sigma$ and
$\sigma'$. As $u|y|\le\mathrm{ulp}(y)$, $c_f$ bounds the error in ulps where $f(x)$ does not
underflow. It is less than the $12u$ that the running error analysis allows an elementary function.
The outputs, and the gradients by inputs and initial state, of one example are the same bits on
every run and in every batch.""",
    hypotheses=(
        "x is a finite float",
        "IEEE 754 arithmetic, to nearest and with gradual underflow; a·b + c may be rounded once",
    ),
    proof="""All four follow from e = e^(−z) and m = e − 1, with z = |x| for σ, or z = 2|x|, which
is exact. Write z = n ln 2 − ρ; the computed n is the integer nearest to z/ln 2, up to the error of
the product by 1/ln 2, so |ρ| ≤ R, little more than (ln 2)/2. n·HIGH is exact because HIGH has few
bits. So is n·HIGH − z for n ≥ 1: it is at most 1/2, and a multiple of the last bit of HIGH or of
that of z > 1/4, which are at least 2^(−p) and 2^(−p−1). So r = (n·HIGH − z) + n·LOW differs from ρ
by at most n|HIGH + LOW − ln 2| + nu|LOW| + half an ulp of r, and not at all if n = 0. p = r +
r²P(r), with Horner's rule for P, differs from e^r − 1 by the rounding of each of its operations,
the rounding of its coefficients 1/k!, and the rest of the Taylor series, |r|^(d+1) e^|r|/(d+1)!.
What underflows in r² or later is below |r|√η: either |r| < √η, and r² < |r|√η, or η ≤ |r|√η. Then e
= 2^(−n)(1 + p) is rounded in 1 + p, and m = 2^(−n)p + (2^(−n) − 1) in the second term if n ≥ p, and
in the sum. f is a rational function of e and m of a few operations. Each of them turns relative
errors a, b of its operands into a + b + ab, (a − b)/(1 + b), or a weighted mean, and adds its own
rounding, at most half an ulp. These bounds are functions of r and n alone. Balls enclose them over
boxes that cover |r| ≤ R for each n < 6, and over 0 ≤ 2^(−n) ≤ 2⁻⁶ for the others; the largest value
over all boxes is less than c. Where e < u is subnormal, 1 + e and 1 − e round to 1, so that f̂ is e
or 4e exactly, and e itself is off by at most half an η more; beyond z = LAST the kernel returns e =
η, where e^(−z) < 2η. A subnormal m/(2 + m) adds half an η. An entry of a matrix product is summed
in one order, whatever the batch and its division among threads.""",
    sources=("Higham 2002", "Johansson 2017"),
    cases=_runs,
    systems=("ball",),
    sensitivity=(
        Mistake("the Taylor polynomial a term short", FORMATS, _spoil(degree=6)),
        Mistake("ln 2 in one piece", FORMATS, _spoil(low=0.0)),
        Mistake("1 − y² for tanh'", VALUES, _textbook),
        Mistake("float32 inside", "tinygrad_rnn.proofs.numerics_kernels.kernel_values", _in_single),
        Mistake(
            "sums that depend on the batch", "tinygrad_rnn.proofs.numerics_kernels.bptt", _by_size
        ),
    ),
    # Of four million floats in [0, 9] the worst for σ and σ' and for tanh and tanh'.
    witness=lambda: {
        "dtype": np.float32,
        "x": np.array(
            [-7.271519660949707, 5.515751838684082, 0.1744088977575302, 2.050904273986816]
        ),
        "run": {},
    },
)
def kernels_are_accurate(dtype: Any, x: Array, run: dict[str, Any]) -> Iterator[Comparison]:
    """The certificate for all floats; drawn floats against balls; bits that do not change."""
    from .roundings import certified  # loads Numba

    bounds, exact = certified(dtype)
    for name, (least, largest) in exact.items():
        yield at_most(name, scalars.Ball(least - largest), 0)
    for name, bound in bounds.items():
        yield at_most(f"for every float: {name}", bound - BOUNDS[name], 0)
        yield at_most(f"what Rounded allows: {name}", BOUNDS[name] - FUNCTION, 0)

    x = floats(x, dtype)
    info = np.finfo(dtype)
    for name, (activation, *exact) in FUNCTIONS.items():
        both = zip((name, f"{name}'"), kernel_values(activation, x), exact, strict=True)
        for label, y, f in both:
            truth = in_balls(f, x)
            error = in_balls(lambda y, truth: abs(y - truth), y, truth)
            allowed = BOUNDS[label] * float(info.eps) / 2 * abs(truth)
            yield at_most(label, error, allowed + UNDERFLOW[label] * float(info.smallest_subnormal))
    if run:
        yield from _same_bits(**run)


def _same_bits(cell: Any, data: Any, dtype: Any, family: str) -> Iterator[Comparison]:
    """Run a network as a batch, twice, and example by example."""
    data = tree(lambda a: floats(a, dtype), data)

    def gradient(of: slice) -> Any:
        batch = {"params": data["params"]}
        for name in ("x", "d_outputs"):
            batch[name] = data[name][:, of]
        for name in ("state", "d_state"):
            batch[name] = tuple(a[of] for a in data[name])
        return bptt(cell, **batch, method="kernel")

    everything = slice(None)
    whole, again = gradient(everything), gradient(everything)
    for name in data["params"]:
        yield equal(f"again: {name}", again[name], whole[name])
    for n in range(data["x"].shape[1]):
        one = slice(n, n + 1)
        alone = gradient(one)
        yield equal("alone: x", alone["x"], whole["x"][:, one])
        for part, batch in zip(alone["state"], whole["state"], strict=True):
            yield equal("alone: state", part, batch[one])
