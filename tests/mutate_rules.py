"""Break every rule in every small way: does a test notice? Run ``python tests/mutate_rules.py``.

A mutant is the rule table with one change: a sign flipped, a factor or a term dropped, two partials
or products exchanged, a transpose, a flip or an index left out, a constant or an argument replaced.
It is imported in a forked process in place of the original and faces first the tests of the
functions that use what was changed, then all tests of the rules. What survives is printed, and is a
gap in the tests unless ``EQUIVALENT`` says why it computes the same.

``python tests/mutate_rules.py NAME`` breaks only what mentions NAME.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

# Loaded once, inherited by every forked process. Nothing of ours is loaded here.
import flint  # noqa: F401
import hypothesis.extra.numpy  # noqa: F401
import numpy as np
import pytest
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[1]
TABLE = ("elementwise", "arrays", "products")
TESTS = [str(ROOT / "tests" / f"test_{name}.py") for name in ("rules", "number_systems", "tensor")]
# What a call may be replaced by: its first argument.
DROPPED = {
    *("np.transpose", "np.swapaxes", "np.moveaxis", "np.flip", "np.cumsum", "np.reshape", "_swap"),
    *(
        "np.expand_dims",
        "np.broadcast_to",
        "np.negative",
        "np.mod",
        "np.argsort",
        "np.where",
        "exact",
    ),
    *("np.sin", "np.cos", "np.sinh", "np.cosh", "np.tanh", "np.exp", "np.log", "np.sign"),
    *("np.where", "exact", "d_tanh", "d_sigmoid", "sigmoid", "step", "np.linalg.inv"),
}
STATED_BY = ("elementwise", "linear", "rule")
EQUIVALENT: dict[str, str] = {
    "_power: a  →  b  in  return b * a ** (b - 1) if b else np.zeros_like(b)": (
        "zero is broadcast by the product it enters"
    ),
    "_add_at: index if isinstance(index, tuple) else (index,)  →  (index,)  in  parts = (index,)": (
        "a tuple of slices takes the slower road, to the same sum"
    ),
    "_scatter: 0  →  -1  in  buffer = np.zeros(shape, gs[-1].dtype)": "all have one dtype",
    "_exponent: a + 0 * b  →  a - 0 * b  in  a = a - 0 * b": "0 either way",
    "_promoted: -1  →  1  in  g, b = (np.expand_dims(g, -1), np.expand_dims(b, 1))": "b is 1-D",
    "_matmul_right: 0  →  -1  in  return product[..., -1] if np.ndim(b) == 1 else product": (
        "there is one column"
    ),
    "_matmul_left: a  →  b  in  if type(b) is type(b) is np.ndarray and a.ndim == b.ndim == 2:\n"
    "    return np.matmul(g, b.T)": "what is differentiated is no list; for Tensors both are right",
    "_matmul_right: b  →  a  in  if type(a) is type(a) is np.ndarray and a.ndim == b.ndim == 2:\n"
    "    return np.matmul(a.T, g)": "what is differentiated is no list; for Tensors both are right",
    "_matmul_left: a  →  b  in  if type(a) is type(b) is np.ndarray and b.ndim == b.ndim == 2:\n"
    "    return np.matmul(g, b.T)": "the road for matrices, also for more rows",
    "_matmul_right: b  →  a  in  if type(a) is type(b) is np.ndarray and a.ndim == a.ndim == 2:\n"
    "    return np.matmul(a.T, g)": "the road for matrices, also for more columns",
}


class Mutant(NamedTuple):
    module: str
    where: str
    change: str
    tree: ast.Module
    functions: frozenset[str]


# ---- making mutants ----------------------------------------------------------------------------


def negative(e: Any) -> ast.expr:
    return ast.UnaryOp(ast.USub(), e)


def replacements(node: ast.AST, parent: ast.AST | None) -> Iterator[ast.AST]:
    """Everything that may stand in the place of ``node``."""
    if isinstance(parent, ast.Return) or (isinstance(parent, ast.Lambda) and node is parent.body):
        yield negative(node)
    match node:
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.BinOp(left, op, right):
            yield from (left, right)
            exchanged = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
            if type(op) in exchanged:
                yield ast.BinOp(left, exchanged[type(op)](), right)
        case ast.Compare(left, [op], rest):
            opposite = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}
            if type(op) in opposite:
                yield ast.Compare(left, [opposite[type(op)]()], rest)
        case ast.IfExp(_, body, orelse):
            yield from (body, orelse)
        case ast.Call(func, [first, *_]) if ast.unparse(func) in DROPPED:
            yield first
        case ast.Call(func, [f, a, b], keywords) if ast.unparse(func) == "elementwise":
            yield ast.Call(func, [f, b, a], keywords)
        case ast.Tuple([a, b]) if isinstance(a, ast.Lambda) or ast.unparse(a).startswith("_"):
            yield ast.Tuple([b, a], ast.Load())
        case ast.Tuple([ast.Constant(None), a, b]):
            yield ast.Tuple([ast.Constant(None), b, a], ast.Load())
        case ast.Attribute(value, "T"):
            yield value
        case ast.Subscript(value, _, ast.Load()) if not isinstance(parent, ast.Subscript):
            yield value
        case ast.Constant(bool(value)):
            if not (isinstance(parent, ast.keyword) and parent.arg == "strict"):  # an assertion
                yield ast.Constant(not value)
        case ast.Constant(int(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Name(("a" | "b") as name, ast.Load()):
            yield ast.Name("b" if name == "a" else "a", ast.Load())
        case ast.Name("y", ast.Load()):
            yield ast.Name("x", ast.Load())


def annotations(tree: ast.AST) -> set[ast.AST]:
    """Every node inside an annotation: changing those changes nothing."""
    held = [getattr(n, k, None) for n in ast.walk(tree) for k in ("annotation", "returns")]
    return {inner for h in held if h is not None for inner in ast.walk(h)}


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def rows(tree: ast.Module) -> dict[int, frozenset[str]]:
    """Which functions use what a top-level statement defines, by the statement's position."""
    own: dict[str, set[str]] = {}  # a name defined here: the functions whose rules mention it
    calls: dict[int, str] = {}
    for k, statement in enumerate(tree.body):
        value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
        if isinstance(value, ast.Call) and ast.unparse(value.func) in (
            "elementwise",
            "linear",
            "rule",
        ):
            calls[k] = ast.unparse(value.args[0]).removeprefix("functions.")
    defined = {
        k: s.name if isinstance(s, ast.FunctionDef) else ast.unparse(s.targets[0])
        for k, s in enumerate(tree.body)
        if isinstance(s, ast.FunctionDef) or (isinstance(s, ast.Assign) and k not in calls)
    }
    for k, f in calls.items():
        reached, todo = set(), names_in(tree.body[k])
        while todo:
            name = todo.pop()
            reached.add(name)
            for j, other in defined.items():
                if other == name:
                    todo |= names_in(tree.body[j]) - reached
        for name in reached:
            own.setdefault(name, set()).add(f)
    users = {k: frozenset(own.get(name, ())) for k, name in defined.items()}
    return {
        k: fs for k, fs in (users | {k: frozenset([f]) for k, f in calls.items()}).items() if fs
    }


def mutants() -> Iterator[Mutant]:
    for module in TABLE:
        tree = ast.parse((ROOT / f"tinygrad_rnn/autodiff/{module}.py").read_text(encoding="utf-8"))
        for k, functions in rows(tree).items():
            statement = tree.body[k]
            parents = {c: p for p in ast.walk(statement) for c in ast.iter_child_nodes(p)}
            skipped = annotations(statement)
            lines = {
                c: s for s in ast.walk(statement) if isinstance(s, ast.stmt) for c in ast.walk(s)
            }
            for i, node in enumerate(ast.walk(statement)):
                if node in skipped:
                    continue
                for new in replacements(node, parents.get(node)):
                    if ast.unparse(new) == ast.unparse(node):  # two partials that are the same
                        continue
                    broken = copy.deepcopy(tree)
                    nodes = list(ast.walk(broken.body[k]))
                    line = nodes[list(ast.walk(statement)).index(lines[node])]
                    put(broken, nodes[i], copy.deepcopy(new))
                    ast.fix_missing_locations(broken)
                    where = getattr(statement, "name", min(functions))
                    change = f"{ast.unparse(node)}  →  {ast.unparse(new)}  in  {ast.unparse(line)}"
                    yield Mutant(module, where, change, broken, functions)


def put(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    """Replace the node ``old`` of ``tree``."""
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if v is old else v for v in value]


# ---- facing the tests --------------------------------------------------------------------------


def contracts(functions: frozenset[str]) -> None:
    """Check the contract of some rules: the tests themselves, without pytest around them."""
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401  # the settings of Hypothesis

    unshrunk = settings(settings.get_profile("default"), phases=[Phase.generate])
    settings.register_profile("unshrunk", unshrunk)
    settings.load_profile("unshrunk")
    import test_rules as t

    for f in t.FUNCTIONS:
        if t.public_name(f) in functions and f not in t.FLOATS_ONLY:
            t.test_products_are_derivatives_and_transposes(f=f)
            t.test_products_can_be_differentiated_again(f=f)
            if f in t.COMPUTED:
                t.test_floats_keep_their_precision_and_their_bound(f=f, dtype=np.float32)
    if "np.logaddexp" in functions:
        t.test_logaddexp(dtype=np.float32)
    if any("linalg" in name for name in functions):
        t.test_solve()
        t.test_inverse_and_determinant()
        t.test_linear_algebra_is_stacked(f=np.linalg.inv)
        t.test_linear_algebra_is_stacked(f=np.linalg.det)
        t.test_linear_algebra_twice()


def everything(_: frozenset[str]) -> None:
    """Run all tests of the rules."""
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore", "--tb=no"]
    assert pytest.main([*options, *TESTS]) == 0


def notices(mutant: Mutant, tests: Callable[[frozenset[str]], None]) -> bool:
    """Whether the tests fail on the mutant, which a forked process imports as the original."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    target = f"tinygrad_rnn.autodiff.{mutant.module}"
    original: Callable[..., Any] = SourceFileLoader.get_code
    SourceFileLoader.get_code = lambda self, name: (  # type: ignore[method-assign, assignment]
        compile(mutant.tree, "mutant", "exec") if name == target else original(self, name)
    )
    status = 1
    warnings.simplefilter("ignore")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            tests(mutant.functions)
            status = 0
        finally:
            os._exit(status)
    return True


def survives(mutant: Mutant) -> bool:
    return not (notices(mutant, contracts) or notices(mutant, everything))


def main() -> int:
    os.chdir(ROOT)
    intact = Mutant("none", "", "", ast.Module([], []), frozenset())
    assert not notices(intact, everything), "the tests fail without a mutant"
    every = frozenset().union(*(m.functions for m in mutants()))
    assert not notices(intact._replace(functions=every), contracts), "and so do the contracts"
    chosen = [
        m for m in mutants() if all(w in f"{m.module} {m.where}: {m.change}" for w in sys.argv[1:])
    ]
    survivors, equivalent = 0, 0
    with get_context("fork").Pool() as pool:
        for m, survived in zip(chosen, pool.imap(survives, chosen), strict=True):
            known = f"{m.where}: {m.change}" in EQUIVALENT
            equivalent += known
            if survived and not known:
                survivors += 1
                print(f"SURVIVED {m.where}: {m.change}", flush=True)
    real = len(chosen) - equivalent
    print(f"{real - survivors} of {real} mutants killed, {equivalent} more are equivalent")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
