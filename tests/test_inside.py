"""To see inside: explanations end in the engine's own gradients, drawings show every node once."""

import re
from fractions import Fraction

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.autodiff.sweeps import ancestors
from tinygrad_rnn.inside import drawing
from tinygrad_rnn.scalars import rational


def network():
    rng = np.random.default_rng(0)
    params = {name: tg.Tensor(rng.normal(size=s)) for name, s in (("W", (3, 3)), ("b", (3,)))}
    x, h = rng.normal(size=(4, 3)), np.zeros(3)
    for t in range(4):
        h = np.tanh(x[t] + h @ params["W"] + params["b"])
    return np.sum(h * h), params


def functions():
    w = tg.Tensor(np.arange(1.0, 7.0).reshape(2, 3))
    v = tg.Tensor([0.5, -1.0, 2.0])
    yield np.sum(w @ v), (w, v)
    yield v @ v, (v,)
    yield np.sum(v @ w.T) + np.sum(np.outer(v, v)), (w, v)
    yield np.mean(np.where(v > 0, v, 0 * v)) + w[0, 1] + np.sum(w[:, [0, 0]]), (w, v)
    yield np.sum(np.stack([v, v * v])) + np.max(w) + np.sum(w + v), (w, v)
    yield np.sum(np.einsum("ij,j->i", w, v)) + np.linalg.norm(w), (w, v)
    yield network()[0], ()


@pytest.mark.parametrize("case", range(7))
def test_an_explanation_ends_in_the_gradient(case):
    loss, _ = list(functions())[case]
    told = tg.explain(loss)
    loss.backward()
    leaves = [n for n, text in told.expressions.items() if not text]
    assert leaves == list(told.gradients)
    found = [node for node in ancestors([loss]) if node._origin is None]
    for leaf, gradient in zip(found, told.gradients.values(), strict=True):
        assert np.array_equal(leaf.grad, gradient)


def test_the_terms_add_up_to_the_totals():
    loss, params = network()
    told = tg.explain(loss, **params)
    terms = [step for step in told.steps if step.parent == "W"]
    assert len(terms) == 4
    for step in told.steps:
        before = 0 if step.before is None else step.before
        assert np.array_equal(before + step.term, step.total)
    assert np.array_equal(terms[-1].total, told.gradients["W"])
    assert str(told).count("∂L/∂W +=") == 3


def test_partials_are_entry_by_entry():
    x = tg.Tensor([0.5, 1.0])
    (step,) = [s for s in tg.explain(np.sum(np.tanh(x)), x=x).steps if s.parent == "x"]
    assert np.array_equal(step.partial, tg.d_tanh(x.data))


def test_nothing_is_set_and_nothing_is_lost():
    w = tg.Tensor(3.0)
    loss = w * w
    tg.explain(loss)
    tg.draw(loss)
    assert w.grad is None
    loss.backward()
    assert w.grad == 6


def test_a_leaf_explains_itself():
    assert tg.explain(tg.Tensor(1.0)).gradients["L"] == 1


def test_fractions_stay_exact():
    w = tg.Tensor(rational([0.5, 0.25]))
    told = tg.explain(np.sum(w * w), w=w)
    assert told.gradients["w"].tolist() == [Fraction(1), Fraction(1, 2)]
    assert "∂L/∂w = [1, 1/2]" in str(told)


def test_a_seed_and_names():
    w, x = tg.Tensor([1.0, 2.0]), np.array([3.0, 4.0])
    told = tg.explain(w * x, np.array([1.0, 0.0]), w=w, x=x)
    assert told.expressions["L"] == "w * x"
    assert told.gradients["w"].tolist() == [3, 0]
    taken = tg.explain(w * x * 2.0, np.ones(2), v1=w)
    assert list(taken.expressions) == ["v1", "v2", "L"]
    named = tg.explain(np.sum(w), loss=np.sum(w), L=w)
    assert "∂v1/∂L" in str(named)


def test_expressions_read_as_they_were_written():
    w, c = tg.Tensor(np.ones((3, 2))), np.ones((3, 2))
    for made, written in (
        (w[1:, 0], "w[1:, 0]"),
        (w[::-1], "w[::-1]"),
        (w[..., 1], "w[..., 1]"),
        (w[np.array([0, 2])], "w[[0, 2]]"),
        (w.T, "np.transpose(w)"),
        (np.sum(w, axis=0), "np.sum(w, axis=0)"),
        (c @ w.T, "c @ v1"),
        (2 - w, "2 - w"),
        (w + np.ones((3, 2)), "w + constant(3, 2)"),
    ):
        assert tg.explain(made, np.ones(made.shape), w=w, c=c).expressions["L"] == written


def test_numbers_are_not_taken_for_each_other():
    x = 2.0
    w = tg.Tensor(1.0)
    assert tg.explain(w * x + 2.0, w=w, x=x).expressions["L"] == "v1 + 2.0"


@pytest.mark.parametrize("see", [tg.explain, tg.draw])
def test_what_is_no_tensor_is_refused(see):
    with pytest.raises(TypeError, match=r"needs a Tensor.*got float.*tg.Tensor\(2.0\)"):
        see(1.0)


def test_a_seed_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) needs a seed of that shape, got none"):
        tg.explain(tg.Tensor([1.0, 2.0]))


def test_a_drawing_has_every_node_and_every_edge():
    loss, params = network()
    drawn = tg.draw(loss, **params)
    expressions = tg.explain(loss, **params).expressions
    assert drawn.dot.count("[label=") == len(expressions)
    for name, expression in expressions.items():
        assert f'"{name} = {expression}' in drawn.dot or f'"{name}\\n' in drawn.dot
    edges = re.findall(r"(n\d+) -> (n\d+)", drawn.dot)
    used = sum(len(re.findall(r"\b(?:v\d+|W|b)\b", text)) for text in expressions.values())
    assert len(edges) == used


def test_a_shared_node_is_written_once():
    w = tg.Tensor(2.0)
    y = np.tanh(w)
    text = str(tg.draw(y * y, w=w))
    assert text.count("np.tanh(w)") == 1
    assert "v1  (see above)" in text


def test_long_records_are_drawn_in_part_and_without_recursion():
    x = y = tg.Tensor(1.0)
    for _ in range(5000):
        y = y + 1.0
    drawn = tg.draw(y, limit=3)
    assert drawn.dot.count("[label=") == 3
    assert str(drawn).splitlines()[-1].strip() == "└─ …"
    assert len(str(tg.draw(y, limit=6000, x=x)).splitlines()) == 5001
    assert tg.explain(y).steps[-1].total == 1


def test_a_picture_says_what_it_needs(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(drawing, "import_module", missing)
    drawn = tg.draw(tg.Tensor(1.0) * 2.0)
    with pytest.raises(ImportError, match=r"pip install 'tinygrad_rnn\[draw\]'.*dot"):
        drawn.svg()
    assert drawn._repr_svg_() is None


def test_a_picture_is_an_svg():
    pytest.importorskip("graphviz", reason="pip install 'tinygrad_rnn[draw]'")
    picture = tg.draw(tg.Tensor(1.0) * 2.0)._repr_svg_()
    if picture is None:
        pytest.skip("Graphviz's program dot is not installed")
    assert picture.startswith("<svg")
    assert picture.rstrip().endswith("</svg>")
