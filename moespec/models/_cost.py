"""What a layer costs per token, summed over its program."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moespec.layer._params import parameter_shapes
from moespec.op import Op, Step, dimension
from moespec.program import lookup

TOKENS = 4096                    # enough for what is paid once a batch to vanish


class Line(NamedTuple):
    """One step: floating-point operations per token, forward and backward."""

    step: Step
    forward: float
    backward: float


def per_token(spec, d_model: int, *, tokens: int = TOKENS) -> list[Line]:
    """The cost of every step of the layer's program in training, per token; one batch row of `tokens` tokens."""
    shapes = dict(parameter_shapes(spec, d_model)) | _inputs(spec, d_model, tokens)
    given = [name for name in shapes if name != "indices"]
    lines = []
    for step in spec.program(tokens, training=True, context=[n for n in given if "." not in n]):
        op = lookup(step.op)
        dims = _dims(op, step, shapes, tokens, spec.columns)
        for arg, name in zip(op.outputs, step.writes.split(), strict=True):
            shapes[name] = tuple(_size(letter, dims) for letter in arg.shape.split())
        forward, backward = op.flops(**{**dims, **step.attrs}) if op.flops else (0, 0)
        lines.append(Line(step, forward / tokens, backward / tokens))
    return lines


def total(lines) -> tuple[float, float]:
    """Forward and backward of a whole layer, per token."""
    return sum(line.forward for line in lines), sum(line.backward for line in lines)


def parameters(spec, d_model: int) -> tuple[int, int]:
    """Numbers that the layer holds, and those that one token meets."""
    shapes = parameter_shapes(spec, d_model)
    held = sum(int(np.prod(shape)) for shape in shapes.values())
    chosen = min(spec.columns, spec.experts.n)
    idle = sum(int(np.prod(shape)) * (1 - chosen / spec.experts.n) for name, shape in shapes.items()
               if name.startswith("experts.w") and shape[0] == spec.experts.n)
    return held, round(held - idle)


def _inputs(spec, d_model, tokens):
    """Shapes of what is not a parameter."""
    hidden = getattr(getattr(spec.router, "net", None), "hidden", 0)
    shapes = {"x": (tokens, d_model), "group": (tokens,), "whole": (2,), "ones": (tokens, spec.columns), "input_ids": (tokens,),
              "dataset_index": (tokens, 1), "moe_mm_token_type_ids": (tokens,), "router_states": (tokens, hidden), "target": (tokens, d_model)}
    if getattr(spec.router, "select", "") == "all":
        shapes["indices"] = (tokens, spec.experts.n)
    joint = next((s.n for s in spec.shared if s.gate == "router"), 0)
    noise = {f"noise.{name}": a.shape for name, a in spec.draw(1, d_model).items()}
    noise = {name: (tokens, *shape[1:]) for name, shape in noise.items()}
    return {name: shape for name, shape in {**shapes, **noise, "shared_indices": (tokens, joint)}.items() if 0 not in shape}


def _dims(op: Op, step, shapes, tokens, columns):
    """Every named dimension of a step: from what it reads, then from its attributes."""
    dims: dict[str, int] = {}
    for arg, name in zip(op.inputs, step.reads.split(), strict=False):
        for letter, size in zip(arg.shape.split(), shapes.get(name, ()), strict=False):
            base, plus = dimension(letter)
            dims.setdefault(base, size - int(plus or 0))
    attrs = step.attrs
    if attrs.get("rows") is not None:
        dims["N"] = attrs["rows"]
    rows = attrs.get("groups", 1) * dims.get("S", 0) if step.op == "dispatch.mix" else dims.get("T", tokens) * dims.get("K", columns)
    fallback = {"K": attrs.get("k") or columns, "E": attrs.get("experts", 0), "N": rows}
    return {**fallback, **dims}


def _size(letter, dims):
    base, plus = dimension(letter)
    return dims.get(base, 0) + int(plus or 0)
