"""What a layer holds, and what it is compared with: a dense unit as wide as a token's experts together, and a look-up in a table."""

from __future__ import annotations

from math import prod

import numpy as np

from moespec.cost import _load
from moespec.cost._layer import Line, Work, price
from moespec.cost._require import count, real, sizes
from moespec.cost._walk import Value, program, walk
from moespec.layer import ExpertChoice, Soft
from moespec.layer._params import parameter_shapes
from moespec.op import Step

# kind of experts -> the op of the dense unit, the matrices from D to its width, those back
UNITS = {"glu": ("experts.glu", ("w_gate", "w_up"), ("w_down",)), "ffn": ("experts.ffn", ("w_in",), ("w_out",)),
         "singleton": ("experts.ffn", ("w_in",), ("w_out",)), "linear": ("experts.linear", ("w",), ())}


def parameters(spec, d_model: int) -> tuple[int, int]:
    """Numbers that the layer holds, and those that one token meets (on average, where its experts vary)."""
    shapes, n = parameter_shapes(spec, count("parameters", "d_model", d_model, least=1)), spec.experts.n
    held = sum(prod(shape) for shape in shapes.values())
    share = min(_chosen(spec), n) / n
    idle = sum(prod(shape) * (1 - share) for name, shape in shapes.items() if name.startswith("experts.w") and shape[0] == n)
    return held, round(held - idle)


def _chosen(spec):
    """Experts that a token meets."""
    router = spec.router
    if isinstance(router, Soft):
        return spec.experts.n
    if isinstance(router, ExpertChoice):
        return router.factor
    return router.k if getattr(router, "select", "") == "batchwise" else spec.columns


def active_width(spec, d_model: int, tokens: int, *, training=True):
    """Hidden units that a token passes through, shared experts included and before drops: the width of the dense layer that does as much."""
    d_model, tokens = sizes("active_width", d_model, tokens)
    steps = [s for s in program(spec, d_model, tokens, training=training) if s.op not in _load.LIMITS]
    rows = sum(load.rows for load in _load.expected(spec, steps, tokens).values()) / max(tokens, 1)
    e = spec.experts
    width = {"singleton": 1, "linear": parameter_shapes(spec, d_model).get("experts.w", (0,))[-1]}.get(e.kind, e.width)
    return rows * width + sum(s.n * s.width for s in spec.shared)


def dense(spec, d_model: int, tokens: int, *, dtype="float32", training=True) -> Line:
    """One dense unit of the kind of the experts, `active_width` wide, for all tokens."""
    op, into, back = UNITS[spec.experts.kind]
    (d_model, tokens), kind = sizes("dense", d_model, tokens), real("dense", dtype)
    width = active_width(spec, d_model, tokens, training=training)
    values = {"rows": Value((tokens, d_model), kind), "offsets": Value((2,), np.dtype("int64"))}
    values |= {w: Value((1, d_model, width), kind, True) for w in into} | {w: Value((1, width, d_model), kind, True) for w in back}
    reads = " ".join(("rows", "offsets", *into, *back))
    (site,) = walk(spec, [Step(op, reads, "y")], values, {})
    return price(site, training, set())


def embedding(d_model: int, tokens: int, *, dtype="float32", training=True) -> Line:
    """A row of a table per token; backward adds the gradients to the table's rows.  What memory alone can do."""
    d_model, tokens = sizes("embedding", d_model, tokens)
    row, ids = d_model * real("embedding", dtype).itemsize, 8
    step = Step("embedding", "ids table", "y")
    forward = Work(0, tokens * (row + ids), tokens * row)
    if not training:
        return Line(step, forward, Work())
    return Line(step, forward, Work(tokens * d_model, tokens * (row + ids), tokens * row), tokens * ids)
