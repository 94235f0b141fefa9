"""The generated pages of the documentation are what the registry says today."""

import re

import pytest
from source_tree import ROOT

from tinygrad_rnn.proofs import catalogue, ledger
from tinygrad_rnn.proofs.notes import CLAIMS, TRAPS


@pytest.mark.parametrize("name", ledger.PAGES)
def test_a_page_is_fresh(name):
    stored = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert stored == ledger.PAGES[name](), "run python -m tinygrad_rnn.proofs.ledger docs"


def test_every_link_between_them_arrives():
    pages = {name: page() for name, page in ledger.PAGES.items()}
    for page in pages.values():
        for target, anchor in re.findall(r"\]\((\w+\.md)#([^)]+)\)", page):
            assert f'<a id="{anchor}"></a>' in pages[target], anchor


def test_every_id_is_an_anchor():
    pages = {name: page() for name, page in ledger.PAGES.items()}
    assert re.findall(r'<a id="(.+?)">', pages["ledger.md"]) == list(catalogue.load())
    assert re.findall(r'<a id="(.+?)">', pages["errata.md"]) == [*CLAIMS, *TRAPS]


def test_rows_have_the_columns_of_their_head():
    for page in ledger.PAGES.values():
        for table in re.findall(r"(?:^\|.*\n)+", page(), re.M):
            widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(widths) == 1
