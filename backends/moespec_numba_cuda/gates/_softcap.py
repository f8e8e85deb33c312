"""gates.softcap."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, flat, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._math import tanh


def forward(logits, *, cap):
    admit("gates.softcap", logits, cap=cap)
    x = read(logits)
    t, capped = empty(x.shape, x.dtype), empty(x.shape, x.dtype)
    _softcap(items(x.size), flat(x), cap, flat(t), flat(capped))
    return convert(capped, logits.dtype), (t, logits.dtype)


def backward(saved, dcapped):
    t, dtype = saved
    dlogits = empty(t.shape, t.dtype)
    _through(items(t.size), flat(t), flat(read(dcapped, t.dtype)), flat(dlogits))
    return convert(dlogits, dtype)


@kernel("T1 T T1 T1")
def _softcap(logits, cap, t, capped):
    for i in range(cuda.grid(1), len(logits), cuda.gridsize(1)):
        t[i] = tanh(logits[i] / cap)
        capped[i] = cap * t[i]


@kernel("T1 T1 T1")
def _through(t, dcapped, dlogits):
    one = t.dtype.type(1)
    for i in range(cuda.grid(1), len(t), cuda.gridsize(1)):
        dlogits[i] = (one - t[i] * t[i]) * dcapped[i]


IMPL = Impl(forward, backward)
