"""Forward and backward of a declared layer, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from moespec.backend import get_backend, run, run_backward
from moespec.fuse import fuse
from moespec.gates import Routing
from moespec.layer._build import build, final_routing
from moespec.layer._init import draw, parameter_shapes, silent
from moespec.layer._spec import LayerSpec
from moespec.numerics import acc


class Out(NamedTuple):
    """What a layer returns."""

    y: Any                          # like x
    routing: Any                    # Routing(indices, weights), as the experts saw it
    losses: dict[str, Any]          # by name, already times their coefficients
    values: Mapping[str, Any]       # every named intermediate


class Grads(NamedTuple):
    """Gradients of a layer."""

    x: Any
    params: dict[str, Any]


class Saved(NamedTuple):
    """What forward keeps for backward."""

    spec: LayerSpec
    backend: Any
    trace: Any
    params: tuple[str, ...]
    shape: tuple[int, ...]


def forward(spec, params, x, *, noise=None, rng=None, context=None, training=False, backend=None, keep=()):
    """Run a layer.

    Parameters
    ----------
    spec : LayerSpec
    params : mapping of str to array
        See `LayerSpec.init`.
    x : (..., D) real
        Tokens; leading dimensions are flattened.  [batch, time, D] applies the layer to every time step
        ("convolutionally", Shazeer et al. 2017, section 3.1), the whole as one batch.
    noise : mapping of str to array, optional
        The arrays of `LayerSpec.draw`; without it they are drawn with `rng` in training.
    rng : int, Generator or None
        For the noise; see `numpy.random.default_rng`.
    context : mapping of str to array, optional
        Whatever else steps and losses read by name: ``target`` [T, C], ``mask`` [T], given ``indices`` [T, K] (replay) ...
    training : bool
        Whether noise, jitter, dropout and random acceptance act.
    backend : str or Backend, optional
        See `get_backend`.
    keep : collection of str, or "all"
        Intermediates to keep in `Out.values`, which their gradients can be asked of too.  A backend may run consecutive lines of the
        program as one (`fuse`), and then has no value for the names in between; those that losses read are always there.

    Returns
    -------
    Out(y, routing, losses, values)
    Saved
        For `backward`.

    Raises
    ------
    ValueError
        A parameter or context array that is missing, left over, or of the wrong shape.
    """
    chosen = get_backend(backend, like=x)
    tokens = x.reshape((-1, x.shape[-1]))
    values = _inputs(spec, params, x, tokens, noise, rng, context or {}, training, chosen)
    steps = build(spec, len(tokens), rows=x.shape[0] if x.ndim > 2 else 1, training=training,
                  inputs=[n for n, v in values.items() if v is not None or n in REPLAY])
    read = {name for step in steps for name in step.reads.split()}
    unread = sorted(set(context or {}) - read)
    if unread:
        raise ValueError(f"forward: nothing reads context {', '.join(map(repr, unread))}; steps and losses read {', '.join(sorted(read))}")
    trace = run(chosen, steps if keep == "all" else fuse(steps, chosen.ops(), keep), values)
    y = trace.values["y"]
    losses = {loss.name: chosen.scale(trace.values[f"loss.{loss.name}"], loss.coef) for loss in spec.losses}
    names = final_routing(steps)
    routing = Routing(trace.values[names.indices], trace.values[names.weights])
    saved = Saved(spec, chosen, trace, tuple(params), tuple(x.shape))
    return Out(y.reshape((*x.shape[:-1], y.shape[-1])), routing, losses, trace.values), saved


def backward(saved, dy=None, *, dlosses=None, **cotangents):
    """Gradients of x and of every parameter.

    Parameters
    ----------
    saved : Saved
        From `forward`.
    dy : array like y, optional
        None is zero.
    dlosses : mapping of str to float, optional
        The cotangent of every (already weighted) loss; 1 each by default.
    **cotangents : array
        Of any named real value, with a leading d: ``dlogits=``, ``dweights=``.

    Returns
    -------
    Grads(x, params)
        Like x, and by parameter name; a parameter that nothing reached has gradient 0.
    """
    spec, backend, values = saved.spec, saved.backend, saved.trace.values
    given = {}
    for name, d in cotangents.items():
        if not name.startswith("d") or name[1:] not in values:
            raise ValueError(f"backward: {name} is not d<value>; values: {', '.join(n for n in values if n != '-')}")
        given[name[1:]] = d
    if dy is not None:
        given["y"] = dy.reshape((-1, dy.shape[-1]))
    for loss in spec.losses:
        d = 1.0 if dlosses is None else dlosses.get(loss.name, 0.0)
        given[f"loss.{loss.name}"] = backend.from_numpy(np.asarray(d * loss.coef, _dtype(backend, values[f"loss.{loss.name}"])))
    grads = run_backward(backend, saved.trace, given)
    params = {n: grads[n] if n in grads else _zeros(backend, values[n]) for n in saved.params}
    dx = grads.get("x", None)
    return Grads((_zeros(backend, values["x"]) if dx is None else dx).reshape(saved.shape), params)


REPLAY = ("indices", "group_indices")          # inputs that a program always knows: None unless given


def _inputs(spec, params, x, tokens, noise, rng, context, training, backend):
    """Every named value that the program may read."""
    wanted = parameter_shapes(spec, x.shape[-1])
    if set(params) != set(wanted):
        raise ValueError(f"forward: missing parameters {sorted(set(wanted) - set(params))}, unknown {sorted(set(params) - set(wanted))}")
    for name, shape in wanted.items():
        if tuple(params[name].shape) != shape:
            raise ValueError(f"forward: {name} has shape {tuple(params[name].shape)}, wanted {shape} (x has shape {tuple(x.shape)})")
    if training and noise is None:
        noise = draw(spec, len(tokens), x.shape[-1], rng=rng)
    noise = noise if training else silent(spec, len(tokens))
    dtype = acc(_dtype(backend, x))                     # bfloat16 jitter of 1 % would take six values
    made = {f"noise.{n}": backend.from_numpy(np.asarray(a).astype(dtype)) for n, a in noise.items()}
    fixed = dict.fromkeys(REPLAY)
    if getattr(spec.router, "select", "") == "all":
        fixed["indices"] = backend.from_numpy(np.tile(np.arange(spec.experts.n), (len(tokens), 1)))
    if spec.capacity is not None and spec.capacity.scope == "row":
        fixed["group"] = backend.from_numpy(np.repeat(np.arange(x.shape[0] if x.ndim > 2 else 1), _per_row(x)))
    return {"x": tokens, **params, **made, **fixed, **context}


def _per_row(x):
    return int(np.prod(x.shape[1:-1])) if x.ndim > 2 else x.shape[0]


def _dtype(backend, array):
    return backend.to_numpy(array).dtype


def _zeros(backend, like):
    host = backend.to_numpy(like)
    return backend.from_numpy(np.zeros(host.shape, host.dtype))
