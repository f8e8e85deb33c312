"""`moespec verify --mutants`: does the suite refuse every faulty implementation?"""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moespec.conformance import suite
from moespec.conformance.mutants import MUTANTS, generic, killed_by


def run(options):
    """The kill rate of every op: named bugs, and generic defects put into its outputs and gradients."""
    table, alive = Table(title="moespec verify --mutants: killed of all", header_style="bold"), []
    for column in ("op", "named", "generic"):
        table.add_column(column, justify="left" if column == "op" else "right", no_wrap=True)
    chosen = suite.chosen(options.op)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for op in bar.track(chosen, description="mutants"):
            row = [op.name]
            for mutants in ([m for m in MUTANTS if m.op == op.name], list(generic(op))):
                left = [m for m in mutants if killed_by(m, options.dtype, options.seed) is None]
                alive += left
                row.append(f"{len(mutants) - len(left)} of {len(mutants)}")
            table.add_row(*row)
    Console().print(table)
    for mutant in alive:
        print(f"ALIVE {mutant.op}: {mutant.name}")
    return 1 if alive or not chosen else 0
