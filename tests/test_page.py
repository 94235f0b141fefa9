"""The page of ``verify --html``: complete, well-formed, and in need of nothing else."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree.ElementTree import fromstring

import pytest

from tinygrad_rnn.proofs import catalogue, mathml, page, plots, verify
from tinygrad_rnn.proofs.notes import CLAIMS, TRAPS

THEOREMS = catalogue.load()
VOID = {"meta", "input", "br"}


class Reader(HTMLParser):
    """Notes ids, links and text; fails where tags are not nested."""

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def made(report):
    return page.html({"version": "0.1.0", **report})


@pytest.fixture(scope="module")
def html():
    ids = ["B-7", "K-4", "E-4", "S4-9", "S0-3", "P-1"]
    report = verify.verify(ids, profile="quick", processes=1)
    return made(report)


def test_everything_is_there(html):
    read = Reader(html)
    assert {"B-7", "K-4", "E-4", "S4-9", "S0-3", "P-1", "bounds", "notes", "examples"} <= set(
        read.ids
    )
    for theorem in (THEOREMS["B-7"], THEOREMS["K-4"]):
        for mistake in theorem.sensitivity:
            assert mathml.html(mistake.name) in html
        for necessity in theorem.necessity:
            assert mathml.html(necessity.dropped) in html
        assert mathml.html(theorem.statement) in html
        assert mathml.html(theorem.proof) in html
    assert "2 theorems, 1 example" in read.text
    assert html.count('<svg class="strip"') == 2
    assert '<figure class="heat">' in html


def test_links_stay_inside_and_arrive(html):
    read = Reader(html)
    assert len(set(read.ids)) == len(read.ids)
    inside = [link for link in read.links if link[1:] not in {*THEOREMS, *CLAIMS}]
    assert all(link.startswith("#") for link in read.links)
    assert {link[1:] for link in inside} <= set(read.ids)
    assert "#pascanu2013" in made({**verify.blank(["B-5"], "quick", 0)})
    for outside in ("http", "url(", "@import", "<link", "<img"):
        assert outside not in html


def test_a_report_without_evidence_has_a_page():
    ids = ["B-7", "V-1", "E-4"]
    assert {"B-7", "V-1"} <= set(Reader(made(verify.blank(ids, "quick", 0))).ids)


@pytest.mark.parametrize(
    ("proved", "shown"),
    [
        ({"verdict": "PROVED", "gap": "", "reason": ""}, "in Coq: Vanishing.x"),
        (
            {"verdict": "NOT CHECKED", "gap": "one unit", "reason": "no Coq here"},
            "no Coq here: Vanishing.x. Left out: one unit",
        ),
        (
            {"verdict": "NOT CHECKED", "gap": "one unit", "reason": "in part: one unit"},
            "in part: one unit: Vanishing.x\n",
        ),
    ],
)
def test_what_coq_said_is_shown(proved, shown):
    report = verify.blank(["B-5"], "quick", 0)
    entry = report["theorems"][0]
    levels = {**entry["levels"], "proved": {**proved, "coq": ["Vanishing.x"]}}
    report["theorems"] = [{**entry, "levels": levels, "verdict": proved["verdict"]}]
    assert shown in Reader(made(report)).text


def test_a_refutation_is_shown_with_its_program():
    def false(**case):
        yield catalogue.equal("two is <one>", 2, 1)

    theorem = replace(THEOREMS["B-7"], claim=false)
    report = verify.blank(["B-7"], "quick", 0)
    report["theorems"] = [verify.check(theorem, verify.LEVELS, verify.PROFILES["quick"], 0)]
    html = made(report)
    assert "two is &lt;one&gt;: 2 = 1 is false" in html
    read = Reader(html)
    assert "evidence.replay('B-7', 'rational', case)" in read.text


@pytest.mark.parametrize("id", THEOREMS)
def test_every_sentence_of_a_theorem_can_be_shown(id):
    theorem = THEOREMS[id]
    statement = mathml.html(theorem.statement)
    assert "<math" in statement
    assert "$" not in statement
    names = (*theorem.sensitivity, *theorem.necessity)
    texts = [getattr(named, "name", None) or named.dropped for named in names]
    for text in (theorem.statement, theorem.title, theorem.proof, *theorem.hypotheses, *texts):
        fromstring(f"<p>{mathml.html(text)}</p>")


@pytest.mark.parametrize("claim", [*CLAIMS.values(), *TRAPS.values()], ids=lambda claim: claim.id)
def test_every_claim_of_the_notes_can_be_shown(claim):
    for text in (claim.as_written, claim.corrected):
        fromstring(f"<p>{mathml.html(text)}</p>")


@pytest.mark.parametrize(
    ("latex", "inside"),
    [
        (r"$\mathbb R$", "<mi>ℝ</mi>"),
        (r"$\mathbf 1$", "<mn>𝟏</mn>"),
        (r"$\mathcal N$", "<mi>𝒩</mi>"),
        (r"$\mathrm{diag} f'$", "<mi>diag</mi>"),
        (r"$\tanh a$", '<mi>tanh</mi><mspace width="0.1667em" /><mi>a</mi>'),
        (r"$\Big\|x\Big\|$", ">‖</mo><mi>x</mi>"),
        (r"$f'_k$", "<msub><mrow><mi>f</mi>"),
        (r"$$a := b$$", '<math display="block">'),
        (r"$a := b$", "<mo>≔</mo>"),
        ("∂o_100/∂o_1", "∂o<sub>100</sub>/∂o<sub>1</sub>"),
        ("σ_min(W)^{t−i}", "σ<sub>min</sub>(W)<sup>t−i</sup>"),
        ("a `code_x` d_outputs", "a <code>code_x</code> d_outputs"),
    ],
)
def test_mathematics_as_browsers_want_it(latex, inside):
    assert inside in mathml.html(latex)


@pytest.mark.parametrize("text", [r"\alpha", "$a", r"$\nosuchcommand$", r"$\frac{a$"])
def test_what_cannot_be_shown_is_refused(text):
    with pytest.raises(ValueError, match=r"formula|convert|command"):
        mathml.html(text)


def test_a_strip_counts_what_it_shows():
    svg = fromstring(plots.strip([3, 0, 0, 1], 1.5, "ratio < 1"))
    titles = [title.text for title in svg.iter("title")]
    assert titles == ["3 from 0 to 0.25", "1 from 0.75 to 1 and more", "tightest: 1.5"]


@pytest.mark.parametrize("values", [0.5, [1.0, -2.0], [[0.0]], [[[1.0, 2.0]], [[3.0, -4.0]]]])
def test_a_heat_map_has_every_entry(values):
    figure = fromstring(plots.heat("x", values))
    shown = [float(title.text) for title in figure.iter("title")]
    assert shown == [float(v) for v in re.findall(r"-?\d\.\d", str(values))]
