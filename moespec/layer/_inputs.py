"""What a program reads: parameters, noise, context, and what follows from shapes alone."""

from __future__ import annotations

import numpy as np

from moespec.layer._init import draw, silent
from moespec.layer._routers import Given
from moespec.numerics import acc

REPLAY = ("indices", "group_indices", "pool.indices")          # inputs that a program always knows: None unless given


def require_params(params, wanted, x):
    """Refuse parameters that are missing, left over, or of another shape than `wanted`."""
    if set(params) != set(wanted):
        raise ValueError(f"forward: missing parameters {sorted(set(wanted) - set(params))}, unknown {sorted(set(params) - set(wanted))}")
    for name, shape in wanted.items():
        if tuple(params[name].shape) != shape:
            raise ValueError(f"forward: {name} has shape {tuple(params[name].shape)}, wanted {shape} (x has shape {tuple(x.shape)})")


def noise_of(spec, tokens, d_model, dtype, noise, rng, training):
    """Every noise array of the step by its name in the program: given, drawn, or silent."""
    if not training:
        return {name: make() for name, make in quiet(spec, tokens, dtype).items()}
    noise = draw(spec, tokens, d_model, rng=rng) if noise is None else noise
    wide = acc(dtype)                                   # bfloat16 jitter of 1 % would take six values
    return {f"noise.{n}": np.asarray(a).astype(wide) for n, a in noise.items()}


def quiet(spec, tokens, dtype):
    """What makes the noise of an evaluation step, by its names in the program."""
    return {f"noise.{n}": lambda make=make: make().astype(acc(dtype)) for n, make in silent(spec, tokens).items()}


def follows(spec, tokens, rows, dtype):
    """Inputs that follow from shapes alone, each made only if it is read: the batch row of a token, one group of all, ids of dense layers."""
    joint = next((s.n for s in spec.shared if s.gate == "router"), 0)
    made = {"group": lambda: np.repeat(np.arange(rows), tokens // rows if rows else 0), "whole": lambda: np.array([0, tokens]),
            "ones": lambda: np.ones((tokens, spec.columns), dtype), "shared_indices": lambda: np.tile(np.arange(joint), (tokens, 1))}
    if getattr(spec.router, "select", "") == "all":
        made["indices"] = lambda: np.tile(np.arange(spec.experts.n), (tokens, 1))
    return made


def rows_of(x):
    """How many batch rows x has."""
    return x.shape[0] if x.ndim > 2 else 1


def context_of(spec, context, x, backend):
    """Context arrays with x's leading dimensions flattened; ids of a batch row repeated for its tokens."""
    missing = [name for name in spec.context if name not in context]
    if missing:
        raise ValueError(f"forward: this layer needs context {', '.join(map(repr, missing))}")
    lead, found = tuple(x.shape[:-1]), {}
    for name, array in context.items():
        if name not in REPLAY and len(lead) > 1 and tuple(array.shape[:len(lead)]) == lead:
            array = array.reshape((-1, *array.shape[len(lead):]))
        found[name] = array
    if isinstance(spec.router, Given) and not spec.router.vocab:
        ids = backend.to_numpy(context[spec.router.by]).reshape(-1)
        n = int(np.prod(lead))
        per_row = int(np.prod(x.shape[1:-1])) if x.ndim > 2 else x.shape[0]
        found[spec.router.by] = backend.from_numpy((ids if len(ids) == n else np.repeat(ids, per_row))[:, None])
    return found


def require_read(context, reads):
    """Refuse context that no step and no loss reads."""
    unread = sorted(set(context) - reads)
    if unread:
        raise ValueError(f"forward: nothing reads context {', '.join(map(repr, unread))}; steps and losses read {', '.join(sorted(reads))}")


def dtype_of(backend, array):
    """The array's dtype as NumPy's; its values stay where they are, so that nothing waits for a device."""
    try:
        return np.dtype(array.dtype)
    except TypeError:                                   # a library with dtypes of its own
        return backend.to_numpy(array).dtype
