"""The tables of `moespec cost`."""

from __future__ import annotations

from rich import box
from rich.table import Table

PREFIXES = (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def page(found):
    """Everything that is printed, in order."""
    yield _heading(found)
    yield _steps(found)
    if found["ranks"]:
        yield _ranks(found)
    if "layouts" in found:
        yield _layouts(found)


def number(n, unit=""):
    """Three digits and a prefix: 3.26 T."""
    n = float(f"{n:.3g}")                   # first, so that 999,999 is 1 M
    for prefix, size in PREFIXES:
        if abs(n) >= size:
            return f"{n / size:.3g} {prefix}{unit}"
    return f"{n:.3g} {unit}".rstrip()


def seconds(t):
    """Milli- or microseconds."""
    if t is None:
        return "?"
    return f"{t * 1e3:.3g} ms" if t >= 999.5e-6 else f"{t * 1e6:.3g} us"


def _heading(found):
    device, held, met = found["device"], found["parameters"]["held"], found["parameters"]["met"]
    balance = ", ".join(f"{number(n)} of {where}" for where, n in (("memory", device["balance"]["memory"]),
                        ("links within a node", device["balance"]["within"]), ("links between nodes", device["balance"]["between"])) if n)
    return (f"[bold]{found['model']}[/]: {found['d_model']} wide, {number(held)} parameters, {number(met)} met by a token\n"
            f"{found['tokens']} tokens in {found['dtype']}, experts chosen uniformly\n"
            f"{device['name']}: {number(device['flops'], 'FLOP/s')}; FLOP per byte at which it is balanced: {balance}")


def _table(title, *columns, caption=""):
    table = Table(title=title, caption=caption, header_style="bold", box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left",
                  pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=column in ("op", "layout"))
    return table


LEFT = ("op", "formula", "layout", "pass", "bound by", "backward formula")


def _steps(found):
    table = _table("One device, step by step", "op", "formula", "FLOP", "bytes", "FLOP/byte", "FLOP back", "bytes back", "FLOP/byte back", "kept",
                   caption="formula: FLOP forward.  bytes: read and written, each step one kernel.  kept: bytes that the step is the first to keep.")
    for line in found["steps"]:
        if line["forward"]["flops"] or line["backward"]["flops"] or line["forward"]["read"]:
            table.add_row(*_cells(line["op"], line))
    table.add_section()
    table.add_row(*_cells("the layer", {"formula": {"forward": ""}, **found["layer"]}), style="bold")
    table.add_row(*_cells("dense, as wide", found["dense"]))
    table.add_row(*_cells("embedding", found["embedding"]))
    return table


def _cells(name, line):
    there, back = line["forward"], line["backward"]
    return [name, line["formula"]["forward"], *(cell for work in (there, back) for cell in (
        number(work["flops"]), number(work["read"] + work["written"], "B"), f"{work['intensity']:.3g}")), number(line["saved"], "B")]


RANKS = """Predicted from peaks, everything overlapped, even loads; bytes and FLOP/byte of the network, for the routed experts.
gradients: bytes sent per step to add up parameters that several ranks hold, not in the times."""
LAYOUTS = """B tokens on N = n m cores; D wide; P, p parameters of the dense layer and of an expert.
S rows in the buffers of B/n tokens; e cores that share the experts."""


def _ranks(found):
    table = _table("Experts spread over ranks", "ranks", "experts on", "pass", "bytes/token", "FLOP/byte", "compute", "memory", "network", "bound by",
                   *(["gradients"] if found["training"] else []), caption=RANKS if found["training"] else RANKS.partition("\n")[0])
    for row in found["ranks"]:
        for cells in _row(row, found["training"]):
            table.add_row(*cells)
        table.add_section()
    return table


def _row(row, training):
    """Forward; in training also backward, and both."""
    sent, ratio, first = row["network_bytes_per_token"], row["flop_per_byte"], [f"{row['ranks']}", f"{row['expert_parallel']}"]
    for way in ("forward", "backward") if training else ("forward",):
        times = [seconds(row[way][name]) for name in ("compute", "memory", "network")]
        yield [*first, way, number(sent[way], "B"), _ratio(ratio[way]), *times, row[way]["bound"]]
        first = ["", ""]
    if training:
        yield ["", "", "both", number(sum(sent.values()), "B"), _ratio(ratio["both"]), "", "", "", "", number(row["gradient_bytes"], "B")]


def _ratio(n):
    return "-" if n is None else f"{n:,.0f}"


def _layouts(found):
    columns = "layout", "forward", "backward", "both", "formula", "backward formula"
    table = _table("Layouts: bytes that a core sends per layer", *columns, caption=LAYOUTS)
    for line in found["layouts"]:
        sizes = line["forward"], line["backward"], line["forward"] + line["backward"]
        table.add_row(line["name"], *(number(n, "B") for n in sizes), line["formula"]["forward"], line["formula"]["backward"])
    return table
