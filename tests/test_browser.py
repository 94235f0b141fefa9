"""The documentation as a reader sees it: its pages in a browser, opened from disk, with no network.

``SCREENSHOTS=DIR pytest tests/test_browser.py`` keeps pictures of the main pages, to be looked at.
"""

import os
import re
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

LOOK = (Path(__file__).parent / "look.js").read_text(encoding="utf-8")
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    *("--disable-gpu", "--no-first-run", "--disable-quic", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
MAIN = (
    *("index", "learn/4-time", "theory/index", "theory/bounds", "errata", "ledger", "experiments"),
    *("check", "gradcheck", "speed", "reference/recurrent", "cite"),
)
# What WCAG 2 asks of text (1.4.3) and of what is drawn (1.4.11). No colour has 4.5 on black and on
# white, and our figures are shown on both.
TEXT, DRAWN = 4.5, 3


@pytest.fixture(scope="module")
def api():
    return pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser]'")


@pytest.fixture(scope="module")
def browser(api):
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH: apt-get install chromium")
    with api.sync_playwright() as playwright:
        # The profile is a new one, and the sandbox refuses to run as root in a container.
        yield playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=FLAGS
        )


@pytest.fixture
def reader(browser):
    with browser.new_context(offline=True) as context:
        yield Reader(context.new_page())


class Reader:
    """A page of the browser, and everything that went wrong in it."""

    def __init__(self, page):
        self.page = page
        self.problems: list[str] = []
        page.on("request", self._asked)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))

    def _asked(self, request):
        if urlsplit(request.url).scheme not in ("file", "data"):
            self.problems.append(f"asks for {request.url}")

    def _said(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(f"console: {message.text}")

    def look(self, path: Path) -> list[str]:
        """Open a page on all screens, in all colours; return what is wrong with it."""
        self.problems = []
        self.page.goto(path.as_uri())
        for width in WIDTHS:
            for scheme in SCHEMES:
                self.dress(width, scheme)
                seen = self.page.evaluate(LOOK)
                faint = {pair: text for pair, text in seen["colors"].items() if ratio(pair) < TEXT}
                seen["problems"] += [f"faint: {pair}: {text}" for pair, text in faint.items()]
                self.problems += [f"{problem} ({width}, {scheme})" for problem in seen["problems"]]
        return self.problems

    def dress(self, width: int, scheme: str) -> None:
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme)


def ratio(pair: str) -> float:
    """Contrast of two colours, "rgb(…) on rgb(…)", by the definition of WCAG 2."""
    light = []
    for color in pair.split(" on "):
        channels = [float(number) / 255 for number in re.findall(r"[\d.]+", color)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        light.append(0.05 + 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return max(light) / min(light)


FINE = """<meta charset="utf-8"><article><p>Half: <math><mfrac><mn>1</mn><mn>2</mn></mfrac></math>
  <code>$x_{1}$</code><img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAAC">
  <div style="overflow-x: auto"><table><td style="min-width: 2000px">wide</table></div>"""
FAULTS = {
    "<p>$x$": "LaTeX",
    r"<p>\frac{1}{2}": "LaTeX",
    "<p>h_{t-1}": "LaTeX",
    "<details><summary>Answer</summary>$x$</details>": "LaTeX",
    r"<math><mi>\fraq</mi></math>": "broken formula",
    "<math><merror><mi>x</mi></merror></math>": "broken formula",
    "<math></math>": "empty formula",
    "<math><mfrac style='display: flex'><mn>1</mn><mn>2</mn></mfrac></math>": "fraction on one",
    "<img src='https://example.org/a.png'>": "asks for https://example.org/a.png",
    "<style>@import 'https://example.org/a.css'</style>": "asks for https://example.org/a.css",
    "<script>fetch('https://example.org/')</script>": "asks for https://example.org/",
    "<img src='lost.png'>": "no picture: lost.png",
    "<script>nobody()</script>": "script: nobody is not defined",
    "<script>console.error('oh')</script>": "console: oh",
    "<table><td style='min-width: 400px'>wide</table>": "wide: <td> wide (390, light)",
    "<p style='overflow: hidden; width: 2em'>incomprehensibilities": "cut off: <p>",
    "<p style='overflow: hidden; height: 2px'>low": "cut off: <p>",
    "<p style='color: #777'>pale": "faint: rgb(119, 119, 119) on rgb(255, 255, 255): pale",
}


def test_a_fine_page_is_fine(reader, tmp_path):
    (tmp_path / "page.html").write_text(FINE)
    assert reader.look(tmp_path / "page.html") == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(reader, tmp_path, fault):
    (tmp_path / "page.html").write_text(FINE + fault)
    assert FAULTS[fault] in "\n".join(reader.look(tmp_path / "page.html"))


def test_every_page_is_readable(reader, site):
    pages = sorted(site.rglob("*.html"))
    assert {path: found for path in pages if (found := reader.look(path))} == {}


def test_figures_are_readable_on_light_and_on_dark(reader, site):
    reader.page.goto((site / "index.html").as_uri())
    backgrounds = []
    for scheme in SCHEMES:
        reader.dress(1280, scheme)
        backgrounds.append(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    figures = sorted((site / "_images").glob("*.svg"))
    assert figures
    for figure in figures:
        reader.page.goto(figure.as_uri())
        inks = reader.page.evaluate(
            """[...document.querySelectorAll("text, path, use, line, polygon, ellipse, rect")]
            .filter((e) => !e.closest("defs"))
            .flatMap((e) => [getComputedStyle(e).fill, getComputedStyle(e).stroke])"""
        )
        pairs = {f"{ink} on {ground}" for ink in {*inks} - {"none"} for ground in backgrounds}
        assert pairs, figure
        assert {pair for pair in pairs if ratio(pair) < DRAWN} == set(), figure


def test_links_lead_where_they_say(reader, site, api):
    page = reader.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((site / "index.html").as_uri())
    page.locator("article").get_by_role("link", name="Theory", exact=True).click()
    assert page.url == (site / "theory/index.html").as_uri()
    page.locator(".sidebar-tree").get_by_role("link", name="The lecture notes, refereed").click()
    assert page.url == (site / "errata.html").as_uri()
    page.locator("article").get_by_role("link", name="B-5").first.click()
    assert page.url == (site / "theory/bounds.html").as_uri() + "#B-5"
    api.expect(page.locator("#B-5 > h2")).to_be_in_viewport()
    page.locator("#B-5").get_by_role("link", name="Pascanu, Mikolov & Bengio 2013").first.click()
    assert page.url.endswith("theory/literature.html#pascanu2013")
    api.expect(page.locator("#pascanu2013")).to_be_in_viewport()
    assert reader.problems == []


def test_the_menu_of_a_narrow_screen(reader, site):
    page = reader.page
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto((site / "index.html").as_uri())
    link = page.locator(".sidebar-tree").get_by_role("link", name="Check your layer")
    page.locator(".mobile-header label[for='__navigation']").click()
    link.click()
    assert page.url == (site / "check.html").as_uri()
    assert reader.problems == []


@pytest.mark.parametrize(
    ("name", "label"), [("errata", "corrected: "), ("ledger", "certified in: ")]
)
def test_wide_tables_are_cards_on_a_narrow_screen(reader, site, name, label):
    reader.page.goto((site / f"{name}.html").as_uri())
    labels = reader.page.get_by_text(label, exact=True)
    sideways = """[...document.querySelectorAll(".table-wrapper")]
        .filter((table) => table.scrollWidth > table.clientWidth).length"""
    reader.dress(390, "light")
    assert labels.first.is_visible()
    assert reader.page.evaluate(sideways) == 0
    reader.dress(1280, "light")
    assert labels.first.is_hidden()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("vanishing", "theory/vanishing.html"),
        ("B-5", "theory/bounds.html#B-5"),
        ("bptt", "reference/recurrent.html#tinygrad_rnn.bptt"),
    ],
)
def test_search(reader, site, words, found):
    page = reader.page
    page.goto((site / "index.html").as_uri())
    page.get_by_placeholder("Search").fill(words)
    page.get_by_placeholder("Search").press("Enter")
    page.get_by_text("Search finished").wait_for()
    links = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert f"{site.as_uri()}/{found}" in links
    assert reader.problems == []


def test_pictures_of_the_main_pages(reader, site, tmp_path):
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    for name in MAIN:
        reader.page.goto((site / f"{name}.html").as_uri())
        for width in WIDTHS:
            pictures = set()
            for scheme in SCHEMES:
                reader.dress(width, scheme)
                path = folder / f"{name.replace('/', '-')}-{width}-{scheme}.png"
                pictures.add(reader.page.screenshot(path=path))
            assert len(pictures) == len(SCHEMES), f"{name} looks the same, light and dark"
