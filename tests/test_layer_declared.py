"""A layer that is declared in another way than it is: nothing is refuted that is not wrong."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_tree import ROOT
from test_layer import Layer
from typer.testing import CliRunner

import tinygrad_rnn as tg
from tinygrad_rnn.cli import app

torch = pytest.importorskip("torch")
PARTS = ("W_x", "W_h", "b")
RNN, AFTER, BEFORE = tg.RNNCell(3, 4), tg.GRUCell(3, 4, "reset_after"), tg.GRUCell(3, 4)


class ByHand(torch.nn.Module):
    """The GRU of PyTorch's documentation, written by hand, batch first."""

    def __init__(self, D: int = 3, H: int = 4) -> None:
        super().__init__()
        shapes = {"weight_ih": (3 * H, D), "weight_hh": (3 * H, H), "bias_ih": 3 * H}
        for name, shape in (shapes | {"bias_hh": 3 * H}).items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))
        self.batch_first = True

    def forward(self, x: Any, h: Any) -> Any:
        h, hs = h[0], []
        for x_t in x.transpose(0, 1):
            i = (x_t @ self.weight_ih.T + self.bias_ih).chunk(3, dim=-1)
            k = (h @ self.weight_hh.T + self.bias_hh).chunk(3, dim=-1)
            r, z = torch.sigmoid(i[0] + k[0]), torch.sigmoid(i[1] + k[1])
            h = (1 - z) * torch.tanh(i[2] + r * k[2]) + z * h
            hs.append(h)
        return torch.stack(hs, dim=1), h[None]


class Within(torch.nn.Module):
    """A module whose parameters are another's."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.g = inner

    def forward(self, x: Any, h: Any) -> Any:
        return self.g(x, h)


def quick(layer: Any, cell: Any, map: Any = None) -> tg.LayerReport:
    return tg.check_layer(layer, cell, map=map, budget="quick")


# ---- a wrong declaration of a right layer -------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "changes", "advice"),
    [
        (BEFORE, {}, [f"your layer is {AFTER}: pass that as the cell"]),
        (AFTER, {"mirrored": False}, ["declare it: map=tg.LayerMap(…, mirrored=True)"]),
        (BEFORE, {"mirrored": False}, [f"your layer is {AFTER}", "LayerMap(…, mirrored=True)"]),
    ],
)
def test_the_report_says_which_declaration_fits(cell: Any, changes: Any, advice: Any) -> None:
    layer = tg.check.torch_layer(ByHand())
    report = quick(layer, cell, replace(layer.map, **changes))
    assert (report.verdict, report.culprits) == ("REFUTED", ["outputs"])
    assert report.mistakes[1] == "backward: it is the gradient of that forward pass"
    assert all(text in report.notes[0] for text in advice), report.notes
    assert quick(layer, AFTER, layer.map).verdict == "CONSISTENT"


@pytest.mark.parametrize("field", ["transposed", "batch_first"])
def test_a_layer_that_raises_for_its_layout_is_not_refuted(field: str) -> None:
    layer = tg.check.torch_layer(ByHand())
    report = quick(layer, AFTER, replace(layer.map, **{field: False}))
    assert (report.verdict, report.culprits) == ("INCONCLUSIVE", [])
    assert f"declare it: map=tg.LayerMap(…, {field}=True)" in str(report)


def test_a_variant_is_said_in_words() -> None:
    layer = tg.check.torch_layer(ByHand())
    (forward, _) = quick(layer, BEFORE, layer.map).mistakes
    assert forward == (
        f"forward: it is that of {AFTER}; the reset gate is applied after the product with W_h"
    )


@pytest.mark.parametrize(
    ("own", "declared"),
    [
        (tg.LSTMCell(3, 4, "full"), tg.LSTMCell(3, 4)),  # without W_c it raises
        (tg.GRUCell(3, 4, "minimal"), BEFORE),  # W_x is too wide
    ],
)
def test_a_variant_that_raises_for_its_parameters_is_not_refuted(own: Any, declared: Any) -> None:
    report = quick(Layer(own), declared)
    assert (report.verdict, report.culprits) == ("INCONCLUSIVE", [])
    assert f"your layer is {own}: pass that as the cell" in str(report)


class Keras(Layer):
    """A GRU whose gates are in the order z, r, c, and whose z keeps the old state."""

    def own(self, a: Any) -> Any:
        z, r, c = np.split(a, 3, axis=-1)
        return np.concatenate([r, -z, c], axis=-1)

    def forward(self, params: Any, x: Any, *state: Any) -> Any:
        return super().forward({n: self.own(a) for n, a in params.items()}, x, *state)

    def backward(self, d_outputs: Any, cache: Any) -> Any:
        g = super().backward(d_outputs, cache)
        for name in PARTS:
            r, z, c = np.split(g[name], 3, axis=-1)
            g[name] = np.concatenate([-z, r, c], axis=-1)
        return g


def test_another_order_of_gates_of_a_mirrored_gru() -> None:
    report = quick(Keras(BEFORE), BEFORE)
    assert report.verdict == "REFUTED"
    assert report.mistakes[1] == "backward: it is the gradient of that forward pass"
    expected = "if that is meant, declare it: map=tg.LayerMap(mirrored=True, gates='zrc')"
    assert report.notes == [expected]
    declared = tg.LayerMap(mirrored=True, gates="zrc")
    assert quick(Keras(BEFORE), BEFORE, declared).verdict == "CONSISTENT"


def test_no_other_declaration_fits_a_wrong_forward_pass() -> None:
    """Also where every gate has arrays of its own, which a variant of fewer gates cannot have."""

    class Apart(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> Any:
            joined = {n: np.concatenate([params[f"{n}_{k}"] for k in "rzc"], -1) for n in PARTS}
            (hs, h), cache = super().forward(joined, x, *state)
            return (hs + hs.dtype.type(0.5), h), cache

    names = {n: tuple(f"{n}_{k}" for k in "rzc") for n in PARTS}
    report = quick(Apart(BEFORE), BEFORE, {"names": names})
    assert (report.verdict, report.culprits, report.notes) == ("REFUTED", ["outputs"], [])


def test_a_faulty_layer_is_wrong_under_the_right_declaration_too() -> None:
    wrong = Layer(AFTER, lambda g: g.update(b=2 * g["b"]))
    report = quick(wrong, AFTER, tg.LayerMap(mirrored=True))
    assert report.mistakes == [
        "forward: the update gate is not mirrored: z multiplies the candidate",
        "backward: besides, ∂L/∂b is not the gradient of that",
    ]
    assert "if that is meant, declare it: map=tg.LayerMap(…, mirrored=False)" in report.notes


class Peepholes(Layer):
    """An LSTM with a vector of peephole weights for each of its gates, which are o, f, i, g."""

    def forward(self, params: Any, x: Any, *state: Any) -> Any:
        own = {n: self.exchanged(params[n]) for n in PARTS}
        own["w_c"] = np.stack([params[f"w_c{k}"] for k in "ifo"])
        return super().forward(own, x, *state)

    def backward(self, d_outputs: Any, cache: Any) -> Any:
        g = super().backward(d_outputs, cache)
        g |= {n: self.exchanged(g[n], back=True) for n in PARTS}
        return g | dict(zip(("w_ci", "w_cf", "w_co"), g.pop("w_c"), strict=True))

    def exchanged(self, a: Any, back: bool = False) -> Any:
        first, f, second, third = np.split(a, 4, axis=-1)
        parts = (third, f, first, second) if back else (second, f, third, first)
        return np.concatenate(parts, axis=-1)


def test_peephole_weights_may_be_three_vectors() -> None:
    cell = tg.LSTMCell(3, 4, "diagonal")
    map = tg.LayerMap({"w_c": ("w_co", "w_cf", "w_ci")}, gates="ofig")
    assert [map.shapes(cell)[n] for n in ("w_co", "w_cf", "w_ci")] == [(4,)] * 3
    report = quick(Peepholes(cell), cell, map)
    assert report.verdict == "CONSISTENT", str(report)
    spoiled = Peepholes(cell, lambda g: g["w_c"].__imul__([[1], [2], [1]]))  # i, f, o
    assert quick(spoiled, cell, map).culprits == ["w_cf"]


@pytest.mark.parametrize(
    ("cell", "map", "said"),
    [
        (RNN, {"names": {"W_x": ("U", "V")}}, "for W_x there must be one name or 1, one for each"),
        (BEFORE, {"names": {"b": ("b_r", "b_z")}}, "for b there must be one name or 3, one for"),
        (AFTER, {"names": {"b_h": ("u", "v", "w")}}, "for b_h there must be one name, got"),
        (AFTER, {"second_bias": ("u", "v")}, "for b there must be one name or 3, one for"),
    ],
)
def test_a_name_for_each_gate_or_one(cell: Any, map: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        quick(Layer(cell), cell, map)


# ---- layers that raise --------------------------------------------------------------------------


class Named(Layer):
    """A layer that calls its parameters U, V and c."""

    def forward(self, params: Any, x: Any, *state: Any) -> Any:
        own = {"W_x": params["U"], "W_h": params["V"], "b": params["c"]}
        return super().forward(own, x, *state)

    def backward(self, d_outputs: Any, cache: Any) -> Any:
        g = super().backward(d_outputs, cache)
        return {"U": g["W_x"], "V": g["W_h"], "c": g["b"], "x": g["x"], "h0": g["h0"]}


NAMES = {"names": {"W_x": "U", "W_h": "V", "b": "c"}}


def test_a_forgotten_map_is_asked_for() -> None:
    report = quick(Named(RNN), RNN)
    assert (report.verdict, report.culprits) == ("INCONCLUSIVE", [])
    for text in ("forward raises KeyError: 'U'", "W_x (3, 4), W_h (4, 4), b (4,)", "x (6, 5, 3)"):
        assert text in str(report)
    assert "does the layer's layout differ from that of RNNCell" in str(report)
    assert "map=tg.LayerMap(names=…)" in str(report)
    assert quick(Named(RNN), RNN, NAMES).verdict == "CONSISTENT"


@pytest.mark.parametrize(
    ("raises", "condition"), [(lambda n: n == 1, "only N = 1"), (lambda n: n > 1, "only N > 1")]
)
def test_a_layer_that_raises_on_some_inputs_is_refuted(raises: Any, condition: str) -> None:
    class Raises(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> Any:
            if raises(x.shape[1]):
                raise IndexError("batch")
            return super().forward(params, x, *state)

    report = quick(Raises(RNN), RNN)
    assert (report.verdict, report.conditions) == ("REFUTED", [condition])


def test_gradients_under_other_names_are_not_refuted() -> None:
    class Prefixed(Layer):
        def backward(self, d_outputs: Any, cache: Any) -> Any:
            return {f"d_{n}": g for n, g in super().backward(d_outputs, cache).items()}

    report = quick(Prefixed(RNN), RNN)
    assert report.verdict == "INCONCLUSIVE"
    expected = "backward must return the gradients W_x, W_h, b, x, h0, got d_W_x, d_W_h"
    assert expected in str(report)
    one = quick(Layer(RNN, lambda g: g.update(d_b=g.pop("b"))), RNN)
    assert one.culprits == ["b"]
    assert "backward returns no gradient 'b', but one of 'd_b'" in str(one)


def test_items_of_pytest_ask_for_the_map() -> None:
    item = tg.check.layer_tests(Named(RNN), RNN, budget="quick")
    (mark,) = item.pytestmark  # type: ignore[attr-defined]
    with pytest.raises(pytest.fail.Exception, match=r"map=tg\.LayerMap\(names=…\)"):
        item(mark.args[1][0])


def test_an_item_that_answers_rightly_asks_for_nothing() -> None:
    """Also of a layer that raises on the plain input, which has five sequences."""

    class OneByOne(Layer):
        def forward(self, params: Any, x: Any, *state: Any) -> Any:
            if x.shape[1] > 1:
                raise IndexError("batch")
            return super().forward(params, x, *state)

    item = tg.check.layer_tests(OneByOne(RNN), RNN, budget="quick")
    (mark,) = item.pytestmark  # type: ignore[attr-defined]
    alone = [trial for trial in mark.args[1] if trial.N == 1]
    assert alone
    for trial in alone:
        item(trial)
    with pytest.raises(pytest.fail.Exception, match="forward raises IndexError: batch"):
        item(mark.args[1][0])


# ---- modules of PyTorch -------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"num_layers": 2}, {"bidirectional": True}, {"bias": False}])
@pytest.mark.parametrize("wrap", [lambda m: m, Within])
def test_more_than_a_cell_is_refused_when_wrapped(option: Any, wrap: Any) -> None:
    ((name, value),) = option.items()
    said = rf"got GRU\({name}={value}\)\. Check it as a whole: tg\.check_backward"
    with pytest.raises(ValueError, match=said):
        tg.check.torch_layer(wrap(torch.nn.GRU(3, 4, **option)))


@pytest.mark.parametrize(
    "inner", [ByHand(), torch.nn.GRU(3, 4), torch.nn.GRU(3, 4, batch_first=True)]
)
def test_names_are_matched_by_their_ends(inner: Any) -> None:
    layer = tg.check.torch_layer(Within(inner))
    report = quick(layer, AFTER, layer.map)
    assert report.verdict == "CONSISTENT", str(report)


def test_a_layout_that_cannot_be_told_is_asked_for() -> None:
    twice = Within(torch.nn.ModuleList([ByHand(), ByHand()]))
    layer = tg.check.torch_layer(twice)
    with pytest.raises(ValueError, match=r"ends with weight_ih, .* it has g\.0\.weight_ih"):
        layer.map  # noqa: B018


def test_a_module_is_not_run_with_parameters_of_its_own() -> None:
    report = quick(tg.check.torch_layer(ByHand()), AFTER)
    assert report.verdict == "INCONCLUSIVE"
    assert "the module has the parameters weight_ih, weight_hh" in str(report)
    assert "map=layer.map" in str(report)


# ---- the page -----------------------------------------------------------------------------------


def test_the_map_of_the_page_is_that_of_a_gru_of_pytorch(tmp_path: Path, monkeypatch: Any) -> None:
    page = (ROOT / "docs/check.md").read_text(encoding="utf-8")
    section = page.partition("### A GRU as in PyTorch\n")[2]
    block, command = re.findall(r"```(?:toml|sh)\n(.*?)```", section, re.S)[:2]
    (tmp_path / "map.toml").write_text(block, encoding="utf-8")
    code = "from test_layer_declared import ByHand, tg\nMyGRU = tg.check.torch_layer(ByHand())\n"
    command = command.replace("my_layer", "my_gru")  # another test has a my_layer
    (tmp_path / "my_gru.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert tomllib.loads(block)["mirrored"] is True
    result = CliRunner().invoke(app, [*command.split()[1:], "--budget", "quick"])
    assert (result.exit_code, result.output[:10]) == (0, "CONSISTENT"), result.output
    (tmp_path / "map.toml").write_text("[names]\nb = 'bias_ih'\nmirrored = true", encoding="utf-8")
    result = CliRunner().invoke(app, command.split()[1:])
    assert "write the options mirrored above [names]" in " ".join(result.output.split("│"))


def test_the_page_tells_every_field() -> None:
    page = (ROOT / "docs/check.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == [*tg.LayerMap.__dataclass_fields__]


# ---- the texts ----------------------------------------------------------------------------------


def test_a_report_is_shown_as_its_text() -> None:
    report = quick(Layer(RNN, lambda g: g.update(b=5 * g["b"])), RNN)
    assert repr(report) == str(report)
    assert "(off by 4 times its size)" in str(report)
    at_zero = quick(Layer(RNN, lambda g: g.update(b=g["b"] * np.nan)), RNN)
    assert "times its size" not in str(at_zero)
