"""What a rank computes: operations and bytes of memory, per token and per row of an expert."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.cost._layer import layer
from moespec.cost._wire import both_ways, width
from moespec.layer import ExpertChoice, Soft
from moespec.layer._params import parameter_shapes

TOKENS = 4096                        # enough for what is paid once a batch to vanish


class Work(NamedTuple):
    """Numbers of one layer; operations are (forward, backward), sizes count elements."""

    experts: int
    k: int
    token: tuple[float, float]       # operations per token outside of the routed experts: router, shared experts, combine
    row: tuple[float, float]         # per row of a routed expert
    common: int                      # parameters outside of the routed experts
    expert: int                      # parameters of one routed expert
    hidden: int                      # elements that a row writes and reads between the expert's products
    into: int                        # width of a row on its way to the expert
    out: int                         # and on its way back


def work(spec, d_model: int) -> Work:
    """The work of a layer whose tokens choose experts.

    Raises
    ------
    ValueError
        Experts that choose their tokens, soft routing, a second pool, or experts that compute nothing.
    """
    if isinstance(spec.router, ExpertChoice | Soft) or spec.pool is not None:
        raise ValueError("simulate: only layers with one pool of experts, chosen token by token, are simulated")
    if spec.experts.copies or spec.experts.constants or spec.experts.zeros:
        raise ValueError("simulate: experts without a computation need no rank; give a spec without copies, constants and zeros")
    priced = layer(spec, d_model, TOKENS)
    lines, live = priced.lines, priced.loads[""].rows
    routed = [line for line in lines if any(name.startswith("experts.") for name in line.step.reads.split())]
    shapes = parameter_shapes(spec, d_model)
    own = {name: shape for name, shape in shapes.items() if name.startswith("experts.")}
    weights = [shape for name, shape in own.items() if name.startswith("experts.w")]
    if not any(line.step.op == "dispatch.plan" for line in lines) or not sum(line.forward.flops for line in routed) or len(weights[0]) != 3:
        raise ValueError("simulate: the layer's program has no rows that go to experts")
    total, rows = (np.array([(line.forward.flops, line.backward.flops) for line in found]).sum(0) for found in (lines, routed))
    held = sum(int(np.prod(shape)) for shape in own.values()) // spec.experts.n
    whole = sum(int(np.prod(shape)) for shape in shapes.values())
    gated, into, out = len(weights) == 3, weights[0][1], weights[-1][2]
    return Work(spec.experts.n, spec.columns, tuple((total - rows) / TOKENS), tuple(rows / live), whole - held * spec.experts.n, held,
                0 if len(weights) == 1 else (3 if gated else 2) * weights[-1][1], into, out)


def wires(dtype: str, wire) -> tuple[int, int]:
    """Bytes of an element on its way to the experts, and back."""
    width("simulate", dtype)
    return both_ways("simulate", wire or dtype)
