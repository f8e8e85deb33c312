"""Programs: a straight line of named ops, run forward and, reversed, backward.

Every composite, the layer, and every backend run through these two loops; what differs is the table of
implementations that a step's name is looked up in, and how two cotangents are added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from operator import add as plus
from typing import Any, NamedTuple

from moespec.op import Op, Step, as_tuple


def always(**attrs):
    """`Impl.supports` of an implementation without limits."""


@dataclass(frozen=True)
class Impl:
    """An implementation of one op: `saved` is opaque, only this pair ever looks inside."""

    forward: Callable                                   # (*inputs, **attrs) -> outputs, saved
    backward: Callable | None = None                    # (saved, *cotangents) -> gradients
    supports: Callable[..., str | None] = always        # the reason why not, or None


class Call(NamedTuple):
    """A step of which the implementation is found."""

    forward: Callable
    reads: tuple[str, ...]          # one name for every input; "-" reads None
    writes: tuple[str, ...]
    attrs: Mapping[str, Any]


class Trace(NamedTuple):
    """A program that was run: its steps, every named value, and what each step saved."""

    steps: tuple[Step, ...]
    values: dict[str, Any]
    saved: list[Any]


Resolve = Callable[[Op, Mapping[str, Any]], Impl]


@cache
def lookup(name: str) -> Op:
    """The record of an op by its full name ("gates.topk")."""
    family, _, short = name.partition(".")
    try:
        return import_module(f"moespec.{family}").OPS[short]
    except (ImportError, KeyError, AttributeError):
        raise KeyError(f"no op is called {name!r}") from None


def reference(op: Op, attrs: Mapping[str, Any]) -> Impl:
    """The NumPy reference of an op."""
    return Impl(op.forward, op.backward)


def check(steps: Iterable[Step], inputs: Iterable[str]):
    """Refuse a program that reads a name before it is written, or writes one twice (an input may be replayed)."""
    known, written = set(inputs) | {"-"}, set()
    for step in steps:
        op = lookup(step.op)
        reads, writes = step.reads.split(), step.writes.split()
        for name in reads:
            if name not in known:
                raise ValueError(f"program: {step.op} reads {name!r}, which is neither an input nor written before")
        for name in writes:
            if name in written:
                raise ValueError(f"program: {step.op} writes {name!r}, which was written before")
        if len(reads) > len(op.inputs) or len(writes) != len(op.outputs):
            raise ValueError(f"program: {step.op} takes {len(op.inputs)} inputs and has {len(op.outputs)} outputs, "
                             f"the step reads {step.reads!r} and writes {step.writes!r}")
        written |= set(writes)
        known |= written


def calls(steps, resolve: Resolve = reference) -> tuple[Call, ...]:
    """`steps` with their implementations; an optional input that is absent reads None."""
    return tuple(_call(step, resolve) for step in steps)


def _call(step, resolve):
    op, reads = lookup(step.op), step.reads.split()
    reads += ["-"] * (len(op.inputs) - len(reads))
    return Call(resolve(op, step.attrs).forward, tuple(reads), tuple(step.writes.split()), step.attrs)


def run(steps, values, resolve: Resolve = reference) -> Trace:
    """Run `steps` over named `values`."""
    return execute(tuple(steps), calls(steps, resolve), {**values, "-": None})


def execute(steps: tuple[Step, ...], prepared: tuple[Call, ...], values: dict[str, Any]) -> Trace:
    """Run the `calls` of `steps` over named `values`, "-" among them; what they return is added there."""
    saved = []
    for forward, reads, writes, attrs in prepared:
        outputs, kept = forward(*map(values.__getitem__, reads), **attrs)
        values.update(zip(writes, as_tuple(outputs), strict=True))
        saved.append(kept)
    return Trace(steps, values, saved)


def run_backward(trace: Trace, cotangents, resolve: Resolve = reference, add=plus) -> dict[str, Any]:
    """The gradient of every named value, from `cotangents` of some; sums are taken in the order of the reversed steps."""
    grads = {name: d for name, d in cotangents.items() if d is not None}
    for step, kept in zip(reversed(trace.steps), reversed(trace.saved), strict=True):
        op = lookup(step.op)
        writes = dict(zip((a.name for a in op.outputs), step.writes.split(), strict=True))
        douts = [grads.get(writes[a.name]) for a in op.cotangents]
        if all(d is None for d in douts):
            continue
        reads = dict(zip((a.name for a in op.inputs), step.reads.split(), strict=False))
        pull = resolve(op, step.attrs).backward
        if pull is None:
            raise NotImplementedError(f"{op.name} has no backward")
        dins = as_tuple(pull(kept, *douts))
        for arg, d in zip(op.grads, dins, strict=True):
            name = reads.get(arg.name, "-")
            if d is not None and name != "-":
                grads[name] = add(grads[name], d) if name in grads else d
    return grads


def composed(op: Op, resolve: Resolve, add=plus) -> Impl:
    """A composite as an implementation: its steps, each resolved by `resolve`."""

    def forward(*inputs, **attrs):
        inputs = inputs + (None,) * (len(op.inputs) - len(inputs))
        dims = op.bind(*inputs, values=False)
        steps = op.line(vars(dims), **attrs)
        trace = run(steps, dict(zip((a.name for a in op.inputs), inputs, strict=True)), resolve)
        return pack(op, [trace.values[a.name] for a in op.outputs]), trace._replace(values={})          # backward reads none

    def backward(saved, *cotangents):
        grads = run_backward(saved, dict(zip((a.name for a in op.cotangents), cotangents, strict=True)), resolve, add)
        found = tuple(grads.get(a.name) for a in op.grads)
        return found if len(found) > 1 else found[0]

    return Impl(forward, backward)


def pack(op: Op, outputs):
    """Outputs as the op returns them: the array itself, or a NamedTuple by output name."""
    return outputs[0] if len(outputs) == 1 else op.results(*outputs)


def forward(op: Op, inputs, **attrs):
    """A composite's forward on the reference."""
    return composed(op, reference).forward(*inputs, **attrs)


def backward(op: Op, saved, *cotangents):
    """A composite's backward on the reference."""
    pull = composed(op, reference).backward
    assert pull is not None                # composed always has one
    return pull(saved, *cotangents)
