"""The bar of a fitting loop."""

from __future__ import annotations

from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


@contextmanager
def bar(total, what, shown):
    """Gives a function to call once an iteration; with `shown` it moves a bar on standard error."""
    if not shown:
        yield lambda: None
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
