"""What theorems say as a browser shows it: formulas in LaTeX, and sentences in plain letters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import escape
from xml.etree.ElementTree import Element, fromstring, tostring

from latex2mathml.converter import convert

FORMULA = re.compile(r"(\$\$.+?\$\$|\$.+?\$)", re.S)
GROUP = r"\{[^{}]*\}|\([^()]*\)"
NAME = "[A-Za-z0-9α-ω∞]"  # not \w, to which ² and ᵀ belong
INDEX = re.compile(rf"(?<!\s)_({GROUP}|(?:min|max|out|\d+|{NAME}{{1,2}})(?![A-Za-z0-9_]))")
EXPONENT = re.compile(rf"(?<!\s)\^({GROUP}|[−-]?{NAME}+|[⊤+])")
VARIANTS = {"double-struck": "DOUBLE-STRUCK", "bold": "BOLD", "script": "SCRIPT"}
UNSPACED = {c: c for c in "‖|⌈⌉⌊⌋/∂∞"}
UNSPACED |= dict.fromkeys((r"\|", r"\Vert", r"\lVert", r"\rVert"), "‖")  # after \Big
UNSPACED |= dict.fromkeys((r"\vert", r"\lvert", r"\rvert"), "|")
PRIMES = ("′", "″", "‴")
RELATIONS = ("≔", "⟹", "⟺", "⟸", "⪯", "⪰")  # converted as if they were names


def html(text: str) -> str:
    r"""Return ``text`` as HTML, its $…$ and $$…$$ as MathML.

    Outside of formulas h_{t−1} and q^k get indices and exponents, and `code` its letters.

    >>> print(html("If $a < 1$ & so on"))  # doctest: +ELLIPSIS
    If <math display="inline"...><mi>a</mi><mo>&lt;</mo><mn>1</mn>...</math> &amp; so on
    >>> html("h_{t−1} < W_h^2, but log_norm stays")
    'h<sub>t−1</sub> &lt; W<sub>h</sub><sup>2</sup>, but log_norm stays'

    Raises
    ------
    ValueError
        If a formula cannot be converted, or a $ is left over.
    """
    return "".join(_pieces(text))


def _pieces(text: str) -> Iterator[str]:
    for piece in FORMULA.split(text):
        if len(piece) > 2 and piece[0] == piece[-1] == "$":
            yield _math(piece.strip("$"), "block" if piece.startswith("$$") else "inline")
        elif "$" in piece or "\\" in piece:
            raise ValueError(f"a formula is not between dollar signs: {piece!r}")
        else:
            yield _prose(piece)


def _prose(text: str) -> str:
    pieces = escape(text, quote=False).split("`")
    pieces[1::2] = [f"<code>{code}</code>" for code in pieces[1::2]]
    for _ in range(2):  # the second time for what had indices of its own: J_{k_t}
        pieces[::2] = [EXPONENT.sub(_raised, INDEX.sub(_lowered, p)) for p in pieces[::2]]
    return "".join(pieces)


def _lowered(index: re.Match[str]) -> str:
    return f"<sub>{index[1].strip('{}()')}</sub>"


def _raised(exponent: re.Match[str]) -> str:
    return f"<sup>{exponent[1].strip('{}()')}</sup>"


def _math(latex: str, display: str) -> str:
    return tostring(tree(latex, display), encoding="unicode")


def tree(latex: str, display: str = "inline") -> Element:
    """Return a formula, without its dollar signs, as an element of MathML Core.

    Raises
    ------
    ValueError
        If it cannot be converted.
    """
    braces = re.sub(r"\\[{}]", "", latex)
    if braces.count("{") != braces.count("}"):
        raise ValueError(f"the braces of the formula ${latex}$ do not match")
    try:
        math = fromstring(convert(latex.replace(":=", "≔"), xmlns="", display=display))
    except Exception as error:
        raise ValueError(f"cannot convert ${latex}$: {error!r}") from error
    math = _core(math)
    written = tostring(math, encoding="unicode")
    if "\\" in written:
        raise ValueError(f"a command of ${latex}$ is not known: {written}")
    return math


def _core(element: Element) -> Element:
    """Say in MathML Core, which browsers implement, what the converter says in MathML 3."""
    element[:] = [_core(child) for child in element]
    text = element.text or ""
    if style := VARIANTS.get(element.get("mathvariant", "")):
        element.text = "".join(_styled(letter, style) for letter in text)
        del element.attrib["mathvariant"]
    if text in UNSPACED:
        # Left to themselves they stretch to what stands beside them, and keep away from it.
        return _operator(UNSPACED[text], **element.attrib)
    if text in RELATIONS:
        return _made("mo", text)
    if element.tag == "mover" and element[1].tag == "mo":
        element.set("accent", "true")
    letters = list(element)
    if len(letters) > 1 and all(e.get("mathvariant") == "normal" for e in letters):
        return _made("mi", "".join(e.text or "" for e in letters))
    if element.tag in ("msup", "msubsup") and element[-1].text in PRIMES:
        # Fonts have raised primes; only those with mathematical tables have them for exponents.
        primed = _made("mrow", None, element[0], _operator(element[-1].text))
        return primed if element.tag == "msup" else _made("msub", None, primed, element[1])
    if element.tag in ("math", "mrow"):
        _space_names(element)
    return element


def _space_names(row: Element) -> None:
    """Set named functions apart from what they touch: y tanh a, but max(a, b)."""
    for i in reversed(range(1, len(row))):
        left, right = row[i - 1], row[i]
        if {left.tag, right.tag}.isdisjoint({"mo", "mspace"}) and (_named(left) or _named(right)):
            row.insert(i, Element("mspace", width="0.1667em"))
    for i, element in enumerate(row):
        if (name := _innermost(element)).tag == "mo" and (name.text or "").isalpha():
            after_name = i > 0 and row[i - 1].tag != "mo"
            name.set("lspace", "0.1667em" if after_name else "0")
            fenced = i + 1 < len(row) and row[i + 1].text in ("(", "|", "‖", "{")
            name.set("rspace", "0" if fenced else "0.1667em")


def _made(tag: str, text: str | None, *children: Element) -> Element:
    element = Element(tag)
    element.text = text
    element.extend(children)
    return element


def _operator(text: str, **attributes: str) -> Element:
    stretchy = "true" if "minsize" in attributes else "false"  # \Big gives it a size
    element = Element("mo", {"stretchy": stretchy, "lspace": "0", "rspace": "0", **attributes})
    element.text = text
    return element


def _innermost(element: Element) -> Element:
    while element.tag in ("msup", "msub", "msubsup", "munder", "mrow") and len(element):
        element = element[0]
    return element


def _named(element: Element) -> bool:
    name = _innermost(element)
    return name.tag == "mi" and len(name.text or "") > 1


def _styled(letter: str, style: str) -> str:
    kind = "DIGIT" if letter.isdigit() else "CAPITAL" if letter.isupper() else "SMALL"
    name = unicodedata.name(letter).rpartition(" ")[2]
    for begin in (f"MATHEMATICAL {style}", style):
        try:
            return unicodedata.lookup(f"{begin} {kind} {name}")
        except KeyError:
            continue
    return letter
