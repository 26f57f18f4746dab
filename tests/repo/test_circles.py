"""No module imports itself by way of others, not even for types alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def modules():
    """Every module of the library and its backends, by name."""
    found = {}
    for folder in (ROOT, ROOT / "backends"):
        for path in folder.glob("mixlayers*/**/*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(sources):
    """Which of some modules each imports, anywhere in it; not its packages, which it is a part of."""
    arrows = {}
    for name, source in sources.items():
        asked = set()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                asked |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                asked |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        arrows[name] = {other for other in asked & sources.keys() if not f"{name}.".startswith(f"{other}.")}
    return arrows


def circles(arrows):
    """The strongly connected components of more than one module: Tarjan's, without recursion."""
    number, low, path, found = {}, {}, [], []
    for root in arrows:
        todo = [(root, iter(arrows[root]))] if root not in number else []
        while todo:
            at, others = todo[-1]
            if at not in number:
                number[at] = low[at] = len(number)
                path.append(at)
            for other in others:
                if other not in number:
                    todo.append((other, iter(arrows[other])))
                    break
                if other in path:
                    low[at] = min(low[at], number[other])
            else:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[at])
                if low[at] == number[at]:
                    start = path.index(at)
                    found += [sorted(path[start:])] if len(path) - start > 1 else []
                    del path[start:]
    return found


def test_no_modules_import_each_other():
    sources = {name: path.read_text(encoding="utf-8") for name, path in modules().items()}
    assert len(sources) > 150
    assert circles(imports(sources)) == []


@pytest.mark.parametrize(
    ("arrows", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}}, [["b", "c", "d"]]),
        ({"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}, [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_found(arrows, expected):
    assert sorted(circles(arrows)) == expected


def test_an_import_for_types_alone_counts():
    later = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.b import B\n"
    sources = {"p": "from p.a import A", "p.a": later, "p.b": "def f():\n    import p.a\n"}
    assert imports(sources) == {"p": {"p.a"}, "p.a": {"p.b"}, "p.b": {"p.a"}}
