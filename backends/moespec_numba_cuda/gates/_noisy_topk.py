"""gates.noisy_topk: products between the kernels of its two halves."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.op import wider
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arithmetic import add
from moespec_numba_cuda._arrays import common, convert, like, read, zeros
from moespec_numba_cuda.gates._linear import through_left, through_right, times
from moespec_numba_cuda.gates._noisy_logits import noisy, through_noise
from moespec_numba_cuda.gates._routed import routed, through_route


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_noise, noise, as they came
    raw: Any                # T E   in the accumulation dtype
    routing: Any            # of the choice


def forward(x, w_gate, w_noise, noise, indices=None, *, k=None, floor=0.01, dtype="float32"):
    admit("gates.noisy_topk", x, w_gate, w_noise, noise, indices, k=k, floor=floor, dtype=dtype)
    out, (a, gate, spread, draws) = wider(x.dtype, dtype), common(x, w_gate, w_noise, noise)
    clean, raw = times(a, gate), times(a, spread)
    logits, sigma = noisy(clean, raw, draws, floor)
    (ids, weights), routing = routed(logits, indices, k, over="selected")
    found = convert(clean, out), convert(sigma, out), convert(logits, out), ids, convert(weights, out)
    return found, Saved((x, w_gate, w_noise, noise), raw, routing)


def backward(saved, dclean, dsigma, dlogits, dweights):
    (x, w_gate, w_noise, _), wide = saved.inputs, saved.raw.dtype
    a, gate, spread, draws = (read(i, wide) for i in saved.inputs)
    dh = zeros(saved.raw.shape, wide) if dweights is None else through_route(saved.routing, dweights)
    dh = dh if dlogits is None else add(dh, read(dlogits, wide))
    dc = dh if dclean is None else add(dh, read(dclean, wide))
    dr = through_noise(saved.raw, draws, dh, read(dsigma, wide))
    dx = add(through_left(dc, gate), through_left(dr, spread))
    return like(x, dx), like(w_gate, through_right(a, dc)), like(w_noise, through_right(a, dr))


IMPL = Impl(forward, backward)
