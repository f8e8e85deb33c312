"""`moespec cost`: what a published layer costs, on one device and spread over many."""

from __future__ import annotations

import json

from rich.console import Console

from moespec import cost
from moespec.cli import _cost_tables
from moespec.cli._models import find

CONSOLE_WIDTH = 160


def add_to(commands):
    """The command and its options."""
    parser = commands.add_parser("cost", help="operations and bytes of a published layer, and what bounds it on a device and its network")
    parser.add_argument("name", metavar="MODEL", help="a name that `moespec models` lists")
    parser.add_argument("--layer", type=int, default=0, help="of a family whose layers differ (default 0)")
    parser.add_argument("--d-model", type=int, help="width of the tokens (default: the published size; 1024 for papers)")
    parser.add_argument("--tokens", type=int, default=4096, help="on one device (default 4096)")
    parser.add_argument("--ranks", type=int, nargs="*", default=[8, 64], metavar="R", help="devices that share the experts (default 8 64)")
    parser.add_argument("--device", default="h200", choices=list(cost.DEVICES), help="whose peaks are compared with (default h200)")
    parser.add_argument("--dtype", default="bfloat16", help="of tokens and parameters (default bfloat16)")
    parser.add_argument("--wire", nargs="+", metavar="DTYPE", help="of rows on their way to the experts, and back (default: --dtype)")
    parser.add_argument("--copies", default="choice", choices=["choice", "rank", "node", "capacity"],
                        help="rows of a token on the way: one per chosen expert (default), per distinct rank, per node, or full buffers")
    parser.add_argument("--nodes", type=int, help="for --copies node (default: as many as the ranks fill)")
    parser.add_argument("--inference", action="store_true", help="forward alone")
    parser.add_argument("--layouts", type=int, metavar="CORES", nargs="?", const=0,
                        help="traffic of data, model and expert parallelism on so many cores (default: the most of --ranks)")
    parser.add_argument("--model-ways", type=int, default=1, metavar="M", help="cores that cut the hidden units, for --layouts (default 1)")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument("--plot", metavar="FILE", help="rooflines of memory and network as a picture (.png, .svg, .pdf); needs matplotlib")
    parser.set_defaults(run=_cost)


def _cost(options):
    spec, published, _ = find(options.name, options.layer)
    d_model = published if options.d_model is None else options.d_model
    wire = options.wire if options.wire is None or len(options.wire) > 1 else options.wire[0]
    cores = options.layouts if options.layouts != 0 else max(options.ranks, default=8)
    found = cost.report(options.name, spec, d_model, options.tokens, ranks=options.ranks, device=cost.device(options.device),
                        dtype=options.dtype, wire=wire, copies=options.copies, nodes=options.nodes, training=not options.inference,
                        cores=cores, model=options.model_ways)
    if options.plot:
        from moespec.cli._cost_plot import plot

        plot(found, options.plot)
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    console = Console(width=None if Console().is_terminal else CONSOLE_WIDTH, highlight=False)
    for part in _cost_tables.page(found):
        console.print(part)
    return 0
