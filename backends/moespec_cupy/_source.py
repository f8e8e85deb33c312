"""Kernel texts: found beside their ops, put together with what they include, and typed.

A text is written in terms of T and U (what arrays hold) and A (what is computed in: float32 at least, the wider of the two).
Which types those are is read off the arrays that a kernel is called with, by its parameters.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import ml_dtypes  # noqa: F401  (teaches NumPy the name "bfloat16")
import numpy as np

ROOT = Path(__file__).parent
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")
TYPES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
FIXED = {"i64": "int64", "int": "int32", "bool": "bool", "f32": "float32", "f64": "float64", "signed char": "int8"}
_INCLUDE = re.compile(r'^#include "([\w./]+)"\n', re.MULTILINE)
_KERNEL = re.compile(r"^KERNEL (\w+)\(([^)]*)\)", re.MULTILINE)


class Parameter(NamedTuple):
    """One parameter of a kernel."""

    name: str
    type: str               # T U A i64 bool ...
    pointer: bool


@cache
def compose(path: Path, t: str, u: str) -> str:
    """The whole source of one text for the dtypes T and U: nothing is left to be found on an include path but CUDA's own headers."""
    seen: set[Path] = set()
    types = (f"typedef {TYPES[t]} T;\ntypedef {TYPES[u]} U;\n"
             "typedef wider<accumulation<T>::type, accumulation<U>::type>::type A;\n"
             f"#define LOW_PRECISION {int(t in ('float16', 'bfloat16'))}\n")
    return _expand(ROOT / "common.cuh", seen) + types + _expand(path, seen)


def _expand(path, seen):
    if path in seen:
        return ""
    seen.add(path)
    text = path.read_text().replace("#pragma once\n", "")
    return _INCLUDE.sub(lambda found: _expand((path.parent / found[1]).resolve(), seen), text)


@cache
def signatures(path: Path) -> dict[str, tuple[Parameter, ...]]:
    """The kernels of a text and their parameters."""
    return {name: tuple(map(_parameter, parameters.split(","))) for name, parameters in _KERNEL.findall(path.read_text())}


def _parameter(text):
    kind, name = text.replace("const ", "").replace("__restrict__", "").replace("*", "* ").strip().rsplit(None, 1)
    return Parameter(name, kind.rstrip("* "), "*" in kind)


def texts() -> list[Path]:
    """Every kernel text of the backend."""
    return sorted(ROOT.rglob("*.cu"))


def variants(path: Path) -> list[tuple[str, str]]:
    """The dtypes (T, U) that a text may be asked for in."""
    written = path.read_text()
    if not re.search(r"\b[TUA]\b", written):
        return [("float32", "float32")]
    return [(t, u) for t in TYPES for u in TYPES if t == u or re.search(r"\bU\b", written)]


def accumulation(*dtypes) -> np.dtype:
    """The dtype A of arrays of these dtypes."""
    return FLOAT64 if any(d == FLOAT64 for d in dtypes) else FLOAT32
