"""A stage: a process that does its work, keeps what it found as JSON, and says by its exit status whether all is well."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


class Options(argparse.Namespace):
    """The options of every stage."""

    out: Path
    dry_run: bool
    quick: bool
    argument: str

    def save(self, found):
        """Also called before the end: what is there counts if the time runs out."""
        self.out.write_text(json.dumps({"dry_run": self.dry_run, **found}, indent=1) + "\n")


def main(work):
    """Run `work(options)`, which returns {"ok": whether all is well, ...}."""
    parser = argparse.ArgumentParser()
    parser.add_argument("argument", nargs="?", default="")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(namespace=Options())
    found = work(options)
    options.save(found)
    return 0 if found["ok"] else 1
