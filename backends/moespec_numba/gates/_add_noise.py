"""gates.add_noise."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(logits, noise, *, scale=1.0):
    OPS["gates.add_noise"].admit(logits, noise, scale=scale)
    dtype, noisy = np.result_type(logits, noise), empty(logits.shape, logits.dtype)
    _add(read(logits, dtype).ravel(), read(noise, dtype).ravel(), dtype.type(scale), noisy.ravel())
    return noisy, None


def backward(saved, dnoisy):
    return dnoisy.copy()


@kernel
def _add(logits, noise, scale, noisy):
    for i in range(len(logits)):
        noisy[i] = logits[i] + scale * noise[i]


IMPL = Impl(forward, backward)
