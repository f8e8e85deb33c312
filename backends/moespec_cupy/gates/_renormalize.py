"""gates.renormalize."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, read, rows

KERNELS = Kernels(__file__, "_renormalize.cu")
NORMS = {name: i for i, name in enumerate(("none", "sum", "clamp", "lp"))}        # as in weigh.cuh


class Saved(NamedTuple):
    chosen: Any             # T K
    indices: Any            # T K
    how: tuple              # norm, eps, scale, p


def forward(chosen, indices, *, norm="none", eps=0.0, scale=1.0, p=1.0):
    dims = admit("gates.renormalize", chosen, indices, norm=norm, eps=eps, scale=scale, p=p)
    saved, weights = Saved(read(chosen), read(indices, "int64"), (NORMS[norm], eps, scale, p)), empty(chosen.shape, chosen.dtype)
    KERNELS("renormalize", rows(dims.T), *saved[:2], weights, dims.T, dims.K, *saved.how)
    return weights, saved


def backward(saved, dweights):
    dchosen = empty(saved.chosen.shape, saved.chosen.dtype)
    KERNELS("renormalize_backward", rows(len(dchosen)), *saved[:2], read(dweights), dchosen, *dchosen.shape, *saved.how)
    return dchosen


IMPL = Impl(forward, backward)
