"""dispatch.unmix: a matrix product for every group."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty
from moespec_numba.dispatch._groups import by_group, owners


class Saved(NamedTuple):
    slots: np.ndarray       # S G D
    combine: np.ndarray     # T S
    owners: list            # what selects the tokens of every group


def forward(rows, combine, group=None, *, groups=1):
    dims = OPS["dispatch.unmix"].admit(rows, combine, group, groups=groups)
    saved, y = Saved(by_group(rows, groups), combine, owners(group, groups)), empty((dims.T, dims.D), rows.dtype)
    for g, own in enumerate(saved.owners):
        y[own] = combine[own] @ saved.slots[:, g]
    return y, saved


def backward(saved, dy):
    dslots, dcombine = empty(saved.slots.shape, saved.slots.dtype), empty(saved.combine.shape, saved.combine.dtype)
    for g, own in enumerate(saved.owners):
        dslots[:, g] = saved.combine[own].T @ dy[own]
        dcombine[own] = dy[own] @ saved.slots[:, g].T
    return dslots.reshape(dslots.shape[0] * dslots.shape[1], dslots.shape[2]), dcombine


IMPL = Impl(forward, backward)
