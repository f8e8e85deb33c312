"""`moespec verify --mutants`: does the suite refuse every faulty implementation?"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moespec.cli._matrix import SHORT
from moespec.conformance import suite
from moespec.conformance.mutants import MUTANTS, fate, generic
from moespec.registry import OPS


def run(options):
    """The fate of every mutant of every op in every dtype: named bugs, and generic defects put into outputs and gradients."""
    chosen = [op.name for op in suite.chosen(options.op)]
    table = Table(title="moespec verify --mutants: killed / those that change a result (bug: named ones; any: generic defects)", header_style="bold")
    for column in ("op", *(f"{kind}\n{SHORT[d]}" for kind in ("bug", "any") for d in options.dtype)):
        table.add_column(column, justify="left" if column == "op" else "right", no_wrap=True)
    work, fates = partial(fates_of, dtypes=tuple(options.dtype), seed=options.seed), {}
    with Progress(console=Console(stderr=True), transient=True) as bar, \
            ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name, found in zip(chosen, bar.track(pool.map(work, chosen), total=len(chosen), description="mutants"), strict=True):
            fates[name] = found
            table.add_row(name, *(_cell(found, kind, d) for kind in ("named", "generic") for d in options.dtype))
    Console().print(table)
    return _listed(fates)


def fates_of(name, dtypes, seed):
    """(kind, mutant, dtype) -> fate, of every mutant of an op."""
    kinds = {"named": [m for m in MUTANTS if m.op == name], "generic": list(generic(OPS[name]))}
    return {(kind, m.name, d): fate(m, d, seed) for kind, mutants in kinds.items() for m in mutants for d in dtypes}


def _cell(found, kind, dtype):
    counts = Counter(f for (k, _, d), f in found.items() if (k, d) == (kind, dtype))
    return f"{counts['killed']}/{counts['killed'] + counts['alive']}"


def _listed(fates):
    """Print every named mutant, where it is the same as the reference, and who is alive; the exit status."""
    alive = 0
    for op, found in fates.items():
        for mutant in dict.fromkeys(name for kind, name, _ in found if kind == "named"):
            same = [SHORT[d] for (_, name, d), f in found.items() if name == mutant and f == "same"]
            print(f"{op}: {mutant}" + (f" (changes nothing in {', '.join(same)})" if same else ""))
        for (_, name, dtype), found_fate in found.items():
            if found_fate == "alive":
                alive += 1
                print(f"ALIVE {op}: {name} in {dtype}")
    named = {(op, name) for op, found in fates.items() for kind, name, _ in found if kind == "named"}
    print(f"{len(named)} named mutants; {alive} alive")
    return 1 if alive or not any(fates.values()) else 0
