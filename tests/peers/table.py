"""Write the measured table of docs/models.md: `python tests/peers/table.py`, with the extra `peers` installed."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
sys.path.insert(0, str(Path(__file__).parent))


def rows():
    """One line per block: what it is, and how far its output and gradients are from ours."""
    from families import installed
    from family_blocks import BLOCKS
    from test_families import errors

    from moespec import models
    for name, block in BLOCKS.items():
        if block.variant:
            continue
        family = models.FAMILIES[block.family]
        found = [f"{e:.1e}" for e in errors(name)] if installed(name) else ["not there"] * 3
        yield f"| {name} | `{block.cls}` | {family.row} | {' | '.join(found)} | {family.note} |"


def main():
    table = ["| family | block | rows | y | dx | parameters | note |", "|---|---|---|---|---|---|---|", *rows()]
    text = PAGE.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    made = f"transformers {transformers.__version__}, torch {torch.__version__}, float64."
    PAGE.write_text(f"{before}{START}\n{made}\n\n" + "\n".join(table) + f"\n{END}{after}")


if __name__ == "__main__":
    main()
