"""The report as a page."""

from __future__ import annotations

from gpu.goals import goals, goals_of_products

CANDIDATES = ("tile", "loop", "nvmath", "torch", "floor")
ON_NUMBA = ("cupy", "numba-cuda", "numba-cuda, CuPy's memory")
OF_A_STEP = "Milliseconds of forward and backward, minimum / median; TFLOP/s of the nine products; peak memory beyond what was there, MiB"


def page(report) -> str:
    """Markdown of what `gpu_report.py` collected."""
    stages = report["stages"]
    about = stages.get("about", {})
    lines = [f"# {about.get('name') or about.get('device', 'A GPU that did not tell its name')}, {report['date']}", ""]
    if report["dry_run"]:
        lines += ["**A dry run: nothing here was run on a GPU, and no figure means anything.**", ""]
    lines += [*_about(about), "", "## Stages", "", "| stage | result | seconds |", "|---|---|---|"]
    lines += [f"| {name} | {_result(s)} | {s['seconds']:.0f} |" for name, s in stages.items()]
    lines += _failures(stages)
    rows, numba = stages.get("bench", {}).get("rows", []), stages.get("bench-numba-cuda", {})
    if found := goals(rows) + goals_of_products(numba.get("products", [])):
        lines += ["", "## Goals", "", *_goals(found, report["dry_run"])]
    if rows:
        lines += ["", "## Times", "", *_times(rows, CANDIDATES, ("torch", "floor"), OF_A_STEP), "", "## Parts of the layer", "", *_parts(rows)]
    if "launches" in numba:
        lines += ["", "## Numba-CUDA", "", *_on_numba(numba)]
    return "\n".join(lines) + "\n"


def _about(about):
    facts = {k: v for k, v in about.items() if k not in ("ok", "dry_run", "seconds", "versions", "message")} | about.get("versions", {})
    return [f"- {name}: {value}" for name, value in facts.items()]


def _result(stage):
    if "not_run" in stage:
        return f"not run: {stage['not_run']}"
    words = ["ok" if stage["ok"] else "FAILED"]
    if "executed" in stage:
        words.append(f"{stage['execution']}: {stage['executed']} checks executed, {stage['failed']} failed, {stage['weak']} weak, "
                     f"{stage['not_run_checks']} not run")
    if "passed" in stage:
        words.append(f"{stage['passed']} passed, {len(stage['failed'])} failed, {len(stage['skipped'])} skipped")
    words += stage.get("summary", [])
    return "; ".join(words)


def _failures(stages):
    lines = []
    for name, stage in stages.items():
        told = [*stage.get("first_failures", []), *(stage["failed"] if isinstance(stage.get("failed"), list) else []),
                *(f"skipped: {test}: {why}" for test, why in stage.get("skipped", {}).items()), *([] if stage["ok"] else [stage.get("message", "")])]
        told = [line for line in told if line]
        lines += ["", f"### {name}", "", "```", *told, "```"] if told else []
    return lines


def _goals(found, dry_run):
    verdict = {True: "reached", False: "NOT REACHED", None: "not measured"}
    return [f"- {'dry run' if dry_run else verdict[g.reached]}: {g.text} ({g.found})" for g in found]


def _times(rows, names, rivals, what, ours="tile"):
    """A row a shape, a column a candidate; then how many times as long as ours the rivals take."""
    heads = [*names, *(f"{rival} / {ours}" for rival in rivals)]
    lines = [f"{what}.", "", f"| T, D, F, E, K | dtype | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    for row in rows:
        of = row["candidates"]
        cells = [_cell(of[name]) if name in of else "not there" for name in names] + [_ratio(of, rival, ours) for rival in rivals]
        label = f"{row['product']}: " if "product" in row else ""
        lines.append(f"| {label}{', '.join(map(str, row['shape']))} | {row['dtype']} | {' | '.join(cells)} |")
    return lines


def _on_numba(found):
    """Launches, products and layers on Numba-CUDA."""
    launches = ", ".join(f"{name} {time:.1f}" for name, time in found["launches"].items())
    products, layers = found["products"], found["layers"]
    lines = [f"Microseconds of one launch among many of a kernel that does next to nothing: {launches}."]
    if products:
        lines += ["", *_times(products, ("numba-cuda", "cublas"), ("cublas",), "Products of experts in tiles, and dense ones by cuBLAS: "
                              "milliseconds, minimum / median; TFLOP/s", "numba-cuda")]
    return lines + (["", *_times(layers, ON_NUMBA, ("cupy",), OF_A_STEP, "numba-cuda")] if layers else [])


def _cell(found):
    if "min_ms" not in found:
        return str(found.get("absent") or found.get("failed")).replace("|", "\\|").replace("\n", " ")
    memory = f"; {found['peak_bytes'] / 2**20:.0f} MiB" if found["peak_bytes"] else ""
    return f"{found['min_ms']:.2f} / {found['median_ms']:.2f}; {found['tflops']:.1f}{memory}"


def _ratio(of, rival, ours):
    return f"{of[rival]['min_ms'] / of[ours]['min_ms']:.2f}" if all("min_ms" in of.get(n, {}) for n in (ours, rival)) else ""


def _parts(rows):
    names = list(rows[0]["parts"])
    lines = ["Milliseconds, and GB/s of the bytes that have to be moved at least (forward and backward; plan has a forward only).", "",
             f"| T, D, F, E, K | dtype | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{row['parts'][n]['ms']:.3f}; {row['parts'][n]['gb_per_s']:.0f}" for n in names]
        lines.append(f"| {', '.join(map(str, row['shape']))} | {row['dtype']} | {' | '.join(cells)} |")
    return lines
