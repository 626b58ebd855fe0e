"""Who may import whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "agent": {"agent"},
    "ops_catalog": {"ops_catalog"},
    "lut_db": {"lut_db", "ops_catalog"},
    "search": {"search", "ops_catalog", "lut_db"},
    "host": {"host", "search", "ops_catalog", "lut_db", "agent"},
}
HEAVY = {
    "torch",
    "ray",
    "onnxruntime",
    "ai_edge_litert",
    "tflite_runtime",
    "pyarrow",
    "matplotlib",
    "adbutils",
    "scipy",
}
FORMATS = {
    "onnx": {"ops_catalog/export/onnx.py", "ops_catalog/parse/onnx.py"},
    "tflite": {"ops_catalog/export/flatbuffer.py", "ops_catalog/parse/tflite_file.py"},
}
VAGUE = {"utils", "helpers", "common", "core", "manager", "util", "misc"}
FILES = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("name", NAMES)
def test_a_package_imports_only_what_it_may(name: str) -> None:
    package = name.split("/")[0]
    ours = {module.split(".")[0] for module in imports(ROOT / name)} & set(ALLOWED)
    assert ours <= ALLOWED[package]


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("host/")])
def test_the_host_knows_only_the_agents_protocol(name: str) -> None:
    of_agent = {module for module in imports(ROOT / name) if module.split(".")[0] == "agent"}
    assert all(module == "agent" or module.startswith("agent.protocol") for module in of_agent)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("agent/")])
def test_the_agent_needs_only_the_standard_library_to_start(name: str) -> None:
    for module in imports(ROOT / name, top_level_only=True):
        assert module.split(".")[0] in {*sys.stdlib_module_names, "agent"}


@pytest.mark.parametrize("name", NAMES)
def test_heavy_libraries_are_imported_where_they_are_used(name: str) -> None:
    at_top = {module.split(".")[0] for module in imports(ROOT / name, top_level_only=True)}
    assert not at_top & HEAVY
    for library, homes in FORMATS.items():
        assert library not in at_top or name in homes


@pytest.mark.parametrize("name", NAMES)
def test_no_module_has_a_vague_name(name: str) -> None:
    assert not {Path(name).stem, *Path(name).parts[:-1]} & VAGUE


def test_modules_do_not_import_each_other_in_circles() -> None:
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in NAMES}
    graph = {
        module: {other for other in imports(ROOT / name, top_level_only=True) if other in modules and other != module}
        for module, name in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for other in graph[module]:
            if not module.startswith(f"{other}."):
                visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())
