"""``tinygrad-rnn check``: the verdict is printed and is the exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tinygrad_rnn.cli import app

LAYER = """
import numpy as np

class Layer:
    extra = 0

    def forward(self, p, x, h):
        hs = [h]
        for x_t in x:
            hs.append(np.tanh(x_t @ p["U"].T + hs[-1] @ p["V"].T + p["b"]))
        return np.stack(hs[1:]), (p, x, hs)

    def backward(self, d_hs, cache):
        p, x, hs = cache
        g, d_x, back = {k: 0 * v for k, v in p.items()}, 0 * x, 0
        for t in reversed(range(len(x))):
            d = (d_hs[t] + back) * (1 - hs[t + 1] ** 2)
            g["U"] += d.T @ x[t]
            g["V"] += d.T @ hs[t + self.extra]
            g["b"] += d.sum(axis=0)
            d_x[t], back = d @ p["U"], d @ p["V"]
        return {**g, "x": d_x, "h0": back}

class Faulty(Layer):
    extra = 1
"""
MAP = 'transposed = true\nnames = { W_x = "U", W_h = "V" }\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: Any) -> Path:
    (tmp_path / "my_layer.py").write_text(LAYER)
    (tmp_path / "map.toml").write_text(MAP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["check", *arguments])


def test_a_correct_layer(here: Path) -> None:
    result = run("my_layer:Layer", "--cell", "rnn", "--map", "map.toml", "--budget", "quick")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("CONSISTENT")


def test_a_faulty_layer(here: Path) -> None:
    options = ("--cell", "rnn", "--map", "map.toml", "--budget", "quick", "--json", "report.json")
    result = run("my_layer:Faulty", *options)
    assert result.exit_code == 1
    assert "likely mistake: ∂L/∂W_h has h_t for h_{t−1}" in result.output
    assert json.loads((here / "report.json").read_text())["culprits"] == ["V"]


@pytest.mark.parametrize(
    ("target", "complaint"),
    [("my_layer", "MODULE:LAYER"), ("no_such:Layer", "cannot load"), ("my_layer:L", "cannot load")],
)
def test_bad_usage(here: Path, target: str, complaint: str) -> None:
    result = run(target, "--cell", "rnn")
    assert result.exit_code == 2
    assert complaint in result.output


def test_a_map_that_does_not_fit_is_bad_usage(here: Path) -> None:
    (here / "map.toml").write_text('order = "ifgo"\n')
    result = run("my_layer:Layer", "--cell", "lstm", "--map", "map.toml")
    assert result.exit_code == 2
    assert "unknown fields" in result.output
