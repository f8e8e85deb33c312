"""A layer's program with the shape and dtype of every value: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from moespec.cost._load import Load, Number
from moespec.layer._params import integers, parameter_shapes
from moespec.op import Arg, Op, Step, dimension
from moespec.program import lookup

EXPERTS = ("experts.", "pool.experts.")             # parameters of which only those of experts with rows are read


class Value(NamedTuple):
    """A named value."""

    shape: tuple[Number, ...]
    dtype: np.dtype
    parameter: bool = False

    @property
    def bytes(self) -> Number:
        return prod(self.shape) * self.dtype.itemsize


class Site(NamedTuple):
    """One step with the values at its arguments (None: not given), by the arguments' names, and all named dimensions."""

    step: Step
    op: Op
    reads: Mapping[str, Value | None]
    writes: Mapping[str, Value]
    dims: Mapping[str, Number]


def given(spec, d_model: int, tokens: int, dtype) -> dict[str, Value]:
    """What a caller gives: parameters, tokens, noise and context."""
    real, ids = np.dtype(dtype), np.dtype("int64")
    shapes = parameter_shapes(spec, d_model)
    values = {name: Value(shape, ids if name in integers(spec) else real, True) for name, shape in shapes.items()}
    hidden = getattr(getattr(spec.router, "net", None), "hidden", 0)
    joint = next((s.n for s in spec.shared if s.gate == "router"), 0)
    found = {"x": (tokens, d_model), "ones": (tokens, spec.columns), "router_states": (tokens, hidden), "target": (tokens, d_model)}
    found |= {f"noise.{name}": (tokens, *a.shape[1:]) for name, a in spec.draw(1, d_model).items()}
    indices = {"group": (tokens,), "whole": (2,), "input_ids": (tokens,), "dataset_index": (tokens, 1), "moe_mm_token_type_ids": (tokens,),
               "shared_indices": (tokens, joint)}
    if getattr(spec.router, "select", "") == "all":
        indices["indices"] = (tokens, spec.experts.n)
    values |= {name: Value(shape, real) for name, shape in found.items() if 0 not in shape[1:]}
    return values | {name: Value(shape, ids) for name, shape in indices.items() if 0 not in shape[1:]}


def context(values) -> list[str]:
    """The names that a program may read beyond those that every layer knows."""
    return [name for name in values if name != "indices" and "." not in name]


def program(spec, d_model: int, tokens: int, *, training=True) -> tuple[Step, ...]:
    """The program of a layer that is given all it may read."""
    return spec.program(tokens, training=training, context=context(given(spec, d_model, tokens, "float32")))


def walk(spec, steps, values: Mapping[str, Value], loads: Mapping[str, Load]) -> Iterator[Site]:
    """Every step with its values, from what is given; the experts' rows are those of `loads`."""
    known = dict(values)
    for step in steps:
        op = lookup(step.op)
        reads = {arg.name: known.get(name) for arg, name in zip(op.inputs, step.reads.split(), strict=False)}
        reads = {name: _hit(value, source, loads) for (name, value), source in zip(reads.items(), step.reads.split(), strict=True)}
        dims = _dims(op, step, reads, spec, loads)
        dtypes = {name: value.dtype for name, value in reads.items() if value is not None}
        writes = {arg.name: Value(_shape(arg, dims), op.dtype_of(arg, dtypes, **step.attrs)) for arg in op.outputs}
        known |= dict(zip(step.writes.split(), writes.values(), strict=True))
        yield Site(step, op, reads, writes, dims)


def _hit(value, source, loads):
    """A parameter of the experts, without those experts that have no row."""
    if value is None or not value.parameter or not source.startswith(EXPERTS) or source.endswith("norm_scale"):
        return value
    hit = loads["pool." if source.startswith("pool.") else ""].hit
    return value._replace(shape=(min(hit, value.shape[0]), *value.shape[1:]))


def _dims(op: Op, step: Step, reads, spec, loads) -> dict[str, Number]:
    """From what the step reads, then from its attributes."""
    dims: dict[str, Number] = {}
    for arg in op.inputs:
        value = reads.get(arg.name)
        for letter, size in zip(arg.shape.split(), value.shape if value else (), strict=False):
            base, plus = dimension(letter)
            dims.setdefault(base, size - int(plus or 0))
    attrs = step.attrs
    if step.op == "dispatch.plan":
        dims["N"] = _rows(step, dims, loads)
    elif attrs.get("rows") is not None:
        dims["N"] = attrs["rows"]
    known = {"K": attrs.get("k") or spec.columns, "E": attrs.get("experts", 0), "M": attrs.get("k", 0) + 1} | dims
    return known | (MADE[step.op](known, attrs) if step.op in MADE else {})


# Dimensions of outputs that are made of others.
MADE: Mapping[str, Callable[[Any, Any], dict[str, Number]]] = {
    "gates.hierarchical": lambda d, attrs: {"B": d["A"] * attrs["k"]},
    "gates.pair_sums": lambda d, attrs: {"E": d["n"] * d["m"]},
    "dispatch.mix": lambda d, attrs: {"N": d["S"] * attrs.get("groups", 1)},
    "dispatch.concat": lambda d, attrs: {"D": d["P"] + d["Q"]},
    "losses.hierarchical_load_cv2": lambda d, attrs: {"M": attrs["k_primary"] + 1, "L": attrs["groups"] * (attrs["k"] + 1)},
}


def _rows(step, dims, loads):
    """Live rows of a plan: all assignments where the shared experts are weighted by the router, else the load."""
    if step.reads == "shared_indices":
        return dims["T"] * dims["K"]
    return loads["pool." if step.writes.startswith("pool.") else ""].rows


def _shape(arg: Arg, dims: Mapping[str, Any]) -> tuple[Number, ...]:
    sized = (dimension(letter) for letter in arg.shape.split())
    return tuple((dims[base] if base else 0) + int(plus or 0) for base, plus in sized)
