"""Compile every kernel text of the CuPy backend, in every dtype, for the GPUs named; needs no GPU: the extra `cuda-compile`.

    python tests/cuda_compile [PATTERN ...] [--arch sm_80 sm_90 sm_100] [--dtype float32 ...] [--resources] [--report F.json]

It shows that the texts are CUDA C, fit the GPUs and keep their values in registers: spilling to memory is a failure, but for a few bytes
outside of products.  Nothing is executed.  The options are those that CuPy compiles with.
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

from moespec.conformance.reach import reached
from moespec.conformance.report import Report, Result
from moespec.conformance.saved import save
from moespec_cupy import BACKEND
from moespec_cupy._kernel import Kernels
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
    parser.add_argument("--report", metavar="F.json", help="what every op's kernels came to, for `moespec standing`")
    options = parser.parse_args()
    chosen = [p for p in texts() if any(fnmatch(str(p.relative_to(ROOT)), pattern) for pattern in options.patterns)]
    jobs = [(p, t, u, arch) for p in chosen for t, u in variants(p) if t in options.dtype for arch in options.arch]
    started, failed, logs = time.perf_counter(), 0, {}
    with ProcessPoolExecutor(options.jobs) as pool:
        for (path, t, u, arch), uses, log in pool.map(build, jobs):
            for name, use in uses.items() if options.resources else ():
                print(f"{path.relative_to(ROOT)} {name} T={t} U={u} {arch} registers {use.registers} local {use.local} spilled {use.spilled} "
                      f"shared {use.shared}", flush=True)
            logs[path, t, u, arch] = log
            if log is not None:
                failed += 1
                print(f"FAIL {path.relative_to(ROOT)} T={t} U={u} {arch}\n{log}", flush=True)
    print(f"compiled (nothing executed): {len(chosen)} texts, {len(jobs)} builds for {', '.join(options.arch)}, {failed} failed, "
          f"{time.perf_counter() - started:.0f} s")
    if options.report:
        save([report(logs, options.arch)], options.report)
    return 1 if failed or not jobs else 0


def report(logs, architectures):
    """A result for every build of a text that an op reaches."""
    results = [Result(op, "compiled", t, f"{path.relative_to(ROOT)}_{u}_{arch}", "pass" if log is None else "fail", log or "")
               for op in BACKEND.ops() for kernels in reached("moespec_cupy", op, Kernels)
               for (path, t, u, arch), log in logs.items() if path == kernels.path]
    return Report("cupy", f"{', '.join(architectures)}, NVRTC", results=results, execution="compiled")


if __name__ == "__main__":
    sys.exit(main())
