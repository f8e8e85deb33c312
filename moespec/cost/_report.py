"""The cost of a layer as plain data: what `moespec cost --json` writes, and its tables and plot read."""

from __future__ import annotations

from typing import Any

from moespec.cost._bounds import bounds
from moespec.cost._compare import dense, embedding, parameters
from moespec.cost._devices import Device
from moespec.cost._formula import formula
from moespec.cost._layer import Line, layer
from moespec.cost._layouts import layouts
from moespec.program import lookup

SCHEMA = 1


def report(name: str, spec, d_model: int, tokens: int, *, ranks=(), device: Device, dtype="bfloat16", wire=None, copies="choice", nodes=None,
           training=True, cores: int | None = None, model: int = 1) -> dict[str, Any]:
    """Steps, sums, comparisons, and a row per number of ranks; with `cores` the layouts too.

    See docs/cost.md for what every key holds.  Times are predictions from peaks.
    """
    priced = layer(spec, d_model, tokens, dtype=dtype, training=training)
    held, met = parameters(spec, d_model)
    balance = device.balance(dtype)
    found: dict[str, Any] = {
        "schema": SCHEMA, "model": name, "d_model": d_model, "tokens": tokens, "dtype": dtype, "training": training,
        "assumption": priced.assumption, "parameters": {"held": held, "met": met},
        "device": {"name": device.name, "flops": device.peak(dtype), "memory": device.memory, "within": device.within, "between": device.between,
                   "per_node": device.per_node, "balance": balance, "source": device.source},
        "steps": [_line(line) for line in priced.lines],
        "layer": {"forward": _work(priced.forward), "backward": _work(priced.backward), "saved": priced.saved},
        "dense": _line(dense(spec, d_model, tokens, dtype=dtype, training=training)),
        "embedding": _line(embedding(d_model, tokens, dtype=dtype, training=training)),
        "ranks": [_row(bounds(spec, d_model, tokens, r, device, dtype=dtype, wire=wire, copies=copies, nodes=nodes)) for r in ranks]}
    if cores is not None:
        found["layouts"] = [{**layout._asdict(), "formula": dict(zip(("forward", "backward"), layout.formula, strict=True))}
                            for layout in layouts(spec, d_model, tokens * cores, cores, model=model, dtype=dtype)]
    return found


def _work(work):
    return {**work._asdict(), "intensity": work.intensity}


def _line(line: Line):
    there, back = ("0", "T D") if line.step.op == "embedding" else formula(lookup(line.step.op))
    return {"op": line.step.op, "writes": line.step.writes, "formula": {"forward": there, "backward": back},
            "forward": _work(line.forward), "backward": _work(line.backward), "saved": line.saved}


def _row(row):
    ratio = row.ratio
    return {"ranks": row.ranks, "expert_parallel": row.expert_parallel,
            "network_bytes_per_token": {"forward": ratio.bytes[0], "backward": ratio.bytes[1]},
            "flop_per_byte": {"forward": _finite(ratio.forward), "backward": _finite(ratio.backward), "both": _finite(ratio.both)},
            "bytes_per_flop": ratio.bytes_per_flop, "gradient_bytes": row.gradients,
            "forward": {**row.forward._asdict(), "bound": row.forward.bound}, "backward": {**row.backward._asdict(), "bound": row.backward.bound}}


def _finite(number):
    """None where nothing crosses the network: JSON has no infinity."""
    return number if number < float("inf") else None
