"""Whether `asv continuous` finds a planted slowdown, and is quiet where there is none.

    python asv_bench/planted.py [--factor 1.2]

Works in a scratch clone of the last commit, in environments that asv builds there: one commit that says nothing new (a comment), then one that
sorts three times more in `dispatch.plan`.  Exit status 0 if the first is passed, the second refused, and the benchmark named.  Takes minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = "moespec/dispatch/_plan.py"
LINE = '    order = np.argsort(np.where(ids >= 0, ids, experts), kind="stable")[:live]\n'
PLANTED = LINE + "    for _ in range(3):\n        np.argsort(ids, kind='stable')\n"
BENCHMARK = r"ops.Forward.time_forward\('dispatch.plan', 'numpy', 1024\)"
REQUIREMENTS = {"numpy": [], "scipy": [], "ml_dtypes": [], "rich": []}          # the reference alone


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", default="1.2", help="what counts as slower (1.2)")
    factor = parser.parse_args(argv).factor
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        git(clone, "checkout", "-q", "-B", "main")
        lean(clone / "asv_bench" / "asv.conf.json")
        commit(clone, LINE, "    # a comment\n" + LINE, "a comment")
        quiet = continuous(clone, factor)
        commit(clone, LINE, PLANTED, "sorts three times more")
        loud = continuous(clone, factor)
    print(quiet.stdout, loud.stdout, sep="\n")
    named = [line for line in loud.stdout.splitlines() if line.startswith("| +") and "dispatch.plan" in line]
    print(f"a comment: exit status {quiet.returncode}, wanted 0", f"planted: exit status {loud.returncode}, wanted 1; named:", *named, sep="\n")
    return int(quiet.returncode != 0 or loud.returncode != 1 or not named)


def git(clone, *words):
    subprocess.run(["git", "-c", "user.name=planted", "-c", "user.email=planted@localhost", *words], cwd=clone, check=True)


def lean(conf):
    """asv's configuration with the reference's requirements alone: environments are built sooner."""
    found = json.loads(conf.read_text())
    found["matrix"]["req"] = REQUIREMENTS
    conf.write_text(json.dumps(found))


def commit(clone, old, new, message):
    source = (clone / FILE).read_text()
    if source.count(old) != 1:
        raise ValueError(f"planted: {FILE} has {source.count(old)} lines {old.strip()!r}, wanted 1")
    (clone / FILE).write_text(source.replace(old, new))
    git(clone, "commit", "-q", "-m", message, FILE)


def continuous(clone, factor):
    """The last commit against the one before it."""
    asv = [sys.executable, "-m", "asv", "--config", "asv_bench/asv.conf.json"]
    subprocess.run([*asv, "machine", "--yes", "--machine", "planted"], cwd=clone, check=True, capture_output=True)
    return subprocess.run([*asv, "continuous", "--machine", "planted", "--factor", factor, "--bench", BENCHMARK, "HEAD~1", "HEAD"], cwd=clone,
                          capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
