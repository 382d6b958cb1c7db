"""The structure of the sources: no circles of imports, one-way floors, torch and Streamlit behind their walls."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLOORS = (
    *(
        "errors",
        "paths",
        "formatting",
        "palette",
        "plain_json",
        "terminal",
        "childproc",
        "machine",
        "components",
        "moved",
    ),
    *("models", "theory", "stats", "tasks", "runs", "cost", "solver", "adapter_files"),
    *("adapter", "train", "align", "engine", "sweep", "compare", "claims", "notebook", "transformers", "bench", "cli"),
)
"""The rooms of cdka from the ground up: a room imports from the rooms before it, never from one behind it."""
TORCH_ROOMS = ("adapter", "train", "bench", "transformers")
TORCH = ("torch", "torchvision", "peft", "transformers", "accelerate", "safetensors.torch")
OPENS_THE_STUDIO = {"cdka.cli.studio", "cdka.bench.app"}
"""The command that starts the Studio and the bench that measures it: nothing else of cdka knows the app."""
MAX_MODULES = {"cdka": 278, "app": 105}
"""Soft bounds, near the present numbers: a new module should replace one.

The engine of a cluster came with eleven (contract, workers, clusters, ray and its connection, bridge, supervisor, task
and archives, the command ``cluster``, halving) and the app's panel of nodes.
"""
MAX_FORMATTER_SWITCHED_OFF = 20


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    return {module_name(path): path for package in ("cdka", "app") for path in sorted((ROOT / package).rglob("*.py"))}


def imports(tree: ast.AST, in_function: bool = False) -> Iterator[tuple[str, bool]]:
    """(name imported, True inside a function) of every import, those for type checking alone left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(body=node.orelse, type_ignores=[]), in_function)
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in modules() else node.module or "", in_function)
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports(node, inside)


@cache
def imported() -> dict[str, dict[str, bool]]:
    """Every module's imports: by name, True where every one of them stands inside a function."""
    found: dict[str, dict[str, bool]] = {}
    for module, path in modules().items():
        own = found.setdefault(module, {})
        for name, in_function in imports(ast.parse(path.read_text(encoding="utf-8"))):
            if name != module:
                own[name] = own.get(name, True) and in_function
    return found


def circles(graph: Mapping[str, Mapping[str, bool]]) -> list[tuple[str, ...]]:
    """The groups of nodes that reach each other (Tarjan's strongly connected components of more than one node)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in graph:
                continue
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(tuple(sorted(group)))

    for node in graph:
        if node not in index:
            visit(node)
    return sorted(found)


def room(module: str) -> str:
    """The folder of cdka, or the module on its ground floor, that a module belongs to; "app" for all of the app."""
    package, *rest = module.split(".")
    return rest[0] if package == "cdka" and rest else package


def is_torch(name: str) -> bool:
    return any(name == library or name.startswith(f"{library}.") for library in TORCH)


def test_the_reader_of_imports_sees_circles_in_functions_and_not_those_of_types():
    text = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from cdka.errors import CdkaError\n"
    assert list(imports(ast.parse(text))) == [("b", False), ("cdka.errors", True)]
    graph = {"a": {"b": True}, "b": {"c": False}, "c": {"a": True, "d": True}, "d": {}, "e": {"d": True}}
    assert circles(graph) == [("a", "b", "c")]
    assert circles({"a": {"b": True}, "b": {}}) == []


def test_no_files_import_each_other_in_a_circle():
    assert circles(imported()) == []


def test_every_room_stands_on_its_floor():
    rooms = {room(module) for module in modules() if module.startswith("cdka.")} - {"__main__"}
    assert rooms <= set(FLOORS)


def test_a_room_imports_only_from_the_floors_below():
    height = {name: number for number, name in enumerate(FLOORS)}
    upward = [
        f"{module} imports {name}"
        for module, names in imported().items()
        for name in names
        if room(module) in height and room(name) in height and name in modules()
        if height[room(name)] > height[room(module)]
    ]
    assert upward == []


def test_only_the_door_and_its_bench_know_the_studio():
    assert {
        module
        for module, names in imported().items()
        if module.startswith("cdka") and any(name == "app" or name.startswith("app.") for name in names)
    } <= OPENS_THE_STUDIO


def test_the_package_needs_no_tools_that_are_left_out_of_it():
    users = {module for module, names in imported().items() if any(name.split(".")[0] == "tools" for name in names)}
    assert users <= {"cdka.bench.memory"}  # a check of the estimate for developers, run from the source tree


def test_torch_is_imported_behind_its_wall_alone():
    outside = [
        f"{module} imports {name}"
        for module, names in imported().items()
        for name in names
        if is_torch(name) and room(module) not in TORCH_ROOMS
    ]
    assert outside == []


def test_rooms_without_torch_reach_for_those_with_it_inside_functions_only():
    at_import = [
        f"{module} imports {name}"
        for module, names in imported().items()
        for name, in_function in names.items()
        if room(name) in TORCH_ROOMS and name != "cdka.bench" and name in modules()
        if not in_function and room(module) not in TORCH_ROOMS
    ]
    assert at_import == []


def test_streamlit_is_imported_in_the_app_alone():
    users = {
        module
        for module, names in imported().items()
        if module.startswith("cdka") and any(name.split(".")[0] == "streamlit" for name in names)
    }
    assert users <= {"cdka.bench.app"}  # it drives the app's own pages


def test_functions_named_for_a_child_process_exist():
    named = re.compile(r"^(cdka(?:\.\w+)+):(\w+)$")
    seen = set()
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := named.match(node.value)):
                module, function = match.groups()
                tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
                assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, node.value
                seen.add(node.value)
    assert len(seen) >= 5


@pytest.mark.parametrize("package", MAX_MODULES)
def test_the_number_of_modules_stays_in_sight(package):
    count = sum(module.startswith(f"{package}.") and path.stem != "__init__" for module, path in modules().items())
    assert count <= MAX_MODULES[package]


def test_the_formatter_is_obeyed():
    mark = "# fmt: " + "skip"
    counts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8").count(mark)
        for folder in ("cdka", "app", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sum(counts.values()) < MAX_FORMATTER_SWITCHED_OFF, {path: n for path, n in counts.items() if n}


def test_every_folder_of_tests_mirrors_one_of_the_sources():
    of_the_whole = {"app", "browser", "data", "gpu", "realmodels"}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    mirrored = {folder for folder in folders if (ROOT / "cdka" / folder).is_dir() or (ROOT / "app" / folder).is_dir()}
    assert folders - mirrored <= of_the_whole
