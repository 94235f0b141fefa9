"""Every source of every theorem can be found; BibTeX and the project's own entry are sound."""

import re

import pytest
from source_tree import ROOT

from tinygrad_rnn.proofs import bibliography, catalogue
from tinygrad_rnn.proofs.notes import CLAIMS

THEOREMS = catalogue.load()
SOURCES = {source for theorem in THEOREMS.values() for source in theorem.sources}


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_every_source_resolves(source):
    if bibliography.is_formula(source):
        assert source in CLAIMS
    elif not source.startswith(bibliography.OWN):
        assert bibliography.named(source) == [source]
    elif source != bibliography.OWN:
        compared = source.removeprefix(f"{bibliography.OWN}; compare ").split(" and ")
        assert bibliography.named(source) == sorted(compared)


def test_every_work_is_a_source():
    assert set(bibliography.WORKS) == {n for s in SOURCES for n in bibliography.named(s)}


@pytest.mark.parametrize("name", bibliography.WORKS)
def test_an_entry_is_what_its_name_says(name):
    work = bibliography.WORKS[name]
    assert name.endswith(f" {work.year}")
    family_names = re.split(r", | & | et al\.", name.rpartition(" ")[0])
    authors = work.author.split(", ")
    named = zip(filter(None, family_names), authors, strict=False)
    assert all(author.endswith(family) for family, author in named)
    assert "et al." in name or len(authors) == len(family_names)
    assert str(work.year) in work.text()
    assert work.title in work.text()


def test_keys_are_unique():
    keys = [work.key for work in bibliography.WORKS.values()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("id", THEOREMS)
def test_bibtex_of_every_theorem_is_well_formed(id):
    written = bibliography.cite([THEOREMS[id]], "bibtex")
    assert written.count("{") == written.count("}")
    entries = written.split("\n\n")
    for entry in entries:
        assert re.fullmatch(r"@[a-z]+\{[A-Za-z0-9_:-]+,\n(  [a-z]+ = \{.*\},\n)+\}", entry), entry
        assert not re.search(r"(?<!\\)&", entry)
    works = {name for source in THEOREMS[id].sources for name in bibliography.named(source)}
    assert len(entries) == 1 + len(works)


def test_the_project_is_cited_as_its_own_file_says():
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f'title: "{bibliography.TITLE}"' in cff
    assert f'name: "{bibliography.AUTHORS}"' in cff
    assert f"version: {bibliography.__version__}\n" in cff
