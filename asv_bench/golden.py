"""The tracked values that depend on arithmetic alone, and the file that pins them.

    python asv_bench/golden.py            what differs from golden.json; exit status 1 if anything does
    python asv_bench/golden.py --write    write golden.json anew, after a change that means to change them
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path

from benchmarks import communication

FILE = Path(__file__).resolve().parent / "golden.json"


def values():
    """By benchmark and parameters; what is n/a is left out."""
    found = {}
    for kind in sorted(communication.Deterministic.__subclasses__(), key=lambda kind: kind.__name__):
        tracks = [name for name in dir(kind) if name.startswith("track_")]
        for params in product(*kind.params):
            benchmark = kind()
            try:
                getattr(benchmark, "setup", lambda *_: None)(*params)
            except NotImplementedError:
                continue
            for name in tracks:
                key = f"{kind.__name__}.{name}({', '.join(map(str, params))})"
                found[key] = getattr(benchmark, name)(*params)
    return found


def differences(found, pinned):
    """Lines: what is new, gone or another number."""
    keys = [*pinned, *(key for key in found if key not in pinned)]
    return [f"{key}: pinned {pinned.get(key, 'not')}, now {found.get(key, 'gone')}" for key in keys
            if key not in found or key not in pinned or found[key] != pinned[key]]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="pin the values of this working tree")
    options = parser.parse_args(argv)
    found, pinned = values(), json.loads(FILE.read_text()) if FILE.exists() else {}
    changed = differences(found, pinned)
    print(*changed, f"{len(found)} values, {len(changed)} differ", sep="\n")
    if options.write:
        FILE.write_text(json.dumps(found, indent=0) + "\n")
        return 0
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
