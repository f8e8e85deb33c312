"""gates.noisy_logits, and its two halves, which gates.noisy_topk shares."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import common, convert, empty, flat, like, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda.gates._scores import sigmoid_of, softplus_of


def forward(clean, raw, noise, *, floor=0.01):
    admit("gates.noisy_logits", clean, raw, noise, floor=floor)
    c, r, n = common(clean, raw, noise)
    logits, sigma = noisy(c, r, n, floor)
    return (like(clean, logits), like(clean, sigma)), (raw, noise, clean.dtype)


def backward(saved, dlogits, dsigma):
    raw, noise, dtype = saved
    r, n, d, ds = common(raw, noise, dlogits, dsigma)
    dclean = zeros(raw.shape, dtype) if dlogits is None else convert(d, dtype)
    return dclean, like(raw, through_noise(r, n, d, ds))


def noisy(clean, raw, noise, floor):
    """(logits, sigma) of arrays of one dtype, in that dtype."""
    logits, sigma = empty(clean.shape, clean.dtype), empty(clean.shape, clean.dtype)
    _noisy(items(clean.size), flat(clean), flat(raw), flat(noise), floor, flat(logits), flat(sigma))
    return logits, sigma


def through_noise(raw, noise, dlogits, dsigma):
    """The gradient of `raw`, of arrays of one dtype; a cotangent that is None is 0."""
    draw, none = empty(raw.shape, raw.dtype), empty(0, raw.dtype)
    dh, ds = (none if d is None else flat(d) for d in (dlogits, dsigma))
    _through_noise(items(raw.size), flat(raw), flat(noise), dh, ds, flat(draw))
    return draw


@kernel("T1 T1 T1 T T1 T1")
def _noisy(clean, raw, noise, floor, logits, sigma):
    zero = raw.dtype.type(0)
    for i in range(cuda.grid(1), len(raw), cuda.gridsize(1)):
        scale = softplus_of(raw[i], zero) + floor
        sigma[i] = scale
        logits[i] = clean[i] + noise[i] * scale


@kernel("T1 T1 T1 T1 T1")
def _through_noise(raw, noise, dlogits, dsigma, draw):
    zero, one = raw.dtype.type(0), raw.dtype.type(1)
    for i in range(cuda.grid(1), len(raw), cuda.gridsize(1)):
        d = noise[i] * dlogits[i] if len(dlogits) > 0 else zero
        if len(dsigma) > 0:
            d += dsigma[i]
        draw[i] = d * sigmoid_of(raw[i], one)


IMPL = Impl(forward, backward)
