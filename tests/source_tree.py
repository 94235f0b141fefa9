"""Where the source is, and the name under which each module is installed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
# `proofs/` is installed inside the package.
PACKAGES = {"tinygrad_rnn": ROOT / "tinygrad_rnn", "tinygrad_rnn.proofs": ROOT / "proofs"}


def module_name(package: str, path: Path) -> str:
    parts = path.relative_to(PACKAGES[package]).with_suffix("").parts
    return ".".join([package, *(p for p in parts if p != "__init__")])


MODULES = {
    module_name(package, path): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}
