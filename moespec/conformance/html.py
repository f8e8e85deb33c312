"""A report as one page that opens anywhere: op x dtype, requirement x dtype, and every failure."""

from __future__ import annotations

from html import escape

from moespec.registry import OPS

STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:right}
td:first-child,th:first-child,td.text{text-align:left}.pass{background:#e4f4e4}.fail{background:#f9d6d6}.weak{background:#fff3cf}
.xfail{background:#eadcf5}.none{background:#f3f3f3;color:#888}code{font-size:90%}"""


def page(reports) -> str:
    """The page of the reports of one or several backends."""
    columns, texts = columns_of(reports), texts_of(reports)
    ops = list(dict.fromkeys(r.op for report in reports for r in report.results if r.dtype != "-"))
    parts = [f"<h1>{escape(', '.join(r.backend for r in reports))}</h1>"]
    parts += [f"<p>{escape(line)}</p>" for line in counts_of(reports)]
    parts += ["<h2>Operations</h2>", _table("op", columns, [(f"<code>{escape(n)}</code>", n) for n in ops], [r.cells() for r in reports]),
              "<h2>Requirements</h2>", _table("requirement", columns, [(f"<code>{escape(i)}</code> {escape(t)}", i) for i, t in texts.items()],
                                              [r.requirements() for r in reports])]
    failures = [f for r in reports for f in r.failures]
    parts += ["<h2>Failures</h2>", _failures(failures)] if failures else []
    return (f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>moespec: "
            f"{escape(', '.join(r.backend for r in reports))}</title><style>{STYLE}</style>{''.join(parts)}</html>\n")


def counts_of(reports):
    """A line a backend."""
    return [f"{r.backend} ({r.where}), seed {r.seed}: {r.executed} checks executed, {len(r.failures)} failed" for r in reports]


def columns_of(reports):
    """(position of the report, dtype) of the dtypes that were run, in order; wrong inputs and differences have none of their own."""
    own = ("invalid", "gradient", "stale")
    return [(i, d) for i, report in enumerate(reports) for d in dict.fromkeys(r.dtype for r in report.results if r.kind not in own)]


def texts_of(reports):
    """Every requirement of the ops that were run, and its text."""
    ops = dict.fromkeys(r.op for report in reports for r in report.results)
    return {req.id: req.text for name in ops if name in OPS for req in OPS[name].requirements}


def _table(head, columns, rows, tables):
    names = "".join(f"<th>{escape(d)}</th>" for _, d in columns)
    body = "".join(f"<tr><td>{label}</td>{''.join(_cell(tables[i].get((key, d))) for i, d in columns)}</tr>" for label, key in rows)
    return f"<table><tr><th>{head}</th>{names}</tr>{body}</table>"


def verdict(counts):
    """(class, text) of a cell: pass n, fail, xfail, weak, or not run; never a blank that looks green."""
    executed = sum(n for s, n in (counts or {}).items() if s != "skip")
    if not executed:
        return "none", "not run"
    worst = next(s for s in ("fail", "xfail", "pass", "weak") if counts.get(s))
    weak = f" ({counts['weak']} weak)" if counts.get("weak") else ""
    return worst, f"{executed}{weak}" if worst == "pass" else f"{counts[worst]} {worst} of {executed}"


def _cell(counts):
    kind, text = verdict(counts)
    return f"<td class={kind}>{text}</td>"


def _failures(failures):
    rows = "".join(f"<tr><td><code>{escape(r.id)}</code></td><td class=text>{escape(r.message)}</td></tr>" for r in failures)
    return f"<table>{rows}</table>" if rows else ""
