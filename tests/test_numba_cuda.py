"""The Numba-CUDA backend where there is no GPU: what it says of itself, and, in a process of its own, the simulator."""

import builtins
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from moespec_numba_cuda import BACKEND, _backend

HERE = Path(__file__).parent


def test_without_numba_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(_backend, "find_spec", lambda name: None)
    assert BACKEND.available() == (False, "not installed: pip install 'moespec[numba-cuda13]' (or numba-cuda12)")


def test_an_import_that_fails_in_its_own_way_is_told(monkeypatch):
    real = builtins.__import__

    def broken(name, *args, **kwargs):
        if name == "numba" and args[2:3] == (("cuda",),):
            raise RuntimeError("libcudart.so was not found\nand more")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert BACKEND.available() == (False, "installed, cannot be imported (libcudart.so was not found)")


def test_without_a_device_it_says_why(monkeypatch):
    numba, cuda = ModuleType("numba"), ModuleType("numba.cuda")
    numba.cuda, numba.__version__ = cuda, "1"
    cuda.is_available, cuda.cuda_error = lambda: False, lambda: "\nCUDA driver library cannot be found.\n"
    monkeypatch.setattr(_backend, "find_spec", lambda name: numba)
    monkeypatch.setitem(sys.modules, "numba", numba)
    monkeypatch.setitem(sys.modules, "numba.cuda", cuda)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    assert BACKEND.available() == (False, "installed, no device (CUDA driver library cannot be found.)")


@pytest.mark.parametrize(("value", "execution"), [("1", "emulated"), ("0", "real"), ("", "real"), (None, "real")])
def test_a_run_in_the_simulator_is_no_real_one(monkeypatch, value, execution):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    if value is not None:
        monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", value)
    assert BACKEND.execution == execution


def test_in_the_simulator():
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "cudasim")], cwd=HERE.parent,
                         env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
