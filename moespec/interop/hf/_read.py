"""One layer straight from a checkpoint folder: config.json and memory-mapped safetensors files, no network, nothing pickled."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from moespec.interop.hf._convert import load
from moespec.interop.hf._tensors import UNREAD, layouts
from moespec.layer import LayerSpec
from moespec.models._config import SECTIONS

# A safetensors dtype as a NumPy one; the rest are formats of quantised weights.
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "BOOL": "bool", "U8": "uint8"}


def read(folder, layer: int, *, model_type: str | None = None, prefix: str | None = None, dtype=None) -> tuple[LayerSpec, dict]:
    """Declaration and parameters of the MoE block of one layer.

    Parameters
    ----------
    folder : path
        With ``config.json`` and ``model.safetensors``, or shards and ``model.safetensors.index.json``.
    layer : int
    model_type : str, optional
        Instead of the configuration's.
    prefix : str, optional
        What precedes the block's own tensor names, where the layer's number alone does not tell (encoder and decoder).
    dtype : optional
        Of the parameters; by default as stored (bfloat16 as ml_dtypes').

    Raises
    ------
    ValueError
        No MoE block of a known layout in that layer; a tensor in a quantised format.
    FileNotFoundError
        No configuration or no safetensors file.
    """
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text())
    kind = model_type or _model_type(config)
    index = _index(folder)
    prefix = _prefix(kind, layer, index) if prefix is None else prefix
    names = [name for name in index if name.startswith(prefix)]
    tensors = {name[len(prefix):]: _tensor(index[name], name) for name in names}
    wanted = {name for way in layouts(kind) for name in _patterns(way)}
    ours = {name: a for name, a in tensors.items() if _general(name) in wanted or name in UNREAD.get(kind, ())}
    declared, params = load(kind, config, ours, layer)
    return declared, {n: np.asarray(a, dtype) if dtype and a.dtype.kind != "i" else a for n, a in params.items()}


def _model_type(config):
    """The innermost of the sections that names one."""
    from moespec.models import FAMILIES
    kinds = [config.get("model_type"), *(config[s].get("model_type") for s in SECTIONS if isinstance(config.get(s), dict))]
    for kind in reversed([k for k in kinds if k]):
        if kind in FAMILIES:
            return kind
        if kind.removesuffix("_text") in FAMILIES:
            return kind.removesuffix("_text")
    raise ValueError(f"hf: no family is called {kinds[0]!r}")


def _index(folder) -> dict[str, tuple]:
    """Where every tensor lies: file, dtype, shape, first byte, from the files' headers alone."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"hf: {folder} holds no safetensors file")
    listing = folder / "model.safetensors.index.json"
    if listing.exists():
        files = sorted({folder / shard for shard in json.loads(listing.read_text())["weight_map"].values()})
    found = {}
    for file in files:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                found[name] = (file, entry["dtype"], tuple(entry["shape"]), 8 + size + entry["data_offsets"][0])
    return found


def _tensor(place, name):
    file, dtype, shape, offset = place
    if dtype not in DTYPES:
        raise ValueError(f"hf: {name} is stored as {dtype}, which has to be dequantised first")
    if dtype == "BF16":
        import ml_dtypes  # noqa: F401  (teaches NumPy the name)
    return np.memmap(file, np.dtype(DTYPES[dtype]), "r", offset, shape) if np.prod(shape) else np.zeros(shape, DTYPES[dtype])


def _general(name):
    """A tensor's name with the number of the expert left open."""
    return re.sub(r"(experts\.(?:expert_)?)\d+\.", r"\1{e}.", name)


def _patterns(way):
    return [t.name for t in way]


def _prefix(kind, layer, index):
    """What precedes the block's own names in this layer: found by the router's, which only a MoE block has."""
    routers = [t.name for way in layouts(kind) for t in way if t.params[0].startswith("router.")]
    found = {name[:-len(router)] for name in index if _layer(name) == layer for router in routers if name.endswith("." + router)}
    found = {p for p in found if not any(p != q and p.startswith(q) for q in found)}
    if len(found) != 1:
        raise ValueError(f"hf: layer {layer} holds {'no MoE block' if not found else 'several MoE blocks: ' + ', '.join(sorted(found))} "
                         f"of {kind} (looked for {', '.join(dict.fromkeys(routers))})")
    return found.pop()


def _layer(name):
    """The number of the layer that a tensor belongs to: the first that a name has."""
    found = re.match(r"^.*?\b(?:layers|blocks|block|layer|h)\.(\d+)\.", name)
    return int(found[1]) if found else None
