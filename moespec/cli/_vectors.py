"""`moespec vectors export | check`: the cases as files, for implementations in any language."""

from __future__ import annotations

from moespec import conformance
from moespec.conformance import vectors


def add_to(commands):
    """The commands and their options."""
    group = commands.add_parser("vectors", help="the cases as files, for implementations in any language")
    kinds = group.add_subparsers(required=True, metavar="export|check")
    export = kinds.add_parser("export", help="write inputs, expected outputs, gradients and bounds")
    export.add_argument("--out", required=True, metavar="DIR")
    export.add_argument("--op", default="*", metavar="PATTERN")
    export.add_argument("--dtype", nargs="+", choices=conformance.DTYPES, default=("float32", "bfloat16"))
    export.add_argument("--case", default="*", metavar="PATTERN")
    export.add_argument("--container", choices=("npz", "safetensors"), default="npz")
    export.add_argument("--seed", type=int, default=0)
    export.set_defaults(run=_export)
    check = kinds.add_parser("check", help="run a program on every test of a folder")
    check.add_argument("folder", metavar="DIR")
    check.add_argument("--cmd", required=True, metavar="PROGRAM", help="started with one argument, a folder: see moespec/conformance/vectors")
    check.add_argument("--op", default="*", metavar="PATTERN")
    check.add_argument("--seconds", type=float, default=60.0)
    check.set_defaults(run=_check_vectors)


def _export(options):
    manifest = vectors.export(options.out, op=options.op, dtypes=options.dtype, cases=options.case, container=options.container, seed=options.seed)
    print(f"{manifest['numberOfTests']} tests written to {options.out}, {manifest['leftOut']} left out (a rounding could change their choice)")
    return 0 if manifest["numberOfTests"] else 1


def _check_vectors(options):
    report = vectors.check_program(options.folder, options.cmd, op=options.op, seconds=options.seconds)
    for failure in report.failures[:20]:
        print(f"FAIL {failure.id}: {failure.message}")
    print(f"{options.cmd}: {report.executed} checks executed, {len(report.failures)} failed")
    return 0 if report.ok else 1
