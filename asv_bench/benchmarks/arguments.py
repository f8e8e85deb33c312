"""Arguments of any op from its record alone: shapes of the sizes asked for, values of the kind that each name stands for."""

import numpy as np

from moespec.dispatch import plan

SIZES = {"D": 64, "F": 64, "E": 16, "K": 2, "G": 4, "A": 2, "B": 2, "L": 2, "M": 2, "P": 64, "Q": 64, "S": 16, "V": 1000, "Z": 4, "n": 16, "m": 16}
ROWS = {"dispatch.unmix": {"N": 16}, "gates.tree": {"N": 20}}         # the slots; the edges of a tree of 16 leaves
POSITIVE = {"probs", "weights", "chosen", "scores", "dispatch", "combine", "uniform", "sigma", "sigma_primary", "group_weights", "gate", "shared"}


def arguments(op, tokens, dtype="float32", seed=0):
    """Inputs in the order of the record and the attributes of the op's first case, brought to these sizes; what is optional is left out."""
    sizes = SIZES | {"T": tokens, "N": tokens * SIZES["K"], "C": max(tokens * SIZES["K"] // SIZES["E"], 1)} | ROWS.get(op.name, {})
    attrs = _attributes(op, sizes)
    rng = np.random.default_rng(seed)
    ids = np.argsort(rng.random((tokens, sizes["E"])), axis=1)[:, :sizes["K"]]
    made = dict(zip(("token", "row", "offsets"), plan(ids, experts=sizes["E"])[0], strict=True)) | {"indices": ids}
    return tuple(None if arg.optional else _array(arg, sizes, made, dtype, rng) for arg in op.inputs), attrs


def _attributes(op, sizes):
    case = next(iter(op.cases(np.random.default_rng(0))))
    known = {"k": sizes["K"], "k_primary": sizes["K"], "experts": sizes["E"], "capacity": sizes["C"], "rows": sizes["N"], "groups": sizes["G"],
             "first": sizes["E"] - sizes["Z"], "branching": (4, 4)}
    if any(arg.name == "group" for arg in op.inputs):                 # of tokens: all in one
        known["groups"] = 1
    return {name: known.get(name, value) for name, value in case.attrs.items()}


def _array(arg, sizes, made, dtype, rng):
    shape = tuple(_size(name, sizes) for name in arg.shape.split())
    if arg.name in made and made[arg.name].shape == shape:
        return made[arg.name]
    if arg.kind == "real":
        return (rng.random(shape) if arg.name in POSITIVE else rng.standard_normal(shape)).astype(dtype)
    if arg.kind == "mask":
        return rng.random(shape) < 1 / sizes["T"]
    return rng.integers(0, sizes.get(arg.of, 2), shape)


def _size(name, sizes):
    letter, _, more = name.partition("+")
    return (int(letter) if letter.isdigit() else sizes[letter]) + int(more or 0)
