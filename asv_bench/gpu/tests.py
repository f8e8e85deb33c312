"""Stage `tests`: those that need a GPU."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from gpu.stage import main

ROOT = Path(__file__).resolve().parents[2]
FILES = "tests/test_cupy_gpu.py", "tests/test_numba_cuda_gpu.py"


def work(options):
    record = options.out.with_suffix(".xml")
    done = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", *FILES, f"--junitxml={record}"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    if not record.exists():
        return {"ok": False, "message": (done.stdout + done.stderr).strip()[-2000:]}
    tests = list(ElementTree.parse(record).getroot().iter("testcase"))
    failed = [name(t) for t in tests if t.find("failure") is not None or t.find("error") is not None]
    skipped = {name(t): reason.get("message", "") for t in tests if (reason := t.find("skipped")) is not None}
    passed = len(tests) - len(failed) - len(skipped)
    return {"ok": not failed and done.returncode == 0 and (passed > 0 or options.dry_run), "passed": passed, "failed": failed, "skipped": skipped}


def name(test):
    """Of the file as well: two files may have tests of one name."""
    return f"{test.get('classname', '').rpartition('.')[2]}::{test.get('name', '')}"


if __name__ == "__main__":
    sys.exit(main(work))
