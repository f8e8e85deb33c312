"""gates.switch: a product by the library, then the router with one choice."""

from typing import Any, NamedTuple

from moespec.op import wider
from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import accumulation, zeros
from moespec_cupy.gates._elementwise import add, cast, multiply
from moespec_cupy.gates._product import product
from moespec_cupy.gates._routed import routed, through_route


class Saved(NamedTuple):
    x: Any                  # T D   after the jitter
    w: Any                  # D E
    jitter: Any             # T D, or None
    routing: Any            # of the choice, in the accumulation dtype
    dtype: Any              # of x, as it came


def forward(x, w, jitter=None, indices=None, *, dtype="float32"):
    admit("gates.switch", x, w, jitter, indices, dtype=dtype)
    out, wide = wider(x.dtype, dtype), accumulation(*(a.dtype for a in (x, w, jitter) if a is not None))
    shaken = x if jitter is None else multiply(cast(x, wide), jitter)
    logits = product(shaken, w, wide)
    (ids, weights), routing = routed(logits, indices, 1)
    return (cast(logits, out), ids, cast(weights, out)), Saved(shaken, w, jitter, routing, x.dtype)


def backward(saved, dlogits, dweights):
    wide = saved.routing.logits.dtype
    d = zeros(saved.routing.logits.shape, wide) if dweights is None else through_route(saved.routing, cast(dweights, wide))
    d = d if dlogits is None else add(d, dlogits)
    dx = product(d, saved.w.T, wide)
    dx = dx if saved.jitter is None else multiply(dx, saved.jitter)
    return cast(dx, saved.dtype), product(saved.x.T, d, saved.w.dtype)


IMPL = Impl(forward, backward)
