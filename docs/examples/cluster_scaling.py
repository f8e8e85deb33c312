"""One layer of DeepSeek-V3 on up to 102,400 ranks that are not here: the figures of docs/cluster.md.

    python docs/examples/cluster_scaling.py [--quick] [--out FOLDER]

Everything is predicted.  The machine is that of H100 in the table of devices: 8 ranks a node, 450 GB/s each way inside a node, 50 GB/s between
nodes, 3.35 TB/s of memory, 989 TFLOP/s; that products reach 60 % of it, and the latencies, are assumed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

from moespec.cost.cluster import Uniform, Zipf, cluster_of, simulate
from moespec.models import FAMILIES

ENTRY = FAMILIES["deepseek_v3"]
SPEC, D = ENTRY.spec(), ENTRY.d_model
TOKENS, GROUP = 4096, 64                                  # a rank; ranks that hold all experts
RANKS = (64, 256, 1024, 4096, 16384, 65536, 102400)
SKEW = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOAD = Zipf(0.3)

EPLB: dict[str, Any] = {"placement": "eplb", "spare": 1}
NODE: dict[str, Any] = {"copies": "node", "node_limit": 4, "wire": ("float8", "bfloat16")}
PLANS: dict[str, dict[str, Any]] = {
    "contiguous blocks": {"expert_parallel": GROUP},
    "EPLB, 1 spare place": {"expert_parallel": GROUP, **EPLB},
    "+ 4 nodes a token, fp8 out": {"expert_parallel": GROUP, **EPLB, **NODE},
    "+ 4 chunks overlapped": {"expert_parallel": GROUP, **EPLB, **NODE, "overlap": 4},
    "all ranks one group, EPLB": EPLB,
}
PLACES = {"contiguous": {}, "EPLB, no spare place": {"placement": "eplb"}, "EPLB, 1 spare": EPLB, "EPLB, 3 spare": {"placement": "eplb", "spare": 3}}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few ranks, no plot")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(argv)
    ranks = RANKS[:1] if options.quick else RANKS
    found = {"scaling": scaling(ranks), "phases": phases(ranks[-1]), "placement": placement(SKEW[::3] if options.quick else SKEW)}
    for name, rows in found.items():
        print(f"\n{name}")
        for row in rows:
            print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cluster_scaling.json").write_text(json.dumps(found, indent=1) + "\n")
    if not options.quick:
        plot(found, options.out / "cluster_scaling.png")


def scaling(ranks):
    """The same tokens a rank on more and more ranks."""
    rows = []
    for name, plan in PLANS.items():
        for n in ranks:
            start = perf_counter()
            one = simulate(cluster_of("h100", n), SPEC, D, TOKENS, load=LOAD, **plan)
            rows.append({"plan": name, "ranks": n, "ms": one.time * 1e3, "exposed_ms": one.exposed * 1e3, "utilisation": one.utilisation,
                         "imbalance": one.imbalance, "simulated_in_s": perf_counter() - start})
    return rows


def phases(ranks):
    """Where the time goes: computation, and communication that nothing hides."""
    rows = []
    for name, plan in PLANS.items():
        one = simulate(cluster_of("h100", ranks), SPEC, D, TOKENS, load=LOAD, **plan)
        own = {p: sum(q.slowest * (1 if p == "route" else one.chunks) for q in one.phases if q.name == p) * 1e3 for p in ("route", "experts")}
        rows.append({"plan": name, "ranks": ranks, **own, "exposed": one.exposed * 1e3})
    return rows


def placement(skews):
    """The fullest rank beside the mean, on one group."""
    rows = []
    for name, kind in PLACES.items():
        for s in skews:
            one = simulate(cluster_of("h100", GROUP), SPEC, D, TOKENS, load=Zipf(s) if s else Uniform(), **kind)
            rows.append({"placement": name, "skew": s, "imbalance": one.imbalance, "ms": one.time * 1e3})
    return rows


def plot(found, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    for name in PLANS:
        own = [r for r in found["scaling"] if r["plan"] == name]
        left.semilogx([r["ranks"] for r in own], [r["ms"] for r in own], "o-", ms=4, label=name)
    left.set(title="One layer, forward and backward", xlabel="ranks (4096 tokens each)", ylabel="milliseconds, predicted")
    base = [0.0] * len(PLANS)
    for part, colour in (("route", "0.75"), ("experts", "tab:green"), ("exposed", "tab:red")):
        values = [r[part] for r in found["phases"]]
        label = {"route": "router and shared expert", "experts": "experts of the slowest rank", "exposed": "communication not hidden"}[part]
        middle.barh(range(len(PLANS)), values, left=base, color=colour, label=label)
        base = [b + v for b, v in zip(base, values, strict=True)]
    middle.set(title=f"Where the time goes, {found['phases'][0]['ranks']:,} ranks", xlabel="milliseconds, predicted", xlim=(0, 1.05 * max(base)))
    middle.set_yticks(range(len(PLANS)), PLANS)
    middle.set_ylim(len(PLANS) + 0.9, -0.6)
    for name in PLACES:
        own = [r for r in found["placement"] if r["placement"] == name]
        right.plot([r["skew"] for r in own], [r["imbalance"] for r in own], "o-", ms=4, label=name)
    right.set(title=f"256 experts on {GROUP} ranks", xlabel="exponent of Zipf's law", ylabel="rows of the fullest rank / mean", yscale="log")
    for axis in (left, middle, right):
        axis.grid(True, alpha=0.25)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, loc="lower right" if axis is middle else "upper left")
    left.set_ylim(0, 1.55 * max(r["ms"] for r in found["scaling"]))
    right.set_yticks([1, 2, 5, 10], ["1", "2", "5", "10"])
    right.minorticks_off()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
