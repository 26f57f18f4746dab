"""Which code a number was measured on, and what of it has changed since."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "examples", ".", "backends")
"""Where imports of the repository's own modules lead."""

REPORT = "benchmarks/parts/report.py"
"""Prints and writes what was measured; it is no part of it."""

MANY = 8
"""More changed files than this are counted on a page, not named."""

Code = dict[str, str]


def code_of(files: Iterable[Path], root: Path = ROOT) -> Code:
    """The digest of each of these files, and of all that they import from the repository by name, and so on.

    A name that a module only passes on, as `mixlayers.torch` does, leads to the module that defines it.
    """
    found: set[Path] = set()
    todo = list(files)
    while todo:
        path = todo.pop()
        if path not in found and path != root / REPORT:
            found.add(path)
            imported = _imports(path.read_text(encoding="utf-8"))
            todo += filter(None, (_defining(module, name, root) for module, name in imported))
    return {
        path.relative_to(root).as_posix(): digest(path.read_text(encoding="utf-8")) for path in sorted(found)
    }


def changed(code: Code, root: Path = ROOT) -> list[str]:
    """The files whose code is another now, or that are gone."""

    def today(path: Path) -> str:
        return digest(path.read_text(encoding="utf-8")) if path.exists() else ""

    return [path for path, then in code.items() if today(root / path) != then]


def line(code: Code, root: Path = ROOT) -> str:
    """What a page says of a number that is older than its code; nothing of any other."""
    files = changed(code, root)
    if not files:
        return ""
    named = ", ".join(f"`{path.removeprefix('backends/')}`" for path in files)
    if len(files) > MANY:
        named = f"{len(files)} of the {len(code)} files that it ran (`python benchmarks/stale.py` names them)"
    return f"Measured before changes in {named}."


@cache
def digest(source: str) -> str:
    """Of the code alone: comments, docstrings and layout do not count. The same in every version of Python."""
    return hashlib.sha256(repr(_plain(ast.parse(source))).encode()).hexdigest()[:12]


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(each) for each in node if not _is_text(each)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return type(node).__name__, [(name, _plain(value)) for name, value in fields]


def _is_text(node: Any) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


@cache
def _imports(source: str) -> list[tuple[str, str]]:
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return [(node.module or "", alias.name) for node in nodes for alias in node.names]


def _defining(module: str, name: str, root: Path) -> Path | None:
    path = _find(f"{module}.{name}", root) or _find(module, root)
    if path is None:
        return None
    for other, passed in _imports(path.read_text(encoding="utf-8")):
        if passed == name and _find(other, root) not in (None, path):
            return _defining(other, name, root)
    return path


def _find(module: str, root: Path) -> Path | None:
    paths = [root / folder / module.replace(".", "/") for folder in FOLDERS]
    files = [file for path in paths for file in (path.with_suffix(".py"), path / "__init__.py")]
    return next((file for file in files if file.exists()), None)
