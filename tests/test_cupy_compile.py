"""Every kernel text of the CuPy backend, compiled for GPUs that need not be there."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cuda.core", reason="the extra `cuda-compile` is not installed")


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_every_text_compiles_in_every_dtype(arch):
    done = subprocess.run([sys.executable, Path(__file__).with_name("cuda_compile"), "--arch", arch], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout
