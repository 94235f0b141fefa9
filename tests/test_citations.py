"""What ``cite`` prints of every theorem: plain letters say the same, LaTeX and BibTeX take it."""

import re
import unicodedata

import pytest
from source_tree import ROOT

from tinygrad_rnn.proofs import bibliography, catalogue, citations, letters, mathml

THEOREMS = catalogue.load()
# What the types of BibTeX require; biblatex knows all of them.
REQUIRED = {
    "misc": {"author", "title", "year"},
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "incollection": {"author", "title", "booktitle", "publisher", "year"},
    "book": {"author", "title", "publisher", "year"},
}
# LaTeX with amsmath and amssymb.
COMMANDS = set(
    re.findall(
        r"\\\w+",
        r"""
    \Big \Delta \Lambda \Phi \Pi \alpha \angle \bar \begin \beta \big \binom \bmod \cdot \cdots \chi
    \circ \cos \delta \det \dots \downarrow \ell \end \eta \frac \gamma \ge \hat \imath \in \infty
    \kappa \label \lVert \lambda \langle \lceil \ldots \le \left \lfloor \lim \ln \log \mapsto
    \mathbb \mathbf \mathrm \max \min \mu \nabla \ne \omega \operatorname \partial \perp \pi \pm
    \preceq \prod \psi \qquad \quad \rVert \rangle \rceil \rfloor \rho \right \sigma \sim \sinh
    \sqrt \sum \sup \tanh \tau \text \texttt \tfrac \theta \tilde \times \to \top \uparrow
    \varepsilon \varphi \zeta
    """,
    )
)
ESCAPED = {rf"\{sign}" for sign in r"|,;!{}\#%&_"}


def assert_latex(text):
    """What pdfLaTeX takes without ``inputenc``: formulas between dollars, the rest escaped."""
    assert text.isascii()
    used = set(re.findall(r"\\(?:[A-Za-z]+|.)", re.sub(r"\{\\[\"'`^~]([A-Za-z])\}", r"\1", text)))
    assert used <= COMMANDS | ESCAPED
    pieces = mathml.FORMULA.split(re.sub(r"\\[#%&_]", "", text))
    for prose in pieces[::2]:
        assert not re.search(r"[$#%&_^<>|~]", prose), prose
    for formula in pieces[1::2]:
        mathml.tree(formula.strip("$"))  # balanced, with one exponent at a time


def alphanumeric(text):
    """Return letters and digits in their order, indices and exponents among them."""
    plain = unicodedata.normalize("NFKD", text.replace("ᵀ", ""))
    return [c for c in plain.replace("ı", "i").replace("∑", "Σ").replace("∏", "Π") if c.isalnum()]


@pytest.mark.parametrize("id", THEOREMS)
def test_plain_letters_say_what_the_formulas_say(id):
    for formula in mathml.FORMULA.findall(THEOREMS[id].statement):
        told = letters.plain(formula)
        assert not set(told) & set("\\$&")
        leaves = "".join(mathml.tree(formula.strip("$")).itertext())
        assert alphanumeric(told.replace(" choose ", " ")) == alphanumeric(leaves)


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        (r"$\lVert P_{t,i}\rVert_2^2 \le q^{t-i}$", "‖P_{t,i}‖₂² ≤ q^(t−i)"),
        (r"$|\tanh a|, -|x| < |-x|$", "|tanh a|, −|x| < |−x|"),
        (r"$\frac{a+b}{2c} - \tfrac14\lVert W\rVert$", "(a + b)/(2c) − 1/4 ‖W‖"),
        (r"$\tanh\frac a2$, $\frac{\partial L}{\partial W_h}$", "tanh (a/2), ∂L/∂W_h"),
        (r"$\sum_{i<k}^T d_k W_h^\top J^{-1} J^{-\top}$", "Σ_{i<k}^T d_k W_hᵀ J⁻¹J⁻ᵀ"),
        (r"$\sqrt{1+x^n}\,\sqrt2\,\tilde c'\bar f$", "√(1 + xⁿ) √2 c̃'f̄"),
        (r"$\begin{pmatrix} 1 & -1 \\ a & b \end{pmatrix}$", "(1, −1; a, b)"),
        ("$$x$$ and `W_h`", "x and `W_h`"),
    ],
)
def test_plain(latex, plain):
    assert letters.plain(latex) == unicodedata.normalize("NFC", plain)


@pytest.mark.parametrize("id", THEOREMS)
def test_a_title_survives_the_way_to_latex_and_back(id):
    title = THEOREMS[id].title
    back = letters.plain(letters.latex(title).replace(r"\%", "%"))
    assert back.replace(" ", "") == title.replace(" ", "")


def test_a_title_in_latex():
    title = "A product of n step Jacobians has norm at most (γ‖W‖)ⁿ"
    assert letters.latex(title).endswith(r"norm at most $(\gamma\|W\|)^n$")
    assert letters.latex("Müller & Héctor, no_1") == r"M{\"u}ller \& H{\'e}ctor, no\_1"
    with pytest.raises(ValueError, match=r"no LaTeX is known for a letter of 'an ℵ'"):
        letters.latex("an ℵ")


@pytest.mark.parametrize("id", THEOREMS)
def test_bibtex_of_every_theorem(id):
    written = citations.cite([THEOREMS[id]], "bibtex")
    assert written.count("{") == written.count("}")
    entries = written.split("\n\n")
    for entry in entries:
        head = re.fullmatch(r"@([a-z]+)\{[A-Za-z0-9_:-]+,\n((?:  [a-z]+ = \{.*\},\n)+)\}", entry)
        fields = dict(re.findall(r"  ([a-z]+) = \{(.*)\},\n", head[2]))
        assert set(fields) >= REQUIRED[head[1]]
        for value in fields.values():
            assert_latex(value)
    works = {name for source in THEOREMS[id].sources for name in bibliography.named(source)}
    assert len(entries) == 1 + len(works)


@pytest.mark.parametrize("id", THEOREMS)
def test_latex_of_every_theorem(id):
    comment, _, text = citations.cite([THEOREMS[id]], "latex").partition("\n")
    assert comment.startswith("% needs ")
    assert_latex(text)
    assert rf"\begin{{theorem}}[{id}]\label{{{id}}}" in text


@pytest.mark.parametrize("id", THEOREMS)
def test_text_of_every_theorem(id):
    told = citations.cite([THEOREMS[id]], "text")
    assert f"Theorem {id}: {THEOREMS[id].title}." in told
    assert not set(told) & set("\\$")
    for said in (THEOREMS[id].statement, *THEOREMS[id].hypotheses):
        assert " ".join(letters.plain(said).split()) in " ".join(told.split())


def test_symbols_of_a_bound_are_explained():
    told = " ".join(citations.cite([THEOREMS["B-5"]], "text").split())
    for symbol in ("h_t = f(a_t)", "W = W_hᵀ", "P_{t,i} = ∂h_t/∂h_i = J_t", "γ ≥ sup", "δ = ∂L"):
        assert symbol in told
    told = " ".join(citations.cite([THEOREMS["B-2"]], "latex").split())
    assert r"$P_{t,i} = \partial h_t/\partial h_i = J_t" in told


def test_the_project_is_cited_as_its_own_files_say():
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'title: "{citations.TITLE}"' in cff
    assert f'name: "{citations.AUTHORS}"' in cff
    assert f"version: {citations.__version__}\n" in cff
    assert f"(c) {citations.YEAR} {citations.AUTHORS}\n" in (ROOT / "LICENSE").read_text()
