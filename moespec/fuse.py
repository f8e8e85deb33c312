"""Fusing: consecutive lines of a program that are those of a composite become one line, where a backend has the composite itself.

What a composite looks like is what its record says (`Op.steps`): it is laid over the lines, and its names and attributes are read off.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Container, Iterable, Mapping
from functools import cache
from itertools import product
from typing import Any

from moespec.op import Op, Step
from moespec.program import Impl, lookup

Steps = tuple[Step, ...]


class _Any:
    """A dimension that is not known before the program runs: equal to whatever stands there."""

    def __eq__(self, other):
        return True

    __hash__ = None  # type: ignore[assignment]


class _Dims(dict):
    def __missing__(self, name):
        return _Any()


def fuse(steps: Steps, implementations: Mapping[str, Impl], keep: Container[str] = ()) -> Steps:
    """The same program with every composite that `implementations` has, and supports with its attributes, as one line.

    A line stays as it is where a name inside of it is read by another one, or is in `keep`.
    """
    for name in _composites(tuple(implementations)):
        for template, attrs in _forms(name):
            steps = _replaced(tuple(steps), lookup(name), template, attrs, implementations[name].supports, keep)
    return tuple(steps)


def _replaced(steps: Steps, op: Op, template: tuple[str, ...], attrs: Mapping[str, Any], supports: Callable, keep: Container[str]) -> Steps:
    at = 0
    while at + len(template) <= len(steps):
        window = steps[at:at + len(template)]
        if tuple(s.op for s in window) == template:
            line = _laid_over(op, window, attrs)
            if line is not None and supports(**line.attrs) is None and not _needed(steps, window, line, keep):
                steps = (*steps[:at], line, *steps[at + len(template):])
        at += 1
    return steps


def _needed(steps: Steps, window: Steps, line: Step, keep: Container[str]) -> bool:
    """Whether a name that would be lost is read outside of the window, or to be kept."""
    inner = {n for s in window for n in s.writes.split()} - set(line.writes.split())
    return any(n in keep for n in inner) or any(n in inner for s in steps if not any(s is own for own in window) for n in s.reads.split())


@cache
def _composites(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if lookup(name).steps is not None)


@cache
def _forms(name: str) -> tuple[tuple[tuple[str, ...], dict[str, Any]], ...]:
    """The sequences of ops that the composite can be, each with the attributes that make it so."""
    op = lookup(name)
    chosen = (dict(zip(op.choices, values, strict=True)) for values in product(*op.choices.values()))
    return tuple((tuple(s.op for s in op.line(_Dims(), **attrs)), attrs) for attrs in chosen)


def _laid_over(op: Op, window: Steps, attrs: Mapping[str, Any]) -> Step | None:
    """The line of the composite that `window` is, or None: names must fit each other, and attributes be equal."""
    own_names = _defaults(op.name)
    found = {**{name: value for s in window for name, value in s.attrs.items() if name in own_names}, **attrs}
    names: dict[str, str] = {}
    given: dict[str, str] = {}
    for step, own in zip(window, op.line(_Dims(), **found), strict=True):
        if {**_defaults(own.op), **own.attrs} != {**_defaults(own.op), **step.attrs}:
            return None
        for inside, outside in zip(_padded(own), _padded(step), strict=True):
            if inside not in names and inside != "-":
                names[inside] = given[inside] = outside
            if names.get(inside, "-") != outside:
                return None
        names |= zip(own.writes.split(), step.writes.split(), strict=True)
    return Step(op.name, " ".join(given.get(a.name, "-") for a in op.inputs), " ".join(names[a.name] for a in op.outputs), found)


def _padded(step: Step) -> Iterable[str]:
    reads = step.reads.split()
    return [*reads, *["-"] * (len(lookup(step.op).inputs) - len(reads))]


@cache
def _defaults(name: str) -> Mapping[str, Any]:
    """The attributes of an op with their defaults."""
    parameters = inspect.signature(lookup(name).forward).parameters
    return {attr: p.default for attr, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
