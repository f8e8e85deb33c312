"""gates.noisy_logits."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._exp import exp_down, log1p_unit
from moespec_numba._kernel import OPS, empty, kernel, read, zeros


class Saved(NamedTuple):
    raw: np.ndarray         # T E
    noise: np.ndarray       # T E
    dtypes: tuple           # of clean and raw


def forward(clean, raw, noise, *, floor=0.01):
    OPS["gates.noisy_logits"].admit(clean, raw, noise, floor=floor)
    logits, sigma = noisy(clean, raw, noise, floor)
    return (logits.astype(clean.dtype, copy=False), sigma.astype(clean.dtype, copy=False)), Saved(raw, noise, (clean.dtype, raw.dtype))


def backward(saved, dlogits, dsigma):
    dclean = zeros(saved.raw.shape, saved.dtypes[0]) if dlogits is None else dlogits.astype(saved.dtypes[0])
    draw = through_noise(saved.raw, saved.noise, dclean, dsigma)
    return dclean, draw.astype(saved.dtypes[1], copy=False)


def noisy(clean, raw, noise, floor):
    """(logits, sigma) in the widest of the dtypes."""
    dtype = np.result_type(clean, raw, noise)
    logits, sigma = empty(clean.shape, dtype), empty(clean.shape, dtype)
    _noisy(read(clean, dtype).ravel(), read(raw, dtype).ravel(), read(noise, dtype).ravel(), dtype.type(floor), logits.ravel(), sigma.ravel())
    return logits, sigma


def through_noise(raw, noise, dlogits, dsigma):
    """The gradient of `raw`, in the widest of the dtypes."""
    dtype = np.result_type(raw, noise, dlogits)
    draw = empty(raw.shape, dtype)
    ds = zeros(raw.shape, dtype) if dsigma is None else dsigma
    _through_noise(read(raw, dtype).ravel(), read(noise, dtype).ravel(), read(dlogits, dtype).ravel(), read(ds, dtype).ravel(), draw.ravel())
    return draw


@kernel
def _noisy(clean, raw, noise, floor, logits, sigma):
    zero = raw.dtype.type(0)
    for i in range(len(raw)):
        r = raw[i]
        sigma[i] = max(r, zero) + log1p_unit(exp_down(-abs(r))) + floor        # softplus, without overflow
        logits[i] = clean[i] + noise[i] * sigma[i]


@kernel
def _through_noise(raw, noise, dlogits, dsigma, draw):
    one = raw.dtype.type(1)
    for i in range(len(raw)):
        tail = exp_down(-abs(raw[i]))                       # the sigmoid, from whichever side does not overflow
        slope = (tail if raw[i] < 0 else one) / (one + tail)
        draw[i] = (dsigma[i] + noise[i] * dlogits[i]) * slope


IMPL = Impl(forward, backward)
