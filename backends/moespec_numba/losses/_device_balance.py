"""losses.device_balance."""

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._balance import fractions, weigh_means, weigh_means_backward
from moespec_numba.losses._scalar import valid


def forward(probs, indices, mask=None, *, devices):
    dims = OPS["losses.device_balance"].admit(probs, indices, mask, devices=devices)
    mask, counted = valid(mask, dims.T)
    share = fractions(indices, dims.E, mask, counted).reshape(devices, -1).sum(1)
    return weigh_means(probs, np.repeat(devices * share, dims.E // devices), mask, counted)


IMPL = Impl(forward, weigh_means_backward)
