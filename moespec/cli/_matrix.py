"""The table that `moespec verify` prints."""

from __future__ import annotations

from rich.table import Table

SHORT = {"float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def matrix(report, dtypes):
    """Op x dtype: checks executed, those that failed; and over all dtypes those whose bound says little."""
    table = Table(title=f"moespec verify {report.backend}: checks executed", header_style="bold")
    table.add_column("op", no_wrap=True)
    for dtype in dtypes:
        table.add_column(SHORT[dtype], justify="right")
    table.add_column("weak", justify="right")
    cells = report.cells()
    for name in dict.fromkeys(op for op, _ in cells):
        table.add_row(name, *(_cell(cells.get((name, d), {})) for d in dtypes), _share(report, name))
    return table


def _cell(counts):
    executed = sum(n for status, n in counts.items() if status != "skip")
    if counts.get("fail"):
        return f"[red]{counts['fail']} of {executed} failed[/]"
    return f"{executed}" if executed else "[yellow]not run[/]"


def _share(report, name):
    weak = sum(r.op == name and r.status == "weak" for r in report.results)
    return f"[yellow]{weak}[/]" if weak else ""
