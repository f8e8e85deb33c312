"""Forward and backward of a declared layer, on any backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from moespec.backend import get_backend, run, run_backward
from moespec.gates import Routing
from moespec.layer._init import draw, silent
from moespec.layer._params import parameter_shapes
from moespec.layer._plan import plan
from moespec.layer._routers import Given
from moespec.layer._spec import LayerSpec
from moespec.numerics import acc


class Out(NamedTuple):
    """What a layer returns."""

    y: Any                          # like x
    routing: Any                    # Routing(indices, weights), as the experts saw it; None for a soft layer
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
        Whatever else steps and losses read by name: ``target`` [T, C], ``mask`` [T], given ``indices`` [T, K] (replay); what
        some layers cannot do without (`LayerSpec.context`): ``input_ids`` [T], ``dataset_index`` [batch row],
        ``moe_mm_token_type_ids`` [T], ``router_states`` [T, H] of the layer before.  Leading dimensions like those of x are flattened.
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
    context = _context(spec, context or {}, x, chosen)
    values = _inputs(spec, params, x, tokens, noise, rng, context, training, chosen)
    made = _follows(spec, x, len(tokens), chosen)
    known = [*(n for n, v in values.items() if v is not None), *REPLAY, *made]
    steps, reads, names = plan(spec, len(tokens), rows=_rows(x), training=training, inputs=known, backend=chosen, keep=keep)
    values |= {name: chosen.from_numpy(make()) for name, make in made.items() if name in reads and values.get(name) is None}
    unread = sorted(set(context) - reads)
    if unread:
        raise ValueError(f"forward: nothing reads context {', '.join(map(repr, unread))}; steps and losses read {', '.join(sorted(reads))}")
    trace = run(chosen, steps, values)
    y = trace.values["y"]
    losses = {loss.name: chosen.scale(trace.values[f"loss.{loss.name}"], loss.coef) for loss in spec.losses}
    routing = None if names is None else Routing(trace.values[names.indices], trace.values[names.weights])
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


REPLAY = ("indices", "group_indices", "pool.indices")          # inputs that a program always knows: None unless given


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
    return {"x": tokens, **params, **made, **dict.fromkeys(REPLAY), **context}


def _follows(spec, x, n, backend):
    """Inputs that follow from shapes alone, each made only if it is read: the batch row of a token, one group of all, ids of dense layers."""
    joint = next((s.n for s in spec.shared if s.gate == "router"), 0)
    made = {"group": lambda: np.repeat(np.arange(_rows(x)), _per_row(x)), "whole": lambda: np.array([0, n]),
            "ones": lambda: np.ones((n, spec.columns), _dtype(backend, x)), "shared_indices": lambda: np.tile(np.arange(joint), (n, 1))}
    if getattr(spec.router, "select", "") == "all":
        made["indices"] = lambda: np.tile(np.arange(spec.experts.n), (n, 1))
    return made


def _rows(x):
    return x.shape[0] if x.ndim > 2 else 1


def _context(spec, context, x, backend):
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
        found[spec.router.by] = backend.from_numpy((ids if len(ids) == n else np.repeat(ids, _per_row(x)))[:, None])
    return found


def _per_row(x):
    return int(np.prod(x.shape[1:-1])) if x.ndim > 2 else x.shape[0]


def _dtype(backend, array):
    """The array's dtype as NumPy's; its values stay where they are, so that nothing waits for a device."""
    try:
        return np.dtype(array.dtype)
    except TypeError:                                   # a library with dtypes of its own
        return backend.to_numpy(array).dtype


def _zeros(backend, like):
    return backend.from_numpy(np.zeros(tuple(like.shape), _dtype(backend, like)))
