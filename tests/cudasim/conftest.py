"""These tests run in Numba's simulator, which is chosen before Numba is imported: NUMBA_ENABLE_CUDASIM=1 pytest tests/cudasim."""

import os

import pytest


def pytest_collection_modifyitems(items):
    if os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        for item in items:
            if "cudasim" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="needs a process of its own: NUMBA_ENABLE_CUDASIM=1 (test_numba_cuda.py starts one)"))
