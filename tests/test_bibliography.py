"""Every source of every theorem can be found."""

import re

import pytest

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
