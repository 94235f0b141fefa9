"""Tensor: an array that remembers how it was computed.

User code is plain NumPy. When a NumPy function meets a Tensor, NumPy hands the call over (protocols
NEP 13 and NEP 18); `apply` looks up the function's rule, computes the value with plain NumPy and
records one node: the rule, the values it was given, and the Tensors those came from. The record is
never consulted here; `sweeps.py` walks it, forward for tangents, backward for cotangents.

Every Tensor belongs to a *trace*, one for each running transform, and traces nest. An operation is
recorded by its innermost trace, on values that may themselves be Tensors of outer traces; that is
all it takes for derivatives of derivatives to be right.

A record refers to the arrays it was computed from and does not copy them. An array that is
overwritten after it was used changes the derivative, so write ``x = x + 1``, not ``x += 1``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.composed import COMPOSED, CONSTANT, Function, public_name
from tinygrad_rnn.functions import Array, astype, getitem


@dataclass(frozen=True, eq=False)
class Rule:
    """A primitive: its value, its Jacobian–vector product and its vector–Jacobian product.

    ``jvps[i](t, y, *values)`` is ∂y/∂aᵢ·t and ``vjps[i](g, y, *values)`` is g·∂y/∂aᵢ, where ``y``
    is the result of ``value(*values)``; None marks an argument without a derivative. Where
    arguments share their work, ``jvps`` and ``vjps`` are single functions of all of them instead:
    ``jvps(tangents, y, *values)`` and ``vjps(g, y, *values) -> one cotangent per argument``.
    """

    value: Function
    jvps: tuple[Any, ...] | Function
    vjps: tuple[Any, ...] | Function
    keywords: tuple[str, ...] = ()
    name = cached_property(lambda self: public_name(self.value))  # what a user calls it


RULES: dict[Function, Rule] = {}


class Trace:
    """One running transform (or, at level 0, the open tape that ``Tensor(...)`` records on)."""

    _levels = itertools.count()

    def __init__(self) -> None:
        self.level, self.live = next(Trace._levels), True


OPEN_TAPE = Trace()
_serials = itertools.count()
_new_tensor = object.__new__  # past __init__, which makes leaves


def raw(x: Any) -> Any:
    """Strip every trace from ``x``; what is not a Tensor is returned as it is."""
    while type(x) is Tensor:
        x = x._value
    return x


def apply(rule: Rule, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Compute ``rule`` on ``args`` and record it on the innermost trace among them."""
    trace: Trace | None = None
    for a in args:
        if type(a) is Tensor and a._trace is not trace:
            trace = a._trace if trace is None or a._trace.level > trace.level else trace
    if keywords or trace is None or not trace.live:
        _check_call(rule, trace, keywords)
    if trace is None:
        return rule.value(*args, **keywords)
    values = []
    parents: list[Tensor | None] = []
    for a in args:
        inner = type(a) is Tensor and a._trace is trace
        values.append(a._value if inner else a)
        parents.append(a if inner else None)
    y = rule.value(*values, **keywords)
    if type(y) is not np.ndarray:
        if type(y) is not Tensor:
            y = np.asarray(y)  # full reductions and 0-d ufuncs return bare scalars
            _refuse_demotion(rule, values)
        elif y._trace.level >= trace.level:
            raise ValueError(f"{rule.name} uses a Tensor it was not given: pass it as an argument.")
    elif y.dtype.hasobject:
        _refuse_demotion(rule, values)
    node = _new_tensor(Tensor)
    node._value, node._trace, node._serial = y, trace, next(_serials)
    node._origin = (rule, values, keywords, parents)
    return node


def _check_call(rule: Rule, trace: Trace | None, keywords: dict[str, Any]) -> None:
    if trace is not None and not trace.live:
        raise ValueError(
            f"{rule.name} met a Tensor of a transform that has ended, probably kept "
            "in a global or a closure by an earlier call. Return it as a result instead."
        )
    for name, value in keywords.items():
        if name not in rule.keywords or type(value) is Tensor:
            known = ", ".join(rule.keywords) or "none"
            raise TypeError(f"{rule.name} on Tensors cannot take {name}= (it takes: {known}).")


def _refuse_demotion(rule: Rule, values: list[Any]) -> None:
    """Fraction + float is a float: refuse to lose exactness without a word."""
    arrays = [np.asarray(raw(v)) for v in values if not isinstance(v, (tuple, list, str))]
    exact = any(a.dtype.hasobject and a.size and isinstance(a.flat[0], Fraction) for a in arrays)
    if exact and any(a.dtype.kind in "fc" for a in arrays):
        raise TypeError(
            f"{rule.name} mixes Fractions with floats, which would round silently. "
            "Convert the floats first: tinygrad_rnn.scalars.rational(array)."
        )


class Part(NamedTuple):
    """A cotangent of x that is ``g`` at x[index] and zero elsewhere."""

    g: Array
    index: Any


def _dispatch(f: Function, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    if f in COMPOSED:
        return COMPOSED[f](*args, **keywords)
    if f in RULES:
        return apply(RULES[f], args, keywords)
    if f in CONSTANT:
        return f(*map(raw, args), **{k: raw(v) for k, v in keywords.items()})
    raise TypeError(
        f"{public_name(f)} has no rule for Tensors. Write it with functions that have one, or "
        f"teach it: tg.differentiable(partials=[...])({public_name(f)})."
    )


def _left(f: Function) -> Any:
    return lambda self, other: apply(RULES[f], (self, other), {})


def _right(f: Function) -> Any:
    return lambda self, other: apply(RULES[f], (other, self), {})


def _method(f: Function) -> Any:
    return lambda self, *args, **keywords: _dispatch(f, (self, *args), keywords)


def _refusal(message: str) -> Any:
    def method(self: Tensor, *args: Any, **keywords: Any) -> Any:
        raise TypeError(message)

    return method


LOST = (
    "A Tensor taken for a plain number or array would lose its derivative. NumPy's functions take "
    "Tensors as they are (np.sin, not math.sin, nor float(t)). Instead of filling an array "
    "(y[i] = t) build one: np.stack([...]), np.concatenate([...]) or np.where(mask, t, y). "
    "For the bare numbers use t.item() or t.data."
)


class Tensor:
    """An array that remembers how it was computed, so that it can be differentiated.

    Parameters
    ----------
    data
        Floats, complex numbers, or an object array of one number system; it is copied.
    trace
        The transform that records it: for the engine's own use.

    Raises
    ------
    TypeError
        If ``data`` is integer or boolean: a derivative needs a continuum.

    Examples
    --------
    >>> import numpy as np, tinygrad_rnn as tg
    >>> w = tg.Tensor([1.0, 2.0])
    >>> loss = np.sum(w * w)
    >>> loss.backward()
    >>> w.grad.tolist()
    [2.0, 4.0]
    """

    __slots__ = ("_grad", "_origin", "_serial", "_trace", "_value")

    _grad: Array | None
    # How it was computed: the rule, the values and keywords it was given, and the Tensors those
    # values came from. None for a leaf.
    _origin: tuple[Rule, list[Any], dict[str, Any], list[Tensor | None]] | None
    _serial: int
    _trace: Trace
    _value: Array

    def __init__(self, data: Any, trace: Trace = OPEN_TAPE) -> None:
        if type(data) is not Tensor:
            data = np.array(data)
        elif trace is OPEN_TAPE:
            raise TypeError("Tensor(data) needs an array, got a Tensor. Use it as it is.")
        if data.dtype.kind not in "fcO":
            raise TypeError(
                f"A derivative needs floating-point numbers, got {data.dtype}. "
                "Write 2.0 for 2, or convert with .astype(float)."
            )
        self._value, self._trace, self._serial, self._origin = data, trace, next(_serials), None

    # -- what it is ---------------------------------------------------------------------------

    shape = property(lambda self: self._value.shape, doc="The lengths of the axes.")
    ndim = property(lambda self: self._value.ndim, doc="The number of axes.")
    size = property(lambda self: self._value.size, doc="The number of elements.")
    dtype = property(lambda self: self._value.dtype, doc="The type of the elements.")

    @property
    def data(self) -> Array:
        """The value, as a read-only view (or the Tensor of the outer trace)."""
        value = self._value
        return value if type(value) is Tensor else np.broadcast_to(value, value.shape)

    def item(self) -> Any:
        """Return the number inside a one-element Tensor, outside every trace."""
        return raw(self).item()

    def __len__(self) -> int:
        return len(self._value)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(raw(self))

    def __repr__(self) -> str:
        origin = f", from {self._origin[0].name}" if self._origin else ""
        return f"Tensor({raw(self)}, shape={self.shape}, dtype={self.dtype}{origin})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    # -- gradients ----------------------------------------------------------------------------

    grad = property(
        lambda self: getattr(self, "_grad", None),
        doc="The gradient that the last backward sweep left here; None if there was none.",
    )

    def backward(self, seed: Any = None) -> None:
        """Set ``.grad`` of every leaf this Tensor was computed from: the sum of seed · ∂self/∂leaf.

        Gradients are set, never accumulated, so a second call gives the same numbers. The record
        stays until the Tensors are dropped.

        Parameters
        ----------
        seed
            The cotangent of this Tensor, of its shape; may be left out for a scalar, where it is 1.

        Raises
        ------
        ValueError
            If the seed is missing for a non-scalar or has the wrong shape, or if the Tensor belongs
            to a running transform.
        """
        from tinygrad_rnn.autodiff.sweeps import ancestors, sweep_backward

        if self._trace is not OPEN_TAPE:
            raise ValueError(
                "backward() inside tg.grad, vjp or jvp, which sweep by themselves: return the loss."
            )
        if np.shape(seed) != self.shape:
            given = "none" if seed is None else f"shape {np.shape(seed)}"
            raise ValueError(
                f"backward() from shape {self.shape} needs a seed of that shape, got {given}. Sum "
                "to a scalar loss first, or pass the cotangent: t.backward(seed)."
            )
        leaves = [node for node in ancestors([self]) if node._origin is None]
        gradients = sweep_backward([self], [1 if seed is None else seed], leaves)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf._grad = gradient

    # -- NumPy's protocols --------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **keywords: Any) -> Any:
        if keywords or method != "__call__":
            raise TypeError(
                f"np.{ufunc.__name__} on Tensors is a plain call: no out= (for a += t write "
                "a = a + t), where= or dtype=, no .reduce and the like (use np.sum, np.cumsum)."
            )
        return apply(RULES[ufunc], args, keywords) if ufunc in RULES else _dispatch(ufunc, args, {})

    def __array_function__(self, f: Function, types: Any, args: Any, keywords: Any) -> Any:
        return _dispatch(f, args, keywords)

    __array__ = __float__ = __int__ = __index__ = __complex__ = _refusal(LOST)
    __setitem__ = sort = fill = put = partition = _refusal(
        "A Tensor cannot be changed in place: what was computed from it would no longer match. "
        "Build a new one: np.where(mask, new, t), np.concatenate([...]), np.stack([...]) or, to "
        "sort, t[np.argsort(t)]."
    )

    # -- operators and methods, NumPy's own -----------------------------------------------------

    __add__, __radd__ = _left(np.add), _right(np.add)
    __sub__, __rsub__ = _left(np.subtract), _right(np.subtract)
    __mul__, __rmul__ = _left(np.multiply), _right(np.multiply)
    __truediv__, __rtruediv__ = _left(np.divide), _right(np.divide)
    __pow__, __rpow__ = _left(np.power), _right(np.power)
    __matmul__, __rmatmul__ = _left(np.matmul), _right(np.matmul)
    __neg__, __pos__, __abs__ = _method(np.negative), _method(np.positive), _method(np.absolute)
    __lt__, __le__ = _method(np.less), _method(np.less_equal)
    __gt__, __ge__ = _method(np.greater), _method(np.greater_equal)
    __eq__, __ne__ = _method(np.equal), _method(np.not_equal)

    sum, mean, prod = _method(np.sum), _method(np.mean), _method(np.prod)
    max, min, clip, dot = _method(np.max), _method(np.min), _method(np.clip), _method(np.dot)
    trace, swapaxes, squeeze = _method(np.trace), _method(np.swapaxes), _method(np.squeeze)
    ravel, flatten, cumsum = _method(np.ravel), _method(np.ravel), _method(np.cumsum)
    __getitem__, astype = _method(getitem), _method(astype)
    std, var, copy = _method(np.std), _method(np.var), _method(np.copy)
    argmax, argmin, argsort = _method(np.argmax), _method(np.argmin), _method(np.argsort)
    T = property(_method(np.transpose), doc="The Tensor with its axes reversed.")

    def reshape(self, *shape: Any) -> Any:
        """np.reshape, with the shape as one tuple or as several integers."""
        return _dispatch(np.reshape, (self, shape[0] if len(shape) == 1 else shape), {})

    def transpose(self, *axes: Any) -> Any:
        """np.transpose, with the axes as one tuple or as several integers."""
        return _dispatch(np.transpose, (self, (axes[0] if len(axes) == 1 else axes) or None), {})
