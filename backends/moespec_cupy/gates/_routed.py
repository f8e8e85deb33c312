"""What the routers share that score, select and weigh the logits of one token at a time."""

from typing import Any, NamedTuple

from moespec_cupy._kernel import Kernels, empty, read, rows
from moespec_cupy.gates._renormalize import NORMS
from moespec_cupy.gates._scores import KINDS

KERNELS = Kernels(__file__, "_route.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    indices: Any            # T K
    how: tuple              # kind, selected, norm, eps, scale, p


def routed(logits, indices, k, *, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    """((ids, weights), saved) of logits that were admitted."""
    x, k = read(logits), k if indices is None else indices.shape[1]
    (tokens, experts), how = x.shape, (KINDS[score], over == "selected", NORMS[norm], eps, scale, p)
    ids, weights = empty((tokens, k), "int64"), empty((tokens, k), x.dtype)
    KERNELS("route", rows(tokens), x, read(indices, "int64"), ids, weights, tokens, experts, k, *how)
    return (ids, weights), Saved(x, ids, how)


def through_route(saved, dweights):
    """The gradient of the logits."""
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("route_backward", rows(len(dlogits)), saved.logits, saved.indices, read(dweights), dlogits,
            *dlogits.shape, saved.indices.shape[1], *saved.how)
    return dlogits
