"""The few forms of reStructuredText that generated pages use."""

from __future__ import annotations

import inspect


def heading(text: str, under: str = "=") -> list[str]:
    """A heading and its line."""
    return [text, under * len(text), ""]


WIDE = [":html_theme.sidebar_secondary.remove: true", ""]       # the top of a page whose tables need the room


def table(head, rows, widths: str = "auto", classes: str = "") -> list[str]:
    """A list-table; cells are single lines of markup."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", *([f"   :class: {classes}"] if classes else []), ""]
    for row in (head, *rows):
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(row)]
    return [*lines, ""]


def columns(rows) -> list[str]:
    """Many rows as aligned text: a tenth of the time of a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return [".. code-block:: text", "", *(f"   {line}" for line in lines), ""]


def toctree(pages) -> list[str]:
    """A table of contents for the navigation alone."""
    return [".. toctree::", "   :hidden:", "   :maxdepth: 1", "", *(f"   {page}" for page in pages), ""]


def literal(text: str) -> str:
    """Text in the typewriter's face."""
    return f"``{text}``" if text.strip() else ""


def plain(text: str) -> str:
    """Text that holds no markup, whatever it holds."""
    return "".join(f"\\{c}" if c in "\\*`|_" else c for c in text)


def summary(function) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def dropdown(title: str, body) -> list[str]:
    """What is folded until one asks for it."""
    return [f".. dropdown:: {title}", "", *(f"   {line}" if line else "" for line in body), ""]
