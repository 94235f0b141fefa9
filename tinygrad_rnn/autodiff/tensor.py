"""Tensor: an array that remembers how it was computed.

User code is plain NumPy. When a NumPy function meets a Tensor, NumPy hands the call over (protocols
NEP 13 and NEP 18); `apply` looks up the function's rule, computes the value with plain NumPy and
records one node: the rule, the values it was given, and the Tensors those came from. The record is
never consulted here; `transforms.py` sweeps over it, forward for tangents, backward for cotangents.

Every Tensor belongs to a *trace*, one for each running transform, and traces nest. An operation is
recorded by its innermost trace, on values that may themselves be Tensors of outer traces; that is
all it takes for derivatives of derivatives to be right.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, final

import numpy as np

Array = Any  # an ndarray of any number system, a NumPy scalar, or a Tensor

RULES: dict[Callable[..., Any], Rule] = {}
DERIVED: dict[Callable[..., Any], Callable[..., Any]] = {}
UNTRACED: set[Callable[..., Any]] = set()


@final
class Rule:
    """A primitive: its value, its Jacobian–vector product and its vector–Jacobian product.

    ``jvps[i](t, y, *values)`` is ∂y/∂aᵢ·t and ``vjps[i](g, y, *values)`` is g·∂y/∂aᵢ, for the result
    ``y`` of ``value(*values)``; None marks an argument without a derivative. Where the arguments
    share their work, ``jvps`` and ``vjps`` are single functions of all of them instead:
    ``jvps(tangents, y, *values)`` and ``vjps(g, y, *values) -> one cotangent per argument``.
    """

    __slots__ = ("accumulate", "jvps", "keywords", "name", "value", "vjps")

    def __init__(
        self,
        value: Callable[..., Any],
        jvps: tuple[Any, ...] | Callable[..., Any],
        vjps: tuple[Any, ...] | Callable[..., Any],
        keywords: tuple[str, ...] = (),
        accumulate: Callable[..., None] | None = None,
    ) -> None:
        self.value, self.jvps, self.vjps = value, jvps, vjps
        self.keywords, self.accumulate = keywords, accumulate
        self.name = public_name(value)

    def __repr__(self) -> str:
        return f"Rule({self.name})"


@final
class Trace:
    """One running transform (or, at level 0, the open tape that ``Tensor(...)`` records on)."""

    __slots__ = ("level", "live")
    _levels = itertools.count()

    def __init__(self) -> None:
        self.level = next(Trace._levels)
        self.live = True

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *_: object) -> None:
        self.live = False


OPEN_TAPE = Trace()
_serials = itertools.count()
_new_tensor = object.__new__  # past __init__, which makes leaves
NO_KEYWORDS: dict[str, Any] = {}


def public_name(f: Callable[..., Any]) -> str:
    """Return ``np.tanh`` for np.tanh: the name a user would type."""
    if isinstance(f, np.ufunc):
        return f"np.{f.__name__}"
    module = (getattr(f, "__module__", None) or "").replace("numpy", "np")
    return f"{module}.{f.__name__}" if module.split(".")[0] == "np" else f.__name__


def raw(x: Any) -> Any:
    """Strip every trace from ``x``; what is not a Tensor is returned as it is."""
    while type(x) is Tensor:
        x = x._value
    return x


def apply(rule: Rule, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Compute ``rule`` on ``args`` and record it on the innermost trace among them."""
    trace: Trace | None = None
    for a in args:
        if type(a) is Tensor:
            other = a._trace
            if trace is None or (other is not trace and other.level > trace.level):
                trace = other
    if trace is None:
        return rule.value(*args, **keywords)
    if not trace.live:
        raise ValueError(
            f"{rule.name} met a Tensor of a transform that has ended. It was probably stored in a "
            "global or a closure during an earlier tg.grad/vjp/jvp call: return it as a result "
            "instead."
        )
    if keywords:
        _check_keywords(rule, keywords)
    values = []
    parents: list[Tensor | None] = []
    for a in args:
        if type(a) is Tensor and a._trace is trace:
            values.append(a._value)
            parents.append(a)
        else:
            values.append(a)
            parents.append(None)
    y = rule.value(*values, **keywords)
    if type(y) is not np.ndarray and type(y) is not Tensor:
        y = np.asarray(y)  # full reductions and 0-d ufuncs return bare scalars
        _refuse_demotion(rule, values)
    elif y.dtype.hasobject:
        _refuse_demotion(rule, values)
    node = _new_tensor(Tensor)
    node._value = y
    node._trace = trace
    node._serial = next(_serials)
    node._origin = (rule, values, keywords, parents)
    return node


def _check_keywords(rule: Rule, keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        if name not in rule.keywords:
            known = ", ".join(rule.keywords) or "none"
            raise TypeError(
                f"{rule.name} on a Tensor does not support the keyword {name!r} (supported: {known})."
            )
        if type(value) is Tensor:
            raise TypeError(f"{rule.name}: pass the Tensor {name!r} by position, not by keyword.")


def _refuse_demotion(rule: Rule, values: list[Any]) -> None:
    """Fraction + float is a float: refuse to lose exactness without a word."""
    arrays = [np.asarray(raw(v)) for v in values if not isinstance(v, (tuple, list, str))]
    inexact = any(a.dtype.kind in "fc" for a in arrays)
    exact = any(a.dtype.hasobject and a.size and isinstance(a.flat[0], Fraction) for a in arrays)
    if inexact and exact:
        raise TypeError(
            f"{rule.name} mixes Fractions with floats, which would round silently. Convert the "
            "floats first: tinygrad_rnn.scalars.rational(array)."
        )


def _unsupported(f: Callable[..., Any]) -> TypeError:
    return TypeError(
        f"{public_name(f)} has no rule for Tensors. Write it with functions that have one (see "
        "tinygrad_rnn.autodiff.rules), or teach it: "
        f"tg.differentiable(partials=[...])({public_name(f)})."
    )


def getitem(x: Array, index: Any) -> Array:
    """x[index]."""
    return x[index]


def astype(x: Array, dtype: Any) -> Array:
    """x.astype(dtype)."""
    return x.astype(dtype)


def _binary(f: Callable[..., Any], swapped: bool = False) -> Callable[[Any, Any], Any]:
    def operator(self: Tensor, other: Any) -> Any:
        return apply(RULES[f], (other, self) if swapped else (self, other), NO_KEYWORDS)

    return operator


def _untraced(f: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: f(raw(self), raw(other))


def _method(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **keywords: Tensor._dispatch(f, (self, *args), keywords)


@final
class Tensor:
    """An array that remembers how it was computed, so that it can be differentiated.

    Parameters
    ----------
    data
        Floats, complex numbers, or an object array of one number system; it is copied.

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
    __hash__ = None  # type: ignore[assignment]  # == compares element-wise, as in NumPy

    _value: Array
    _trace: Trace
    _serial: int
    # How it was computed: the rule, the values and keywords it was given, and the Tensors those
    # values came from. None for a leaf.
    _origin: tuple[Rule, list[Any], dict[str, Any], list[Tensor | None]] | None
    _grad: Array

    def __init__(self, data: Any) -> None:
        if type(data) is Tensor:
            raise TypeError("Tensor(data) needs an array, got a Tensor. Use it as it is.")
        self._become_leaf(np.array(data), OPEN_TAPE)

    def _become_leaf(self, value: Array, trace: Trace) -> Tensor:
        if value.dtype.kind not in "fcO":
            raise TypeError(
                f"A derivative needs floating-point numbers, got {value.dtype}. "
                "Write 2.0 for 2, or convert with .astype(float)."
            )
        self._value, self._trace, self._serial = value, trace, next(_serials)
        self._origin = None
        return self

    @staticmethod
    def leaf(value: Any, trace: Trace) -> Tensor:
        """Make the Tensor at which a transform starts; its value may belong to an outer trace."""
        value = value if type(value) is Tensor else np.asarray(value)
        return Tensor.__new__(Tensor)._become_leaf(value, trace)

    # -- what it is ---------------------------------------------------------------------------

    @property
    def data(self) -> Array:
        """The value, as a read-only view (or the Tensor of the outer trace)."""
        if type(self._value) is Tensor:
            return self._value
        view = self._value.view()
        view.flags.writeable = False
        return view

    @property
    def shape(self) -> tuple[int, ...]:
        return self._value.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return len(self._value.shape)

    @property
    def size(self) -> int:
        return self._value.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._value.dtype  # type: ignore[no-any-return]

    @property
    def T(self) -> Tensor:
        return np.transpose(self)  # type: ignore[call-overload,no-any-return]

    def item(self) -> Any:
        """Return the number inside a one-element Tensor, outside every trace."""
        return raw(self).item()

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d Tensor: it is a single number.")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(raw(self))

    def __repr__(self) -> str:
        origin = f", from {self._origin[0].name}" if self._origin else ""
        return f"Tensor({raw(self)}, shape={self.shape}, dtype={self.dtype}{origin})"

    # -- gradients ----------------------------------------------------------------------------

    @property
    def grad(self) -> Array | None:
        """The gradient that the last backward sweep left here; None if there was none."""
        return getattr(self, "_grad", None)

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
        from tinygrad_rnn.autodiff.sweeps import leaves_of, sweep_backward

        if self._trace is not OPEN_TAPE:
            raise ValueError(
                "backward() inside tg.grad, vjp, jvp or checkpoint: the transform does the backward "
                "sweep. Return the loss instead."
            )
        if seed is None:
            if self.shape != ():
                raise ValueError(
                    f"backward() without a seed needs a scalar, got shape {self.shape}. Sum it to a "
                    "loss, or pass the cotangent: t.backward(seed)."
                )
            seed = 1
        leaves = leaves_of(self)
        for leaf, g in zip(leaves, sweep_backward([self], [seed], leaves), strict=True):
            leaf._grad = g

    # -- NumPy's protocols --------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **keywords: Any) -> Any:
        if not keywords and method == "__call__" and ufunc in RULES:
            return apply(RULES[ufunc], args, keywords)
        if method != "__call__":
            raise TypeError(
                f"np.{ufunc.__name__}.{method} has no rule for Tensors. Use np.sum, np.prod, "
                "np.cumsum, or an explicit expression."
            )
        if keywords.get("out") is not None:
            raise TypeError(
                f"np.{ufunc.__name__} cannot write a Tensor into an existing array (out= or an "
                "in-place operator such as a += t). Write a = a + t."
            )
        return self._dispatch(ufunc, args, keywords)

    def __array_function__(
        self, f: Callable[..., Any], _types: Any, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        return self._dispatch(f, args, keywords)

    @staticmethod
    def _dispatch(f: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if f in RULES:
            return apply(RULES[f], args, keywords)
        if f in DERIVED:
            return DERIVED[f](*args, **keywords)
        if f in UNTRACED:
            return f(*map(raw, args), **{k: raw(v) for k, v in keywords.items()})
        raise _unsupported(f)

    # -- misuse -------------------------------------------------------------------------------

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError(
            "Converting a Tensor to an array would lose its derivative. Drop np.asarray/np.array "
            "(NumPy functions take Tensors directly); to build an array from Tensors use np.stack or "
            "np.concatenate instead of assignment; for the bare numbers use t.data."
        )

    def __float__(self) -> float:
        raise TypeError(
            "float(t), int(t) and the math module would lose a Tensor's derivative. Use NumPy's "
            "functions (np.sin, not math.sin), or t.item() for the bare number."
        )

    __int__ = __index__ = __complex__ = __float__  # type: ignore[assignment]

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            "A Tensor cannot be changed in place: what was computed from it would no longer match. "
            "Build a new one: np.where(mask, new, t), np.concatenate([...]) or np.stack([...])."
        )

    # -- operators and methods, NumPy's own -----------------------------------------------------

    __add__, __radd__ = _binary(np.add), _binary(np.add, swapped=True)
    __sub__, __rsub__ = _binary(np.subtract), _binary(np.subtract, swapped=True)
    __mul__, __rmul__ = _binary(np.multiply), _binary(np.multiply, swapped=True)
    __truediv__, __rtruediv__ = _binary(np.divide), _binary(np.divide, swapped=True)
    __pow__, __rpow__ = _binary(np.power), _binary(np.power, swapped=True)
    __matmul__, __rmatmul__ = _binary(np.matmul), _binary(np.matmul, swapped=True)
    __neg__, __pos__, __abs__ = _method(np.negative), _method(np.positive), _method(np.absolute)
    __lt__, __le__ = _untraced(np.less), _untraced(np.less_equal)
    __gt__, __ge__ = _untraced(np.greater), _untraced(np.greater_equal)
    __eq__, __ne__ = _untraced(np.equal), _untraced(np.not_equal)  # type: ignore[assignment]

    sum, mean, prod = _method(np.sum), _method(np.mean), _method(np.prod)
    max, min, cumsum = _method(np.max), _method(np.min), _method(np.cumsum)
    dot, trace, clip = _method(np.dot), _method(np.trace), _method(np.clip)
    ravel, flatten, squeeze = _method(np.ravel), _method(np.ravel), _method(np.squeeze)
    swapaxes = _method(np.swapaxes)

    def __getitem__(self, index: Any) -> Tensor:
        return apply(RULES[getitem], (self, index), {})  # type: ignore[no-any-return]

    def reshape(self, *shape: Any) -> Tensor:
        """np.reshape, with the shape as one tuple or as several integers."""
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)  # type: ignore[call-overload,no-any-return]

    def transpose(self, *axes: Any) -> Tensor:
        """np.transpose, with the axes as one tuple or as several integers."""
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)  # type: ignore[call-overload,no-any-return]

    def astype(self, dtype: Any) -> Tensor:
        """Convert to another precision; the derivative is converted back."""
        return apply(RULES[astype], (self, dtype), {})  # type: ignore[no-any-return]
