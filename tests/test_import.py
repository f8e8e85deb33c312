"""What importing costs, and who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import moespec

PACKAGE = Path(moespec.__file__).parent
# Floors of docs/design.md: a module imports from lower floors, or from its own room.
FLOORS = [
    {"memory", "pairs"}, {"pair_rules"}, {"numerics"}, {"indexing", "op"}, {"corpus"}, {"program"}, {"fuse"},
    {"gates", "dispatch", "experts", "losses"}, {"registry", "unread"}, {"backend"}, {"layer"}, {"models", "parallel"},
    {"conformance", "interop", "fit"}, {"cost"}, {"cli"}, {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_loads_numpy_only():
    loaded = run("import numpy, sys; before = set(sys.modules); import moespec; print(*sorted(set(sys.modules) - before))")
    assert [name for name in loaded.split() if not name.startswith("importlib")] == ["moespec"]


def test_families_do_not_load_scipy():
    assert run("import moespec, sys; moespec.gates, moespec.losses, moespec.experts; print('scipy' in sys.modules)") == "False"


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'gate'"):
        moespec.gate        # noqa: B018


def imports():
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "moespec":
                for name in node.names:
                    yield path.name, room, name.name
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("moespec."):
                yield path.name, room, node.module.split(".")[1]


def test_no_room_imports_upwards():
    upwards = [(file, room, other) for file, room, other in imports()
               if room != "__init__" and other in FLOOR and other != room and FLOOR[other] >= FLOOR[room]]
    assert not upwards


def test_every_room_has_a_floor():
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(FLOOR)
