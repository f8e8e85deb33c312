"""Run one case on a backend, as a user would: NumPy arrays in, NumPy arrays out, inputs read-only."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from moespec.backend import resolver
from moespec.conformance.inputs import cotangents, rng_for, typed
from moespec.op import as_tuple
from moespec.pairs import UNIT


class Run(NamedTuple):
    """What went in and what came out."""

    inputs: tuple
    attrs: dict
    outputs: tuple
    cotangents: tuple
    grads: tuple | None


def execute(backend, op, case, dtype, seed=0) -> Run:
    """Forward and, where the op has one, backward."""
    inputs = typed(op, case.inputs, dtype)
    outputs, saved, impl = forward(backend, op, inputs, case.attrs)
    douts = cotangents(op, outputs, rng_for(op.name, case.name, "cotangents", seed=seed), "exact" in case.tags)
    grads = None
    if op.cotangents and impl.backward is not None:
        found = impl.backward(saved, *map(backend.from_numpy, douts))
        grads = tuple(None if d is None else backend.to_numpy(d) for d in as_tuple(found))
    return Run(inputs, dict(case.attrs), outputs, douts, grads)


def forward(backend, op, inputs, attrs):
    """(outputs as NumPy arrays, saved, implementation)."""
    impl = resolver(backend)(op, attrs)
    arrays = [None if x is None else backend.from_numpy(x) for x in inputs]
    outputs, saved = impl.forward(*arrays, **attrs)
    backend.synchronize()
    return tuple(map(backend.to_numpy, as_tuple(outputs))), saved, impl


@contextmanager
def validating(backend, on=True):
    """A device backend refuses wrong values too; one that always does, or never can, has no such switch."""
    if not on or not hasattr(backend, "validate"):
        yield
        return
    before, backend.validate = backend.validate, True
    try:
        yield
    finally:
        backend.validate = before


def view(backend, op, case, dtype, run: Run) -> SimpleNamespace:
    """The run as requirement checks see it (op.Req)."""

    def rerun(**changes):
        inputs = {a.name: x for a, x in zip(op.inputs, run.inputs, strict=True)}
        inputs |= {k: v for k, v in changes.items() if k in inputs}
        attrs = run.attrs | {k: v for k, v in changes.items() if k not in inputs}
        return named(op, forward(backend, op, typed(op, inputs, dtype), attrs)[0])

    dims = {k: v for k, v in run.attrs.items() if isinstance(v, int)} | vars(op.dims(run.inputs, run.outputs))
    return SimpleNamespace(
        inputs=dict(zip((a.name for a in op.inputs), run.inputs, strict=True)), attrs=run.attrs, case=case,
        outputs=named(op, run.outputs), cotangents=dict(zip((a.name for a in op.cotangents), run.cotangents, strict=True)),
        grads=NoGradients() if run.grads is None else dict(zip((a.name for a in op.grads), run.grads, strict=True)),
        dims=SimpleNamespace(**dims), unit=UNIT[dtype], dtype=np.dtype(dtype), rerun=rerun)


class NotGiven(Exception):
    """A requirement asks for gradients that the kernel does not compute."""


class NoGradients:
    """The gradients of a forward-only kernel: to look at one ends the check as not applicable."""

    def __getitem__(self, name):
        raise NotGiven(name)


def named(op, outputs):
    return SimpleNamespace(**dict(zip((a.name for a in op.outputs), outputs, strict=True)))
