"""The theorems in the documentation: the registry as pages, and links to it from everywhere."""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from tinygrad_rnn.proofs import mathml
from tinygrad_rnn.proofs.bibliography import WORKS, named
from tinygrad_rnn.proofs.catalogue import SYSTEMS, Theorem, load
from tinygrad_rnn.proofs.citations import cite
from tinygrad_rnn.proofs.evidence import counterexample
from tinygrad_rnn.proofs.examples import EXAMPLES, Example
from tinygrad_rnn.proofs.formal.registry import FORMAL
from tinygrad_rnn.proofs.notes import CLAIMS, TRAPS

THEOREMS = load()
PLACES = {id: f"theory/{theorem.chapter}" for id, theorem in THEOREMS.items()}
PLACES |= dict.fromkeys([*CLAIMS, *TRAPS], "errata")
PLACES |= dict.fromkeys(EXAMPLES, "theory/examples")
MENTION = re.compile("(" + "|".join(map(re.escape, WORKS)) + r"|(?<![\w-])[A-Z]\d?-\d+(?![\w-]))")
UNLINKED = (nodes.reference, nodes.literal_block, nodes.title, nodes.math, nodes.raw)
ANCHOR = re.compile(r'<a id="(.+?)">')
TAGS = {"sub": nodes.subscript, "sup": nodes.superscript, "code": nodes.literal}


class _Prose(HTMLParser):
    """Sentences with <sub>, <sup> and <code>, as nodes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[Any] = [nodes.inline()]
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(TAGS[tag]())

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        self.open[-1] += closed

    def handle_data(self, data: str) -> None:
        self.open[-1] += nodes.Text(data)


def inline(text: str) -> Iterator[nodes.Node]:
    """Yield the nodes of a text with $formulas$, `code` and indices."""
    for piece in mathml.FORMULA.split(text):
        if piece.startswith("$"):
            yield nodes.math("", piece.strip("$"))
        elif piece:
            yield from _Prose(mathml.html(piece)).open[0].children


def paragraphs(text: str, *classes: str) -> Iterator[nodes.Node]:
    """Yield the paragraphs of a text, and its $$formulas$$ between them."""
    for part in re.split(r"(\$\$.+?\$\$)|\n\n", text, flags=re.S):
        if part and part.startswith("$$"):
            yield nodes.math_block("", part.strip("$"), nowrap=False, number=None)
        elif part and part.strip():
            yield nodes.paragraph("", "", *inline(part), classes=list(classes))


def _list(items: Iterable[str]) -> nodes.bullet_list:
    rows = [nodes.list_item("", nodes.paragraph("", "", *inline(item))) for item in items]
    return nodes.bullet_list("", *rows)


def _label(text: str) -> nodes.rubric:
    return nodes.rubric("", text)


def _sources(theorem: Theorem | Example) -> Iterator[nodes.Node]:
    yield nodes.Text("Sources: ")
    for i, source in enumerate(theorem.sources):
        yield nodes.Text(", " if i else "")
        yield from inline(source)
    yield nodes.Text(".")


def section(theorem: Theorem) -> nodes.section:
    """Return a theorem with everything that the registry knows of it."""
    statement = nodes.container("", *paragraphs(theorem.statement), classes=["statement"])
    proof = nodes.container("", *paragraphs(theorem.proof), classes=["proof"])
    parts: list[nodes.Node] = [
        nodes.title("", "", nodes.Text(f"{theorem.id} "), *inline(theorem.title)),
        _index(theorem.id),
        statement,
        _label("Hypotheses"),
        _list(theorem.hypotheses),
        _label("Proof"),
        proof,
        _label("Evidence that verify gathers"),
        _list(_evidence(theorem)),
    ]
    if theorem.necessity:
        parts += [_label("False without"), _list(_counterexamples(theorem))]
    parts += [_label("Mistakes that it catches"), _list(m.name for m in theorem.sensitivity)]
    parts.append(nodes.paragraph("", "", *_sources(theorem), classes=["sources"]))
    parts += _to_copy(theorem)
    return nodes.section("", *parts, ids=[theorem.id], names=[theorem.id], classes=["theorem"])


def _evidence(theorem: Theorem) -> Iterator[str]:
    if theorem.false_alarm is not None:
        yield (
            "tested: each case is a random sample, on which the claim, if true, fails with "
            f"probability at most {theorem.false_alarm:.0e}"
        )
    else:
        yield "tested in floats, with a derived bound on their rounding error as the tolerance"
        yield "certified with no tolerance in " + ", ".join(SYSTEMS[s] for s in theorem.systems)
    if formal := FORMAL.get(theorem.id):
        names = ", ".join(f"`{name}`" for name in formal.theorems)
        gap = f"; left out: {formal.gap}" if formal.gap else ""
        yield f"proved in Coq{', in part' if gap else ''}: {names}{gap}"


def _counterexamples(theorem: Theorem) -> Iterator[str]:
    """What is dropped, and what then fails on the stored case; of long numbers only what."""
    for need in theorem.necessity:
        with np.errstate(all="ignore"):
            failure = str(counterexample(theorem, need))
        label, _, numbers = failure.rpartition(": ")
        yield f"{need.dropped} – {failure if len(numbers) < 40 else f'{label} is false'}"


def _contents(theorems: Iterable[Theorem]) -> nodes.bullet_list:
    rows = []
    for theorem in theorems:
        link = nodes.reference("", theorem.id, internal=True, refid=theorem.id, classes=["id"])
        row = nodes.paragraph("", "", link, nodes.Text(" "), *inline(theorem.title))
        rows.append(nodes.list_item("", row))
    return nodes.bullet_list("", *rows, classes=["theorem-list"])


def _to_copy(theorem: Theorem) -> list[nodes.Node]:
    """Return what goes onto a slide or into a paper."""
    head = "<details><summary>for a slide or a paper: LaTeX, BibTeX</summary>"
    texts = {name: cite([theorem], name) for name in ("latex", "bibtex")}
    return [
        nodes.raw("", head, format="html"),
        *(nodes.literal_block(text, text, language=name) for name, text in texts.items()),
        nodes.raw("", "</details>", format="html"),
    ]


class Theorems(SphinxDirective):
    """``{theorems} bounds``: the theorems of a chapter."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build their sections."""
        chosen = [t for t in THEOREMS.values() if t.chapter == self.arguments[0]]
        if not chosen:
            raise self.error(f"there is no chapter {self.arguments[0]}")
        sections = [section(theorem) for theorem in chosen]
        for made in sections:
            self.state.document.note_explicit_target(made, made)
        return [_contents(chosen), *sections]


class Examples(SphinxDirective):
    """``{examples}``: the worked examples of the notes, computed."""

    def run(self) -> list[nodes.Node]:
        """Compute them, and build their sections."""
        sections = []
        for compute in EXAMPLES.values():
            found = compute()
            parts: list[nodes.Node] = [
                nodes.title("", "", nodes.Text(f"{found.id} "), *inline(found.title)),
                _index(found.id),
                nodes.paragraph("", "", *inline(f"{found.verdict.capitalize()}. {found.detail}")),
                nodes.paragraph("", f"Computed by: {'; '.join(found.roads)}."),
                nodes.paragraph("", "", *_sources(found), classes=["sources"]),
            ]
            made = nodes.section("", *parts, ids=[found.id], names=[found.id], classes=["theorem"])
            self.state.document.note_explicit_target(made, made)
            sections.append(made)
        return list(sections)


class Literature(SphinxDirective):
    """``{literature}``: every work that a theorem rests on, anchored by its key."""

    def run(self) -> list[nodes.Node]:
        """Build the list, each work with the theorems that use it."""
        users: dict[str, list[str]] = {}
        for theorem in THEOREMS.values():
            for name in {n for source in theorem.sources for n in named(source)}:
                users.setdefault(name, []).append(theorem.id)
        rows = []
        for name, work in WORKS.items():
            used = f" ({', '.join(users[name])})" if name in users else ""
            text = nodes.paragraph("", work.text() + used)
            rows.append(nodes.list_item("", text, ids=[work.key]))
        return [nodes.bullet_list("", *rows)]


def _index(id: str) -> addnodes.index:
    """Return what lets the search find an id as it is written."""
    return addnodes.index(entries=[("single", id, id, "main", None)])


class KnowAnchors(SphinxTransform):
    """Tell MyST and the search of ids that are no headings, so that links to them resolve."""

    default_priority = 840  # before the domains take the index

    def apply(self, **_: Any) -> None:
        """Find the ids of a page."""
        slugs = self.env.metadata[self.env.docname].setdefault("myst_slugs", {})
        for raw in list(self.document.findall(nodes.raw)):
            for id in ANCHOR.findall(raw.astext()):
                slugs.setdefault(id, (0, id, id))
                if PLACES.get(id) == self.env.docname:
                    raw.parent.insert(raw.parent.index(raw), _index(id))


class LinkIds(SphinxPostTransform):
    """Make every mention of B-5 or S1-24 a link to it, and of a paper to its reference."""

    default_priority = 900
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replace the texts that mention ids."""
        for text in list(self.document.findall(nodes.Text)):
            if MENTION.search(text) and not self._is_kept(text):
                text.parent.replace(text, list(self._linked(text.astext())))
        for link in list(self.document.findall(nodes.reference)):
            id = link.astext()  # on the site the theorem itself is better than its line in a table
            if id in THEOREMS and link.get("refuri", "").endswith(f"ledger.html#{id}"):
                link.replace_self(self._reference(id, PLACES[id], id))

    def _is_kept(self, text: nodes.Text) -> bool:
        """Whether a text is a link already, a title, or code that is more than an id."""
        node, kept = text.parent, False
        while node is not None and not kept:
            code = isinstance(node, nodes.literal) and text.astext() not in PLACES
            kept = code or isinstance(node, UNLINKED)
            node = node.parent
        return kept

    def _linked(self, text: str) -> Iterator[nodes.Node]:
        for piece in MENTION.split(text):
            if piece in PLACES:
                yield self._reference(piece, PLACES[piece], piece)
            elif piece in WORKS:
                yield self._reference(piece, "theory/literature", WORKS[piece].key)
            elif piece:
                yield nodes.Text(piece)

    def _reference(self, text: str, docname: str, id: str) -> nodes.reference:
        builder = self.app.builder
        made = make_refnode(builder, self.env.docname, docname, id, nodes.Text(text))
        made["classes"] += ["id"] if text in PLACES else []
        return made


def setup(app: Any) -> dict[str, bool]:
    """Add the directives and the links."""
    app.add_directive("theorems", Theorems)
    app.add_directive("examples", Examples)
    app.add_directive("literature", Literature)
    app.add_post_transform(LinkIds)
    app.add_transform(KnowAnchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
