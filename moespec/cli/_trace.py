"""`moespec trace diff A B`: two runs, choice by choice."""

from __future__ import annotations

from moespec.interop import trace


def add_to(commands):
    """The command and its options."""
    group = commands.add_parser("trace", help="compare the routing decisions of two runs")
    kinds = group.add_subparsers(required=True, metavar="diff")
    compare = kinds.add_parser("diff", help="which tokens were routed differently, where, and whether rounding explains it")
    compare.add_argument("first", metavar="A")
    compare.add_argument("second", metavar="B")
    compare.add_argument("--show", type=int, default=20, metavar="N", help="print the first N differences (20)")
    compare.set_defaults(run=_diff)


def _diff(options):
    first, second = trace.load(options.first), trace.load(options.second)
    found = trace.diff(first, second)
    for difference in found[:options.show]:
        print(difference)
    if len(found) > options.show:
        print(f"... and {len(found) - options.show} more")
    tokens = sum(len(t.indices) for t in first)
    changed = len({(d.layer, d.token) for d in found})
    kinds = ", ".join(f"{sum(d.kind == kind for d in found)} {kind}" for kind in ("set", "order", "capacity"))
    outside, unknown = (sum(d.inside is verdict for d in found) for verdict in (False, None))
    print(f"{changed} of {tokens} tokens in {len(first)} layers differ ({kinds}); {outside} outside the margin, {unknown} not judged")
    return 1 if found else 0
