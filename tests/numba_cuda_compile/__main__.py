"""Compile every kernel of the Numba-CUDA backend, in every dtype, to PTX and to a cubin for the GPUs named; needs no GPU.

    python tests/numba_cuda_compile [PATTERN ...] [--cc 8.0 9.0] [--report F.json]

It shows that the kernels are what Numba can compile and that the result can be assembled; nothing is executed.  Numba asks the current device for
its compute capability when it compiles what a kernel calls: here it is told.  One process a capability, since Numba remembers.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from importlib import import_module
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import __version__, cuda
from numba.cuda import dispatcher

from moespec.conformance.reach import reached
from moespec.conformance.report import Report, Result
from moespec.conformance.saved import load, save
from moespec_numba_cuda import BACKEND, _arrays
from moespec_numba_cuda._backend import FAMILIES
from moespec_numba_cuda._kernel import KERNELS, Kernel


def declared(patterns):
    """Every kernel whose module and name fit, those that are made when asked for included."""
    for family in FAMILIES:
        import_module(f"moespec_numba_cuda.{family}")
    for source, target in (*permutations("fde", 2), *((letter, "i") for letter in "jkschuw"), ("b", "f"), ("b", "d"), ("i", "d"), ("i", "f")):
        _arrays._converter(source, target)
    for letter in "fdijb":
        _arrays._filler(letter)
        for ndim in (1, 2, 3):
            _arrays._copier(letter, ndim)
    named = {f"{k.function.__module__.removeprefix('moespec_numba_cuda.')}.{k.name}({k.declared})": k for k in KERNELS}
    return {name: k for name, k in named.items() if any(fnmatch(name, p) for p in patterns)}


def build(kernel, t, cc):
    """The log of what is wrong, or None."""
    try:
        ptx, _ = cuda.compile(kernel.function, kernel.signature(t), cc=cc, output="ptx", device=False, abi="numba")
        code = ObjectCode.from_ptx(ptx.encode() if isinstance(ptx, str) else ptx)
        return None if Linker(code, options=LinkerOptions(arch=f"sm_{cc[0]}{cc[1]}")).link("cubin").code else "an empty cubin"
    except Exception as error:        # the compiler's log is what is looked for
        return f"{type(error).__name__}: {error}"


def compile_all(patterns, cc):
    """{(name, kernel, T): the log of what is wrong, or None}."""
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    jobs = [(name, k, t) for name, k in declared(patterns).items() for t in k.dtypes]
    started, logs = time.perf_counter(), {}
    for name, kernel, t in jobs:
        log = logs[name, kernel, t] = build(kernel, t, cc)
        if log is not None:
            print(f"FAIL {name} T={t} {cc[0]}.{cc[1]}\n{log}", flush=True)
    failed = sum(log is not None for log in logs.values())
    print(f"compiled (nothing executed): {len(jobs)} builds for {cc[0]}.{cc[1]}, {failed} failed, {time.perf_counter() - started:.0f} s", flush=True)
    return logs


def report(logs, cc):
    """A result for every build of a kernel that an op reaches."""
    builds = {}
    for (name, kernel, t), log in logs.items():
        builds.setdefault(kernel, []).append((name, t, log))
    return reported([cc], [Result(op, "compiled", t, f"{name}_{cc}", "pass" if log is None else "fail", log or "")
                           for op in BACKEND.ops() for kernel in reached("moespec_numba_cuda", op, Kernel)
                           for name, t, log in builds.get(kernel, ())])


def reported(capabilities, results):
    return Report("numba-cuda", f"{', '.join(capabilities)}; Numba {__version__}", results=results, execution="compiled")


def each_in_a_process(options):
    """The worst exit status; their reports become one."""
    with tempfile.TemporaryDirectory() as room:
        paths = {cc: Path(room) / f"{cc}.json" for cc in options.cc}
        runs = [subprocess.Popen([sys.executable, __file__, *options.patterns, "--cc", cc, "--report", str(path)]) for cc, path in paths.items()]
        status = max(run.wait() for run in runs)
        if options.report:
            found = {cc: load(path)[0].results for cc, path in paths.items() if path.exists()}
            save([reported(found, [r for results in found.values() for r in results])], options.report)
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", default=["*"], help="of kernels, such as 'gates.*'")
    parser.add_argument("--cc", nargs="+", default=("8.0", "9.0"))
    parser.add_argument("--report", metavar="F.json", help="what every op's kernels came to, for `moespec standing`")
    options = parser.parse_args()
    if len(options.cc) > 1:
        return each_in_a_process(options)
    logs = compile_all(options.patterns, tuple(map(int, options.cc[0].split("."))))
    if options.report:
        save([report(logs, options.cc[0])], options.report)
    return 1 if not logs or any(log is not None for log in logs.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
