"""Break the library in a small way: does ``verify`` notice? Run ``python tests/mutate_cells.py``.

A mutant is one change in the code of the cells, the recurrent roads, the chains or the bounds: a
sign flipped, a factor or a term dropped, a transpose or an index left out, a gate or a derivative
mistaken for another, an off by one. ``--count`` of all are drawn with ``--seed``. A forked process
imports the mutant in place of the original and runs the theorems and examples at the profile
"quick", those first that mention what was changed, until one fails; if none does, their necessity
and sensitivity as well. What survives is printed, and is a gap in the theorems unless
``EQUIVALENT`` says why it computes the same.

Code that validates, that words an error or that only saves time or memory is left alone.

``python tests/mutate_cells.py NAME`` breaks only what mentions NAME; ``--list`` runs nothing.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import inspect
import io
import os
import random
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

# Loaded once, inherited by every forked process; importing tinygrad_rnn is left to those.
import flint  # noqa: F401
import hypothesis.extra.numpy  # noqa: F401
import numba  # noqa: F401
from mutate_rules import annotations, negative, put

ROOT = Path(__file__).parents[1]
MODULES = (
    *("cells.cell", "cells.rnn", "cells.gru", "cells.lstm", "chain", "bounds"),
    *("recurrent", "recurrent.by_kernel", "recurrent.checkpointed", "recurrent.rtrl"),
)
MINUTES = 10  # a mutant under which one theorem takes longer has been noticed
# Validation, and how arrays are laid out in memory.
UNTOUCHED = re.compile(
    r"_*check\w*|__post_init__|finite|_system|_floats_lifted|layout|init|initial_state|sizes|shapes"
    r"|spacing|suits|_kernel|_plain|_warn|_default|measure|value"
)
# A pattern of "module.function: old  →  new  in  line", where # stands for any number.
EQUIVALENT: dict[str, str] = {
    r": (# \* U|# \* A\.shape\[-#\] \*\* #|A\.shape\[-#\] \*\* #|# \* \(S \+ #\)|S \+ #"
    r"|# \* \(cell\.H \+ #\)|cell\.H \+ #|.*\[:, None\] \+ #|np\.abs\(logs\) \+ #"
    r"|# \* \(np\.sqrt.*|np\.sqrt\(len\(W\)\) \+ #)  →  \1  in": (
        "a margin for rounding errors, a unit more or less"
    ),
    r": # - # \* U  →  #  in": "a margin for rounding errors, left out",
    r"strict=True  →  strict=False": "a check of lengths that are equal",
    r"\.jacobians: .* in  B =": "the size of a block",
    r"_windows: .* in  most =": "the size of a batch",
}
# What a call may be replaced by: its first argument, or another function of the same arguments.
DROPPED = {
    *("np.abs", "np.sqrt", "np.cumsum", "np.swapaxes", "_transposed", "reversed", "diag"),
    *("np.tanh", "sigmoid", "d_tanh", "d_sigmoid", "np.nextafter", "np.log"),
}
MISTAKEN = {
    "d_tanh": "np.tanh",
    "np.tanh": "d_tanh",
    "d_sigmoid": "sigmoid",
    "sigmoid": "d_sigmoid",
    "np.maximum": "np.minimum",
    "rows": "diag",
}
EXCHANGED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


class Mutant(NamedTuple):
    module: str
    function: str
    change: str
    node: int  # its place in the module's tree
    new: ast.AST

    def __str__(self) -> str:
        return f"{self.module}.{self.function}: {self.change}"

    def tree(self) -> ast.Module:
        """The module with the change."""
        broken = parsed(self.module)
        put(broken, list(ast.walk(broken))[self.node], self.new)
        return ast.fix_missing_locations(broken)


INTACT = Mutant("none", "none", "no change", -1, ast.Pass())


def parsed(module: str) -> ast.Module:
    path = ROOT / "tinygrad_rnn" / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


# ---- making mutants ----------------------------------------------------------------------------


def replacements(node: ast.AST, siblings: list[set[str]]) -> Iterator[ast.AST]:
    """Everything that may stand in the place of ``node``; ``siblings`` are names found together."""
    match node:
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.BinOp(left, op, right):
            yield from (left, right)
            if type(op) in EXCHANGED:
                yield ast.BinOp(left, EXCHANGED[type(op)](), right)
        case ast.AugAssign(target, ast.Add(), value):
            yield ast.AugAssign(target, ast.Sub(), value)
            yield ast.Assign([target], value)
        case ast.Compare(left, [op], rest) if type(op) in EXCHANGED:
            yield ast.Compare(left, [EXCHANGED[type(op)]()], rest)
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Call(func, [first, *_] as arguments, keywords):
            name = ast.unparse(func)
            if name in DROPPED:
                yield first
            if name in MISTAKEN:
                yield ast.Call(ast.parse(MISTAKEN[name], mode="eval").body, arguments, keywords)
        case ast.Attribute(value, "T"):
            yield value
        case ast.Subscript(value, ast.Slice() | ast.Tuple(), ast.Load()):
            yield value
        case ast.Constant(bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Name(name, ast.Load()) if re.fullmatch(r"\w+_\w", name):  # W_i for W_f
            near = {s for names in siblings if name in names for s in names - {name}}
            alike = sorted(s for s in near if s[:-1] == name[:-1])
            yield from (ast.Name(other, ast.Load()) for other in alike)


def out_of_bounds(function: ast.FunctionDef) -> set[ast.AST]:
    """Every node of a function whose change says nothing about gradients."""
    held: list[ast.AST] = [function.args, *function.decorator_list, *annotations(function)]
    for node in ast.walk(function):
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.ImportFrom() | ast.Expr(ast.Constant()):
                held.append(node)
            case ast.If(body=body) if any(isinstance(s, ast.Raise) for s in body):
                held.append(node)
            case ast.Expr(ast.Call(f)) if re.search("check|warn", ast.unparse(f)):
                held.append(node)
    return {inner for node in held for inner in ast.walk(node)}


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions and methods of a module, without those inside of others."""
    for statement in tree.body:
        inside = statement.body if isinstance(statement, ast.ClassDef) else [statement]
        yield from (f for f in inside if isinstance(f, ast.FunctionDef))


def mutants() -> Iterator[Mutant]:
    for module in MODULES:
        tree = parsed(module)
        place = {node: k for k, node in enumerate(ast.walk(tree))}
        for function in functions(tree):
            if UNTOUCHED.fullmatch(function.name):
                continue
            simple = (ast.Assign, ast.Return, ast.AugAssign)
            together = [s for s in ast.walk(function) if isinstance(s, simple)]
            siblings = [{n.id for n in ast.walk(s) if isinstance(n, ast.Name)} for s in together]
            parents = {c: p for p in ast.walk(function) for c in ast.iter_child_nodes(p)}
            statements = (s for s in ast.walk(function) if isinstance(s, ast.stmt))
            line = {c: s for s in statements for c in ast.walk(s)}  # the innermost comes last
            skipped, returns = out_of_bounds(function), function.returns or ast.Constant(None)
            for node in ast.walk(function):
                if node in skipped:
                    continue
                result = (
                    isinstance(parents.get(node), ast.Return) and ast.unparse(returns) == "Array"
                )
                for new in (*replacements(node, siblings), *([negative(node)] if result else [])):
                    ast.fix_missing_locations(new)
                    whole = ast.unparse(line[node]).partition("\n")[0]
                    change = f"{described(node, new, parents[node])}  in  {whole}"
                    yield Mutant(module, function.name, change, place[node], new)


def described(node: ast.AST, new: ast.AST, parent: ast.AST) -> str:
    """Old → new; a number is shown with what it is a part of."""
    if isinstance(node, ast.Constant):
        changed = copy.deepcopy(parent)
        put(changed, list(ast.walk(changed))[list(ast.walk(parent)).index(node)], new)
        node, new = parent, ast.fix_missing_locations(changed)
    return f"{ast.unparse(node)}  →  {ast.unparse(new)}"


def reason(mutant: Mutant) -> str | None:
    """Why the mutant computes the same; None if it does not."""
    text = re.sub(r"\d+", "#", str(mutant))
    return next((why for what, why in EQUIVALENT.items() if re.search(what, text)), None)


# ---- facing the theorems -----------------------------------------------------------------------


def killer(mutant: Mutant) -> str | None:
    """Return what verify's profile "quick" first finds wrong; None if nothing."""
    from tinygrad_rnn.proofs import evidence, verify
    from tinygrad_rnn.proofs.examples import EXAMPLES

    theorems, effort = verify.load(), verify.PROFILES["quick"]

    def mentions(theorem: Any) -> tuple[int, int]:
        claim, module = theorem.claim, sys.modules[theorem.claim.__module__]
        place = mutant.module.rpartition(".")[2]
        return (
            -inspect.getsource(claim).count(mutant.function.strip("_")),
            -inspect.getsource(module).count(place),
        )

    ordered = sorted(theorems.values(), key=mentions)
    for check in (verify._CHECKS["certified"], verify._CHECKS["tested"]):
        for theorem in ordered:
            signal.alarm(60 * MINUTES)
            entry = check(theorem, effort, 0)
            if entry["verdict"] not in ("CERTIFIED", "CONSISTENT", "NOT CHECKED"):
                found = entry.get("systems", {"float": entry}).values()
                failures = [e["failure"] for e in found if e["failure"]]
                return (
                    f"{theorem.id} {entry['verdict']}: {failures[0] if failures else 'undecided'}"
                )
    for id, example in EXAMPLES.items():
        if (verdict := example().to_json()["verdict"]) in ("REFUTED", "INCONCLUSIVE"):
            return f"{id} {verdict}"
    for theorem in ordered:
        signal.alarm(60 * MINUTES)
        for necessity in theorem.necessity:
            if evidence.counterexample(theorem, necessity) is None:
                return f"{theorem.id} INCONCLUSIVE: {necessity.dropped} is not necessary"
        for mistake in theorem.sensitivity:
            if evidence.caught(theorem, mistake, effort.mistakes) is None:
                return f"{theorem.id} INCONCLUSIVE: {mistake.name} is not caught"
    return None


def forked(mutant: Mutant, work: Callable[[Mutant], str | None]) -> str | None:
    """Return what ``work`` says in a process that imports the mutant as the original."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return said or (f"signal {-status}, {MINUTES} minutes for a theorem" if status else None)
    code = None if mutant is INTACT else compile(mutant.tree(), "mutant", "exec")
    target = f"tinygrad_rnn.{mutant.module}"
    original: Callable[..., Any] = SourceFileLoader.get_code
    SourceFileLoader.get_code = lambda self, name: (  # type: ignore[method-assign, assignment]
        code if code and name == target else original(self, name)
    )
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            said = work(mutant) or ""
        except BaseException as error:
            said = f"raises {error!r}"
    os.write(writing, said[:1000].encode())
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--list", action="store_true", help="show the mutants, run nothing")
    parser.add_argument("--no-control", action="store_true", help="trust the library to pass")
    parser.add_argument("names", nargs="*", help="break only what mentions these")
    options = parser.parse_args()
    os.chdir(ROOT)
    every = [m for m in mutants() if all(name in str(m) for name in options.names)]
    equivalent = [m for m in every if reason(m)]
    real = [m for m in every if not reason(m)]
    chosen = random.Random(options.seed).sample(real, min(options.count, len(real)))
    print(f"{len(every)} mutants, {len(equivalent)} of them equivalent; {len(chosen)} are drawn")
    if options.list:
        print(*chosen, *(f"EQUIVALENT {m}: {reason(m)}" for m in equivalent), sep="\n")
        return 0
    if not options.no_control:
        found = forked(INTACT, killer)
        assert found is None, f"verify fails without a mutant: {found}"
    survivors = 0
    for k, mutant in enumerate(chosen, start=1):
        found = forked(mutant, killer)
        survivors += found is None
        said = "SURVIVED" if found is None else f"killed by {found[:120]}"
        print(f"{k:3} {mutant}\n    {said}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants killed")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
