"""Stage `sanitize TOOL`: compute-sanitizer's memcheck or racecheck over a few ops."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gpu.stage import main

PLACES = ("/usr/local/cuda/bin", "/opt/cuda/bin", *sorted(map(str, Path("/usr/local").glob("cuda-*/bin")), reverse=True))
FOUND = 9                       # the exit status if it found something


def work(options):
    tool, program = options.argument, sanitizer()
    watched = [] if program is None or options.dry_run else [program, "--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "20"]
    if not watched and not options.dry_run:
        return {"ok": True, "tool": tool, "not_run": "compute-sanitizer is not on PATH, nor in CUDA_HOME or /usr/local/cuda"}
    command = [*watched, sys.executable, "-m", "gpu.subset", *["--dry-run"] * options.dry_run]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    print(text)
    summary = ["without compute-sanitizer"] if options.dry_run else [line.strip("= ") for line in text.splitlines() if "SUMMARY" in line]
    ops = re.findall(r"^\w+\.\w+: .*$", text, re.MULTILINE)
    found = {"ok": done.returncode == 0 and bool(ops), "tool": tool, "summary": summary, "ops": ops}
    return found if found["ok"] else {**found, "message": text.strip()[-2000:]}


def sanitizer():
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    places = [os.environ.get("PATH", ""), *([str(Path(home) / "bin")] if home else []), *PLACES]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


if __name__ == "__main__":
    sys.exit(main(work))
