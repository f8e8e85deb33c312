"""losses.communication_balance."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, kernel, read, zeros
from moespec_numba.losses._balance import weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, indices, mask=None, *, devices, limit):
    dims = OPS["losses.communication_balance"].admit(probs, indices, mask, devices=devices, limit=limit)
    mask, counted = valid(mask, dims.T)
    received, size = zeros(devices, "float64"), dims.E // devices
    _receive(read(indices, "int64"), mask, size, np.full(devices, -1), received)
    return weigh_means(probs, np.repeat(devices * received / (limit * counted), size), mask, counted)


@kernel
def _receive(ids, mask, size, last, received):
    """A token counts once for a device: `last` is the token that was counted there last."""
    for t in range(len(ids)):
        for j in range(ids.shape[1] if mask[t] else 0):
            device = ids[t, j] // size
            if ids[t, j] >= 0 and last[device] != t:
                last[device] = t
                received[device] += 1


IMPL = Impl(forward, weigh_means_backward)
