"""What the reference keeps of an op for its backward, found out by running it: names of arguments, and shapes of what else it keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from moespec.op import as_tuple
from moespec.program import lookup

CASES = 100                 # of an op's own test cases, among which those that fit are looked for
ENOUGH = 12                 # of those, to tell dimensions of equal size apart


class Inner(NamedTuple):
    """An array that is neither input nor output: its dimensions (letters of the record, attributes or numbers), and its dtype.

    "acc" is the accumulation dtype.
    """

    shape: tuple[str, ...]
    dtype: str


class Kept(NamedTuple):
    """What one op keeps."""

    arguments: tuple[str, ...]          # names of Args
    inner: tuple[Inner, ...]
    unnamed: int                        # inner arrays whose sizes no named dimension explains: not counted


def kept(name: str, attrs: Mapping[str, Any], given: Iterable[str]) -> Kept:
    """What forward keeps of an op under `attrs`, when the inputs `given` are there."""
    return _kept(name, _words(attrs), frozenset(given))


def _words(attrs):
    """The attributes that choose what is done, not how much of it."""
    return frozenset((n, v) for n, v in attrs.items() if isinstance(v, (str, bool)) or n == "axis")


@cache
def _kept(name, attrs, given):
    """Forward is run on the op's own cases in float32, where nothing is widened; the arrays in `saved` are looked up among its arguments."""
    op = lookup(name)
    names: set[str] = set()
    inner: list[tuple[str, list[set[str]]]] | None = None
    for case in _alike(op, attrs, given):
        inputs = [_plain(a, case.inputs.get(a.name)) for a in op.inputs]
        with np.errstate(all="ignore"):
            outputs, saved = op.forward(*inputs, **case.attrs)
        arguments = dict(zip((a.name for a in op.inputs + op.outputs), (*inputs, *as_tuple(outputs)), strict=True))
        numbers = {name: n for name, n in case.attrs.items() if type(n) is int}
        sizes = {"1": 1, "2": 2} | numbers | vars(op.dims(inputs, as_tuple(outputs)))
        names |= {name for array in _arrays(saved) for name in _aliases(array, arguments)}
        others = [a for a in _arrays(saved) if not _aliases(a, arguments)]
        inner = _narrow(inner, others, sizes)
    found = [Inner(tuple(_choose(axis) for axis in axes), dtype) for dtype, axes in inner or [] if all(axes)]
    return Kept(tuple(dict.fromkeys(a.name for a in op.inputs + op.outputs if a.name in names)), tuple(found), len(inner or []) - len(found))


def _alike(op, attrs, given):
    """The cases that agree with the use in question in most of their words and in the inputs that are there.

    Groups of tokens are of no account: they change in how many arrays the tokens' ids are kept, not their number.
    """
    cases = list(islice(op.cases(np.random.default_rng(0)), CASES))

    def agreement(case):
        there = {n for n, array in case.inputs.items() if array is not None}
        return len(attrs & _words(case.attrs)) - len(_words(case.attrs) - attrs) - len((there ^ given) - {"group"})

    best = max(map(agreement, cases))
    return [case for case in cases if agreement(case) == best][:ENOUGH]


def _plain(arg, array):
    if array is None:
        return None
    return np.asarray(array, {"real": np.float32, "mask": np.bool_}.get(arg.kind, np.int64))


def _arrays(saved: Any) -> Iterator[np.ndarray]:
    """Every array in nested tuples, dicts and records; those of a single number or none are of no account."""
    if isinstance(saved, np.ndarray):
        if saved.size > 1:
            yield saved
    elif isinstance(saved, dict):
        yield from (a for v in saved.values() for a in _arrays(v))
    elif isinstance(saved, (tuple, list)):
        yield from (a for v in saved for a in _arrays(v))
    elif is_dataclass(saved):
        yield from (a for f in fields(saved) for a in _arrays(getattr(saved, f.name)))


def _aliases(array, arguments):
    return [name for name, other in arguments.items() if other is not None and np.shares_memory(array, other)]


def _narrow(inner, arrays, sizes):
    """Per array, its dtype and per axis the dimensions that have that size in every case so far."""
    seen = [(_dtype(a), [{name for name, n in sizes.items() if n == size} for size in a.shape]) for a in arrays]
    if inner is None:
        return seen
    if [(dtype, len(axes)) for dtype, axes in seen] != [(dtype, len(axes)) for dtype, axes in inner]:
        return inner
    return [(dtype, [a & b for a, b in zip(old, new, strict=True)]) for (dtype, old), (_, new) in zip(inner, seen, strict=True)]


def _dtype(array):
    return "acc" if array.dtype == np.float32 else array.dtype.name


def _choose(names):
    """A letter before a number, that before a longer name (an attribute)."""
    return min(names, key=lambda name: (len(name) > 1, name.isdigit(), name))
