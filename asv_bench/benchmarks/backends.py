"""The backends that can run here, and what a benchmark does with one."""

import subprocess
import sys

from moespec.backend import load

ASK = """
from moespec.backend import known, load, status
found = [name for name in sorted({"numpy", *known()}) if status(name)[0]]
print(*(name for name in found if getattr(load(name), "execution", "real") == "real"))
"""


def real():
    """Names of the backends that run on this machine; emulated ones tell nothing about time.

    A process of its own asks them, since some answer by starting threads, or a device, and asv forks this one for every benchmark.
    """
    found = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.split()
    for name in found:
        load(name).ops()                   # imported once, before the forks
    return found


BACKENDS = real()
HOST = [name for name in BACKENDS if load(name).host]


def placed(backend, inputs):
    """Arrays on the backend; None stays None."""
    return tuple(None if array is None else backend.from_numpy(array) for array in inputs)
