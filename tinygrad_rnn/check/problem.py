"""The question a check answers: the gradient of one scalar, by arrays that have names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from fractions import Fraction
from typing import Any

import numpy as np

from tinygrad_rnn.functions import Array
from tinygrad_rnn.trees import flatten

Path = tuple[Any, ...]


class Problem:
    """φ(v) = Σ c · f(args), as a function of the real arrays v among the arguments.

    For a scalar f, c = 1. Otherwise the cotangent c is made of random integers, none of them zero:
    they are the same number in every number system.

    Attributes
    ----------
    names : list of str
        What to call each variable: the last key of its path, with what follows it.
    variables : list of ndarray
        The arrays v, in the order of the names.
    exact : bool
        Whether the variables are Fractions.
    deterministic : bool
        Whether f gave the same value twice.
    changed : list of str
        The variables that f changes in place. It is called on copies, so that none suffers.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        argnums: int | Sequence[int] | None,
        rng: np.random.Generator,
    ) -> None:
        self.f, self.args = f, as_tuple(args)
        self.alone = isinstance(argnums, int) or (argnums is None and len(self.args) == 1)
        self.argnums = _chosen(argnums, len(self.args))
        self._leaves, self._rebuild = flatten(self.args)
        places = dict(_walk(self._rebuild(list(range(len(self._leaves)))), ()))
        paths = [path for path, _ in sorted(places.items(), key=lambda item: item[1])]
        self._places = [
            i
            for i, (path, leaf) in enumerate(zip(paths, self._leaves, strict=True))
            if path[0] in self.argnums and _is_real(leaf)
        ]
        if not self._places:
            raise ValueError(
                "none of the arguments to check holds floating-point numbers or Fractions. "
                "Write 2.0 for 2, or convert with .astype(float)."
            )
        self.paths = [paths[i] for i in self._places]
        self.names = _names(f, self.paths)
        self.variables = [np.array(self._leaves[i]) for i in self._places]
        self.exact = self._check_numbers()
        given = list(map(_copy, self._leaves))
        outputs, self._rebuild_value = flatten(returned(f(*self._rebuild(given))))
        pairs = zip(self._places, self.names, strict=True)
        self.changed = [name for i, name in pairs if not _same(given[i], self._leaves[i])]
        again, _ = flatten(f(*self._rebuild(list(map(_copy, self._leaves)))))
        self.deterministic = len(again) == len(outputs) and all(map(_same, outputs, again))
        self._dtypes = [np.asarray(y).dtype for y in outputs]
        self._weights: list[Array] | None = None
        if len(outputs) != 1 or np.shape(outputs[0]) != ():
            self._weights = [_integers(np.shape(y), rng) for y in outputs]

    def _check_numbers(self) -> bool:
        exact = [v.dtype == object for v in self.variables]
        if any(exact) and not all(exact):
            raise TypeError(
                "the arguments mix Fractions with floats. Convert the floats: "
                "tinygrad_rnn.scalars.rational(array)."
            )
        if not any(exact):
            for name, v in zip(self.names, self.variables, strict=True):
                if not np.isfinite(v).all():
                    raise ValueError(
                        f"{name} has NaN or infinite entries: no gradient exists there."
                    )
        return all(exact)

    def cotangent(self, exact: bool) -> Any:
        """Return c as f returns its value: integers, or in its precision; None for a scalar f."""
        if self._weights is None:
            return None
        pairs = zip(self._weights, self._dtypes, strict=True)
        return self._rebuild_value([w.astype(object if exact else d) for w, d in pairs])

    def scaled(self, share: float) -> Problem:
        """Return the same problem at ``share`` times the variables."""
        other = copy(self)
        other.variables = [(share * v).astype(v.dtype) for v in self.variables]
        return other

    def arguments(self, variables: Sequence[Any]) -> tuple[Any, ...]:
        """Return the arguments of f with ``variables`` in their places: copies f may change."""
        leaves = list(self._leaves)
        for i, v in zip(self._places, variables, strict=True):
            leaves[i] = v
        return self._rebuild(list(map(_copy, leaves)))  # type: ignore[no-any-return]

    def __call__(self, *variables: Any) -> Any:
        """Return φ, in the number system of the variables."""
        outputs, _ = flatten(self.f(*self.arguments(variables)))
        if self._weights is None:
            return outputs[0]
        total: Any = 0
        for w, y in zip(self._weights, outputs, strict=True):
            total = total + np.sum(w * y)
        return total


def as_tuple(args: Any) -> tuple[Any, ...]:
    """Return the arguments of a function as a tuple; refuse an argument that stands alone."""
    if not isinstance(args, (list, tuple)):
        raise TypeError(
            "args must be the list or tuple of the function's arguments, got "
            f"{type(args).__name__}. Write [x] for x."
        )
    return tuple(args)


def returned(value: Any) -> Any:
    """Return what a function returned, unless that is nothing."""
    if not flatten(value)[0]:
        raise ValueError(f"the function returned {value!r}. Did you forget `return`?")
    return value


def _copy(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _same(a: Any, b: Any) -> bool:
    """Return whether two arrays are equal, NaN for NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))


def _chosen(argnums: int | Sequence[int] | None, n: int) -> list[int]:
    numbers = range(n) if argnums is None else [argnums] if isinstance(argnums, int) else argnums
    if any(not -n <= i < n for i in numbers):
        raise ValueError(f"argnums={argnums}, but there are {n} arguments.")
    return [i % n for i in numbers]


def _integers(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    return np.asarray(rng.integers(1, 128, shape) * rng.choice([-1, 1], shape))


def _is_real(leaf: Any) -> bool:
    array = np.asarray(leaf)
    if array.dtype == object:
        return all(isinstance(e, (Fraction, int)) for e in array.flat)
    if array.dtype.kind == "c" or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        raise TypeError(
            "gradients are checked for float16, float32, float64 and Fractions, got "
            f"{array.dtype}. Pass the real and the imaginary part as two arrays."
        )
    return array.dtype.kind == "f"


def _walk(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the leaves of a tree with their paths."""
    if isinstance(node, dict):
        for key, part in node.items():
            yield from _walk(part, (*path, key))
    elif isinstance(node, (tuple, list)):
        for i, part in enumerate(node):
            yield from _walk(part, (*path, i))
    elif node is not None:
        yield path, node


def names_of(f: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """Name every leaf of the arguments."""
    return _names(f, [path for path, _ in _walk(args, ())])


def _names(f: Callable[..., Any], paths: list[Path]) -> list[str]:
    """Name each path by its last key and the indices after it; in full where that is ambiguous."""
    full = []
    for first, *rest in paths:
        full.append([_parameter(f, first)])
        for key in rest:
            if isinstance(key, int):
                full[-1][-1] += f"[{key}]"
            else:
                full[-1].append(str(key))
    last = [name[-1] for name in full]
    unique = len(set(last)) == len(last)
    return last if unique else [".".join(name) for name in full]


def _parameter(f: Callable[..., Any], i: int) -> str:
    """Return the name of the i-th positional parameter of f."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # a built-in function
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if i < len(parameters) and parameters[i].kind in kinds:
        return parameters[i].name
    return f"args[{i}]"
