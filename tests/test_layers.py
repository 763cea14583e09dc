"""Imports point one way: from what is built on top to what it is built on, and never in a circle.

The order of the rooms is design: a room may import from itself and from rooms that stand before it in ``ORDER``.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

ORDER = [
    ["errors"],
    ["files", "devices", "bars", "hub"],
    ["folders"],
    ["sums"],
    ["settings", "tensors", "weights", "processes"],
    ["factorization", "laws"],
    ["networks", "tokenizers", "envs"],
    ["testing"],
    ["datasets", "rollouts"],
    ["policies", "search"],
    ["training", "deploy"],
    ["studies"],
    ["reports"],
    ["commands", "plugin"],
    ["composition"],
    ["cli"],
]
"""Rooms from the ground up; those of one row may not import each other."""

ROW = {room: row for row, rooms in enumerate(ORDER) for room in rooms}


def name_of(file: Path, source: Path) -> str:
    """Return the dotted name of a module."""
    parts = file.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, source: Path) -> Iterator[tuple[str, int]]:
    """Yield every module of this package that a file imports, at its top or inside a function, with the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name.startswith("anyorder"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("anyorder"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                path = source / inner.replace(".", "/")
                is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
                yield (inner if is_module else str(node.module)), node.lineno


def room_of(module: str) -> str:
    """Return the room of a module: ``anyorder.laws.fit`` is in ``laws``, the package itself in ``errors``' row."""
    return module.split(".")[1] if "." in module else "errors"


def faults(source: Path) -> list[str]:
    """Return every arrow that runs back up, and every room that has no place in the order."""
    found = []
    for file in sorted((source / "anyorder").rglob("*.py")):
        here = room_of(name_of(file, source))
        if here == "configs":
            continue
        if here not in ROW:
            found.append(f"{file.relative_to(source)}: the room {here} has no place in ORDER")
            continue
        for module, line in imports_of(file, source):
            there = room_of(module)
            if there != here and ROW.get(there, -1) >= ROW[here]:
                found.append(f"{file.relative_to(source)}:{line}: {here} imports {module}")
    return found


def circles(source: Path) -> list[str]:
    """Return modules that import each other, at the top of their files, directly or through others."""
    graph: dict[str, set[str]] = {}
    for file in (source / "anyorder").rglob("*.py"):
        top = {
            name
            for node in ast.parse(file.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name, line in imports_of(file, source)
            if line == node.lineno
        }
        graph[name_of(file, source)] = top
    found = []
    for start in sorted(graph):
        reached, front = set(), set(graph[start])
        while front:
            reached |= front
            front = {n for module in front for n in graph.get(module, ())} - reached
        if start in reached and not (SOURCE / start.replace(".", "/") / "__init__.py").is_file():
            found.append(start)
    return found


def test_no_arrow_runs_back_up() -> None:
    assert faults(SOURCE) == []


def test_no_circle() -> None:
    assert circles(SOURCE) == []


def test_only_what_talks_to_people_draws_tables() -> None:
    talks = {"reports", "commands", "bars", "cli", "training"}  # training for its progress bar
    drawing = {
        room_of(name_of(file, SOURCE))
        for file in (SOURCE / "anyorder").rglob("*.py")
        if re.search(r"^\s*(from|import) rich\b", file.read_text(), re.MULTILINE)
    }
    assert drawing <= talks


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("laws/fit.py", "from anyorder.studies import grid\n", "laws imports anyorder.studies"),
        ("laws/fit.py", "def f():\n    import anyorder.reports.html\n", "laws imports anyorder.reports.html"),
        ("envs/base.py", "from anyorder.networks import vision\n", "envs imports anyorder.networks"),
        ("kitchen/sink.py", "", "the room kitchen has no place"),
    ],
)
def test_a_wrong_arrow_is_found(tmp_path: Path, file: str, text: str, fault: str) -> None:
    path = tmp_path / "anyorder" / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    (found,) = faults(tmp_path)
    assert fault in found


def test_a_circle_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "anyorder" / "laws"
    folder.mkdir(parents=True)
    (folder / "fit.py").write_text("from anyorder.laws.runs import read\n")
    (folder / "runs.py").write_text("import anyorder.laws.fit\n")
    assert circles(tmp_path) == ["anyorder.laws.fit", "anyorder.laws.runs"]
