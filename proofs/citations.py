"""What a theorem says and how to cite it: for a terminal, for BibTeX, for LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import fill

from tinygrad_rnn import __version__

from .bibliography import OWN, WORKS, entry, is_formula, named
from .catalogue import Theorem
from .letters import escaped, plain
from .mathml import FORMULA
from .notes import CLAIMS

TITLE = "tinygrad_rnn: the gradient theory of recurrent networks, executable"
AUTHORS = "The tinygrad_rnn authors"
YEAR = 2026
WIDTH = 88

_ELSE = "Unless the theorem says otherwise, vectors are rows"
_RNN = rf"""{_ELSE}, $h_t = f(a_t)$ with $a_t = x_t W_x + h_{{t-1}} W_h + b$ is an RNN, $W =
W_h^\top$, $J_t = \partial h_t/\partial h_{{t-1}} = \mathrm{{diag}}(f'(a_t)) W$ (rows: out, columns:
in), $P_{{t,i}} = \partial h_t/\partial h_i = J_t J_{{t-1}} \cdots J_{{i+1}}$ (C-1), $\gamma \ge
\sup|f'|$, and $\delta = \partial L/\partial h_t$ for a loss $L$ that reads $h_t$."""
_STATES = rf"""{_ELSE}, $s_t$ is the state ($h_t$; $(h_t, c_t)$ of an LSTM), $J_t = \partial
s_t/\partial s_{{t-1}}$ (rows: out, columns: in), $P_{{t,i}} = \partial s_t/\partial s_i = J_t
J_{{t-1}} \cdots J_{{i+1}}$ (C-1), $\partial^+$ is the immediate derivative, which holds $s_{{t-1}}$
fixed, and $\sigma(a) = 1/(1 + e^{{-a}})$."""
CONVENTIONS = {
    "activations": r"$\sigma(a) = 1/(1 + e^{-a})$.",
    "jacobians": _STATES,
    "bptt": _STATES,
    "bounds": _RNN,
    "spectra": rf"$J$ is a square matrix, such as the Jacobian of a step. {_RNN}",
    "vanishing": _RNN,
    "gates": rf"""{_ELSE}, and $J$ is the Jacobian of a step (rows: out, columns: in) by the state,
$h$ of a GRU and $(h, c)$ of an LSTM. Gates and weights are those of J-3 to J-6, with $K = W_c^\top$
where a GRU has no reset gate; primes are derivatives by the preactivation, $z' = z(1 - z)$ and
$\tilde c' = 1 - \tilde c^2$; $h_-$ and $c_-$ are $h_{{t-1}}$ and $c_{{t-1}}$.""",
    "initialisation": rf"""{_ELSE}, and an RNN is $h_t = f(a_t)$ with $a_t = x_t W_x + h_{{t-1}} W_h
+ b$.""",
}  # of the chapters whose statements lean on them


def cite(theorems: Sequence[Theorem], format: str) -> str:
    """Return theorems and their sources as ``text``, ``bibtex`` or ``latex``.

    In ``text`` and ``latex`` a theorem comes with its statement, which ``bibtex`` leaves out.
    """
    if format == "latex":
        return "\n".join(map(latex, theorems))
    sources = dict.fromkeys(source for theorem in theorems for source in theorem.sources)
    works = [WORKS[name] for name in dict.fromkeys(n for s in sources for n in named(s))]
    if format == "bibtex":
        return "\n\n".join([*map(_bibtex, theorems), *(work.bibtex() for work in works)])
    own = [f"{source[0].upper()}{source[1:]}." for source in sources if source.startswith(OWN)]
    found = own + [work.text() for work in works]
    if formulas := [source for source in sources if is_formula(source)]:
        places = "; ".join(f"{id} ({CLAIMS[id].where})" for id in formulas)
        found.append(f"The lecture notes: {places}.")
    return "\n".join(
        [
            *(line for theorem in theorems for line in _told(theorem)),
            "Sources:",
            *(f"  {line}" for line in found),
        ]
    )


def _told(theorem: Theorem) -> Iterator[str]:
    name = f"{AUTHORS} ({YEAR}). {TITLE}, version {__version__}."
    yield f"{name} Theorem {theorem.id}: {theorem.title}.\n"
    for paragraph in theorem.statement.split("\n\n"):
        yield _filled(plain(paragraph), "  ")
    yield "\nHypotheses:"
    for hypothesis in theorem.hypotheses:
        yield _filled(plain(hypothesis), "  ")
    if theorem.chapter in CONVENTIONS:
        yield "\nConventions:"
        yield _filled(plain(CONVENTIONS[theorem.chapter]), "  ")
    yield ""


def _filled(text: str, indent: str) -> str:
    return fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def latex(theorem: Theorem) -> str:
    r"""Return the statement as LaTeX's environment theorem, after its conventions.

    It needs ``\usepackage{amsmath,amssymb}`` and ``\newtheorem{theorem}{Theorem}``.
    """
    lines = [r"% needs \usepackage{amsmath,amssymb} and \newtheorem{theorem}{Theorem}"]
    if theorem.chapter in CONVENTIONS:
        lines.append(_filled(_typeset(CONVENTIONS[theorem.chapter]), ""))
    lines += [
        rf"\begin{{theorem}}[{theorem.id}]\label{{{theorem.id}}}",
        _typeset(theorem.statement),
        "\\end{theorem}\n",
    ]
    return "\n".join(lines)


def _typeset(text: str) -> str:
    """Make sentences with $formulas$ and `code` safe for LaTeX."""
    pieces = FORMULA.split(text)
    pieces[::2] = [re.sub("`(.+?)`", r"\\texttt{\1}", escaped(piece)) for piece in pieces[::2]]
    return "".join(pieces)


def _bibtex(theorem: Theorem) -> str:
    formulas = ", ".join(source for source in theorem.sources if is_formula(source))
    return entry(
        "misc",  # biblatex alone knows @software
        f"tinygrad_rnn:{theorem.id}",
        {
            "author": f"{{{AUTHORS}}}",
            "title": f"{{{TITLE}}}",
            "year": str(YEAR),
            "howpublished": f"Software, version {__version__}",
            "note": f"Theorem {theorem.id}: {theorem.title}"
            + (f"; lecture notes, formulas {formulas}" if formulas else ""),
        },
    )
