"""What a layer costs on one device: operations and bytes, step by step, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from moespec.cost import _load
from moespec.cost._kept import kept
from moespec.cost._load import Load, Number
from moespec.cost._require import count, real, sizes
from moespec.cost._walk import Site, Value, context, given, walk
from moespec.numerics import acc
from moespec.op import Step

UNREAD = ("like",)               # arguments of which only the dtype is looked at


class Work(NamedTuple):
    """Floating-point operations, bytes read and bytes written."""

    flops: Number = 0
    read: Number = 0
    written: Number = 0

    @property
    def bytes(self) -> Number:
        """Read and written."""
        return self.read + self.written

    @property
    def intensity(self) -> float:
        """Operations per byte of memory traffic."""
        return self.flops / self.bytes if self.bytes else 0.0

    def plus(self, other: Work) -> Work:
        """Both, number by number."""
        return Work(self.flops + other.flops, self.read + other.read, self.written + other.written)


class Line(NamedTuple):
    """One step.  `saved` are the bytes that it is the first to keep for backward; parameters are not among them."""

    step: Step
    forward: Work
    backward: Work
    saved: Number = 0


@dataclass(frozen=True)
class LayerCost:
    """The steps of a layer, and their sums."""

    lines: tuple[Line, ...]
    tokens: int
    loads: Mapping[str, Load]
    assumption: str                 # "uniform" or "routing": where the rows of the experts come from

    @property
    def forward(self) -> Work:
        """The sum over the steps."""
        return _sum(line.forward for line in self.lines)

    @property
    def backward(self) -> Work:
        """The sum over the steps that have a gradient."""
        return _sum(line.backward for line in self.lines)

    @property
    def saved(self) -> Number:
        """Bytes kept for backward, each value once."""
        return sum(line.saved for line in self.lines)


def _sum(works) -> Work:
    total = Work()
    for work in works:
        total = total.plus(work)
    return total


def layer(spec, d_model: int, tokens: int, *, dtype="float32", training=True, routing=None, ranks=1) -> LayerCost:
    """The cost of a layer's program.

    Every step is taken to be one kernel: forward reads the step's inputs and writes its outputs; backward reads the cotangents and what
    forward kept, and writes the gradients.  Operations are those that the ops declare (`Op.flops`), for live rows; of the experts'
    parameters only those of experts with at least one row are read, and only their gradients written.

    Parameters
    ----------
    spec : LayerSpec
    d_model, tokens : int
        D and T; with several `ranks` the tokens of one rank.
    dtype : str
        Of tokens and parameters: float64, float32, float16 or bfloat16.
    training : bool
        With noise, backward, and what forward keeps for it; otherwise forward alone.
    routing : array of int, optional
        Expert ids [T, K] as the experts see them (-1: none), or rows per expert [E].  By default the expectation over tokens that choose
        their experts independently and uniformly, with the layer's own capacity.
    ranks : int
        The experts of the layer are spread over so many ranks, and the cost is that of one of them when all have the same load.

    Returns
    -------
    LayerCost
    """
    (d_model, tokens), dtype = sizes("layer", d_model, tokens), real("layer", dtype)
    _admit(spec, routing, ranks)
    values = given(spec, d_model, tokens, dtype)
    steps = spec.program(tokens, training=training, context=context(values))
    loads = _load.expected(spec, steps, tokens, ranks) if routing is None else {"": _load.given(spec, routing, tokens)}
    sites = list(walk(spec, steps, values, loads))
    reached = _reached(sites) if training else set()
    seen: set[str] = set()
    lines = tuple(price(site, n in reached, seen) for n, site in enumerate(sites))
    return LayerCost(lines, tokens, loads, "uniform" if routing is None else "routing")


def _admit(spec, routing, ranks):
    count("layer", "ranks", ranks, least=1)
    if ranks > spec.experts.n:
        raise ValueError(f"layer: ranks={ranks} exceeds the {spec.experts.n} experts")
    if routing is not None and ranks != 1:
        raise ValueError(f"layer: a routing is priced on one rank, got ranks={ranks}")


def _reached(sites) -> set[int]:
    """The steps whose backward runs: those through which the output or a loss has a gradient."""
    wanted, found = set(), set()
    for n, site in reversed(list(enumerate(sites))):
        writes = site.step.writes.split()
        if not any(name in wanted or name == "y" or name.startswith("loss.") for name in writes) or not site.op.cotangents:
            continue
        found.add(n)
        names = dict(zip((a.name for a in site.op.inputs), site.step.reads.split(), strict=False))
        wanted |= {names[a.name] for a in site.op.grads if site.reads.get(a.name) is not None}
    return found


def price(site: Site, reached: bool, seen: set[str]) -> Line:
    """The price of one step, backward only if it is `reached`; `seen` are the values that earlier steps keep."""
    forward, backward = site.op.flops(**{**site.dims, **site.step.attrs}) if site.op.flops else (0, 0)
    reads, writes = _bytes(v for name, v in site.reads.items() if name not in UNREAD), _bytes(site.writes.values())
    if not reached:
        return Line(site.step, Work(forward, reads, writes), Work())
    keeps = kept(site.op.name, site.step.attrs, (name for name, value in site.reads.items() if value is not None))
    values = {**site.reads, **site.writes}
    inner = sum(_inner(shape, dtype, site) for shape, dtype in keeps.inner)
    again = inner + _bytes(values.get(name) for name in keeps.arguments)
    cotangents = _bytes(site.writes[a.name] for a in site.op.cotangents)
    gradients = _bytes(site.reads.get(a.name) for a in site.op.grads)
    return Line(site.step, Work(forward, reads, writes + inner), Work(backward, cotangents + again, gradients),
                inner + _new(site, keeps.arguments, values, seen))


def _bytes(values) -> Number:
    return sum(v.bytes for v in values if v is not None)


def _inner(shape, dtype, site) -> Number:
    """Bytes of an array that is neither input nor output."""
    narrow = next(v.dtype for v in (*site.reads.values(), *site.writes.values()) if v is not None and v.dtype.kind not in "iub")
    sizes = {**site.dims, **{n: v for n, v in site.step.attrs.items() if type(v) is int}}
    return prod(int(axis) if axis.isdigit() else sizes[axis] for axis in shape) * (acc(narrow) if dtype == "acc" else np.dtype(dtype)).itemsize


def _new(site, names, values: Mapping[str, Value | None], seen) -> Number:
    """Bytes of the arguments that this step is the first to keep."""
    where = dict(zip((a.name for a in site.op.inputs), site.step.reads.split(), strict=False))
    where |= dict(zip((a.name for a in site.op.outputs), site.step.writes.split(), strict=True))
    total: Number = 0
    for name in names:
        value = values.get(name)
        if value is not None and not value.parameter and where[name] not in seen:
            seen.add(where[name])
            total += value.bytes
    return total
