"""Compile every kernel text of the CuPy backend, in every dtype, for the GPUs named; needs no GPU: the extra `cuda-compile`.

    python tests/cuda_compile [PATTERN ...] [--arch sm_80 sm_90 sm_100] [--dtype float32 ...] [--resources]

It shows that the texts are CUDA C, fit the GPUs and keep their values in registers: what is spilled to memory is a failure.  Nothing is
executed.  The options are those that CuPy compiles with.
"""

import argparse
import io
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from typing import NamedTuple

from cuda.core import Program, ProgramOptions
from cuda.pathfinder import find_nvidia_header_directory

from moespec_cupy._source import ROOT, compose, signatures, texts, variants

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
RESOURCES = re.compile(r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers([^\n]*)", re.DOTALL)
SPILLED = {"experts": 0}              # bytes that a kernel of a family may spill: products none, others a few outside their loops


class Use(NamedTuple):
    """What a kernel takes: registers of a thread; bytes of local memory of a thread, of them spilled, and shared of a block."""

    registers: int
    local: int
    spilled: int
    shared: int


def build(job):
    """(job, the use of every kernel, the log of what is wrong or None)."""
    path, t, u, arch = job
    options = ProgramOptions(arch=arch, std="c++17", ftz=True, include_path=[find_nvidia_header_directory("cudart")], ptxas_options=["-v"])
    log = io.StringIO()
    try:
        Program(compose(path, t, u), "c++", options=options).compile("cubin", logs=log)
    except Exception as error:        # the compiler's log is what is looked for
        return job, {}, str(error)
    uses = used(log.getvalue())
    wrong = [f"no kernel {name} in what was compiled" for name in signatures(path) if name not in uses]
    most = SPILLED.get(path.parent.name, 16)
    wrong += [f"{name} spills {use.spilled} bytes of {use.registers} registers" for name, use in uses.items() if use.spilled > most]
    return job, uses, "\n".join(wrong) or None


def used(log):
    """{kernel: its use}, as the assembler tells it."""
    shared = re.compile(r"(\d+) bytes smem")
    return {name: Use(int(registers), int(stack), int(spilled), int((shared.search(rest) or [0, 0])[1]))
            for name, stack, spilled, registers, rest in RESOURCES.findall(log)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="of texts, such as 'gates/*'")
    parser.add_argument("--arch", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--dtype", nargs="+", default=("float32", "float64", "float16", "bfloat16"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--resources", action="store_true", help="print what every kernel takes")
    options = parser.parse_args()
    chosen = [p for p in texts() if any(fnmatch(str(p.relative_to(ROOT)), pattern) for pattern in options.patterns)]
    jobs = [(p, t, u, arch) for p in chosen for t, u in variants(p) if t in options.dtype for arch in options.arch]
    started, failed = time.perf_counter(), 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for (path, t, u, arch), uses, log in pool.map(build, jobs):
            for name, use in uses.items() if options.resources else ():
                print(f"{path.relative_to(ROOT)} {name} T={t} U={u} {arch} registers {use.registers} local {use.local} spilled {use.spilled} "
                      f"shared {use.shared}", flush=True)
            if log is not None:
                failed += 1
                print(f"FAIL {path.relative_to(ROOT)} T={t} U={u} {arch}\n{log}", flush=True)
    print(f"compiled (nothing executed): {len(chosen)} texts, {len(jobs)} builds for {', '.join(options.arch)}, {failed} failed, "
          f"{time.perf_counter() - started:.0f} s")
    return 1 if failed or not jobs else 0


if __name__ == "__main__":
    sys.exit(main())
