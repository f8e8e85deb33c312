"""gates.noisy_topk: products by the library, between the kernels of its two halves."""

from typing import Any, NamedTuple

from moespec.op import wider
from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import accumulation, zeros
from moespec_cupy.gates._elementwise import add, cast
from moespec_cupy.gates._noisy_logits import noisy, through_noise
from moespec_cupy.gates._product import product
from moespec_cupy.gates._routed import routed, through_route


class Saved(NamedTuple):
    inputs: tuple           # x, w_gate, w_noise; everything else is in the accumulation dtype
    noise: Any              # of noisy_logits
    routing: Any            # of the choice


def forward(x, w_gate, w_noise, noise, indices=None, *, k=None, floor=0.01, dtype="float32"):
    admit("gates.noisy_topk", x, w_gate, w_noise, noise, indices, k=k, floor=floor, dtype=dtype)
    out, wide = wider(x.dtype, dtype), accumulation(x.dtype, w_gate.dtype, w_noise.dtype, noise.dtype)
    clean, raw = product(x, w_gate, wide), product(x, w_noise, wide)
    (logits, sigma), of_noise = noisy(clean, raw, cast(noise, wide), floor)
    (ids, weights), routing = routed(logits, indices, k, over="selected")
    found = cast(clean, out), cast(sigma, out), cast(logits, out), ids, cast(weights, out)
    return found, Saved((x, w_gate, w_noise), of_noise, routing)


def backward(saved, dclean, dsigma, dlogits, dweights):
    (x, w_gate, w_noise), wide = saved.inputs, saved.routing.logits.dtype
    dh = zeros(saved.routing.logits.shape, wide) if dweights is None else through_route(saved.routing, cast(dweights, wide))
    dh = dh if dlogits is None else add(dh, dlogits)
    dc, dr = dh if dclean is None else add(dh, dclean), through_noise(saved.noise, dh, None if dsigma is None else cast(dsigma, wide))
    dx = add(product(dc, w_gate.T, wide), product(dr, w_noise.T, wide))
    return cast(dx, x.dtype), product(x.T, dc, w_gate.dtype), product(x.T, dr, w_noise.dtype)


IMPL = Impl(forward, backward)
