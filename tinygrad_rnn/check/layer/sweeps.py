"""Mistakes in the loop over time: its order, what a step sees, and what is carried on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.autodiff import vjp
from tinygrad_rnn.check.layer.anatomy import Surgeon
from tinygrad_rnn.check.layer.scene import Candidate, Gradients, Scene
from tinygrad_rnn.functions import Array

State = dict[str, Array]
Carry = Callable[[State, State, State], State]  # of what came, what goes back, d of the last state


def on_sweeps(scene: Scene) -> Iterator[Candidate]:
    """Run the sweep in another way, with the right step."""
    yield (
        "the sweep over time runs forward: it must begin at the last step",
        lambda s: sweep(s, order=range(s.T)),
    )
    kept: list[tuple[str, Callable[[int, int], int]]] = [
        ("every step uses what was kept of the step after it", lambda t, T: min(t + 1, T - 1)),
        ("every step uses what was kept of the step before it", lambda t, T: max(t - 1, 0)),
        ("every step uses what was kept of the last step", lambda t, T: T - 1),
        ("every step uses what was kept of the first step", lambda t, T: 0),
    ]
    for text, at in kept:
        yield text, lambda s, at=at: sweep(s, at=lambda t: at(t, s.T))  # type: ignore[misc]
    names = scene.cell.state_names
    for which in [tuple(names), *([(n,) for n in names] if len(names) > 1 else [])]:
        what = " and ".join(which)

        def only(
            change: Carry, which: tuple[str, ...] = which, **options: Any
        ) -> Callable[[Scene], Gradients]:
            def carry(came: State, new: State, last: State) -> State:
                changed = change(came, new, last)
                return {n: changed[n] if n in which else new[n] for n in new}

            return lambda s: sweep(s, carry=carry, **options)

        yield (
            f"what goes back through {what} is added to what came, not put in its place",
            only(lambda came, new, last: {n: came[n] + new[n] for n in new}),
        )
        yield (
            f"what goes back through {what} is never handed on: every step gets what the first "
            "one of the sweep got",
            only(lambda came, new, last: came),
        )
        yield (
            f"the cotangent of {' and of '.join(f'{n}_T' for n in which)} is added at every step",
            only(lambda came, new, last: {n: new[n] + last[n] for n in new}, to_initial=False),
        )
    if len(names) > 1:
        yield (
            "what goes back through h and through c is exchanged",
            lambda s: sweep(s, carry=lambda came, new, last: {"h": new["c"], "c": new["h"]}),
        )
    if scene.map.stacked:
        yield (
            f"what goes back to [{', '.join(scene.map.stacked)}] is cut into its two parts "
            "in the other order",
            lambda s: sweep(s, cut=True),
        )


def sweep(
    s: Scene,
    order: Iterable[int] | None = None,
    at: Callable[[int], int] = lambda t: t,
    carry: Carry = lambda came, new, last: new,
    to_initial: bool = True,
    cut: bool = False,
) -> Gradients:
    """Return the gradient by a loop over the steps, each with its own pullback.

    ``to_initial`` says whether the initial state gets what is carried, or what the last step of the
    sweep gives.
    """
    pulls = _pulls(s)
    d_hs, *d_final = s.cotangents()
    zero = np.zeros((s.N, s.cell.H))
    names = s.cell.state_names
    last = {n: d_final[k] if k < len(d_final) else zero for k, n in enumerate(names)}
    total: Gradients = {n: np.zeros(np.shape(g)) for n, g in s.true.items()}
    back = last
    for t in reversed(range(s.T)) if order is None else order:
        came = back
        (g,) = pulls[at(t)]([d_hs[t] + came["h"], *(came[n] for n in names[1:])])
        if cut:
            both = [g["x"], g["h0"]] if s.map.stacked == "xh" else [g["h0"], g["x"]]
            whole = np.concatenate(both, axis=1)
            first, second = np.split(whole, [both[1].shape[1]], axis=1)
            g |= {"x": first, "h0": second} if s.map.stacked == "hx" else {"h0": first, "x": second}
        total["x"][t] = g["x"]
        for n in s.params:
            total[n] += g[n]
        new = {n: g[f"{n}0"] for n in names}
        back = carry(came, new, last)
    back = back if to_initial else new
    return total | {f"{n}0": back[n] for n in names}


def _pulls(s: Scene) -> list[Any]:
    """Return the pullback of every step, by its parameters, input and state; made once."""
    if not s.pulls:
        own = {n: np.asarray(s.inputs[n], float) for n in s.params}
        for e in s.clean:
            state = {f"{n}0": e[f"{n}_prev"] for n in s.cell.state_names}

            def step(v: Any) -> Any:
                before = tuple(v[f"{n}0"] for n in s.cell.state_names)
                params = s.map.canonical(s.cell, {n: v[n] for n in s.params})
                return list(Surgeon(s.cell).step(params, v["x"], before))

            s.pulls.append(vjp(step, own | state | {"x": np.asarray(e["x"], float)})[1])
    return s.pulls
