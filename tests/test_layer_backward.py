"""Checking what is not one cell: a masked bidirectional network with dropout and a head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg

T, N, D, H = 4, 3, 2, 3


def inputs() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    cells = {f"{name}_{k}": a for k in "fb" for name, a in tg.RNNCell(D, H).init(rng).items()}
    return cells | {
        "x": rng.standard_normal((T, N, D)),
        "W_out": rng.standard_normal((2 * H, 2)),
        "mask": rng.integers(0, 2, (T, N, 2 * H)),
        "keep": np.arange(T)[:, None, None] < np.array([4, 2, 3])[None, :, None],
    }


def network(v: dict[str, Any]) -> tuple[Any, Any]:
    """The specification: two directions, each masked by the lengths, dropout, and a head."""
    cell, halves = tg.RNNCell(D, H), []
    for k, order in (("f", range(T)), ("b", range(T - 1, -1, -1))):
        h, hs = np.zeros((N, H)), [None] * T
        params = {name: v[f"{name}_{k}"] for name in cell.layout}
        for t in order:
            (new,) = cell.step(params, v["x"][t], (h,))
            h = np.where(v["keep"][t], new, h)
            hs[t] = h
        halves.append(np.stack(hs))
    both = np.concatenate(halves, axis=2)
    return both, (v["mask"] * both) @ v["W_out"]


class Taped:
    """A backward pass by the tape; ``spoil`` may change its result."""

    def __init__(self, spoil: Any = lambda g: None) -> None:
        self.spoil = spoil

    def run(self, v: dict[str, Any]) -> Any:
        names = [n for n, a in v.items() if a.dtype.kind == "f"]
        constants = {n: a for n, a in v.items() if n not in names}
        dtype = v["x"].dtype
        outputs, pull = tg.vjp(lambda w: network({**constants, **w}), {n: v[n] for n in names})
        return tuple(o.astype(dtype) for o in outputs), (outputs, pull)

    def backward(self, d: Any, cache: Any) -> Any:
        outputs, pull = cache
        g = pull(
            tuple(np.zeros(o.shape) if c is None else c for c, o in zip(d, outputs, strict=True))
        )
        self.spoil(g[0])
        return g[0]


def check(spoil: Any = lambda g: None) -> tg.LayerReport:
    layer = Taped(spoil)
    return tg.check_backward(layer.run, layer.backward, inputs(), reference=network)


def test_a_correct_network_is_consistent() -> None:
    report = check()
    assert report.verdict == "CONSISTENT", str(report)


@pytest.mark.parametrize("name", ["W_h_b", "W_out", "x", "b_f"])
def test_each_gradient_is_named(name: str) -> None:
    def spoil(g: dict[str, Any]) -> None:
        g[name] = g[name] * (1 + g[name].dtype.type(2.0**-20))

    report = check(spoil)
    assert (report.verdict, report.culprits) == ("REFUTED", [name])


def test_directions_that_overwrite_each_other_are_found() -> None:
    report = check(lambda g: g.update(W_x_f=g["W_x_b"]))
    assert report.culprits == ["W_x_f"]


def test_a_second_call_is_told() -> None:
    calls: list[int] = []

    class Once(Taped):
        def backward(self, d: Any, cache: Any) -> Any:
            g = super().backward(d, cache)
            calls.append(id(cache))
            return {n: a * calls.count(id(cache)) for n, a in g.items()}

        def run(self, v: dict[str, Any]) -> Any:
            calls.clear()
            return super().run(v)

    report = tg.check_backward(Once().run, Once().backward, inputs(), reference=network)
    assert report.conditions == ["only on the second call: when backward is called twice"]


def test_a_missing_output_cotangent_may_not_matter() -> None:
    class Headless(Taped):
        def backward(self, d: Any, cache: Any) -> Any:
            return super().backward((None, d[1]), cache)

    layer = Headless()
    report = tg.check_backward(layer.run, layer.backward, inputs(), reference=network)
    assert report.verdict == "REFUTED"
    assert "only with a cotangent on outputs[0]" in report.conditions


def test_a_wrong_forward_pass_is_told_apart() -> None:
    layer = Taped()
    report = tg.check_backward(
        layer.run,
        layer.backward,
        inputs(),
        reference=lambda v: (network(v)[0], 2 * network(v)[1]),
    )
    assert report.culprits == ["outputs"]
    assert "outputs[1] is wrong" in str(report)


def test_a_backward_pass_that_always_raises_is_not_refuted() -> None:
    def refuse(g: Any) -> None:
        raise KeyError("W_z")

    report = check(refuse)
    assert (report.verdict, report.culprits) == ("INCONCLUSIVE", [])
    assert "no gradient came that could be refuted: it raises KeyError: 'W_z'" in str(report)


def test_a_backward_pass_that_sometimes_raises_is_refuted() -> None:
    class Headless(Taped):
        def backward(self, d: Any, cache: Any) -> Any:
            return super().backward((d[0], d[1] + 0), cache)  # d[1] may be None

    layer = Headless()
    report = tg.check_backward(layer.run, layer.backward, inputs(), reference=network)
    assert (report.verdict, report.culprits) == ("REFUTED", [])
    assert "it raises TypeError" in str(report)


def test_misuse_is_explained() -> None:
    layer = Taped()
    with pytest.raises(ValueError, match="at least one array of floats"):
        tg.check_backward(layer.run, layer.backward, {}, reference=network)
    with pytest.raises(TypeError, match="wrt names"):
        tg.check_backward(layer.run, layer.backward, inputs(), reference=network, wrt=["mask"])


def bare(v: dict[str, Any]) -> Any:
    return np.tanh(v["x"])


@pytest.mark.parametrize(
    ("run", "reference", "expected"),
    [
        (lambda v: (bare(v), v), None, r"run must return \(outputs,\), cache, got \(ndarray"),
        (bare, None, r"run must return \(outputs,\), cache, got ndarray of shape \(3,\)"),
        (lambda v: ((bare(v),), v), bare, r"reference must return \(outputs,\), got ndarray"),
    ],
)
def test_a_bare_array_of_outputs_is_refused(run: Any, reference: Any, expected: str) -> None:
    with pytest.raises(TypeError, match=expected):
        tg.check_backward(run, lambda d, v: {"x": d[0]}, X, reference=reference)


# ---- the forward pass as its own specification ------------------------------------------------


def black_box(f: Any, dtype: Any = float) -> Any:
    def run(v: dict[str, Any]) -> Any:
        return (np.array(f(v["x"]), dtype),), v["x"]

    return run


X = {"x": np.array([0.75, -1.5, 0.25])}


def test_the_complex_step_is_not_believed_where_it_is_wrong() -> None:
    # To a complex step |x| is constant.
    def buffered(v: dict[str, Any]) -> Any:
        out = np.empty(3, np.asarray(v["x"]).dtype)
        out[...] = np.abs(v["x"])
        return (out,), v["x"]

    report = tg.check_backward(buffered, lambda d, x: {"x": d[0] * np.sign(x)}, X)
    assert (report.verdict, report.notes) == (
        "CONSISTENT",
        [
            "the specification is the forward pass itself, by difference quotients: "
            "give reference= for more"
        ],
    )
    wrong = tg.check_backward(buffered, lambda d, x: {"x": 0 * x}, X)
    assert wrong.verdict == "REFUTED"


def test_rounding_to_float32_inside_is_no_mistake() -> None:
    run = black_box(lambda x: np.tanh(np.float32(x)))
    slope = lambda d, x: {"x": d[0] * (1 - np.tanh(x) ** 2)}  # noqa: E731
    assert tg.check_backward(run, slope, X).verdict == "CONSISTENT"
    assert tg.check_backward(run, lambda d, x: {"x": d[0]}, X).verdict == "REFUTED"


def test_what_differences_cannot_see_is_inconclusive() -> None:
    run = black_box(lambda x: 1 + 1e-20 * x)
    report = tg.check_backward(run, lambda d, x: {"x": 1e-20 * d[0]}, X)
    assert report.verdict == "INCONCLUSIVE"
    assert "differences cannot see the gradient of x" in str(report)
    assert tg.check_backward(run, lambda d, x: {"x": d[0]}, X).verdict == "REFUTED"


def test_a_forward_pass_that_fails_is_not_refuted() -> None:
    def run(v: dict[str, Any]) -> Any:
        raise ZeroDivisionError("no units")

    report = tg.check_backward(run, lambda d, x: {}, X)
    assert report.verdict == "INCONCLUSIVE"
    assert "run raises ZeroDivisionError: no units" in str(report)


def test_a_loss_may_be_a_python_float() -> None:
    def run(v: dict[str, Any]) -> Any:
        return (float(np.sum(np.tanh(v["x"]))),), v["x"]

    slope = lambda d, x: {"x": d[0] * (1 - np.tanh(x) ** 2)}  # noqa: E731
    report = tg.check_backward(run, slope, X)
    assert report.verdict == "CONSISTENT", str(report)
    assert tg.check_backward(run, lambda d, x: {"x": d[0] + 0 * x}, X).verdict == "REFUTED"


def test_a_forward_pass_that_cannot_be_measured_is_not_refuted() -> None:
    def run(v: dict[str, Any]) -> Any:
        if not np.array_equal(v["x"], X["x"]):
            raise KeyError("another x")
        return (np.array(np.tanh(v["x"]), float),), v["x"]

    report = tg.check_backward(run, lambda d, x: {"x": 0 * x}, X)
    assert report.verdict == "INCONCLUSIVE"
    assert "near the inputs, where it is measured, it raises KeyError: 'another x'" in str(report)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (np.zeros(3), "backward must return a dict, got ndarray"),
        ((np.zeros(3),), "backward must return a dict, got tuple"),
        ({"dx": np.zeros(3)}, "backward must return the gradients x, got dx"),
    ],
)
@pytest.mark.parametrize("reference", [None, lambda v: (np.tanh(v["x"]),)])
def test_a_backward_pass_that_returns_something_else_is_not_refuted(
    got: Any, said: str, reference: Any
) -> None:
    report = tg.check_backward(black_box(np.tanh), lambda d, x: got, X, reference=reference)
    assert (report.verdict, report.culprits) == ("INCONCLUSIVE", [])
    assert said in str(report)


# ---- the first wrong step ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pooled", "first"),
    [
        (lambda x, f: (f(x),), 1),  # (T, N, D)
        (lambda x, f: (f(x).sum(axis=2),), 1),  # a loss for each step, (T, N)
        (lambda x, f: (f(x).sum(axis=0),), None),  # (N, D) has no time axis
        (lambda x, f: (f(x).sum(axis=1),), None),  # (T, D) may be anything
    ],
)
@pytest.mark.parametrize("batch", [3, 4])
def test_a_step_is_named_only_where_there_is_time(pooled: Any, first: Any, batch: int) -> None:
    def run(v: dict[str, Any]) -> Any:
        return pooled(v["x"], np.tanh), v

    def backward(d: Any, v: dict[str, Any]) -> Any:
        _, pull = tg.vjp(lambda x: pooled(x, np.tanh), v["x"])
        return {"x": 2 * pull(d)[0]}

    x = np.random.default_rng(0).standard_normal((4, batch, 2))
    report = tg.check_backward(run, backward, {"x": x})
    assert (report.verdict, report.first_wrong_step) == ("REFUTED", first)
