"""Bytes that an expert-parallel layer moves, per rank and exchange: from shapes and from the rows per expert, exact integers.

The formulas price the steps that `parallel` runs; they never read what a run counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from moespec.cost._load import Load
from moespec.cost._require import count, counts_of, real
from moespec.cost._walk import Value, context, given, walk
from moespec.cost.collectives import Traffic, all_gather, all_reduce, all_to_all, blocks, count_exchange, rows_between
from moespec.numerics import acc
from moespec.op import Step
from moespec.parallel import rank_program
from moespec.program import lookup

WORD = 8                    # bytes of an int64
BATCH = 9                   # numbers in which a rank describes its part of the batch
COTANGENTS = 2              # numbers in which a rank describes what backward starts from
SHAPES = 3                  # numbers in which a rank describes what it exchanges, beside its counts
By = dict[str, Traffic]


@dataclass(frozen=True)
class Network:
    """Traffic by the name of the exchange, as `Communicator.traffic` names them."""

    forward: By
    backward: By

    @property
    def total(self) -> Traffic:
        """Of everything."""
        every = [*self.forward.values(), *self.backward.values()]
        return sum(every[1:], start=every[0])


def network(spec, d_model: int, tokens, counts: Mapping[str, np.ndarray], *, dtype="float32", rows=1, training=True, given_context=(),
            ordered=False, chunks=1, check=True) -> Network:
    """What every rank sends to the others, and receives, in `parallel.forward` and `parallel.backward`.

    Parameters
    ----------
    spec : LayerSpec
    d_model : int
    tokens : sequence of int
        Of every rank.
    counts : mapping of str to (R, E) integer
        The rows that rank r has for expert e, after drops, by the prefix of the experts' names: ``""``, and ``"pool."`` where there is a
        second pool.  Soft layers need none.
    dtype : str
        Of tokens and parameters.
    rows : int
        Batch rows of all ranks.
    training, given_context, ordered, chunks, check
        As `parallel.forward` is called; of the context the names.

    Returns
    -------
    Network(forward, backward)
        With a cotangent of y and of every loss.
    """
    ranks = len(tokens)
    for t in tokens:
        count("network", "tokens", t)
    d_model, chunks = count("network", "d_model", d_model, least=1), count("network", "chunks", chunks, least=1)
    table = {prefix: _counts(spec, ranks, prefix, c) for prefix, c in counts.items()}
    steps = rank_program(spec, tokens, rows=rows, training=training, context=given_context, ordered=ordered, chunks=chunks)
    values = _values(spec, d_model, sum(tokens), real("network", dtype), rows, training)
    price = _Price(spec, tuple(tokens), table, values, check, chunks)
    forward: By = {}
    price.add(forward, "batch", 1, all_gather([BATCH * WORD] * ranks))
    for step in steps:
        price.forward(forward, step)
    backward: By = {}
    if check:
        price.add(backward, "cotangents", 1, all_gather([COTANGENTS * WORD] * ranks))
    for step in _reached(steps):
        price.backward(backward, step)
    return Network(forward, backward)


def _experts(spec):
    """How many experts there are, by the prefix of their names."""
    return {"": spec.experts.n} | ({"pool.": spec.pool.experts.n} if spec.pool else {})


def _counts(spec, ranks, prefix, counts):
    """[R, E] of the experts with this prefix."""
    if (experts := _experts(spec).get(prefix)) is None:
        raise ValueError(f"network: counts[{prefix!r}] are of no experts; the layer has {', '.join(map(repr, _experts(spec)))}")
    found = counts_of("network", "counts", counts, ndim=2)
    if found.shape != (ranks, experts):
        raise ValueError(f"network: counts[{prefix!r}] has shape {found.shape}, but there are {ranks} ranks and {experts} experts")
    return found


class _Price:
    def __init__(self, spec, tokens, counts, values, check, chunks):
        self.spec, self.tokens, self.counts, self.values, self.check, self.chunks = spec, tokens, counts, values, check, chunks
        self.ranks = len(tokens)

    def add(self, found: By, name, exchanges, *traffics):
        """Enter traffic under its name, and what the ranks tell each other before every exchange under its own."""
        for traffic in traffics:
            found[name] = found[name] + traffic if name in found else traffic
        if self.check:
            each = all_gather([(SHAPES + 2 * self.ranks) * WORD] * self.ranks)
            for _ in range(exchanges):
                found["check"] = found["check"] + each if "check" in found else each

    def forward(self, found: By, step: Step):
        kind, label = step.op.removeprefix("parallel."), step.attrs.get("label", "")
        if kind == "gather":
            self.add(found, label, 1, self._gathered(step, step.reads))
        elif kind in ("gather_rows", "part_rows"):
            self.add(found, f"{label} counts", 1, all_gather([(self._rows(step).shape[1] + 1) * WORD] * self.ranks))
            if kind == "gather_rows":
                self.add(found, label, 1, self._gathered_rows(step, step.reads.split()[0]))
        elif kind.startswith("slots_"):
            self.add(found, "slots", 1, self._slots(step, step.writes))
        elif step.op.startswith("parallel.") and "chunks" in step.attrs:
            own = blocks(self._rows(step).shape[1], self.ranks)
            self.add(found, "counts", 1, count_exchange(own))
            self._exchanged(found, step, "dispatch", step.reads.split()[0], False)
            if (mask := self._mask(step)) is not None:
                self._exchanged(found, step, "dispatch dropout", mask, False)
            self._exchanged(found, step, "combine", step.writes, True)

    def backward(self, found: By, step: Step):
        kind, label = step.op.removeprefix("parallel."), f"{step.attrs.get('label', '')} gradient"
        if kind == "part":
            self.add(found, label, 1, self._gathered(step, step.writes))
        elif kind == "part_rows":
            self.add(found, label, 1, self._gathered_rows(step, step.writes))
        elif kind == "replicated":
            value = self._value(step.reads)
            self.add(found, label, 2, all_reduce(prod(map(int, value.shape)), value.dtype.itemsize, self.ranks))
        elif kind.startswith("slots_"):
            self.add(found, "slots gradient", 1, self._slots(step, step.reads.split()[0]))
        elif step.op.startswith("parallel.") and "chunks" in step.attrs:
            self._exchanged(found, step, "combine_gradient", step.writes, False)
            self._exchanged(found, step, "dispatch_gradient", step.reads.split()[0], True)

    def _exchanged(self, found, step, name, value, back):
        rows = rows_between(self._rows(step), blocks(self._rows(step).shape[1], self.ranks))
        self.add(found, name, self.chunks, all_to_all(rows.T if back else rows, self._row_bytes(value)))

    def _gathered(self, step, name):
        return all_gather([size * self._row_bytes(name) for size in step.attrs["sizes"]])

    def _gathered_rows(self, step, name):
        return all_gather([int(n) * self._row_bytes(name) for n in self._rows(step).sum(1)])

    def _slots(self, step, name):
        value = self._value(name)
        per_expert = int(value.shape[0]) // self.spec.experts.n
        return all_gather([n * per_expert * self._row_bytes(name) for n in blocks(self.spec.experts.n, self.ranks)])

    def _rows(self, step):
        """[R, E] of the experts that the step belongs to."""
        prefix = "pool." if step.reads.startswith("pool.") else ""
        if prefix not in self.counts:
            raise ValueError(f"network: counts[{prefix!r}] is missing: the rows that every rank has for every expert")
        return self.counts[prefix]

    def _mask(self, step):
        """The name of the rows' dropout, if there is one."""
        names = dict(zip((a.name for a in lookup(step.op).inputs), step.reads.split(), strict=False))
        return None if names.get("dropout", "-") == "-" else names["dropout"]

    def _value(self, name) -> Value:
        return self.values[name.partition("@")[0]]

    def _row_bytes(self, name):
        value = self._value(name)
        return prod(map(int, value.shape[1:])) * value.dtype.itemsize


def _values(spec, d_model, tokens, dtype, rows, training):
    """Shape and dtype of every value of the batch; how many rows the experts get does not matter here."""
    values = given(spec, d_model, tokens, dtype)
    values |= {name: v._replace(dtype=acc(v.dtype)) for name, v in values.items() if name.startswith("noise.")}
    loads = {prefix: Load(0, experts) for prefix, experts in _experts(spec).items()}
    steps = spec.program(tokens, rows=rows, training=training, context=context(values))
    for site in walk(spec, steps, values, loads):
        values |= dict(zip(site.step.writes.split(), site.writes.values(), strict=True))
    return values


def _reached(steps):
    """The steps whose backward runs, last first: those through which y or a loss has a gradient."""
    wanted = {"y", *(name for step in steps for name in step.writes.split() if name.startswith("loss."))}
    for step in reversed(steps):
        op = lookup(step.op)
        real = [name for a, name in zip(op.outputs, step.writes.split(), strict=True) if a.kind == "real"]
        if any(name in wanted for name in real):
            yield step
            names = dict(zip((a.name for a in op.inputs), step.reads.split(), strict=False))
            wanted |= {names[a.name] for a in op.grads if names.get(a.name, "-") != "-"}
