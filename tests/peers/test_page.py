"""The kernels that docs/conformance.md shows for other frameworks."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers
PAGE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
KERNELS = dict(re.findall(r"```py\n# (\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL))


@pytest.mark.parametrize("framework", KERNELS)
def test_a_kernel_of_the_page_is_right(framework, tmp_path):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed: the extra `peers` brings torch and JAX, torch's builds for CUDA bring Triton")
    (tmp_path / "kernel.py").write_text(KERNELS[framework])           # Triton reads the source of its kernels
    run = subprocess.run([sys.executable, "kernel.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                         env={**os.environ, "TRITON_INTERPRET": "1"})
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[0]) > 100
