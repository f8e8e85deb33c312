"""Reports as files: JSON (the record), HTML (to look at), Markdown (the matrix requirement x backend x dtype, for documentation)."""

from __future__ import annotations

import json
from pathlib import Path

from moespec.conformance.html import columns_of, counts_of, page, texts_of, verdict
from moespec.conformance.report import Report

FORMAT = 2


def save(reports, path):
    """Write the reports of one or several backends; the ending of `path` tells how."""
    Path(path).write_text(_form(path)(reports))


def require_path(path):
    """Refuse a `path` that `save` could not write to, before the minutes that its reports may take."""
    _form(path)
    if not Path(path).parent.is_dir():
        raise ValueError(f"report: there is no folder {Path(path).parent}")


def _form(path):
    made = {".json": _record, ".html": page, ".md": _markdown}
    ending = Path(path).suffix
    if ending not in made:
        raise ValueError(f"report: {Path(path).name} ends in {ending!r}, known are {', '.join(made)}")
    return made[ending]


def load(path) -> list[Report]:
    """The reports of a JSON file."""
    found = read_json(path)
    try:
        if found["format"] == FORMAT:
            return [Report.from_dict(r) for r in found["reports"]]
    except (KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"report: {path} is no report of format {FORMAT}")


def read_json(path):
    """What a JSON file holds; the error of one that is broken names it."""
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None


def _record(reports):
    return json.dumps({"format": FORMAT, "reports": [r.to_dict() for r in reports]}, indent=1) + "\n"


def _markdown(reports):
    columns, tables = columns_of(reports), [r.requirements() for r in reports]
    lines = [f"- {line}" for line in counts_of(reports)]
    lines += ["", "| requirement | " + " | ".join(f"{reports[i].backend} {d}" for i, d in columns) + " |", "|---|" + "---|" * len(columns)]
    for name, text in texts_of(reports).items():
        cells = (_cell(*verdict(tables[i].get((name, d)))) for i, d in columns)
        lines.append(f"| {name}: {text.replace('|', chr(92) + '|')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(kind, text):
    return f"pass {text}" if kind == "pass" else text
