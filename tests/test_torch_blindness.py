"""What PyTorch's gradient checker passes at its defaults, and check_gradients refutes."""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

import numpy as np
import pytest
from handmade import Array, example
from source_tree import ROOT

import tinygrad_rnn as tg

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install .[bench]")

T, CUT = 40, 20
LAYER, ARGS = example(T=T, N=1, seed=3)


def detached(W_x: Any, W_h: Any, b: Any, h: Any) -> Any:
    """A tanh RNN that forgets, half-way, what its state depends on: truncated backpropagation."""
    for t in range(T):
        if t == CUT:
            h = h.detach()
        h = torch.tanh(torch.tensor(LAYER.x[t]) @ W_x + h @ W_h + b)
    return h


def tensors() -> list[Any]:
    return [torch.tensor(a, requires_grad=True) for a in ARGS]


def torch_gradient(*args: Array) -> list[Array]:
    leaves = [torch.tensor(a, requires_grad=True) for a in args]
    loss = (detached(*leaves) * torch.tensor(LAYER.weights)).sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [np.zeros_like(a) if g is None else g.numpy() for g, a in zip(found, args, strict=True)]


@pytest.mark.parametrize("fast_mode", [False, True])
def test_gradcheck_passes_a_truncated_network(fast_mode: bool) -> None:
    assert torch.autograd.gradcheck(detached, tensors(), fast_mode=fast_mode)


def test_check_gradients_refutes_it() -> None:
    report = tg.check_gradients(LAYER.loss, ARGS, gradient=torch_gradient)
    assert report.culprits == ["W_x", "W_h", "b", "h0"]


def test_the_same_network_untruncated_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.CUT", -1)
    assert tg.check_gradients(LAYER.loss, ARGS, gradient=torch_gradient).verdict == "CONSISTENT"


def test_gradcheck_passes_an_all_zero_gradient() -> None:
    """1e-8 sin x has gradients below gradcheck's absolute tolerance."""
    x = torch.tensor([0.3, 1.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: (1e-8 * torch.sin(x)).detach() + 0 * x, [x])
    f = lambda x: 1e-8 * np.sum(np.sin(x))  # noqa: E731
    report = tg.check_gradients(f, [np.array([0.3, 1.0])], gradient=np.zeros_like)
    assert report.verdict == "REFUTED"


def test_the_page_says_what_torch_says() -> None:
    page = (ROOT / "docs/gradcheck.md").read_text(encoding="utf-8")
    found = re.search(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```", page, re.M | re.S)
    assert found
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(found[1], {})
    assert printed.getvalue() == found[2]
