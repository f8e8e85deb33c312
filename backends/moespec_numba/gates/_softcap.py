"""gates.softcap."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(logits, *, cap):
    OPS["gates.softcap"].admit(logits, cap=cap)
    tanh, capped = empty(logits.shape, logits.dtype), empty(logits.shape, logits.dtype)
    _softcap(read(logits).ravel(), logits.dtype.type(cap), tanh.ravel(), capped.ravel())
    return capped, read(tanh)


def backward(tanh, dcapped):
    dlogits = empty(tanh.shape, tanh.dtype)
    _backward(tanh.ravel(), read(dcapped).ravel(), dlogits.ravel())
    return dlogits


@kernel
def _softcap(logits, cap, tanh, capped):
    for i in range(len(logits)):
        tanh[i] = np.tanh(logits[i] / cap)
        capped[i] = cap * tanh[i]


@kernel
def _backward(tanh, dcapped, dlogits):
    one = tanh.dtype.type(1)
    for i in range(len(tanh)):
        dlogits[i] = (one - tanh[i] * tanh[i]) * dcapped[i]


IMPL = Impl(forward, backward)
