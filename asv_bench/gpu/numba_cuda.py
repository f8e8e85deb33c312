"""Whether the stages of the Numba-CUDA backend can run."""

from importlib.util import find_spec


def missing(dry_run):
    """Why they are not run, or None; the simulator is part of Numba itself."""
    absent = [package for package in ("numba", *["numba_cuda"] * (not dry_run)) if find_spec(package) is None]
    return f"{' and '.join(absent)}: not installed (pip install 'moespec[numba-cuda13]', or numba-cuda12)" if absent else None
