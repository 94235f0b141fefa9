"""Who catches the faulty layers of the zoo: check_layer, and the usual gradient checkers.

The others compare a layer's backward pass with differences of its own forward pass, at their
default settings and one random input of the sizes that check_layer begins with. A wrong forward
pass they cannot see, and they are not asked for more than a verdict.
"""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.progress import track
from rich.table import Table

import tinygrad_rnn as tg
from benchmarks.timing import console, parser, save, with_threads
from tests.zoo import CELLS, ENTRIES, Entry
from tinygrad_rnn.check.layer.layout import as_map
from tinygrad_rnn.check.layer.trials import Trial

Array = Any
D, H = Trial.D, Trial.H


@dataclass(frozen=True)
class Finding:
    """What a checker says of a layer; None: it does not say."""

    checker: str
    layer: str
    refuted: bool
    seconds: float
    culprits: bool | None = None
    step: bool | None = None
    explained: bool | None = None
    remark: str = ""


Checker = Callable[[Entry], Finding]


# ---- ours -------------------------------------------------------------------------------------


def by_check_layer(entry: Entry) -> Finding:
    """Explained: the condition is named, or else a mistake that reproduces the layer's numbers."""
    start = time.perf_counter()
    report = tg.check_layer(entry.layer(), CELLS[entry.cell](D, H), map=entry.map)
    seconds = time.perf_counter() - start
    step = entry.first_wrong_step
    if isinstance(step, str):
        step = eval(step, {"T": Trial.T})
    condition = entry.condition or "unconditional"
    return Finding(
        "check_layer",
        entry.id,
        report.verdict != "CONSISTENT",  # inconclusive counts, also against a correct layer
        seconds,
        frozenset(report.culprits) == entry.culprits,
        report.first_wrong_step == step,
        bool(report.mistakes) or any(condition in text for text in report.conditions),
        "; ".join([*report.conditions, *report.mistakes]),
    )


# ---- the others -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A layer as a function of a list of arrays: its parameters, x and the initial state."""

    layer: Any
    names: list[str]
    arrays: list[Array]
    params: int  # how many of them

    def forward(self, arrays: Sequence[Array]) -> tuple[tuple[Array, ...], Any]:
        params = dict(zip(self.names, arrays[: self.params], strict=False))
        with np.errstate(all="ignore"):
            outputs, cache = self.layer.forward(params, *arrays[self.params :])
        return outputs if isinstance(outputs, tuple) else (outputs,), cache

    def backward(self, d_outputs: tuple[Array, ...], cache: Any) -> list[Array | None]:
        with np.errstate(all="ignore"):
            d = d_outputs if len(d_outputs) > 1 else d_outputs[0]
            gradients = self.layer.backward(d, cache)
        return [gradients.get(name) for name in self.names]


def subject(entry: Entry, T: int = Trial.T, N: int = Trial.N) -> Subject:
    cell, layout, rng = CELLS[entry.cell](D, H), as_map(entry.map), np.random.default_rng(0)
    shapes = layout.shapes(cell)
    params = [rng.standard_normal(shape) / math.sqrt(H) for shape in shapes.values()]
    x = np.ascontiguousarray(layout.sequence(rng.standard_normal((T, N, D))))
    initial = [rng.uniform(-0.9, 0.9, (N, H)) for _ in cell.state_names]
    names = [*shapes, "x", *(f"{s}0" for s in cell.state_names)]
    return Subject(entry.layer(), names, [*params, x, *initial], len(params))


def verdict(name: str, check: Callable[[Entry], Any]) -> Checker:
    """Make a checker of what raises an error, or returns one."""

    def checker(entry: Entry) -> Finding:
        start, remark = time.perf_counter(), ""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                remark = check(entry) or ""
            except Exception as error:
                remark = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        return Finding(name, entry.id, bool(remark), time.perf_counter() - start, remark=remark)

    return checker


def relative_error(entry: Entry) -> str:
    """Compare with central differences, h = 1e-5: |a − n| / max(1e-8, |a| + |n|) above 1e-5?"""
    s, rng = subject(entry, T=3, N=2), np.random.default_rng(1)
    outputs, cache = s.forward(s.arrays)
    d_outputs = tuple(rng.standard_normal(y.shape) for y in outputs)
    analytic = s.backward(tuple(d.copy() for d in d_outputs), cache)

    def loss() -> float:
        return sum(
            float(np.sum(y * d)) for y, d in zip(s.forward(s.arrays)[0], d_outputs, strict=True)
        )

    for name, array, a in zip(s.names, s.arrays, analytic, strict=True):
        if a is None:
            return f"no gradient {name}"
        for index in np.ndindex(array.shape):
            there = array[index]
            array[index] = there + 1e-5
            above = loss()
            array[index] = there - 1e-5
            n = (above - loss()) / 2e-5
            array[index] = there
            if not abs(a[index] - n) / max(1e-8, abs(a[index]) + abs(n)) <= 1e-5:
                return f"{name}{list(index)}: {a[index]:.6g}, numerically {n:.6g}"
    return ""


def by_torch() -> Checker:
    torch = importlib.import_module("torch")

    def check(entry: Entry) -> None:
        s = subject(entry)

        class Layer(torch.autograd.Function):  # type: ignore[misc]
            @staticmethod
            def forward(ctx: Any, *tensors: Any) -> Any:
                outputs, ctx.cache = s.forward([t.detach().numpy().copy() for t in tensors])
                return tuple(torch.tensor(y.copy()) for y in outputs)

            @staticmethod
            def backward(ctx: Any, *d_outputs: Any) -> Any:
                found = s.backward(tuple(d.numpy().copy() for d in d_outputs), ctx.cache)
                return tuple(None if g is None else torch.tensor(g.copy()) for g in found)

        torch.autograd.gradcheck(
            Layer.apply, [torch.tensor(a, requires_grad=True) for a in s.arrays]
        )

    return verdict("torch.autograd.gradcheck", check)


def by_jax() -> Checker:
    """The layer is called back from JAX. Its cache cannot pass through: backward runs forward."""
    jax = importlib.import_module("jax")
    check_grads = importlib.import_module("jax.test_util").check_grads
    jax.config.update("jax_enable_x64", True)

    def check(entry: Entry) -> None:
        s = subject(entry)
        like = [jax.ShapeDtypeStruct(y.shape, y.dtype) for y in s.forward(s.arrays)[0]]

        def call(*arrays: Any) -> Any:
            return list(s.forward([np.array(a) for a in arrays])[0])

        def call_back(arrays: Any, d_outputs: Any) -> Any:
            _, cache = s.forward([np.array(a) for a in arrays])
            found = s.backward(tuple(np.array(d) for d in d_outputs), cache)
            pairs = zip(arrays, found, strict=True)
            return [np.zeros(a.shape) if g is None else np.asarray(g, a.dtype) for a, g in pairs]

        @jax.custom_vjp
        def layer(*arrays: Any) -> Any:
            return jax.pure_callback(call, like, *arrays)

        def pull(arrays: Any, d_outputs: Any) -> Any:
            shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays]
            return tuple(jax.pure_callback(call_back, shapes, arrays, d_outputs))

        layer.defvjp(lambda *arrays: (layer(*arrays), arrays), pull)
        check_grads(layer, s.arrays, order=1, modes=["rev"])

    return verdict("jax.test_util.check_grads", check)


# ---- the table --------------------------------------------------------------------------------


def checkers() -> list[Checker]:
    found: list[Checker] = [by_check_layer, verdict("relative error", relative_error)]
    for name, make in (("PyTorch", by_torch), ("JAX", by_jax)):
        try:
            found.append(make())
        except ImportError:
            console.print(f"{name} is not installed: left out. pip install .\\[bench]")
    return found


def share(values: Sequence[bool | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{sum(known)} / {len(known)}" if known else "–"


def summary(findings: Sequence[Finding]) -> Table:
    entries = {entry.id: entry for entry in ENTRIES}
    columns = "caught", "forward", "false alarms", "culprits", "first step", "explained"
    table = Table("checker", *columns, "s in all", "s at most", title="The zoo")
    for checker in dict.fromkeys(f.checker for f in findings):
        own = [f for f in findings if f.checker == checker]
        wrong = [f for f in own if entries[f.layer].faulty]
        forward = [f for f in wrong if "outputs" in entries[f.layer].culprits]
        backward = [f for f in wrong if f not in forward]
        table.add_row(
            checker,
            share([f.refuted for f in backward]),
            share([f.refuted for f in forward]),
            share([f.refuted for f in own if not entries[f.layer].faulty]),
            share([f.culprits for f in wrong]),
            share([f.step for f in wrong]),
            share([f.explained for f in wrong]),
            f"{sum(f.seconds for f in own):.1f}",
            f"{max(f.seconds for f in own):.2f}",
        )
    return table


def missed(findings: Sequence[Finding]) -> Table:
    """List the faulty layers that somebody passes, and the correct ones that somebody refutes."""
    names = list(dict.fromkeys(f.checker for f in findings))
    table = Table("layer", *names, title="Mistakes passed, and false alarms")
    for entry in ENTRIES:
        own = {f.checker: f.refuted for f in findings if f.layer == entry.id}
        if own and (set(own.values()) != {entry.faulty}) and "outputs" not in entry.culprits:
            words = {True: "", False: "passed" if entry.faulty else "refuted"}
            table.add_row(entry.id, *(words[own[n] == entry.faulty] for n in names))
    return table


def main() -> None:
    arguments = parser(__doc__).parse_args()
    entries = ENTRIES[::12] if arguments.quick else ENTRIES
    findings = []
    for checker in checkers():
        name = checker(entries[0]).checker  # what compiles and loads does so here
        findings += [checker(entry) for entry in track(entries, name, console=console)]
    console.print(missed(findings), summary(findings))
    save(arguments.json, [asdict(finding) for finding in findings])


if __name__ == "__main__":
    with_threads(1, main)
