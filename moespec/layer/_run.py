"""Forward and backward of a declared layer, on any backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from moespec.backend import get_backend, run_backward
from moespec.gates import Routing
from moespec.layer._inputs import REPLAY, context_of, dtype_of, noise_of, require_read
from moespec.layer._plan import plan
from moespec.layer._spec import LayerSpec
from moespec.program import execute

ABSENT = dict.fromkeys((*REPLAY, "-"))


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
        A parameter or context array that is missing, left over, or of the wrong shape; noise that nothing reads, an unknown name in `keep`.

    Examples
    --------
    >>> import numpy as np
    >>> import moespec
    >>> from moespec.models import mixtral
    >>> spec = mixtral(8, 16)
    >>> params = spec.init(4, rng=0)
    >>> out, saved = moespec.forward(spec, params, np.ones((2, 3, 4)))
    >>> out.y.shape, out.routing.indices.shape
    ((2, 3, 4), (6, 2))
    >>> sorted(moespec.backward(saved, out.y).params)
    ['experts.w_down', 'experts.w_gate', 'experts.w_up', 'router.w']
    """
    chosen = get_backend(backend, like=x)
    values = {"x": x.reshape((-1, x.shape[-1])), **params}
    if training:
        values |= _noise(spec, x, noise, rng, chosen)
    if context or spec.context:
        context = context_of(spec, context or {}, x, chosen)
        values |= {name: array for name, array in context.items() if array is not None}
    ready = plan(spec, params, x, tuple(values), chosen, training=training, keep=keep)
    for name, make in ready.made.items():
        values[name] = chosen.from_numpy(make())
    if context:
        require_read(context, ready.reads)
    trace = execute(ready.steps, ready.calls, {**ABSENT, **values})
    return results(spec, chosen, trace.values, ready.routing, x), Saved(spec, chosen, trace, ready.params, ready.shape)


def _noise(spec, x, noise, rng, backend):
    """The noise of a training step on `backend`."""
    arrays = noise_of(spec, math.prod(x.shape[:-1]), x.shape[-1], dtype_of(backend, x), noise, rng, True)
    return {name: backend.from_numpy(array) for name, array in arrays.items()}


def results(spec, backend, values, names, x) -> Out:
    """What a layer returns, from the values of its program; `names` are those of the routing."""
    y = values["y"]
    losses = {loss.name: backend.scale(values[f"loss.{loss.name}"], loss.coef) for loss in spec.losses} if spec.losses else {}
    routing = None if names is None else Routing(values[names.indices], values[names.weights])
    return Out(y if x.ndim == 2 else y.reshape((*x.shape[:-1], y.shape[-1])), routing, losses, values)


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

    Raises
    ------
    ValueError
        A cotangent of a name that is no real value, or of another shape than the value's; a loss that the layer does not have.
    """
    return gradients(saved, run_backward(saved.backend, saved.trace, seeds(saved, dy, dlosses, cotangents)))


def seeds(saved, dy, dlosses, cotangents):
    """The cotangents that a backward run starts from, by name."""
    spec, backend, values = saved.spec, saved.backend, saved.trace.values
    given = _named(backend, values, cotangents if dy is None else {**cotangents, "dy": dy.reshape((-1, *dy.shape[-1:]))})
    if unknown := sorted(set(dlosses or ()) - {loss.name for loss in spec.losses}):
        raise ValueError(f"backward: dlosses has {', '.join(unknown)}; the losses are {', '.join(loss.name for loss in spec.losses) or 'none'}")
    for loss in spec.losses:
        d = 1.0 if dlosses is None else dlosses.get(loss.name, 0.0)
        given[f"loss.{loss.name}"] = backend.from_numpy(np.asarray(d * loss.coef, dtype_of(backend, values[f"loss.{loss.name}"])))
    return given


def _named(backend, values, cotangents):
    """The cotangents by the names of the values, whose shapes they have."""
    for key, d in cotangents.items():
        value = values.get(key[1:]) if key.startswith("d") else None
        if value is None or dtype_of(backend, value).kind in "iub":
            raise ValueError(f"backward: {key} is not d<value> of a real value; values: {', '.join(n for n, v in values.items() if v is not None)}")
        if d is not None and tuple(d.shape) != tuple(value.shape):
            raise ValueError(f"backward: {key} has shape {tuple(d.shape)}, wanted {tuple(value.shape)}")
    return {key[1:]: d for key, d in cotangents.items()}


def gradients(saved, grads) -> Grads:
    """The gradients of x and of the parameters among those of all values; what nothing reached has gradient 0."""
    backend, values = saved.backend, saved.trace.values
    params = {n: grads[n] if n in grads else _zeros(backend, values[n]) for n in saved.params}
    dx = grads.get("x", None)
    return Grads((_zeros(backend, values["x"]) if dx is None else dx).reshape(saved.shape), params)


def _zeros(backend, like):
    return backend.from_numpy(np.zeros(tuple(like.shape), dtype_of(backend, like)))
