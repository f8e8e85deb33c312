"""Check one kernel: a function, not a backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from moespec.backend import SPEC_VERSION
from moespec.conformance.report import Report
from moespec.conformance.suite import known_dtypes, verify
from moespec.op import as_tuple
from moespec.program import Impl, always
from moespec.registry import OPS


def check(op: str, *, forward: Callable, backward: Callable | None = None, from_array: Callable = lambda a: a,
          to_array: Callable = np.asarray, dtypes: Iterable[str] = ("float32",), out_dtypes: Mapping[str, str] | None = None,
          supports: Callable[..., str | None] = always, ordered: bool = True, deterministic: bool = False, declares: Mapping[str, Any] | None = None,
          cases: str = "*", seed: int = 0, raises: bool = True) -> Report:
    """Is this kernel right?  Run every case of one op on it.

    Parameters
    ----------
    op : str
        Name of the operation, "gates.topk_softmax".
    forward : callable
        Takes the op's inputs (through `from_array`; None for an optional one) and its attributes as keywords.  With `backward` it
        returns (outputs, saved); without, the outputs alone: an array, a tuple in the op's order, or a mapping by name.
    backward : callable, optional
        Takes ``(saved, *cotangents)``, one a real output, returns the gradients of the real inputs.
    from_array, to_array : callable
        From a NumPy array to the kernel's, and back.  bfloat16 arrays are ml_dtypes'.
    dtypes : iterable of str
        To run in.
    out_dtypes : mapping, optional
        Outputs whose dtype is another than the specification's (weights that are always float32).
    supports : callable, optional
        Takes the attributes, returns None or the reason why the kernel does not do this: such cases are listed as not run.
    ordered : bool
        False: ids may come in any order within a token, with their weights.
    deterministic : bool
        True: a second run must give the same bits.
    declares : mapping, optional
        ``compute``, ``accumulate``, ``stores``: see docs/numerics.md.  ``{"stores": {"gates.softmax": {"probs": "dtype"}}}`` says that the
        kernel's backward reads the probabilities as they were rounded to the tested dtype.
    cases : str
        Shell pattern of the case names.
    seed : int
    raises : bool
        Raise AssertionError if anything failed, or nothing ran.

    Returns
    -------
    Report

    Examples
    --------
    >>> import numpy as np
    >>> from moespec.conformance import check
    >>> report = check("experts.relu", forward=lambda x: np.abs(x), raises=False)
    >>> report.failures[0].id
    'relu-forward-float32-normal'
    """
    if op not in OPS:
        raise ValueError(f"check: no op is called {op!r}; `moespec ops` lists them")
    dtypes = known_dtypes(dtypes)
    complete, pull = _complete(OPS[op], forward, backward)
    kernel = Impl(complete, pull, supports)
    rules = {"out_dtypes": dict(out_dtypes or {}), "ordered": ordered, "integers": "any", "errors": False, "composes": False,
             **(declares or {})}
    target = SimpleNamespace(
        name=f"kernel for {op}", spec_version=SPEC_VERSION, dtypes=frozenset(dtypes), deterministic=deterministic, host=True, declares=rules,
        available=lambda: (True, getattr(forward, "__module__", "") or ""), owns=lambda a: True, ops=lambda: {op: kernel},
        add=lambda a, b: a + b, scale=lambda a, c: a * c, from_numpy=from_array, to_numpy=to_array, synchronize=lambda: None)
    report = verify(target, op=op, dtypes=dtypes, cases=cases, seed=seed)
    if raises and not report.ok:
        raise AssertionError(summary(report))
    return report


def summary(report, most=10) -> str:
    """What failed, in lines."""
    if not report.executed:
        return f"{report.backend}: no check was executed"
    lines = [f"{r.id}: {r.message}" for r in report.failures[:most]]
    return "\n".join([f"{report.backend}: {len(report.failures)} of {report.executed} checks failed", *lines])


def _complete(op, forward, backward):
    """A forward that returns (outputs in the op's order, saved), and the backward to it.

    The kernel is called without the optional inputs at the end that are not there; what its signature does not take is not run.  A backward
    that returns gradients of the given inputs only is completed with None for the others.
    """
    takes = _signature(forward)

    def complete(*inputs, **attrs):
        given = inputs[:max((i for i, x in enumerate(inputs) if x is not None), default=-1) + 1]
        if takes is not None:
            _bindable(takes, given, attrs)
        found = forward(*given, **attrs)
        outputs, saved = found if backward is not None else (found, None)
        if isinstance(outputs, Mapping):
            outputs = tuple(outputs[a.name] for a in op.outputs)
        if len(as_tuple(outputs)) != len(op.outputs):
            raise ValueError(f"{op.name} has outputs {', '.join(a.name for a in op.outputs)}, the kernel returned {len(as_tuple(outputs))}")
        return outputs, (saved, [x is not None for a, x in zip(op.inputs, inputs, strict=True) if a.differentiable])

    def pull(saved, *cotangents):
        assert backward is not None
        kept, there = saved
        grads = as_tuple(backward(kept, *cotangents))
        if len(grads) == sum(there) < len(there):
            own = iter(grads)
            grads = tuple(next(own) if is_there else None for is_there in there)
        return grads
    return complete, None if backward is None else pull


def _signature(forward):
    try:
        return inspect.signature(forward)
    except (TypeError, ValueError):                    # a built-in function: it is called and may say itself what it does not take
        return None


def _bindable(signature, inputs, attrs):
    try:
        signature.bind(*inputs, **attrs)
    except TypeError as error:
        raise NotImplementedError(f"the kernel does not take this: {error}") from None
