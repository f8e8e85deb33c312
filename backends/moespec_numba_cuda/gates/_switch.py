"""gates.switch: a product, then the router with one choice."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.op import wider
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import add
from moespec_numba_cuda._arrays import common, convert, like, read, zeros
from moespec_numba_cuda.gates import _jitter
from moespec_numba_cuda.gates._linear import through_left, through_right, times
from moespec_numba_cuda.gates._routed import routed, through_route


class Saved(NamedTuple):
    inputs: tuple           # x, w, jitter, as they came
    shaken: Any             # T D   x after the jitter, in the accumulation dtype
    routing: Any            # of the choice


def forward(x, w, jitter=None, indices=None, *, dtype="float32"):
    admit("gates.switch", x, w, jitter, indices, dtype=dtype)
    out, (a, m, noise) = wider(x.dtype, dtype), common(x, w, jitter)
    shaken = a if noise is None else _jitter.times(a, noise)
    logits = times(shaken, m)
    (ids, weights), routing = routed(logits, indices, 1)
    return (convert(logits, out), ids, convert(weights, out)), Saved((x, w, jitter), shaken, routing)


def backward(saved, dlogits, dweights):
    (x, w, jitter), wide = saved.inputs, saved.shaken.dtype
    probs = saved.routing.scores
    d = zeros(probs.shape, wide) if dweights is None else through_route(saved.routing, dweights)
    d = d if dlogits is None else add(d, read(dlogits, wide))
    dx = through_left(d, read(w, wide))
    dx = dx if jitter is None else _jitter.times(dx, read(jitter, wide))
    return like(x, dx), like(w, through_right(saved.shaken, d))


IMPL = Impl(forward, backward)
