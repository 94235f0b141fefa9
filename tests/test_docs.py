"""What the documentation shows is run: every docstring's example, every block of code in a page."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from source_tree import MODULES, ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A ```python block, and the ```text block that may follow it: what it prints.
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\s*^```text\n(?P<printed>.*?)^```\n)?", re.M | re.S
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")

WITH_EXAMPLES = [n for n, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstrings(name: str) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages(page: Path) -> None:
    """The blocks of a page run in order, in one namespace, and print what the page says."""
    namespace: dict[str, object] = {}
    text = page.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) == text.count("```python\n")
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], str(page), "exec"), namespace)
        assert printed.getvalue() == (block["printed"] or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


LISTED = """
from tinygrad_rnn.autodiff.tensor import COMPOSED, CONSTANT, RULES, public_name
for table in ({*RULES, *COMPOSED}, CONSTANT):
    print(*sorted(n for n in map(public_name, table) if n.startswith("np.")))
"""


def test_the_list_of_functions_is_complete() -> None:
    # In a process of its own: examples teach the engine more functions.
    answer = subprocess.check_output([sys.executable, "-c", LISTED], text=True)
    page = (ROOT / "docs/functions.md").read_text(encoding="utf-8")
    listed = [re.findall(r"`(np\.[\w.]+)`", part) for part in page.split("computed on the values")]
    assert listed == [line.split() for line in answer.splitlines()]
