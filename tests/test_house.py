"""The rules of the house, read off the source: size, imports, tolerances, public names."""

from __future__ import annotations

import ast
import inspect
import io
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import pytest
from source_tree import MODULES, ROOT

FOLDERS = ("tinygrad_rnn", "proofs", "tests", "benchmarks")
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
# A module imports from its own floor and from those above it in this list.
FLOORS = [
    *("trees", "functions", "composed", "autodiff", "inside", "scalars", "activations", "cells"),
    *("kernels", "recurrent", "stack", "bounds", "chain", "losses", "init", "clip", "optim"),
    *("check", "experiments", "cli", "proofs"),
]
SELF_CONTAINED = {"kernels"}  # arrays in, arrays out: imports nothing of ours
HEAVY = {
    "numba",
    "hypothesis",
    "flint",
    "matplotlib",
    "scipy",
    "rich",
    "typer",
    "sklearn",
    "distributed",
    "graphviz",
}
# Comparisons with a tolerance hidden inside.
BLURRED = {
    *("approx", "isclose", "allclose", "assert_allclose", "assert_almost_equal"),
    *("assert_approx_equal", "assert_array_almost_equal", "assertAlmostEqual"),
}
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time", "timeit", "now"}
TOLERANCES = {"rtol", "atol", "rel_tol", "abs_tol", "places", "decimal"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


every_source = pytest.mark.parametrize("path", SOURCES, ids=relative)
every_module = pytest.mark.parametrize("name", sorted(MODULES))


# ---- size -------------------------------------------------------------------------------------


def code_lines(path: Path) -> int:
    """Count the lines that hold code: no blank lines, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                documentation.update(range(first.lineno, (first.end_lineno or 0) + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in silent and token.type != tokenize.ENDMARKER:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - documentation)


def test_the_engine_fits_its_budget() -> None:
    lines = {p.name: code_lines(p) for p in sorted((ROOT / "tinygrad_rnn/autodiff").glob("*.py"))}
    assert sum(lines.values()) <= 700, lines


@every_source
def test_a_module_is_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


# ---- imports ----------------------------------------------------------------------------------


def imports(path: Path, name: str) -> Iterator[str]:
    """Every module that ``path`` imports, at any depth, also by import_module("...")."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(parse(path)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                base = resolve_name("." * node.level + (node.module or ""), package)
                # `from tinygrad_rnn import cells` means the module tinygrad_rnn.cells.
                inner = [f"{base}.{alias.name}" for alias in node.names]
                yield from [m for m in inner if m in MODULES] or [base]
            case ast.Call(func, [ast.Constant(str(target)), *_]) if ast.unparse(func).endswith(
                "import_module"
            ):
                yield target


def floor(module: str) -> str | None:
    """The floor a module lives on; None for one that is not ours."""
    if module.partition(".")[0] != "tinygrad_rnn":
        return None
    inside = module.partition(".")[2]
    for name in (inside, inside.partition(".")[0]):
        if name in FLOORS:
            return name
    # The package itself offers what every floor has, so only the top may lean on it.
    assert not inside, f"{module} has no floor: give it a place in FLOORS"
    return FLOORS[-1]


@every_module
def test_imports_go_one_way(name: str) -> None:
    own = floor(name)
    assert own is not None
    for target in imports(MODULES[name], name):
        there = floor(target)
        if there is None or (own, there) == ("cli", "proofs"):  # see the next test
            continue
        if (own, target) == ("experiments", "tinygrad_rnn"):  # written like a user's own: tg.bptt
            continue
        assert FLOORS.index(there) <= FLOORS.index(own), f"{name} imports {target}, above it"
        assert own not in SELF_CONTAINED or there == own, f"{name} imports {target}"


def loaded_after(statement: str, cwd: Path) -> set[str]:
    """The modules a fresh interpreter, started elsewhere, has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=cwd).split())


def test_the_command_line_loads_the_proofs_late(tmp_path: Path) -> None:
    assert "tinygrad_rnn.proofs" not in loaded_after("import tinygrad_rnn.cli", tmp_path)


def test_importing_costs_numpy_only(tmp_path: Path) -> None:
    assert not loaded_after("import tinygrad_rnn", tmp_path) & HEAVY


def test_every_module_is_installed(tmp_path: Path) -> None:
    assert set(MODULES) <= loaded_after("import " + ", ".join(MODULES), tmp_path)


def test_every_package_is_shipped() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        shipped = tomllib.load(file)["tool"]["setuptools"]["packages"]
    assert set(shipped) == {n for n, path in MODULES.items() if path.name == "__init__.py"}


# ---- tolerances and time ----------------------------------------------------------------------


def literals(node: ast.AST) -> Iterator[float]:
    """The non-zero numbers written in an expression."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, (int, float)) and part.value:
            yield part.value


def blurs(tree: ast.Module) -> Iterator[str]:
    """Comparisons that hold only up to a number somebody chose."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in BLURRED:
                yield f"line {node.lineno}: {name} has a tolerance inside"
            for keyword in node.keywords:
                if keyword.arg in TOLERANCES and any(literals(keyword.value)):
                    yield f"line {node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
                larger = {ast.Lt: right, ast.LtE: right, ast.Gt: left, ast.GtE: left}
                numbers = literals(larger.get(type(operator), ast.Pass()))
                if any(isinstance(v, float) and 0 < v < 1e-3 for v in numbers):
                    yield f"line {node.lineno}: {ast.unparse(node)}"


TESTS = [p for p in SOURCES if p.parent.name == "tests"]
PROOFS = [p for p in SOURCES if p.is_relative_to(ROOT / "proofs")]


@pytest.mark.parametrize("path", TESTS + PROOFS, ids=relative)
def test_a_tolerance_is_derived_or_zero(path: Path) -> None:
    assert list(blurs(parse(path))) == []


@pytest.mark.parametrize(
    "blurred",
    ["np.allclose(a, b)", "check(a, b, atol=1e-8)", "abs(a - b) <= 1e-9 * scale", "1e-6 > error"],
)
def test_a_literal_tolerance_is_seen(blurred: str) -> None:
    assert len(list(blurs(ast.parse(blurred)))) == 1


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_no_test_reads_the_clock(path: Path) -> None:
    called = [n.func for n in ast.walk(parse(path)) if isinstance(n, ast.Call)]
    assert not CLOCKS & {ast.unparse(f).rpartition(".")[2] for f in called}


PEERS = {"torch_layer", "jax_layer"}  # tests/test_layer_adapters.py runs their examples


# ---- public names -----------------------------------------------------------------------------


@every_module
def test_public_names_are_explained_by_examples(name: str) -> None:
    module = import_module(name)
    public = {n: getattr(module, n) for n in getattr(module, "__all__", ())}
    explicable = {n for n, t in public.items() if inspect.isclass(t) or inspect.isfunction(t)}
    assert {
        n for n in explicable - PEERS if ">>> " not in (inspect.getdoc(public[n]) or "")
    } == set()


@every_module
def test_all_names_what_is_there(name: str) -> None:
    module = import_module(name)
    names = getattr(module, "__all__", [])
    assert sorted(set(names)) == sorted(names)
    assert [n for n in names if not hasattr(module, n)] == []
