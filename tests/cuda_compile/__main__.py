"""Compile every kernel text of the CuPy backend, in every dtype, for the GPUs named; needs no GPU: the extra `cuda-compile`.

    python tests/cuda_compile [PATTERN ...] [--arch sm_80 sm_90 sm_100] [--dtype float32 ...]

It shows that the texts are CUDA C and fit the GPUs; nothing is executed.  The options are those that CuPy compiles with.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch

from cuda.core import Program, ProgramOptions
from cuda.pathfinder import find_nvidia_header_directory

from moespec_cupy._source import ROOT, compose, signatures, texts, variants

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def build(job):
    """(job, the log of what is wrong or None)."""
    path, t, u, arch = job
    options = ProgramOptions(arch=arch, std="c++17", ftz=True, include_path=[find_nvidia_header_directory("cudart")])
    try:
        cubin = Program(compose(path, t, u), "c++", options=options).compile("cubin").code
    except Exception as error:        # the compiler's log is what is looked for
        return job, str(error)
    lacking = [name for name in signatures(path) if name.encode() not in cubin]
    return job, f"no kernel {', '.join(lacking)} in what was compiled" if lacking else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="of texts, such as 'gates/*'")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--dtype", nargs="+", default=("float32", "float64", "float16", "bfloat16"))
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    chosen = [p for p in texts() if any(fnmatch(str(p.relative_to(ROOT)), pattern) for pattern in options.patterns)]
    jobs = [(p, t, u, arch) for p in chosen for t, u in variants(p) if t in options.dtype for arch in options.arch]
    started, failed = time.perf_counter(), 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for (path, t, u, arch), log in pool.map(build, jobs):
            if log is not None:
                failed += 1
                print(f"FAIL {path.relative_to(ROOT)} T={t} U={u} {arch}\n{log}", flush=True)
    print(f"compiled (nothing executed): {len(chosen)} texts, {len(jobs)} builds for {', '.join(options.arch)}, {failed} failed, "
          f"{time.perf_counter() - started:.0f} s")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
