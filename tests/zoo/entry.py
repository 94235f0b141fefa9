"""What is known about a layer of the zoo: whether it is wrong, where, when, and how."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tinygrad_rnn as tg

Array = Any
Params = Mapping[str, Array]
Gradients = dict[str, Array]

CELLS: dict[str, Callable[[int, int], Any]] = {
    "rnn": tg.RNNCell,
    "rnn sigmoid": lambda D, H: tg.RNNCell(D, H, "sigmoid"),
    "rnn relu": lambda D, H: tg.RNNCell(D, H, "relu"),
    "rnn leaky_relu": lambda D, H: tg.RNNCell(D, H, "leaky_relu"),
    "rnn identity": lambda D, H: tg.RNNCell(D, H, "identity"),
    "gru minimal": lambda D, H: tg.GRUCell(D, H, "minimal"),
    "gru": lambda D, H: tg.GRUCell(D, H, "reset_before"),
    "gru reset_after": lambda D, H: tg.GRUCell(D, H, "reset_after"),
    "lstm": tg.LSTMCell,
    "lstm diagonal": lambda D, H: tg.LSTMCell(D, H, "diagonal"),
    "lstm full": lambda D, H: tg.LSTMCell(D, H, "full"),
}


@dataclass(frozen=True)
class Entry:
    """A layer and the truth about it.

    A layer has ``forward(params, x, *state) -> (outputs, cache)`` and ``backward(d_outputs, cache)
    -> dict``; ``outputs`` is the tuple (hs, h_T), for the LSTM (hs, h_T, c_T), and any entry of
    ``d_outputs`` may be None.

    Attributes
    ----------
    id : str
        The name of its class, in lower case with hyphens.
    layer : callable
        Makes a new layer.
    cell : str
        What the layer claims to be, a key of `CELLS`.
    faulty : bool
        Whether it is wrong.
    culprits : frozenset of str
        The gradients that are wrong, over all inputs; ``{"outputs"}`` for a wrong forward pass.
    first_wrong_step : int, str or None
        The smallest s such that a cotangent on h_s alone finds a wrong gradient, or, for a wrong
        forward pass, that h_s is wrong; None where the step plays no part. A string is a formula
        in T.
    condition : str or None
        Where the mistake shows, a key of `zoo.battery.HOLDS`; None: always.
    mistake : str
        Its short name; for a correct layer, what is unusual about it.
    source : str
        Where such code was seen.
    map : dict
        How the layer's layout differs from the cell's; empty: not at all.
    """

    id: str
    layer: Callable[[], Any]
    cell: str
    faulty: bool
    culprits: frozenset[str] = frozenset()
    first_wrong_step: int | str | None = None
    condition: str | None = None
    mistake: str = ""
    source: str = ""
    map: dict[str, Any] = field(default_factory=dict)


REGISTRY: list[Entry] = []
MORE = {"gru reset_after": " b_h", "lstm diagonal": " w_c", "lstm full": " W_c"}


def everything(cell: str) -> str:
    """Name all gradients of a cell."""
    state = " h0 c0" if cell.startswith("lstm") else " h0"
    return "W_x W_h b" + MORE.get(cell, "") + " x" + state


def faulty(
    cell: str,
    culprits: str,
    mistake: str,
    source: str,
    *,
    step: int | str | None = 1,
    condition: str | None = None,
    map: dict[str, Any] | None = None,
) -> Callable[[Any], Any]:
    """Enter the decorated class or factory as a faulty layer; "all" names every gradient."""

    def enter(make: Any) -> Any:
        names = everything(cell) if culprits == "all" else culprits
        REGISTRY.append(
            Entry(
                kebab(make.__name__),
                make,
                cell,
                True,
                frozenset(names.split()),
                step,
                condition,
                mistake,
                source,
                map or {},
            )
        )
        return make

    return enter


def correct(
    cell: str, unusual: str, source: str, *, map: dict[str, Any] | None = None
) -> Callable[[Any], Any]:
    """Enter the decorated class or factory as a correct layer."""

    def enter(make: Any) -> Any:
        REGISTRY.append(
            Entry(
                kebab(make.__name__),
                make,
                cell,
                False,
                mistake=unusual,
                source=source,
                map=map or {},
            )
        )
        return make

    return enter


def kebab(name: str) -> str:
    """Turn RNNPrimeTwice or rnn_prime_twice into rnn-prime-twice."""
    parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return "-".join(parts).lower()
