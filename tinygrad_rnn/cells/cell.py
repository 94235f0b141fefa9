"""What the cells share: sizes, a dict of parameters, and validation in one place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.autodiff.tensor import Tensor, raw
from tinygrad_rnn.functions import Array
from tinygrad_rnn.scalars.element import Element, elementwise

Params = Mapping[str, Array]
State = tuple[Array, ...]
Letters = tuple[str, ...]


@dataclass(frozen=True)
class Cell(ABC):
    """A recurrent cell: state_t = step(params, x_t, state_{t−1}), with its derivatives.

    A subclass names its parameters and their shapes in :attr:`layout`, its state in ``state_names``
    (each component has shape (N, H); the first is the output h), and writes three formulas:

    - :meth:`step`, the equation, on any number system and on Tensors;
    - :meth:`jacobian`, ∂state_t/∂state_{t−1} in closed form;
    - :meth:`local`, the immediate gradient ∂⁺, with state_{t−1} held fixed.

    The last two are plain NumPy and share with the differentiation engine only the functions σ',
    tanh' and the like.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn.cells import Cell
    >>> cell = tg.LSTMCell(D=3, H=4)
    >>> isinstance(cell, Cell), cell.state_names, list(cell.layout)
    (True, ('h', 'c'), ['W_x', 'W_h', 'b'])
    """

    D: int
    H: int

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        for name in ("D", "H"):
            size = getattr(self, name)
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
                raise ValueError(f"{name} must be a positive integer, got {size!r}.")

    @property
    @abstractmethod
    def layout(self) -> dict[str, Letters]:
        """Return each parameter's shape in letters, such as ``("D", "4H")``."""

    @abstractmethod
    def step(self, params: Params, x_t: Array, state: State) -> State:
        """Return state_t from x_t (N, D) and state_{t−1}, each component (N, H)."""

    @abstractmethod
    def jacobian(self, params: Params, x_t: Array, state: State) -> Array:
        """Return ∂state_t/∂state_{t−1}, shape (N, S, S) = (batch, out, in)."""

    @abstractmethod
    def local(self, params: Params, x_t: Array, state: State, d_state: State) -> dict[str, Array]:
        """Return ∂⁺L for every parameter and ``"x"``, given ∂L/∂state_t; state_{t−1} is fixed."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return each parameter's shape.

        Examples
        --------
        >>> import tinygrad_rnn as tg
        >>> tg.RNNCell(D=3, H=4).shapes
        {'W_x': (3, 4), 'W_h': (4, 4), 'b': (4,)}
        """
        return dict(self._shapes)

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        sizes = self.sizes
        return {name: measure(letters, sizes) for name, letters in self.layout.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Return what the letters of :attr:`layout` stand for."""
        return {"D": self.D, "H": self.H}

    def init(self, rng: np.random.Generator | int, dtype: Any = np.float64) -> dict[str, Array]:
        """Draw every parameter uniformly from ±1/√H, as PyTorch does.

        Raises
        ------
        TypeError
            If ``dtype`` is not a floating type.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> params = tg.RNNCell(D=3, H=4).init(np.random.default_rng(0))
        >>> params["W_x"].shape, bool((abs(params["W_x"]) <= 0.5).all())
        ((3, 4), True)
        """
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"init draws floats: dtype must be a floating type, got {dtype!r}.")
        rng = np.random.default_rng(rng)
        bound = self.H**-0.5
        return {
            name: rng.uniform(-bound, bound, shape).astype(dtype)
            for name, shape in self.shapes.items()
        }

    def initial_state(self, N: int, dtype: Any = np.float64) -> State:
        """Return the zero state for N sequences, each component (N, H).

        Examples
        --------
        >>> import tinygrad_rnn as tg
        >>> [s.shape for s in tg.LSTMCell(D=3, H=4).initial_state(2)]
        [(2, 4), (2, 4)]
        """
        return tuple(np.zeros((N, self.H), dtype) for _ in self.state_names)

    def check(self, params: Params) -> None:
        """Refuse parameters that are missing, unknown, or of the wrong shape.

        Raises
        ------
        TypeError
            If ``params`` is no dict.
        ValueError
            Saying which parameter, what was expected and what came.

        Examples
        --------
        >>> import numpy as np, tinygrad_rnn as tg
        >>> cell = tg.RNNCell(D=3, H=4)
        >>> cell.check({**cell.init(0), "W_h": np.zeros((3, 4))})
        Traceback (most recent call last):
        ValueError: W_h must have shape (H, H) = (4, 4), got (3, 4). Did you pass W_x?
        """
        if not isinstance(params, Mapping):
            raise TypeError(f"params must be a dict of arrays, got {type(params).__name__}.")
        shapes = self._shapes
        if {name: getattr(p, "shape", None) for name, p in params.items()} == shapes:
            return
        expected, got = list(self.layout), list(params)
        if set(expected) != set(got):
            raise ValueError(
                f"{type(self).__name__} has the parameters {', '.join(expected)}; "
                f"missing: {', '.join(n for n in expected if n not in got) or 'none'}; "
                f"unknown: {', '.join(n for n in got if n not in expected) or 'none'}."
            )
        for name, letters in self.layout.items():
            array = value(params[name])
            shape = array.shape
            if shape == shapes[name]:
                continue
            meant = [other for other, s in shapes.items() if s == shape]
            if meant:
                hint = f" Did you pass {meant[0]}?"
            elif shape == shapes[name][::-1]:
                hint = " Did you pass it transposed? Weights multiply from the right, x @ W_x."
            else:
                hint = ""
            check_shape(name, array, letters, self.sizes, hint)


def split(a: Array, gates: int) -> list[Array]:
    """Cut (..., gates·H) into its ``gates`` blocks of width H, in order."""
    H = a.shape[-1] // gates
    return [a[..., k * H : (k + 1) * H] for k in range(gates)]


def diag(v: Array) -> Array:
    """Return diag(v) for each row of v (N, H): shape (N, H, H)."""
    return v[:, :, None] * np.eye(v.shape[1], dtype=v.dtype)


def rows(v: Array, W: Array) -> Array:
    """Return diag(v) @ W for each row of v (N, H): shape (N, H, ·)."""
    return v[:, :, None] * W


def value(a: Array) -> Array:
    """Return the numbers behind a Tensor, or ``a`` as an array."""
    return np.asarray(raw(a))


def measure(letters: Letters, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Turn a shape in letters into numbers: ``("3", "4H")`` with H = 2 is (3, 8)."""
    return tuple([factor * sizes[s] if s else factor for factor, s in map(_parsed, letters)])


@cache
def _parsed(s: str) -> tuple[int, str]:
    """Read "3" as (3, ""), "H" as (1, "H"), "4H" as (4, "H")."""
    return (int(s), "") if s.isdigit() else (int(s[:-1] or 1), s[-1])


def check_shape(
    name: str, a: Array, letters: Letters, sizes: Mapping[str, int], hint: str = ""
) -> None:
    """Refuse an array whose shape is not the one its letters ask for.

    Raises
    ------
    ValueError
        Saying the shape in letters, in numbers, and what came.
    """
    shape = measure(letters, sizes)
    if a.shape != shape:
        comma = "," if len(letters) == 1 else ""
        raise ValueError(
            f"{name} must have shape ({', '.join(letters)}{comma}) = {shape}, got {a.shape}.{hint}"
        )


def finite(arrays: Collection[Array]) -> bool:
    """Say whether all numbers of float and complex arrays are finite."""
    # A small sum of squares is finite if all are, and may overflow: then look at each.
    if sum([a.size for a in arrays]) < 2**13:
        flat = np.concatenate([a.ravel() for a in arrays])
        return math.isfinite(np.vdot(flat, flat).real) or bool(np.isfinite(flat).all())
    return all(map(_finite, arrays))


def _finite(a: Array) -> bool:
    if a.dtype.kind == "c" or a.size == 0:
        return bool(np.isfinite(a).all())
    steps = max(1, 2**16 * len(a) // a.size)  # in parts, which stay in the cache
    parts = (a[t : t + steps] for t in range(0, len(a), steps))
    return all(math.isfinite(part.max()) and math.isfinite(part.min()) for part in parts)


@cache
def _system(dtype: np.dtype[Any]) -> str:
    """Return the name of the real numbers of ``dtype``, or "object"."""
    return "object" if dtype.hasobject else np.finfo(dtype).dtype.name


def check_numbers(arrays: Mapping[str, Array]) -> Mapping[str, Array]:
    """Refuse integers, a mixture of precisions or number systems, and values that are not finite.

    A real array may accompany a complex one of the same precision. The elements of object arrays
    are their number system's own affair. Floats beside balls are the numbers they are: they are
    returned as balls, for computed among themselves they would round.

    Raises
    ------
    TypeError
        For integer arrays, and for float32 with float64 or floats with Fractions.
    ValueError
        For NaN and infinities.
    """
    floats: dict[str, Array] = {}
    first, system, exact, dtype, own = "", "", "", None, ""
    for name, given in arrays.items():
        a = value(given)
        if a.dtype is not dtype:  # most often all arrays have one
            dtype = a.dtype
            if dtype.kind not in "fcO":
                raise TypeError(
                    f"{name} has dtype {dtype}; gradients need floats or exact numbers. "
                    "Cast it, e.g. with .astype(np.float64)."
                )
            own = _system(dtype)
            if own == "object":
                exact = exact or name
            elif not system:
                first, system = name, own
            elif own != system:
                raise TypeError(
                    f"{first} is {system} but {name} is {own}: computing with both would change "
                    f"the precision silently. Cast one of them, e.g. {name} with "
                    f".astype({system!r})."
                )
        if own != "object":
            floats[name] = a
    if floats and not finite(floats.values()):
        name, a = next((name, a) for name, a in floats.items() if not finite([a]))
        at = tuple(np.argwhere(~np.isfinite(a))[0].tolist())
        raise ValueError(f"{name} must be finite, got {a[at]} at index {at}.")
    return _floats_lifted(arrays, first, exact) if first and exact else arrays


def _floats_lifted(arrays: Mapping[str, Array], first: str, exact: str) -> Mapping[str, Array]:
    """Bring floats into the number system beside them, where a float is a number of it."""
    elements = (e for a in map(value, arrays.values()) if a.dtype.hasobject for e in a.flat)
    lift: Any = next((e._lift for e in elements if isinstance(e, Element)), None)

    def lifted(a: Array) -> Array:
        if value(a).dtype.hasobject:
            return a
        return a + lift(0) if type(a) is Tensor else elementwise(lift, a)

    real = all(value(a).dtype.kind != "c" for a in arrays.values())
    try:
        if lift is not None and real and lift(0.5) is not NotImplemented:
            return {name: lifted(a) for name, a in arrays.items()}
    except TypeError:  # the system refuses floats
        pass
    raise TypeError(
        f"{first} holds floats but {exact} exact numbers: computing with both would round "
        f"silently. Convert {first}: tinygrad_rnn.scalars.rational(array)."
    )
