"""Stage `verify WAY`: the conformance suite on the CuPy backend, its products of experts computed in that way, or on `numba-cuda`."""

import os
import subprocess
import sys
from importlib.util import find_spec

from gpu.numba_cuda import missing
from gpu.stage import main
from moespec.conformance.saved import load


def work(options):
    way = options.argument
    if why := absent(way, options.dry_run):
        return {"ok": True, "way": way, "not_run": why}
    report = options.out.with_suffix(".checks.json")
    done = subprocess.run([sys.executable, "-m", "moespec", "verify", *scope(way, options.dry_run), "--report", str(report)],
                          env={**os.environ, "MOESPEC_CUPY_GEMM": way}, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    found = load(report)[0] if report.exists() else None
    if found is None:
        return {"ok": False, "way": way, "message": (done.stdout + done.stderr).strip()[-2000:]}
    real = found.execution == ("emulated" if options.dry_run else "real")
    return {"ok": found.ok and real and done.returncode == 0, "way": way, "execution": found.execution, "device": found.device,
            "executed": found.executed, "failed": len(found.failures), "weak": sum(r.status == "weak" for r in found.results),
            "not_run_checks": sum(r.status == "skip" for r in found.results),
            "first_failures": [f"{r.id}: {r.message}" for r in found.failures[:20]]}


def absent(way, dry_run):
    """Why this way cannot be taken here, or None."""
    if way == "numba-cuda":
        return missing(dry_run)
    return "nvmath-python is not installed" if way == "nvmath" and not dry_run and find_spec("nvmath") is None else None


def scope(way, dry_run):
    """The whole suite for tiles and for Numba-CUDA, the ops with products for the other ways; one small op in a dry run."""
    if way == "numba-cuda":
        return ["moespec_numba_cuda:BACKEND", "--op", "experts.silu", "--dtype", "float32"] if dry_run else [way]
    if dry_run:
        return ["cupy_emulated:BACKEND", "--op", "experts.silu" if way == "tile" else "experts.grouped_matmul", "--dtype", "float32"]
    return ["cupy"] if way == "tile" else ["cupy", "--op", "experts.*"]


if __name__ == "__main__":
    sys.exit(main(work))
