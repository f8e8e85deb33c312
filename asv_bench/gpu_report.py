"""Everything that has to be known of the backends for a GPU, in one command:

    pip install '.[cupy-cuda13,nvmath-cuda13,numba-cuda13,test]' torch && python asv_bench/gpu_report.py [--quick] [--only STAGE ...]

(nvmath, numba-cuda and torch may be left out: what needs them is then told to be absent.)

It writes docs/reports/gpu-<device>-<date>.md and .json, with the device, the results of the suite in every way of computing products and
on Numba-CUDA, of the tests that need a GPU and of compute-sanitizer, times beside torch and cuBLAS, and the goals, reached or not.  A stage
that fails or runs out of time does not stop the next one; the exit status says whether all went well.  With --dry-run the same stages run
without a GPU, on the emulation of the tests, in Numba's simulator, and at tiny sizes: nothing they print means anything, and nothing is
written under docs/.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from gpu.markdown import page  # noqa: E402


class Stage(NamedTuple):
    """`python -m gpu.<module> <argument>`, and the seconds after which it has failed."""

    module: str
    argument: str
    seconds: int


STAGES = {"about": Stage("about", "", 60), "verify": Stage("verify", "tile", 300), "verify-loop": Stage("verify", "loop", 120),
          "verify-nvmath": Stage("verify", "nvmath", 120), "verify-numba-cuda": Stage("verify", "numba-cuda", 900),
          "tests": Stage("tests", "", 240), "memcheck": Stage("sanitize", "memcheck", 120), "racecheck": Stage("sanitize", "racecheck", 120),
          "bench": Stage("bench", "", 240), "bench-numba-cuda": Stage("bench_numba_cuda", "", 240)}


def main(argv=None):
    """0 if every stage went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions of what is timed")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU: tiny sizes, emulated")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: docs/reports; in a dry run a temporary folder")
    options = parser.parse_args(argv)
    folder = options.out or (Path(tempfile.mkdtemp(prefix="gpu-dry-run-")) if options.dry_run else ROOT / "docs" / "reports")
    report = {"date": date.today().isoformat(), "dry_run": options.dry_run, "quick": options.quick, "stages": {}}
    with tempfile.TemporaryDirectory() as room:
        for name in options.only:
            report["stages"][name] = run(STAGES[name], Path(room) / f"{name}.json", options)
            print(f"{name}: {'ok' if report['stages'][name]['ok'] else 'FAILED'}, {report['stages'][name]['seconds']:.0f} s", flush=True)
            if name == "about" and not options.dry_run and not report["stages"][name]["ok"]:
                print(report["stages"][name].get("message"))
                return 1                              # no device: nothing to report
            folder.mkdir(parents=True, exist_ok=True)
            _keep_checks(Path(room), folder, report)
            write(report, folder)                     # after every stage: an interrupted run leaves what it found
    return 0 if all(stage["ok"] for stage in report["stages"].values()) else 1


def run(stage, out, options):
    """What a stage found, with the seconds it took."""
    flags = ["--dry-run"] * options.dry_run + ["--quick"] * options.quick
    command = [sys.executable, "-m", f"gpu.{stage.module}", *([stage.argument] if stage.argument else []), "--out", str(out), *flags]
    start = perf_counter()
    with out.with_suffix(".log").open("w+") as log:
        process = subprocess.Popen(command, cwd=HERE, env=environment(options.dry_run), stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status, late = process.wait(stage.seconds), ""
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            status, late = process.wait(), f"stopped after {stage.seconds} s"
        log.seek(0)
        said = log.read()
    found = json.loads(out.read_text()) if out.exists() else {"message": said.strip()[-2000:]}
    if late:
        found["message"] = f"{late}\n{found.get('message', '')}"
    return {**found, "ok": status == 0 and bool(found.get("ok")), "seconds": perf_counter() - start}


def environment(dry_run):
    """The stages' own package is found, in a dry run the emulation too; Numba reads whether it simulates when it is imported."""
    paths = [str(HERE), *([str(ROOT / "tests" / "cuda_emulation")] if dry_run else []), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), "NUMBA_ENABLE_CUDASIM": str(int(dry_run))}


def write(report, folder):
    """The page and the record."""
    path = folder / file_name(report)
    path.with_suffix(".md").write_text(page(report))
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


def file_name(report):
    """gpu-<device>-<date>, or what says that it was none."""
    about = report["stages"].get("about", {})
    device = "dry-run" if report["dry_run"] else re.sub(r"[^a-z0-9]+", "-", about.get("name", "unknown").lower()).strip("-")
    return f"gpu-{device}-{report['date']}.md"


def _keep_checks(room, folder, report):
    """Every single check of the suite, beside the page; compressed, as there are some hundred thousand."""
    for path in room.glob("*.checks.json"):
        kept = folder / f"{Path(file_name(report)).stem}-{path.name}.gz"
        kept.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
