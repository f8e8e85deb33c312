"""Stage `about`: the device, the driver, the versions of everything, and the commit."""

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpu.stage import main
from moespec.backend import load

PACKAGES = ("numpy", "ml_dtypes", "cupy-cuda13x", "cupy-cuda12x", "cuda-toolkit", "nvmath-python", "numba", "numba-cuda", "torch")


def work(options):
    ready, told = load("cupy_emulated:BACKEND" if options.dry_run else "moespec_cupy:BACKEND").available()
    found = {"ok": ready, "device": told, "message": "" if ready else told,
             "python": platform.python_version(), "commit": commit(), "versions": versions()}
    return found if options.dry_run or not ready else {**found, **of_the_device()}


def of_the_device():
    import cupy
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(cupy.cuda.Device().id)
    return {"name": properties["name"].decode(), "memory_bytes": properties["totalGlobalMem"], "multiprocessors": properties["multiProcessorCount"],
            "driver": driver(), "cuda_of_driver": runtime.driverGetVersion(), "cuda_runtime": runtime.runtimeGetVersion(),
            "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion()))}


def driver():
    """The driver's own version, as nvidia-smi tells it."""
    return said(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).partition("\n")[0] or "nvidia-smi does not tell"


def commit():
    here = Path(__file__).parent
    found = said(["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"])
    changed = said(["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"])
    return f"{found}{', with changes' if changed else ''}" if found else "no repository"


def said(command):
    """What a command prints, or "" if it cannot."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def versions():
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    sys.exit(main(work))
