"""Traces as files: safetensors with JSON metadata, checked when read; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from moespec.interop._trace_record import Selection, Trace
from moespec.layer import LayerSpec

FORMAT = "moespec.trace/1"
PLAIN = ("layer", "version", "dtype", "capacity")                             # the fields of a trace that are JSON as they are
ARRAYS = {"indices": "int64", "weights": "real", "dropped": "bool"}           # every one of shape T K
WORDS = ("op", "by", "on", "digest")
OWN = {"ids": "int64", "scores": "float64", "errors": "float64", "left": "float64", "left_error": "float64", "unsure": "bool"}
ROWS = ("left", "left_error", "unsure")                                       # T; the others T K


def save(path, traces: Iterable[Trace]) -> None:
    """Write the traces of several layers to one file.

    Parameters
    ----------
    path : str or Path
        By custom ending in ``.safetensors``.
    traces : iterable of Trace
        Each under a layer name of its own.

    Raises
    ------
    ImportError
        safetensors is not installed (extra `vectors`).
    ValueError
        Two traces of one layer.
    """
    traces = list(traces)
    names = [t.layer for t in traces]
    if len(set(names)) != len(names):
        raise ValueError(f"save: two traces of one layer: {sorted(n for n in set(names) if names.count(n) > 1)}")
    arrays = {f"{i}/{name}": array for i, t in enumerate(traces) for name, array in _arrays(t).items()}
    header = {"format": FORMAT, "layers": [_words(t) for t in traces]}
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _safetensors().numpy.save_file(plain, Path(path), {"moespec": json.dumps(header)})


def load(path) -> list[Trace]:
    """The traces of a file.

    Raises
    ------
    ImportError
        safetensors is not installed (extra `vectors`).
    ValueError
        The file cannot be read, is no trace, or holds anything that does not fit: an unknown or missing field or array, another
        shape or dtype, an id below -1, a declaration that is none.
    """
    path = Path(path)
    header, arrays = _read(path)
    try:
        words = json.loads(header.get("moespec", ""))
    except (ValueError, RecursionError):
        raise ValueError(f"load: {path} has no metadata of a routing trace") from None
    if not isinstance(words, dict) or words.get("format") != FORMAT:
        raise ValueError(f"load: {path} is not of format {FORMAT}")
    _fields(path, "the metadata", words, ("format", "layers"))
    if not isinstance(words["layers"], list):
        raise ValueError(f"load: {path}: layers is not a list")
    own: list[dict[str, Any]] = [{} for _ in words["layers"]]
    for name, array in arrays.items():
        number, _, rest = name.partition("/")
        if not number.isdecimal() or int(number) >= len(own):
            raise ValueError(f"load: {path}: array {name!r} belongs to none of the {len(own)} layers")
        own[int(number)][rest] = array
    traces = [_trace(path, w, a) for w, a in zip(words["layers"], own, strict=True)]
    if len({t.layer for t in traces}) != len(traces):
        raise ValueError(f"load: {path}: two layers of one name")
    return traces


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("traces are safetensors files: pip install 'moespec[vectors]'") from None
    return safetensors


def _read(path):
    library = _safetensors()
    if not path.is_file():
        raise ValueError(f"load: {path} is no file")
    try:
        with library.safe_open(path, framework="numpy") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}       # noqa: SIM118 (no mapping)
    except (library.SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"load: {path} cannot be read: {error}") from None


def _arrays(trace):
    found = {name: getattr(trace, name) for name in ARRAYS}
    return found | {f"{choice}/{name}": getattr(s, name) for choice, s in trace.selections.items() for name in OWN}


def _words(trace):
    selections = {choice: {w: getattr(s, w) for w in WORDS} for choice, s in trace.selections.items()}
    return {**{w: getattr(trace, w) for w in PLAIN}, "spec": trace.spec.to_dict(), "selections": selections}


def _trace(path, words, arrays):
    _fields(path, "a layer", words, (*PLAIN, "spec", "selections"))
    where, selections = f"{path}: layer {words['layer']!r}", words["selections"]
    if not all(isinstance(words[w], str) for w in ("layer", "version", "dtype")) or not isinstance(words["capacity"], int | None):
        raise ValueError(f"load: {where}: layer, version and dtype are texts, capacity a number or null")
    if not isinstance(selections, dict):
        raise ValueError(f"load: {where}: selections is no mapping")
    for choice, own in selections.items():
        _fields(where, f"selection {choice!r}", own, WORDS)
    _check_arrays(where, selections, arrays)
    try:
        spec = LayerSpec.from_dict(words["spec"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"load: {where}: spec is no declaration of this version of moespec: {error}") from None
    chosen = {c: Selection(**own, **{n: arrays[f"{c}/{n}"] for n in OWN}) for c, own in selections.items()}
    return Trace(spec=spec, selections=chosen, **{w: words[w] for w in PLAIN}, **{n: arrays[n] for n in ARRAYS})


def _check_arrays(where, selections, arrays):
    """The arrays that the fields promise, all of as many tokens, those of one choice of one width."""
    groups = {"": ARRAYS, **{f"{choice}/": OWN for choice in selections}}
    _fields(where, "the arrays", arrays, [prefix + name for prefix, kinds in groups.items() for name in kinds])
    for prefix, kinds in groups.items():
        width = arrays[prefix + next(iter(kinds))].shape[1:]
        for name, kind in kinds.items():
            _fits(where, prefix + name, arrays[prefix + name], kind, (*arrays["indices"].shape[:1], *(() if name in ROWS else width)))


def _fields(where, what, found, wanted):
    if not isinstance(found, dict) or set(found) != set(wanted):
        keys = set(found) if isinstance(found, dict) else set()
        raise ValueError(f"load: {where}: {what} lacks {sorted(set(wanted) - keys)}, and has unknown {sorted(keys - set(wanted))}")


def _fits(where, name, array, kind, shape):
    kinds = ("float32", "float64") if kind == "real" else (kind,)
    ndim = 1 if name.rpartition("/")[2] in ROWS else 2
    if array.dtype.name not in kinds or array.shape != shape or array.ndim != ndim:
        raise ValueError(f"load: {where}: {name} is {array.dtype.name}{list(array.shape)}, wanted {' or '.join(kinds)} "
                         f"with {ndim} dimensions, as long as indices and as wide as its like")
    if kind == "int64" and array.size and array.min() < -1:
        raise ValueError(f"load: {where}: {name} holds {array.min()}, wanted at least -1")
