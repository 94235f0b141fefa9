"""Mistakes inside the step of a cell: wrong derivatives, paths and factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from tinygrad_rnn.check.layer.anatomy import SLOPES, Cut, Replacement
from tinygrad_rnn.check.layer.scene import Candidate, Scene, cut


def on_slopes(scene: Scene) -> Iterator[Candidate]:
    """Replace the derivative of each activation."""
    for name, kind in scene.surgeon.squashings.items():
        prime, place = f"{_symbol(kind)}'", f"slope {name}"
        formula = {"σ": f"{name}(1 − {name})", "tanh": f"1 − {name}²"}.get(kind, prime)
        of = "∂L/∂a" if name == "h" else f"∂L/∂a_{name}"
        of = of if len(name) == 1 else f"the gradient through {name}"
        for text, f in _slopes(kind, name):
            yield cut(place, text.format(of=of, name=name, prime=prime, formula=formula), f)


def _symbol(kind: str) -> str:
    return {"sigmoid": "σ"}.get(kind, kind)


def _slopes(kind: str, n: str) -> Iterator[tuple[str, Replacement]]:
    kind = _symbol(kind)
    d = SLOPES.get(kind)
    yield "{of} misses the factor {formula}", lambda e, t: np.ones_like(e[t][n])
    yield (
        "{of} has {prime} of the value, {prime}({name}), for {prime}(a)",
        ((lambda e, t: d(e[t][n])) if d else (lambda e, t: e[t][n] > 0)),
    )
    if d is not None:
        yield (
            "{of} has {prime} of the previous step",
            lambda e, t: 1 - e[t]["h_prev"] ** 2 if n == "h" else d(e[max(t - 1, 0)][f"a_{n}"]),
        )
        yield (
            "{of} has {prime} of the next step",
            (lambda e, t: d(e[min(t + 1, len(e) - 1)][f"a_{n}"])),
        )
        yield "{of} has the wrong sign", lambda e, t: -d(e[t][f"a_{n}"])
        yield "{of} has the factor {formula} twice", lambda e, t: d(e[t][f"a_{n}"]) ** 2
    else:
        yield (
            "{of} has {prime} of the next step",
            lambda e, t: np.where(e[min(t + 1, len(e) - 1)][f"a_{n}"] > 0, 1.0, 0.0),
        )
    yield "{of} has 1 − {name} for {formula}", lambda e, t: 1 - e[t][n]
    yield "{of} has 1 − {name}² for {formula}", lambda e, t: 1 - e[t][n] ** 2
    yield "{of} has 1 + {name}² for {formula}", lambda e, t: 1 + e[t][n] ** 2
    yield "{of} has {name}(1 − {name}) for {formula}", lambda e, t: e[t][n] * (1 - e[t][n])
    yield "{of} has {name}(1 + {name}) for {formula}", lambda e, t: e[t][n] * (1 + e[t][n])
    yield "{of} has {name} for {formula}", lambda e, t: e[t][n]
    yield "{of} has 1 − a² for {formula}", lambda e, t: 1 - e[t][f"a_{n}"] ** 2


def on_paths(scene: Scene) -> Iterator[Candidate]:
    """Replace what a weight's gradient sees, and what goes back through a weight."""
    gates_seen = {path.split(" → ")[1] for path in scene.surgeon.affines}
    for gate in gates_seen if len(gates_seen) > 1 else ():
        places = [p for p in scene.surgeon.affines if p.endswith(f"→ {gate}")]
        yield cut(
            [f"path {p}" for p in places],
            f"gate {gate} is missing in what goes back to x_t and h_{{t−1}}",
            lambda e, t: np.zeros(()),
        )
    yield from _on_all_inputs()
    for weight in {"W_h", "W_c"} & set(scene.surgeon.affines.values()):
        places = [f"path {p}" for p, w in scene.surgeon.affines.items() if w == weight]
        yield cut(
            places, f"{weight} is not transposed on the way back", lambda e, t: np.ones((1, 1))
        )
    own = "ifgo" if "f" in scene.clean[0] else "rz" if "r" in scene.clean[0] else ""
    for order in list(permutations(own))[1:]:
        yield (
            f"the δ of the gates are put together in the order {' '.join(order)}",
            lambda s, o=order: s.gradient(order=dict(zip(o, own, strict=True))),  # type: ignore[misc]
        )
    by_weight: dict[tuple[str, str], list[str]] = {}
    for path, weight in scene.surgeon.affines.items():
        source, gate = path.split(" → ")
        by_weight.setdefault((weight, source), []).append(gate)
    for (weight, source), gates in by_weight.items():
        place = f"input of ∂L/∂{weight} from {source}"
        for other, text in _arrays(source):
            yield cut(place, f"∂L/∂{weight} has {text} for {_pretty(source)}", other)
            for gate in gates if len(gates) > 1 else ():
                yield cut(
                    f"input of ∂L/∂{weight}{gate} from {source}",
                    f"∂L/∂{weight} of gate {gate} has {text} for {_pretty(source)}",
                    other,
                )
        square = source != "x"
        if square:
            yield cut(
                f"path {source}",
                f"{weight} is not transposed on the way back to {_pretty(source)}",
                lambda e, t: np.ones((1, 1)),
            )
        for gate in gates:
            path = f"path {source} → {gate}"
            back = f"on the way back to {_pretty(source)}"
            yield cut(path, f"gate {gate} is missing {back}", lambda e, t: np.zeros(()))
            yield cut(path, f"gate {gate} has the wrong sign {back}", lambda e, t: -np.ones(()))
            if square:
                text = f"{weight} of gate {gate} is not transposed {back}"
                yield cut(path, text, lambda e, t: np.ones((1, 1)))
        yield cut(
            f"path {source}", f"nothing goes back to {_pretty(source)}", lambda e, t: np.zeros(())
        )


def _on_all_inputs() -> Iterator[Candidate]:
    """Mistakes in which step's x and h_{t−1} the gradients of all weights see."""
    sources = {"x": "W_x", "h_prev": "W_h"}

    def seen(step: Callable[[int, int], int]) -> Cut:
        return Cut(
            {
                f"input of ∂L/∂{w} from {n}": lambda e, t, n=n: e[step(t, len(e))][n]  # type: ignore[misc]
                for n, w in sources.items()
            }
        )

    yield (
        "every step's weight gradient has x and h of the last step",
        lambda s: s.gradient(seen(lambda t, T: T - 1)),
    )
    reversed_in_time = seen(lambda t, T: T - 1 - t)
    yield (
        "the gradients of the preactivations are left in the order of the backward sweep",
        lambda s: (g := s.gradient(reversed_in_time)) | {"x": g["x"][::-1]},
    )


def _pretty(name: str) -> str:
    return {
        "r ∘ h_prev": "r ∘ h_{t−1}",
        "1 − z": "(1 − z)",
        "h_prev": "h_{t−1}",
        "c_prev": "c_{t−1}",
        "x": "x_t",
        "h": "h_t",
        "u": "(h_{t−1} W_h + b_h)",
    }.get(name, name)


def _arrays(source: str) -> Iterator[tuple[Replacement, str]]:
    """Yield what may stand in the place of the input ``source`` of a weight, and its name."""
    last = -1
    if source == "x":
        yield lambda e, t: e[min(t + 1, len(e) - 1)]["x"], "x_{t+1}"
        yield lambda e, t: e[max(t - 1, 0)]["x"], "x_{t−1}"
        yield lambda e, t: e[last - t]["x"], "the reversed x"
        yield lambda e, t: e[last]["x"], "x_T"
        return
    own = {"h_prev": "h", "c_prev": "c_t", "c_t": "c_prev", "r ∘ h_prev": "h_prev"}[source]
    yield lambda e, t: e[t][own], _pretty(own)
    if source in ("h_prev", "c_prev"):
        yield (
            lambda e, t: e[t][source] * (t > 0),
            f"0 for the initial state at step 1, not {source}",
        )
        yield lambda e, t: e[max(t - 1, 0)][source], f"{source[0]}_{{t−2}}"
        yield lambda e, t: e[last][own] if t == 0 else e[t][source], "the last state at step 1"
        yield lambda e, t: e[last - t][source], "the reversed states"
        yield lambda e, t: e[t][own if t == 0 else source], f"{_pretty(own)} at step 1"
        yield lambda e, t: e[last][own], "the last state at every step"


def on_factors(scene: Scene) -> Iterator[Candidate]:
    """Replace the other factor in the derivative of a product."""
    width = (scene.N, scene.cell.H)
    peepholes = [p for p in scene.surgeon.products if p[0].startswith("w_c")]
    for chosen in (peepholes[:2], peepholes) if peepholes else ():
        places = [f"factor of {right} in {left} ∘ {right}" for left, right in chosen]
        names = ", ".join(left[-1] for left, _ in chosen)
        yield cut(
            places,
            f"nothing goes back through the peepholes of {names}",
            lambda e, t: np.zeros(width),
        )
    usable = [n for n, a in scene.clean[0].items() if a.shape == width]
    for left, right in scene.surgeon.products:
        for this, other in ((left, right), (right, left)):
            place = f"factor of {this} in {left} ∘ {right}"
            of = f"∂({_pretty(left)} ∘ {_pretty(right)})/∂{_pretty(this)}"

            def named(name: str) -> Replacement:
                return lambda e, t: e[t][name]

            yield cut(place, f"{of} is dropped", lambda e, t: np.zeros(width))
            yield cut(
                place, f"{of} misses the factor {_pretty(other)}", lambda e, t: np.ones(width)
            )
            for name in usable:
                if name != other:
                    yield cut(place, f"{of} has {_pretty(name)} for {_pretty(other)}", named(name))
            if other in usable:
                yield from _of_other_steps(place, of, other)
                yield cut(
                    place,
                    f"{of} has the wrong sign",
                    lambda e, t, n=other: -e[t][n],  # type: ignore[misc]
                )


def _of_other_steps(place: str, of: str, other: str) -> Iterator[Candidate]:
    """Take the factor from another step: the cache is read, or was written, at the wrong one."""
    steps: list[tuple[str, Callable[[int, int], int]]] = [
        ("the step after", lambda t, T: min(t + 1, T - 1)),
        ("the step before", lambda t, T: max(t - 1, 0)),
        ("the last step", lambda t, T: T - 1),
    ]
    for n in (other, *([f"{other[0]}_t" if other[0] == "c" else "h"] * other.endswith("_prev"))):
        for text, at in steps:
            yield cut(
                place,
                f"{of} has {_pretty(n)} of {text} for {_pretty(other)}",
                lambda e, t, n=n, at=at: e[at(t, len(e))][n],  # type: ignore[misc]
            )
