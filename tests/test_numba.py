"""The Numba backend: everything is there, nothing reads what was not written, nothing else is called."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moespec.backend import load
from moespec.conformance import verify
from moespec.registry import OPS

numba = pytest.importorskip("numba", reason="the extra `numba` is not installed")
from moespec_numba import BACKEND, _kernel  # noqa: E402


def poisoned(shape, dtype):
    """NaN, or an index that is out of range everywhere."""
    array = np.empty(shape, dtype)
    array.fill(np.nan if array.dtype.kind == "f" else 1 if array.dtype.kind == "b" else -(2**40))
    return array


def test_every_primitive_is_implemented():
    missing = [name for name, op in OPS.items() if name not in BACKEND.ops() and op.steps is None]
    assert not missing


def test_every_op_that_has_a_backward_has_one_here():
    lacking = [name for name, impl in BACKEND.ops().items() if OPS[name].backward is not None and impl.backward is None]
    assert not lacking


@pytest.mark.parametrize("family", ["gates", "dispatch", "experts", "losses"])
def test_nothing_is_read_that_was_not_written(family, monkeypatch):
    monkeypatch.setattr(_kernel, "allocate", poisoned)
    report = verify(BACKEND, op=f"{family}.*", dtypes=["float32"])
    assert report.executed > 500
    assert not [f"{r.id}: {r.message}" for r in report.failures]


def test_the_entry_point_leads_to_it():
    assert load("numba") is BACKEND


def test_importing_the_package_does_not_import_numba():
    code = "import sys, moespec_numba; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_sums_in_vector_lanes_stand_where_nothing_is_written():
    """Else addresses choose between two versions of the loop, whose sums differ."""
    for path in Path(_kernel.__file__).parent.rglob("*.py"):
        for f in ast.walk(ast.parse(path.read_text())):
            if isinstance(f, ast.FunctionDef) and "REORDER" in " ".join(map(ast.unparse, f.decorator_list)):
                assert not [n for n in ast.walk(f) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)], f"{path.name}: {f.name}"
