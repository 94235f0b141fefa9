"""Running Coq: compile the development, ask what its theorems say and rest on.

The modules are compiled in a scratch folder, one after the other; the sources stay clean.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = "TG"  # the name under which the modules know each other
# In the order of compilation.
MODULES = (
    *("Toolbox", "Activations", "Losses", "Recurrence", "Network", "Scalar", "Vanishing"),
    *("Operators", "Norms", "Lags", "Gates", "Invariants", "Clipping", "Differences"),
    *("Tape", "Unrolled", "Certificate", "Tensors"),
)
PINNED = "8.16.1"
INSTALL = "apt-get install coq libcoq-coquelicot libcoq-interval"

_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
_THEOREM = re.compile(r"^\s*(?:Theorem|Corollary)\s+([\w']+)", re.MULTILINE)
_DEFINITION = re.compile(r"^\s*(?:Definition|Fixpoint|Inductive|Record)\s+([\w']+)", re.MULTILINE)
# What leaves a proof open or switches a check off. The gate is the list of axioms, not this.
_FORBIDDEN = re.compile(
    r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjecture|bypass_check"
    r"|Unset\s+(?:Guard|Positivity|Universe)\s+Checking)\b"
)
_MARK = re.compile(r"^@@ (\w+) (\S+)$", re.MULTILINE)
_AXIOM = re.compile(r"^([\w.']+)(?:\s*:|$)", re.MULTILINE)


class CoqError(RuntimeError):
    """A module that does not compile, or that holds what no proof may hold."""


@cache
def version() -> str | None:
    """Return the version of the installed Coq, or None where there is none."""
    if shutil.which("coqc") is None:
        return None
    said = subprocess.check_output(["coqc", "--print-version"], text=True)
    return said.split()[0]


def code(folder: Path, module: str) -> str:
    """Return the source of a module without its comments."""
    return _COMMENT.sub("", (folder / f"{module}.v").read_text(encoding="utf-8"))


def theorems(folder: Path, modules: Iterable[str]) -> list[str]:
    """Return every ``Module.theorem``; helpers are called Lemma and are not listed."""
    return [f"{m}.{name}" for m in modules for name in _THEOREM.findall(code(folder, m))]


def definitions(folder: Path, modules: Iterable[str]) -> list[str]:
    """Return every ``Module.definition`` that a statement may use."""
    return [f"{m}.{name}" for m in modules for name in _DEFINITION.findall(code(folder, m))]


def run(program: str, scratch: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``coqc`` or ``coqchk`` in the scratch folder."""
    command = [program, *arguments[:-1], "-Q", ".", LIBRARY, arguments[-1]]
    return subprocess.run(command, cwd=scratch, text=True, capture_output=True, check=False)


def compile_module(scratch: Path, module: str) -> None:
    """Compile one module of the scratch folder."""
    forbidden = _FORBIDDEN.search(code(scratch, module))
    if forbidden:
        raise CoqError(f"{module}.v contains {forbidden.group()!r}.")
    done = run("coqc", scratch, "-q", "-w", "none", f"{module}.v")
    if done.returncode:
        raise CoqError(f"{module}.v does not compile:\n{done.stderr.strip()}")


def build(folder: Path, scratch: Path, modules: Iterable[str]) -> dict[str, float]:
    """Compile the modules in the scratch folder and return the seconds each took."""
    seconds = {}
    for module in modules:
        shutil.copy(folder / f"{module}.v", scratch)
        started = time.perf_counter()
        compile_module(scratch, module)
        seconds[module] = round(time.perf_counter() - started, 2)
    return seconds


def _ask(scratch: Path, modules: Iterable[str], questions: Iterable[tuple[str, str]]) -> str:
    """Let Coq answer questions, each given with the mark that goes before its answer."""
    lines = [f"Require {LIBRARY}.{m}." for m in modules]
    lines += ["From Coq Require Import Reals.", "From Coquelicot Require Import Coquelicot."]
    lines += ["Open Scope R_scope.", "Set Printing Width 100."]
    for mark, question in questions:
        lines += [f'Goal True. idtac "@@ {mark}". Abort.', question]
    (scratch / "Questions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run("coqc", scratch, "-q", "-w", "none", "Questions.v")
    if done.returncode < 0:
        raise CoqError(f"coqc was stopped by signal {-done.returncode}: is there enough memory?")
    if done.returncode:
        raise CoqError(f"Coq does not know a registered name:\n{done.stderr.strip()}")
    return done.stdout


def _answers(said: str) -> Iterator[tuple[str, str, str]]:
    """Cut Coq's output at the marks: what was asked, about which name, the answer."""
    _, *parts = _MARK.split(said)
    return zip(parts[::3], parts[1::3], parts[2::3], strict=True)


def _flat(text: str) -> str:
    return " ".join(text.split())


def interrogate(
    scratch: Path,
    modules: Iterable[str],
    names: list[str],
    defined: list[str],
    *,
    together: bool = False,
) -> tuple[dict[str, str], dict[str, list[str]], dict[str, str]]:
    """Return each theorem's statement and axioms, and each definition, as Coq prints them.

    Coq shortens names, so that an axiom of ours could pass for one of the library's: each is
    looked up again, and returned under its full name. ``together`` asks for the axioms of all
    theorems at once, which is faster; every theorem then has all of them.
    """
    modules = tuple(modules)
    questions = [(f"statement {t}", f"Check {LIBRARY}.{t}.") for t in names]
    if together:
        everything = ", ".join(f"@{LIBRARY}.{t}" for t in names)
        questions += [("all *", f"Definition all := ({everything}).\nPrint Assumptions all.")]
    else:
        questions += [(f"axioms {t}", f"Print Assumptions {LIBRARY}.{t}.") for t in names]
    questions += [(f"definition {d}", f"Print {LIBRARY}.{d}.") for d in defined]
    found: dict[str, dict[str, str]] = {"statement": {}, "axioms": {}, "definition": {}}
    for kind, name, answer in _answers(_ask(scratch, modules, questions)):
        if kind == "all":
            found["axioms"] = dict.fromkeys(names, answer)
        else:
            found[kind][name] = answer
    short = {
        name: _AXIOM.findall(answer.partition("Axioms:")[2])
        for name, answer in found["axioms"].items()
    }
    full = _full_names(scratch, modules, sorted({a for axioms in short.values() for a in axioms}))
    statements = {n: _flat(s.partition(" : ")[2]) for n, s in found["statement"].items()}
    axioms = {n: sorted(full[a] for a in found_axioms) for n, found_axioms in short.items()}
    bodies = {n: _flat(d.partition("Arguments ")[0]) for n, d in found["definition"].items()}
    return statements, axioms, bodies


def _full_names(scratch: Path, modules: tuple[str, ...], short: list[str]) -> dict[str, str]:
    said = _ask(scratch, modules, [(f"full {a}", f"Locate {a}.") for a in short])
    full = {}
    for _, name, answer in _answers(said):
        # "Constant Coq.Reals…": the first answer is what the short name stands for here.
        kind, *named = answer.split()
        full[name] = named[0] if kind == "Constant" else name
    return full


def check(scratch: Path, modules: Iterable[str]) -> str | None:
    """Let the independent checker read everything again; return what it objects to, or None."""
    everything = [f"{LIBRARY}.{m}" for m in modules]
    command = ["coqchk", "-silent", "-o", "-Q", ".", LIBRARY, *everything]
    done = subprocess.run(command, cwd=scratch, text=True, capture_output=True, check=False)
    if done.returncode:
        return f"coqchk failed:\n{done.stderr.strip()}"
    said = done.stdout + done.stderr
    for line in said.splitlines():
        if re.match(r"\* (Constants|Inductives)", line) and not line.endswith("<none>"):
            return f"coqchk: {line}"
    return None
