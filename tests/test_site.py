"""The documentation is a site that builds without a warning, and in which every link arrives."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import tinygrad_rnn as tg
from tinygrad_rnn.proofs import catalogue
from tinygrad_rnn.proofs.bibliography import WORKS
from tinygrad_rnn.proofs.notes import CLAIMS

# What a browser gets by itself, before anybody follows a link.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """The ids of a page, its links, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if LOADED.get(tag) in found and found.get("rel") != "canonical":
            self.loads.append(found[LOADED[tag]])


def broken(pages: dict[Path, Page]) -> list[str]:
    """The links to our own pages that lead nowhere."""
    problems = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            lost = bool(anchor) and target in pages and anchor not in pages[target].ids
            if lost or not target.exists():
                problems.append(f"{path.name}: {link}")
    return problems


def test_a_broken_link_is_seen(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#x"></a><a href="b.html#y"></a><p id="z">')
    (tmp_path / "b.html").write_text('<a href="c.html"></a><a href="a.html#z"></a><p id="x">')
    pages = {path.resolve(): Page(path) for path in sorted(tmp_path.glob("*.html"))}
    assert broken(pages) == ["a.html: b.html#y", "b.html: c.html"]


def test_the_site(site):
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert broken(pages) == []
    fetched = [load for page in pages.values() for load in page.loads if urlsplit(load).netloc]
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert (fetched, "url(http" in styles, "@import" in styles) == ([], False, False)

    def ids(folder: str) -> set[str]:
        chosen = [page for path, page in pages.items() if path.parent.name == folder]
        return {id for page in chosen for id in page.ids}

    assert set(catalogue.load()) | {work.key for work in WORKS.values()} <= ids("theory")
    assert {f"tinygrad_rnn.{name}" for name in tg.__all__} <= ids("reference")
    index = (site / "searchindex.js").read_text(encoding="utf-8").lower()
    assert [id for id in (*catalogue.load(), *CLAIMS) if f'"{id.lower()}":[[' not in index] == []
    assert set(CLAIMS) <= pages[site / "errata.html"].ids
    # What fails without θ ≥ 0 in K-4 stands beside the hypothesis.
    assert "g·c ≥ 0: 0 ≤ -1 is false" in (site / "theory/remedies.html").read_text("utf-8")
