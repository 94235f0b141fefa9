"""The backward sweep written out, as the chain rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff.sweeps import Cotangents
from tinygrad_rnn.autodiff.tensor import Rule, Tensor, raw
from tinygrad_rnn.functions import Array
from tinygrad_rnn.inside.names import Names, checked, number

__all__ = ["Explanation", "Step", "explain"]


@dataclass(frozen=True)
class Step:
    """What one node passes back to one of the nodes it was computed from.

    ``partial`` is ∂node/∂parent by this argument, entry by entry, or None where the derivative is
    no such product; ``formula`` says what is done to the cotangent; ``term`` is the result, which
    is added to ``before`` (None if it is the first), and ``total`` is the cotangent of the parent
    so far.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> w = tg.Tensor(3.0)
    >>> step = tg.explain(w * w, w=w).steps[-1]
    >>> step.node, step.parent, float(step.partial), float(step.before), float(step.total)
    ('L', 'w', 3.0, 3.0, 6.0)
    """

    node: str
    parent: str
    formula: str
    partial: Array | None
    term: Array
    before: Array | None
    total: Array


@dataclass(frozen=True)
class Explanation:
    """The backward sweep as the chain rule; printed, it reads from top to bottom.

    ``values`` and ``expressions`` belong to every node by its name, in the order of computation;
    ``steps`` are those of the sweep; ``gradients`` are what it leaves at the leaves.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> w = tg.Tensor(3.0)
    >>> told = tg.explain(w * w, w=w)
    >>> told.expressions, float(told.gradients["w"])
    ({'w': '', 'L': 'w * w'}, 6.0)
    """

    output: str
    seed: Array
    values: dict[str, Array]
    expressions: dict[str, str]
    steps: list[Step]
    gradients: dict[str, Array]

    def __str__(self) -> str:
        computed = {name: text for name, text in self.expressions.items() if text}
        width = max((len(f"{n} = {text}") for n, text in computed.items()), default=0)
        lines = ["forward"]
        lines += [
            f"  {f'{name} = {text}':{width}}  = {number(self.values[name])}"
            for name, text in computed.items()
        ]
        lines += ["", "backward", f"  ∂{self.output}/∂{self.output} = {number(self.seed)}"]
        node = None
        for step in self.steps:
            if step.node != node:
                node = step.node
                lines.append(f"  {node} = {self.expressions[node]}")
            lines += self._told(step)
        lines += ["", "gradients"]
        lines += [
            f"  ∂{self.output}/∂{name} = {number(g)}" + (f"  shape {g.shape}" if g.ndim else "")
            for name, g in self.gradients.items()
        ]
        return "\n".join(lines)

    def _told(self, step: Step) -> Iterator[str]:
        left = f"    ∂{self.output}/∂{step.parent}"
        sign = "=" if step.before is None else "+="
        yield f"{left} {sign} {step.formula} = {number(step.term)}"
        if step.before is not None:
            yield f"{left}  = {number(step.before)} + {number(step.term)} = {number(step.total)}"

    __repr__ = __str__


def explain(tensor: Tensor, seed: Any = None, /, **names: Any) -> Explanation:
    """Write out the backward sweep from ``tensor``: the chain rule, step by step, with its numbers.

    Every node v of the record passes its cotangent ∂L/∂v on to those it was computed from, times
    ∂v/∂parent; where several arrive they add up. No ``.grad`` is set.

    Parameters
    ----------
    tensor
        The L whose derivatives are asked for.
    seed
        Its cotangent, of its shape; may be left out for a scalar, where it is 1.
    **names
        What to call the Tensors and arrays that took part: ``w=w``, or ``**params``. Other leaves
        are x1, x2, …, other nodes v1, v2, …, and ``tensor`` is L.

    Returns
    -------
    An Explanation: print it, or read its ``steps`` and ``gradients``.

    Raises
    ------
    TypeError
        If ``tensor`` is no Tensor.
    ValueError
        If the seed is missing for a non-scalar or has the wrong shape.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> w, b = tg.Tensor(2.0), tg.Tensor(1.0)
    >>> print(tg.explain((w * 3.0 + b) ** 2, w=w, b=b))
    forward
      v1 = w * 3.0  = 6
      v2 = v1 + b   = 7
      L = v2 ** 2   = 49
    <BLANKLINE>
    backward
      ∂L/∂L = 1
      L = v2 ** 2
        ∂L/∂v2 = ∂L/∂L · ∂L/∂v2 = 1 · 14 = 14
      v2 = v1 + b
        ∂L/∂v1 = ∂L/∂v2 · ∂v2/∂v1 = 14 · 1 = 14
        ∂L/∂b = ∂L/∂v2 · ∂v2/∂b = 14 · 1 = 14
      v1 = w * 3.0
        ∂L/∂w = ∂L/∂v1 · ∂v1/∂w = 14 · 3 = 42
    <BLANKLINE>
    gradients
      ∂L/∂w = 42
      ∂L/∂b = 14
    """
    checked("explain", tensor)
    if np.shape(seed) != tensor.shape:
        given = "none" if seed is None else f"shape {np.shape(seed)}"
        raise ValueError(
            f"explain() of shape {tensor.shape} needs a seed of that shape, got {given}. Sum to a "
            "scalar first, or pass the cotangent: tg.explain(t, seed)."
        )
    called = Names(tensor, names)
    cotangents = Cotangents()
    cotangents.add(tensor, 1 if seed is None else seed)
    start = cotangents[tensor._serial]
    steps = []
    while cotangents.queue:
        node = heappop(cotangents.queue)[1]
        g = cotangents.take(node)
        for i, parent, contribution in _passed_on(node, g):
            before = cotangents.get(parent._serial)
            before = None if before is None else np.array(raw(before))
            alone = Cotangents()
            alone.add(parent, contribution)
            term = alone.take(parent)
            cotangents.add(parent, term)
            total = np.array(raw(cotangents[parent._serial]))
            formula, partial = _formula(node, i, parent, g, called)
            steps.append(
                Step(called[node], called[parent], formula, partial, raw(term), before, total)
            )
    leaves = [node for node in called.nodes if node._origin is None]
    return Explanation(
        called.output,
        raw(start),
        {called[node]: raw(node) for node in called.nodes},
        {called[node]: called.expression(node) for node in called.nodes},
        steps,
        {called[x]: raw(cotangents.get(x._serial, np.zeros_like(raw(x)))) for x in leaves},
    )


def _passed_on(node: Tensor, g: Array) -> Iterator[tuple[int, Tensor, Array]]:
    """Yield what a node passes back, as the sweep does: (argument, parent, contribution)."""
    if node._origin is None:
        return
    rule, values, keywords, parents = node._origin
    if not isinstance(rule.vjps, tuple):
        found = rule.vjps(g, node._value, *values)
    else:
        found = [
            None if parent is None or vjp is None else vjp(g, node._value, *values, **keywords)
            for parent, vjp in zip(parents, rule.vjps)  # noqa: B905  # options have no product
        ]
    for i, (parent, contribution) in enumerate(zip(parents, found)):  # noqa: B905
        if parent is not None and contribution is not None:
            yield i, parent, contribution


def _formula(
    node: Tensor, i: int, parent: Tensor, g: Array, called: Names
) -> tuple[str, Array | None]:
    """Return what is done to the cotangent ∂L/∂node, and the partial derivative by entries."""
    assert node._origin is not None
    rule, values, keywords, parents = node._origin
    cotangent = f"∂{called.output}/∂{called[node]}"
    if isinstance(rule.vjps, tuple) and rule.jvps is rule.vjps:  # element-wise
        ones = np.ones_like(raw(node._value))
        partial = np.asarray(raw(rule.vjps[i](ones, node._value, *values, **keywords)))
        summed = "" if parent.shape == node.shape else ", summed as it was broadcast"
        times = f"{cotangent} · ∂{called[node]}/∂{called[parent]}"
        return f"{times} = {number(g)} · {number(partial)}{summed}", partial
    if rule.name == "np.matmul" and all(np.ndim(v) <= 2 for v in values):
        pairs = zip(values, parents, strict=True)
        a, b = (called.argument(v) if p is None else called[p] for v, p in pairs)
        return _matmul(cotangent, i, a, b, *map(np.ndim, values)), None
    if rule.name == "np.sum":
        return f"{cotangent} for every entry", None
    return f"{cotangent} pulled back through {_plain(rule)}", None


def _matmul(g: str, i: int, a: str, b: str, rows: int, columns: int) -> str:
    if rows == columns == 1:
        return f"{g} * {(b, a)[i]}"
    if i == 0:
        return f"np.outer({g}, {b})" if columns == 1 else f"{g} @ {b}.T"
    return f"np.outer({a}, {g})" if rows == 1 else f"{a}.T @ {g}"


def _plain(rule: Rule) -> str:
    return "the index" if rule.name == "getitem" else str(rule.name)
