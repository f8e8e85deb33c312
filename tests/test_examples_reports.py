"""What docs/reproductions.md says is what the committed reports hold."""

import json
from pathlib import Path

import loss_free
import pytest
import shazeer_table6
import switch_miniature

DOCS = Path(__file__).parent.parent / "docs"
SETTINGS = {shazeer_table6: list(shazeer_table6.PAPER), switch_miniature: switch_miniature.CAPACITY + switch_miniature.PRECISION,
            loss_free: loss_free.SETTINGS}


def report(script):
    """Runs by setting."""
    runs = json.loads((DOCS / "reports" / f"{script.__name__}.json").read_text())["runs"]
    return {setting: runs[",".join(map(str, setting))] for setting in SETTINGS[script]}


@pytest.mark.parametrize("script", SETTINGS, ids=lambda s: s.__name__)
def test_the_page_shows_the_report(script):
    page = (DOCS / "reproductions.md").read_text()
    columns = [[str(column.header), *column.cells] for column in script.table(report(script)).columns]
    for row in zip(*columns, strict=True):
        assert f"| {' | '.join(row)} |" in page


@pytest.mark.parametrize("script", SETTINGS, ids=lambda s: s.__name__)
def test_every_setting_has_three_seeds(script):
    assert {len(runs) for runs in report(script).values()} == {3}


def test_loads_with_and_without_the_losses():
    """Above 3 times the mean without, below 1.4 times with both, in every seed."""
    found = report(shazeer_table6)
    for name in ("max_load", "max_tokens"):
        assert min(run[name] for run in found[0.0, 0.0]) > 3
        assert max(run[name] for run in found[0.1, 0.1]) < 1.4
