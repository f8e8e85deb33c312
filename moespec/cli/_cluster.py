"""`moespec cluster MODEL`: what a layer would take on ranks and nodes that are not here, predicted."""

from __future__ import annotations

import json
from dataclasses import replace

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from moespec.cli._models import find


def add_to(commands):
    """The command and its options."""
    parser = commands.add_parser("cluster", help="predict the time of a layer on a cluster: phases, slowest rank, exposed communication")
    parser.add_argument("name", metavar="MODEL")
    parser.add_argument("--layer", type=int, default=0, help="of a family whose layers differ (default 0)")
    parser.add_argument("--ranks", type=int, nargs="+", default=[64], metavar="R")
    parser.add_argument("--tokens", type=int, default=4096, help="of each rank (4096)")
    parser.add_argument("--load", default="uniform", help="uniform, zipf:EXPONENT, or trace:FILE[#LAYER] (a routing trace)")
    parser.add_argument("--placement", choices=("contiguous", "round_robin", "eplb"), default="contiguous")
    parser.add_argument("--spare", type=int, default=0, help="for eplb: further places on each rank")
    parser.add_argument("--expert-parallel", type=int, metavar="R", help="ranks that together hold all experts (all)")
    parser.add_argument("--node-limit", type=int, metavar="M", help="a token's experts lie on at most M nodes")
    parser.add_argument("--copies", choices=("choice", "rank", "node"), default="choice", help="a row for each choice, rank, or node of a token")
    parser.add_argument("--overlap", type=int, default=1, metavar="CHUNKS")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--wire", nargs="+", metavar="DTYPE", help="one, or two: to the experts, and back")
    parser.add_argument("--seed", type=int, default=0)
    _machine_options(parser)
    parser.add_argument("--json", action="store_true", help="all numbers, in seconds and bytes")
    parser.set_defaults(run=_cluster)


def _machine_options(parser):
    """A device of the table, and what is different."""
    parser.add_argument("--device", default="h100", help="of moespec.cost.DEVICES (h100)")
    parser.add_argument("--efficiency", type=float, default=0.6, help="the part of the peak that products reach (0.6)")
    parser.add_argument("--per-node", type=int, metavar="R", help="ranks of a node")
    parser.add_argument("--flops", type=float, help="peak of a rank, operations per second")
    parser.add_argument("--memory-bandwidth", type=float, metavar="B/S", help="bytes per second of a rank")
    for level, where in (("intra", "inside"), ("inter", "between")):
        parser.add_argument(f"--{level}", type=float, nargs=3, metavar=("S", "B/S", "S"),
                            help=f"{where} nodes: latency, bandwidth of a rank each way, seconds for each message")


def _cluster(options):
    from moespec.cost.cluster import simulate
    spec, d_model, _ = find(options.name, options.layer)
    wire, load = options.wire[0] if options.wire and len(options.wire) == 1 else options.wire, _load(options.load)
    found = [simulate(_machine(options, ranks), spec, d_model, options.tokens, load=load, placement=options.placement, spare=options.spare,
                      expert_parallel=options.expert_parallel, node_limit=options.node_limit, copies=options.copies,
                      overlap=options.overlap, dtype=options.dtype, wire=wire, rng=options.seed).to_dict() for ranks in options.ranks]
    if options.json:
        print(json.dumps({"model": options.name, "d_model": d_model, "tokens_per_rank": options.tokens, "predicted": found}, indent=1))
        return 0
    console = Console()
    console.print(_summary(options, found))
    console.print(_phases(found[-1]))
    return 0


def _machine(options, ranks):
    """The device's cluster with the numbers that were given instead of its own."""
    from moespec.cost.cluster import Link, cluster_of
    given = {name: getattr(options, name) for name in ("per_node", "flops", "memory_bandwidth")}
    given |= {name: links and Link(*links) for name, links in (("intra", options.intra), ("inter", options.inter))}
    machine = cluster_of(options.device, ranks, dtype=options.dtype, efficiency=options.efficiency)
    return replace(machine, **{name: value for name, value in given.items() if value is not None})


def _load(text):
    from moespec.cost.cluster import Trace, Uniform, Zipf
    kind, _, rest = text.partition(":")
    if text == "uniform":
        return Uniform()
    if kind == "zipf":
        try:
            return Zipf(float(rest))
        except ValueError as error:
            raise ValueError(f"--load {text}: {error}") from None
    if kind == "trace":
        return Trace(_recorded(*rest.partition("#")[::2]))
    raise ValueError(f"--load {text}: wanted uniform, zipf:EXPONENT or trace:FILE[#LAYER]")


def _recorded(path, layer):
    """The ids of one layer of a trace, as the experts saw them."""
    from moespec.interop import trace
    layers = {t.layer: t for t in trace.load(path)}
    if not layers or (layer and layer not in layers):
        raise ValueError(f"{path} has no layer {layer!r}; it has {', '.join(layers)}")
    return layers[layer or next(iter(layers))].indices


def _summary(options, found):
    title = f"{options.name}, {options.tokens} tokens a rank, {options.device} (predicted)"
    caption = "ms; rows of the fullest rank / mean; MB that a rank sends"
    table = Table(title=title, caption=caption, box=SIMPLE, padding=0)
    for name in ("ranks", "forward", "backward", "exposed", "used", "imbalance", "slowest", "in node", "between"):
        table.add_column(name, justify="right")
    for one in found:
        sent = (f"{one['sent_bytes'][level]['mean'] / 1e6:.0f}" for level in ("intra", "inter"))
        table.add_row(str(one["ranks"]), *(f"{one[part] * 1e3:.3f}" for part in ("forward_s", "backward_s", "exposed_s")),
                      f"{one['utilisation']:.0%}", f"{one['imbalance']:.3f}", str(one["slowest_rank"]), *sent)
    return table


def _phases(one):
    chunks = f", {one['chunks']} chunks" if one["chunks"] > 1 else ""
    drawn = "tokens drawn one by one" if one["form"] == "exact" else "from loads of experts"
    table = Table(title=f"{one['ranks']} ranks{chunks}", caption=f"ms; {drawn}", box=SIMPLE)
    for name in ("direction", "phase", "slowest rank", "mean"):
        table.add_column(name, justify="right" if name in ("slowest rank", "mean") else "left")
    for phase in one["phases"]:
        table.add_row(phase["direction"], phase["name"], *(f"{phase[part] * phase['times'] * 1e3:.3f}" for part in ("slowest_s", "mean_s")))
    return table
