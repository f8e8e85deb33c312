"""Tensors of a checkpoint to a declaration and its parameters, and parameters (or gradients) back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from moespec.interop.hf._tensors import INFERRED, UNREAD, layouts
from moespec.layer import LayerSpec
from moespec.layer._params import parameter_shapes
from moespec.models import FAMILIES, Unreadable


def spec(model_type: str, config: Mapping[str, Any], layer: int = 0) -> LayerSpec:
    """The declaration of one layer of a model.

    Raises
    ------
    ValueError
        An unknown model type; a configuration without a key that the family needs, or with a value that it does not know.
    """
    if model_type not in FAMILIES:
        raise ValueError(f"hf: no family is called {model_type!r}; known: {', '.join(sorted(FAMILIES))}")
    try:
        return FAMILIES[model_type].spec(config, layer)
    except Unreadable as error:
        raise ValueError(f"hf: {model_type}: {error}") from None


def load(model_type: str, config: Mapping[str, Any], tensors: Mapping[str, Any], layer: int = 0) -> tuple[LayerSpec, dict[str, Any]]:
    """A declaration and its parameters.

    Parameters
    ----------
    model_type : str
        A name of `moespec.models.FAMILIES`.
    config : mapping
        Of the model (``config.json``), nested or with dotted keys.
    tensors : mapping of str to array
        The layer's tensors, named below its prefix (``gate.weight``, ``experts.gate_up_proj``).
    layer : int
        Which entry of a per-layer list of the configuration holds.

    Returns
    -------
    LayerSpec
    params : dict of str to array
        Views where the layout allows it, in the tensors' dtypes.

    Raises
    ------
    ValueError
        An unknown model type; a missing or left-over tensor; a tensor of another shape.
    """
    given = {key: tensors[name].shape[axis] for key, (name, axis) in INFERRED.get(model_type, {}).items() if name in tensors and key not in config}
    declared = spec(model_type, {**config, **given}, layer)
    shapes = parameter_shapes(declared, _width(model_type, declared, tensors))
    chosen = _chosen(model_type, declared, shapes, tensors)
    params: dict[str, Any] = {}
    for tensor in chosen:
        names = tensor.names(declared.experts.n)
        for name in names:
            _same_shape(model_type, tensor, name, tensors[name], shapes)
        params |= tensor.read([tensors[name] for name in names], shapes)
    return declared, {name: params[name] for name in shapes}


def export(declared: LayerSpec, params: Mapping[str, Any], *, family: str | None = None, layout: int = 0) -> dict[str, np.ndarray]:
    """Parameters, or their gradients, under the names and in the shapes of the checkpoint: the inverse of `load`.

    `family` is the model type, by default the one that the declaration comes from (`LayerSpec.family`); `layout` chooses among the ways in
    which the family is stored: 0 as the library's modules hold it, 1 as published files do (one module per expert), where that differs.
    """
    model_type = family or declared.family
    if model_type not in FAMILIES:
        raise ValueError(f"hf: export needs a family: {model_type!r} is not one of {', '.join(sorted(FAMILIES))}")
    ways = layouts(model_type)
    if not 0 <= layout < len(ways):
        raise ValueError(f"hf: {model_type} has {len(ways)} layouts, got layout={layout}")
    found: dict[str, np.ndarray] = {}
    for tensor in _present(ways[layout], params):
        found |= tensor.write(params, declared.experts.n, declared.experts.classes - declared.experts.n)
    return found


def _present(tensors, shapes):
    """The tensors whose parameters the declaration has."""
    return tuple(t for t in tensors if all(p in shapes for p in t.params))


def _chosen(model_type, declared, shapes, tensors):
    """The layout that the given tensors are in; what is missing or left over is an error that names it."""
    found, unread = [], set(UNREAD.get(model_type, ()))
    for way in layouts(model_type):
        here = _present(way, shapes)
        names = {name for t in here for name in t.names(declared.experts.n)}
        found.append((sorted(names - set(tensors)), sorted(set(tensors) - names - unread), here))
    missing, extra, best = min(found, key=lambda way: len(way[0]) + len(way[1]))
    if missing or extra:
        raise ValueError(f"hf: {model_type}: missing tensors {missing}, unknown tensors {extra}")
    return best


def _width(model_type, declared, tensors):
    """The layer's width, read off a tensor that has it."""
    probe = parameter_shapes(declared, 1 << 20)
    for way in layouts(model_type):
        for t in _present(way, probe):
            first = t.names(declared.experts.n)[0]
            wanted = t.shape(probe)
            if first in tensors and 1 << 20 in wanted and len(np.shape(tensors[first])) == len(wanted):
                return int(np.shape(tensors[first])[wanted.index(1 << 20)])
    raise ValueError(f"hf: {model_type}: none of its tensors is among {sorted(tensors)}")


def _same_shape(model_type, tensor, name, array, shapes):
    wanted, got = tensor.shape(shapes), tuple(np.shape(array))
    same = wanted[1:] == got[1:] and got[0] >= wanted[0] if tensor.spare else wanted == got
    if not same:
        raise ValueError(f"hf: {model_type}: {name} has shape {got}, wanted {wanted}")
