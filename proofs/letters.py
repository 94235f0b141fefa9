"""Formulas from LaTeX to plain letters, as a terminal shows them, and back."""

from __future__ import annotations

import re
import unicodedata
from xml.etree.ElementTree import Element

from .mathml import FORMULA, tree

RELATIONS = set("=<>≤≥≠≔∈→↦⪯~⟂↓↑:")
OPERATORS = set("+−×·∘")
BRACKETS = set("([")
FENCES = set("|‖")  # the same sign opens and closes
OPENING = set("([{⌈⌊⟨,;/") | RELATIONS | OPERATORS
SUMS = {"∑", "∏"}
PRIMES = {"'", ""}  # or nothing
SCRIPTED = re.compile(r"[_^]\w+$")
SUPERSCRIPTS = str.maketrans("0123456789+−nkim*", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵏⁱᵐ*")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
ACCENTS = {"¯": "\u0304", "^": "\u0302", "~": "\u0303"}
SHOWN = {"′": "'", "″": "''", "‴": "'''", "∑": "Σ", "∏": "Π", "ı": "i"}
ATOM = re.compile(r"√?\d+|[√∂d]?[^\W\d_]'*\u0304?(_\w|_\{[^{}]*\}|[₀-₉])?[⁰¹²³⁴-⁹ⁿᵏ]?")


def plain(text: str) -> str:
    r"""Return ``text`` with its $…$ and $$…$$ in plain letters.

    >>> plain(r"$\lVert P_{t,i} \rVert \le (\gamma\lVert W\rVert)^{t-i}$ and $\frac{2a}{\sinh 2a}$")
    '‖P_{t,i}‖ ≤ (γ‖W‖)^(t−i) and 2a/(sinh 2a)'

    Raises
    ------
    ValueError
        If a formula cannot be converted.
    """
    pieces = FORMULA.split(text)
    pieces[1::2] = [_tidy(_plain(tree(formula.strip("$")))) for formula in pieces[1::2]]
    return "".join(pieces)


def _tidy(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(?<=[(\[{⌈⌊⟨]) | (?=[)\]},.;⌉⌋⟩])", "", text)
    return unicodedata.normalize("NFC", text)


def _plain(element: Element) -> str:
    parts = list(element)
    match element.tag:
        case "msub":
            return _plain(parts[0]) + _lowered(parts[1])
        case "msup":
            return _plain(parts[0]) + _raised(parts[1])
        case "msubsup":
            return _plain(parts[0]) + _lowered(parts[1]) + _raised(parts[2])
        case "mfrac" if element.get("linethickness") == "0":
            return f"{_plain(parts[0])} choose {_plain(parts[1])}"
        case "mfrac":
            over, under = map(_tidy, map(_plain, parts))
            over = f"({over})" if re.search(r"[ /]", _outside(over)) else over
            return f" {over}/{_atom(under)} "
        case "msqrt":
            return "√" + _atom(_tidy(_row(parts)))
        case "mover":
            return _plain(parts[0]) + ACCENTS[parts[1].text or ""]
        case "mtable":
            rows = (", ".join(map(_plain, row)) for row in parts)
            return "; ".join(rows)
        case "mstyle":
            return _plain(parts[0])
        case "mspace":
            return " "
        case "mo" | "mi" | "mn" | "mtext":
            return SHOWN.get(element.text or "", element.text or "")
        case _:
            return _row(parts)


def _row(parts: list[Element]) -> str:
    """Join what stands side by side, with spaces where the eye wants them."""
    text, name = "", ""
    for part in parts:
        piece, before = _plain(part), text.rstrip()[-1:]
        inside = before in FENCES and text.count(before) % 2 == 1
        begins = not before or before in OPENING or inside
        if piece in RELATIONS or (piece in OPERATORS and not begins):
            text = f"{text} {piece} "
        elif piece == ",":
            text += ", "
        elif piece[:1] in FENCES and text.count(piece[0]) % 2:  # it closes
            text = text.rstrip() + piece
        elif name.isalpha() and piece.startswith(" ") and piece.strip():  # a fraction
            text += f"({_tidy(piece)})"
        elif begins or piece[:1] in PRIMES:
            text += piece.lstrip()
        else:
            after_name = name in SUMS or (name and piece[0] not in BRACKETS)
            after_index = piece[0].isalnum() and SCRIPTED.search(text)
            text += f" {piece}" if after_name or after_index or _name(part) else piece
        name = _name(part) if piece.strip() else name
    return text


def _name(element: Element) -> str:
    """Return the function's name with which an element begins, or its Σ or Π."""
    first = next(element.itertext(), "")
    return first if first in SUMS or (len(first) > 1 and first.isalpha()) else ""


def _outside(text: str) -> str:
    """Leave out what stands in brackets."""
    while (shorter := re.sub(r"\([^()]*\)|\{[^{}]*\}", "", text)) != text:
        text = shorter
    return text


def _atom(text: str) -> str:
    return text if ATOM.fullmatch(text) else f"({text})"


def _script(element: Element) -> str:
    """Return an index or exponent: without spaces but between words."""
    return re.sub(r"(?<!\w) | (?!\w)", "", _tidy(_plain(element)))


def _lowered(index: Element) -> str:
    text = _script(index)
    if text.isdigit():
        return text.translate(SUBSCRIPTS)
    return f"_{text}" if len(text) == 1 or text.isalpha() else f"_{{{text}}}"


def _raised(exponent: Element) -> str:
    text = _script(exponent)
    if text in ("⊤", "−⊤"):
        return text.replace("−", "⁻").replace("⊤", "ᵀ")
    if re.fullmatch(r"−?\d+|[nkim+*]", text):
        return text.translate(SUPERSCRIPTS)
    return f"^{text}" if len(text) == 1 else f"^({text})"


# ---- and back -----------------------------------------------------------------------------------

COMMANDS = {
    "γ": r"\gamma", "ε": r"\varepsilon", "η": r"\eta", "θ": r"\theta", "ρ": r"\rho",
    "σ": r"\sigma", "‖": r"\|", "≤": r"\le", "≥": r"\ge", "×": r"\times", "−": "-", "ŷ": r"\hat y",
    "²": "^2", "ⁿ": "^n", "ᵏ": "^k",
}  # fmt: skip
BETWEEN = "[-−+=<>≤≥×]"
FORMULA_WORD = rf"[^\s,:]*(?:[{''.join(COMMANDS)}√^|]|tanh')[^\s,:]*"
PHRASE = re.compile(rf"(?<!\S)(?![a-z]{{5}})\S+(?: {BETWEEN} [^\s,:]+)+|{FORMULA_WORD}")
COMBINING = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}


def latex(text: str) -> str:
    r"""Return a sentence in plain letters as LaTeX that needs no package, in ASCII.

    >>> print(latex("γ‖W‖ < 1 makes gradients vanish, by 100 %"), latex("Jürgen"))
    $\gamma\|W\|<1$ makes gradients vanish, by 100 \% J{\"u}rgen

    Raises
    ------
    ValueError
        If a letter has no LaTeX here.
    """
    pieces, end = [], 0
    for phrase in PHRASE.finditer(text):
        pieces += [escaped(text[end : phrase.start()]), f"${_formula(phrase[0])}$"]
        end = phrase.end()
    written = "".join([*pieces, escaped(text[end:])])
    if not written.isascii():
        raise ValueError(f"no LaTeX is known for a letter of {text!r}; add it to COMMANDS.")
    return written


def _formula(text: str) -> str:
    text = re.sub(r"\^\(([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"√(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"(tanh|log)", r"\\\1 ", text)
    text = re.sub(f"[{''.join(COMMANDS)}]", lambda letter: f"{COMMANDS[letter[0]]} ", text)
    return re.sub(r"(\\[a-z]+ (?=[A-Za-z]))|\s+", lambda gap: gap[1] or "", text)


def escaped(text: str) -> str:
    """Return a sentence without formulas as LaTeX wants it."""
    text = re.sub(r"([&%#_])", r"\\\1", text.replace("–", "--"))
    return "".join(_letter(letter) for letter in text)


def _letter(letter: str) -> str:
    parts = unicodedata.normalize("NFD", letter)
    return letter if len(parts) == 1 else f"{{\\{COMBINING.get(parts[1], parts[1])}{parts[0]}}}"
