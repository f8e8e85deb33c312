"""What was checked: requirement x backend x dtype, from the record of the reports."""

from __future__ import annotations

from rst import WIDE, heading, literal, plain, table

from moespec.registry import OPS


def requirements(recorded) -> str:
    """The page of every requirement."""
    columns = [(e, d) for e in recorded for d in e["requirements"]]
    count = sum(len(op.requirements) for op in OPS.values())
    lines = WIDE + heading("Requirements")
    lines += [f"{count} requirements, and how often each was checked and held. An id leads to the operation; an empty cell was not run.", ""]
    lines += [f"- **{e['backend']}, {e['execution']}**: {e['device']}, {e['date']}" for e in recorded] + [""]
    for family in dict.fromkeys(name.split(".")[0] for name in OPS):
        rows = [(literal(r.id), plain(r.text), *(e["requirements"][d].get(r.id, "") for e, d in columns))
                for op in OPS.values() if op.name.startswith(f"{family}.") for r in op.requirements]
        head = ("id", "requirement", *(f"{e['backend']} {d}" for e, d in columns))
        lines += heading(family, "-") + table(head, rows, classes="matrix")
    return "\n".join(lines)

