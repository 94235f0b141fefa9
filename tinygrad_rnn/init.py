"""Initial weights: what keeps the signal and the gradient of the same size, step after step.

A *rule* takes a generator and a shape and returns an array: ``orthogonal(rng, (4, 4))``.
:func:`redraw` puts rules in place of parameters that ``cell.init`` has drawn, gate by gate.

Vectors are rows, y = v W, so a weight has the shape (fan_in, fan_out), and its variance is stated
for y. The literature on columns writes the transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from tinygrad_rnn.cells import Cell, GRUCell, LSTMCell, Params
from tinygrad_rnn.functions import Array

__all__ = [
    "forget_bias",
    "glorot",
    "he",
    "householder",
    "identity",
    "lecun",
    "orthogonal",
    "redraw",
    "zeros",
]

Rule = Callable[[np.random.Generator, tuple[int, ...]], Array]
Rng = np.random.Generator | int


# ---- rules ---------------------------------------------------------------------------------------


def zeros(rng: Rng, shape: tuple[int, ...]) -> Array:
    """Return zeros, as for biases.

    Examples
    --------
    >>> from tinygrad_rnn import init
    >>> init.zeros(0, (3,)).tolist()
    [0.0, 0.0, 0.0]
    """
    return np.zeros(shape)


def identity(rng: Rng, shape: tuple[int, int], gain: float = 1.0) -> Array:
    """Return ``gain`` times the identity: with relu and zero biases the IRNN. Nothing is random.

    A unit that is active all the time then passes its gradient on unchanged, and every other unit
    passes on nothing.

    Raises
    ------
    ValueError
        For a shape that is not that of a matrix.

    References
    ----------
    Le, Jaitly & Hinton 2015, *A simple way to initialize recurrent networks of rectified linear
    units*, arXiv:1504.00941.

    Examples
    --------
    >>> from tinygrad_rnn import init
    >>> init.identity(0, (2, 2), gain=0.5).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    return gain * np.eye(*_matrix(shape))


def orthogonal(rng: Rng, shape: tuple[int, int], gain: float = 1.0) -> Array:
    """Draw an orthogonal matrix with uniform distribution, times ``gain``: WᵀW = gain² I.

    If the matrix is wider than high, its rows are orthonormal; else its columns. It is the product
    of reflections of Gaussian vectors, see :func:`householder`: the first column is a uniform
    direction x/‖x‖, and a reflection carries the others, drawn alike in one dimension less, to the
    space perpendicular to it.

    Raises
    ------
    ValueError
        For a shape that is not that of a matrix.

    References
    ----------
    Stewart 1980, *The efficient generation of random orthogonal matrices with an application to
    condition estimators*; Saxe, McClelland & Ganguli 2014; Henaff, Szlam & LeCun 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn import init
    >>> W = init.orthogonal(np.random.default_rng(0), (3, 3))
    >>> np.abs(W.T @ W).round(12).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows, columns = _matrix(shape)
    n, m = max(rows, columns), min(rows, columns)
    rng = np.random.default_rng(rng)
    Q = orthonormal([rng.standard_normal(n - k) for k in range(m)])
    return gain * (Q if rows >= columns else Q.T)


def lecun(
    rng: Rng, shape: tuple[int, int], gain: float = 1.0, distribution: str = "normal"
) -> Array:
    """Draw independent entries of mean 0 and variance gain²/fan_in: E y_j² = gain² mean(v²).

    Parameters
    ----------
    rng, shape
        A generator or a seed, and (fan_in, fan_out).
    gain
        The factor of the standard deviation.
    distribution
        ``"normal"`` or ``"uniform"``.

    Raises
    ------
    ValueError
        For a shape that is not that of a matrix, and for another distribution.

    References
    ----------
    LeCun, Bottou, Orr & Müller 1998, *Efficient BackProp*.

    Examples
    --------
    >>> from tinygrad_rnn import init
    >>> init.lecun(0, (400, 300)).std().round(3).item()  # 1/√400
    0.05
    """
    fan_in, _ = _matrix(shape)
    return _independent(rng, shape, gain**2 / fan_in, distribution)


def glorot(
    rng: Rng, shape: tuple[int, int], gain: float = 1.0, distribution: str = "uniform"
) -> Array:
    """Draw independent entries of mean 0 and variance gain² · 2/(fan_in + fan_out).

    It lies between what keeps the signal forwards, 1/fan_in, and the gradient backwards, 1/fan_out.

    Parameters and errors are those of :func:`lecun`.

    References
    ----------
    Glorot & Bengio 2010, *Understanding the difficulty of training deep feedforward neural
    networks* ("Xavier").

    Examples
    --------
    >>> from tinygrad_rnn import init
    >>> W = init.glorot(0, (4, 2))
    >>> W.shape, bool((abs(W) <= 1).all())  # uniform on ±√(6/(4 + 2))
    ((4, 2), True)
    """
    fan_in, fan_out = _matrix(shape)
    return _independent(rng, shape, gain**2 * 2 / (fan_in + fan_out), distribution)


def he(rng: Rng, shape: tuple[int, int], gain: float = 1.0, distribution: str = "normal") -> Array:
    """Draw independent entries of mean 0 and variance gain² · 2/fan_in, for relu.

    A relu stops half of the mean square; the 2 makes up for it.

    Parameters and errors are those of :func:`lecun`.

    References
    ----------
    He, Zhang, Ren & Sun 2015, *Delving deep into rectifiers*.

    Examples
    --------
    >>> from tinygrad_rnn import init
    >>> init.he(0, (800, 300)).std().round(3).item()  # √(2/800)
    0.05
    """
    fan_in, _ = _matrix(shape)
    return _independent(rng, shape, gain**2 * 2 / fan_in, distribution)


# ---- parameters of cells -------------------------------------------------------------------------


def redraw(cell: Cell, params: Params, rng: Rng, **rules: Rule) -> dict[str, Array]:
    """Return the parameters with some of them drawn anew, each by a rule.

    Of a gated cell each gate is drawn on its own: a rule for an LSTM's ``W_h`` (H, 4H) is asked for
    four matrices (H, H). The precision stays that of ``params``.

    Parameters
    ----------
    cell, params
        A cell and its parameters in floats, such as ``cell.init(rng)``.
    rng
        A generator or a seed.
    **rules
        For a parameter's name a function of (rng, shape); for other gains or distributions a
        ``functools.partial`` or a lambda.

    Raises
    ------
    ValueError
        For a name that is no parameter, and for a rule that returns another shape than asked for.
    TypeError
        For parameters that are not floats.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> rng, cell = np.random.default_rng(0), tg.RNNCell(D=3, H=2, activation="relu")
    >>> rules = {"W_x": tg.init.he, "W_h": tg.init.identity, "b": tg.init.zeros}  # the IRNN
    >>> params = tg.init.redraw(cell, cell.init(rng), rng, **rules)
    >>> params["W_h"].tolist(), params["b"].tolist()
    ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    """
    cell.check(params)
    rng = np.random.default_rng(rng)
    redrawn: dict[str, Array] = dict(params)
    for name, rule in rules.items():
        if name not in params:
            raise ValueError(f"{name} is no parameter of {cell}; it has {', '.join(params)}.")
        old = _floats(name, params[name])
        # w_c (3, H) has a row for each gate, all others a block of columns.
        shape = (cell.H,) if name == "w_c" else (*old.shape[:-1], cell.H)
        gates = [np.asarray(rule(rng, shape)) for _ in range(old.size // math.prod(shape))]
        for gate in gates:
            if gate.shape != shape:
                raise ValueError(f"the rule for {name} must return {shape}, got {gate.shape}.")
        joined = np.stack(gates) if name == "w_c" else np.concatenate(gates, axis=-1)
        redrawn[name] = joined.astype(old.dtype)
    return redrawn


def forget_bias(cell: Cell, params: Params, bias: float = 1.0) -> dict[str, Array]:
    """Return the parameters with biases that make the cell remember: a share σ(bias) per step.

    An LSTM's forget gate gets the bias, so that f = σ(bias) where its inputs are zero. A GRU's
    update gate gets −bias, for here z multiplies the candidate, and 1 − σ(−bias) = σ(bias).

    Raises
    ------
    TypeError
        For a cell without such a gate, and for parameters that are not floats.

    References
    ----------
    Gers, Schmidhuber & Cummins 2000; Jozefowicz, Zaremba & Sutskever 2015.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> cell = tg.LSTMCell(D=1, H=2)
    >>> tg.init.forget_bias(cell, cell.init(0), 5.0)["b"][2:4].tolist()  # i, f, g, o
    [5.0, 5.0]
    """
    cell.check(params)
    if isinstance(cell, LSTMCell):
        gate, value = 1, bias
    elif isinstance(cell, GRUCell):
        gate, value = int(cell.variant != "minimal"), -bias
    else:
        raise TypeError(f"{type(cell).__name__} has no gate that decides what it forgets.")
    b = _floats("b", params["b"]).copy()
    b[gate * cell.H : (gate + 1) * cell.H] = value
    return {**params, "b": b}


# ---- orthogonal matrices -------------------------------------------------------------------------


def householder(v: Array, A: Array) -> Array:
    """Reflect the columns of A in the plane perpendicular to v: (I − 2 v vᵀ/(v·v)) A.

    The reflection is orthogonal and its own inverse, on Fractions exactly; every orthogonal matrix
    is a product of at most n of them.

    Parameters
    ----------
    v
        A vector (n,) that is not zero.
    A
        A matrix (n, m) of the same numbers.

    Raises
    ------
    ValueError
        If v is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygrad_rnn import init
    >>> init.householder(np.array([1.0, 1.0]), np.eye(2)).tolist()
    [[0.0, -1.0], [-1.0, 0.0]]
    """
    if v.dtype != object and not v.any():
        raise ValueError("v must not be zero: no plane is perpendicular to it.")
    return A - np.outer(v, (v @ A) * 2 / (v @ v))


def orthonormal(vectors: Iterable[Array]) -> Array:
    """Return Q (n, m) with orthonormal columns from vectors of n, n − 1, …, n − m + 1 numbers.

    The first column is the first vector over its length; the others are the same of one vector less
    and one dimension less, reflected. Any number system that has a square root will do.
    """
    vectors = list(vectors)
    n, m = len(vectors[0]), len(vectors)
    Q = np.eye(n, m, dtype=vectors[0].dtype)
    for k in reversed(range(m)):
        x = vectors[k]
        sign = 1 if x[0] >= 0 else -1
        v = x.copy()
        v[0] = v[0] + sign * np.sqrt(x @ x)  # nothing cancels
        Q[k, k] = -sign  # the reflection takes −sign e₁ to x/‖x‖
        Q[k:, k:] = householder(v, Q[k:, k:])
    return Q


# ---- parts ---------------------------------------------------------------------------------------


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    if not isinstance(shape, tuple) or len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape must be (fan_in, fan_out), two positive integers, got {shape!r}.")
    return shape


def _floats(name: str, a: Array) -> Array:
    a = np.asarray(a)
    if a.dtype.kind != "f":
        raise TypeError(f"initial weights are floats, but {name} has dtype {a.dtype}.")
    return a


def _independent(rng: Rng, shape: tuple[int, int], variance: float, distribution: str) -> Array:
    rng = np.random.default_rng(rng)
    if distribution == "normal":
        return math.sqrt(variance) * rng.standard_normal(shape)
    if distribution == "uniform":
        bound = math.sqrt(3 * variance)  # the variance on ±a is a²/3
        return rng.uniform(-bound, bound, shape)
    raise ValueError(f"distribution must be 'normal' or 'uniform', got {distribution!r}.")
