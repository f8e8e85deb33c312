"""The cluster simulator beside what `mpi_exchange.py` measured: links from half of the sizes, errors on the others, a table and a plot."""

from __future__ import annotations

from dataclasses import asdict
from math import inf

import numpy as np
from mpi_exchange import CHOICES, EXPERTS, HIDDEN, WIDTH

from moespec.cost.calibrate import fit_link, relative_errors, shared
from moespec.cost.cluster import Cluster, Link, simulate
from moespec.models import mixtral

STATISTICS = ("median", "min")
CALIBRATED, BETWEEN = slice(None, None, 2), slice(1, None, 2)        # of all sizes
SPEC = mixtral(EXPERTS, HIDDEN, k=CHOICES)


def report(runs) -> dict:
    """Measurements, links and errors, as plain data."""
    found: dict = {"runs": runs, "links": [], "errors": []}
    links = {}
    for run in runs:
        for statistic in STATISTICS if run["ranks"] > 1 else ():
            link = links[run["ranks"], statistic] = fit_link(*exchanged(run, statistic, CALIBRATED))
            plain = {name: None if value == inf else value for name, value in asdict(link).items()}
            found["links"].append({"ranks": run["ranks"], "of": statistic, **plain})
            found["errors"] += _own_errors(run, statistic, link)
    for ranks, statistic in links:
        base = links.get((2, statistic))
        if ranks > 2 and base:
            run = next(r for r in runs if r["ranks"] == ranks)
            errors = relative_errors(shared(base, ranks, run["cores"]), *exchanged(run, statistic))
            found["errors"].append(_summary("exchange, all sizes, from the link of 2 ranks", run, statistic, errors))
    return found


def exchanged(run, statistic, part=slice(None)):
    """Bytes that a rank sends to all others, and seconds."""
    rows = run["exchange"][part]
    return np.array([r["amount"] * (run["ranks"] - 1) for r in rows]), np.array([r[statistic] for r in rows])


def rate(run, statistic, tokens):
    """Operations per second of the products of so many tokens, between those of every other measured number."""
    own = run["product"][CALIBRATED]
    known = [operations(r["amount"]) / r[statistic] for r in own]
    return np.exp(np.interp(np.log(tokens), np.log([r["amount"] for r in own]), np.log(known)))


def operations(tokens):
    """Of the products of a rank that gets the rows of `tokens` tokens."""
    return 6 * WIDTH * HIDDEN * CHOICES * tokens


def predicted(run, statistic, link):
    """Seconds of dispatch, experts and combine for every number of tokens."""
    machines = (Cluster(run["ranks"], run["ranks"], link, link, float(rate(run, statistic, r["amount"])), inf) for r in run["step"])
    found = (simulate(machine, SPEC, WIDTH, r["amount"], dtype="float32") for machine, r in zip(machines, run["step"], strict=True))
    return np.array([sum(p.slowest for p in one.phases if p.direction == "forward" and p.name != "route") for one in found])


def _own_errors(run, statistic, link):
    tokens, products = (np.array([r[name] for r in run["product"][BETWEEN]]) for name in ("amount", statistic))
    steps = np.array([r[statistic] for r in run["step"]])
    return [_summary("exchange, sizes of the calibration", run, statistic, relative_errors(link, *exchanged(run, statistic, CALIBRATED))),
            _summary("exchange, sizes between", run, statistic, relative_errors(link, *exchanged(run, statistic, BETWEEN))),
            _summary("products, sizes between", run, statistic, operations(tokens) / rate(run, statistic, tokens) / products - 1),
            _summary("dispatch + experts + combine", run, statistic, predicted(run, statistic, link) / steps - 1)]


def _summary(what, run, statistic, errors):
    return {"what": what, "ranks": run["ranks"], "of": statistic, "points": len(errors), "median": float(np.median(np.abs(errors))),
            "max": float(np.abs(errors).max()), "mean_signed": float(errors.mean())}


def table(found):
    """The errors as a table in Markdown; docs/cluster.md has it."""
    lines = ["| predicted / measured - 1 | ranks | of | points | median | largest | mean, signed |", "|---|---|---|---|---|---|---|"]
    for e in found["errors"]:
        lines.append(f"| {e['what']} | {e['ranks']} | {e['of']} | {e['points']} | {e['median']:.0%} | {e['max']:.0%} | {e['mean_signed']:+.0%} |")
    return "\n".join(lines)


def plot(found, path):
    """Exchanges for each number of ranks, and steps predicted beside measured."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    runs = [r for r in found["runs"] if r["ranks"] > 1]
    figure, axes = pyplot.subplots(1, len(runs) + 1, figsize=(4.6 * (len(runs) + 1), 4.2), layout="constrained")
    for axis, run in zip(axes, runs, strict=False):
        for statistic, colour in zip(STATISTICS, ("tab:blue", "tab:orange"), strict=True):
            _exchange(axis, run, _link(found, run, statistic), statistic, colour)
        axis.set(title=f"Alltoallv, {run['ranks']} ranks on {run['cores']} cores", xlabel="bytes for each peer", ylabel="seconds")
        axis.legend(frameon=False, fontsize=8)
    _steps(axes[-1], found, runs)
    for axis in axes:
        axis.grid(True, which="major", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


def _link(found, run, statistic):
    entry = next(e for e in found["links"] if (e["ranks"], e["of"]) == (run["ranks"], statistic))
    fields = {name: inf if entry[name] is None and name != "beyond" else entry[name] for name in Link.__dataclass_fields__}
    return Link(**fields)


def _exchange(axis, run, link, statistic, colour):
    peers, amounts = run["ranks"] - 1, np.array([r["amount"] for r in run["exchange"]])
    seconds = np.array([r[statistic] for r in run["exchange"]])
    line = np.geomspace(amounts[0], amounts[-1], 200)
    axis.loglog(line, link.seconds(line * peers, np.ones(200)), color=colour, lw=1.2, label=f"{statistic}: predicted")
    axis.loglog(amounts[CALIBRATED], seconds[CALIBRATED], "o", color=colour, ms=5, label="measured, for the calibration")
    axis.loglog(amounts[BETWEEN], seconds[BETWEEN], "o", color=colour, ms=5, mfc="white", label="measured, between")


def _steps(axis, found, runs):
    ends = []
    for run, marker in zip(runs, "os^v", strict=False):
        for statistic, colour in zip(STATISTICS, ("tab:blue", "tab:orange"), strict=True):
            measured = np.array([r[statistic] for r in run["step"]])
            guess = predicted(run, statistic, _link(found, run, statistic))
            axis.loglog(measured, guess, marker, color=colour, ms=5, mfc="white", label=f"{run['ranks']} ranks, {statistic}")
            ends += [measured.min(), measured.max(), guess.min(), guess.max()]
    span = np.array([min(ends) / 1.3, max(ends) * 1.3])
    axis.loglog(span, span, color="0.4", lw=1, zorder=0)
    axis.fill_between(span, span / 1.5, span * 1.5, color="0.9", zorder=-1, label="within a factor of 1.5")
    axis.set(title="Dispatch + experts + combine", xlabel="measured, seconds", ylabel="simulated, seconds")
    axis.legend(frameon=False, fontsize=8)
