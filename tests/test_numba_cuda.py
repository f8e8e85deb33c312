"""The Numba-CUDA backend where there is no GPU: what it says of itself, and, in a process of its own, the simulator."""

import builtins
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from moespec_numba_cuda import BACKEND, _backend, _dlpack

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


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 5)])
def test_a_capsule_is_described(dtype, shape):
    array = np.zeros(shape, dtype)
    found = _dlpack.Lent(array.__dlpack__())           # a capsule of the host is laid out as one of a device
    assert found.dtype == array.dtype
    told, own = found.__cuda_array_interface__, array.__array_interface__
    assert told["shape"] == shape
    assert told["typestr"] == own["typestr"]
    assert told["data"][0] == own["data"][0] or array.size == 0


def test_a_capsule_of_a_view_keeps_strides_and_memory():
    array = np.zeros((4, 6), "float32")
    held = sys.getrefcount(array)
    found = _dlpack.Lent(array[1:, ::2].__dlpack__())
    assert sys.getrefcount(array) > held
    assert found.__cuda_array_interface__["strides"] == (24, 8)
    assert found.__cuda_array_interface__["data"][0] == array.ctypes.data + 24
    del found
    assert sys.getrefcount(array) == held


def test_bfloat16_comes_as_its_bits_and_other_kinds_not_at_all():
    import ml_dtypes
    tensor = _dlpack.Tensor(code=4, bits=16, lanes=1)
    assert _dlpack._dtype(tensor) == np.dtype(ml_dtypes.bfloat16)
    with pytest.raises(TypeError, match="code 5, 64 bits"):
        _dlpack._dtype(_dlpack.Tensor(code=5, bits=64, lanes=1))


def test_arrays_of_the_host_do_not_come_by_dlpack():
    assert not _dlpack.comes_by_dlpack(np.zeros(3))
    assert not BACKEND.owns(np.zeros(3))
    assert BACKEND.owns(SimpleNamespace(__dlpack__=None, __dlpack_device__=lambda: (2, 0)))


def test_in_the_simulator():
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "cudasim")], cwd=HERE.parent,
                         env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
