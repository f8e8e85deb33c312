"""losses.router_entropy."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_router_entropy.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    mask: Any               # T
    lse: Any                # T
    entropy: Any            # T
    share: Any              # ()


def forward(logits, mask=None):
    dims, acc = admit("losses.router_entropy", logits, mask), accumulation(logits.dtype)
    x, mask, lse, entropy = read(logits), read(mask), empty(len(logits), acc), empty(len(logits), acc)
    KERNELS("router_entropy", rows(dims.T), x, mask, lse, entropy, dims.T, dims.E)
    loss, share = valid_mean(entropy, mask)
    return loss, Saved(x, mask, lse, entropy, share)


def backward(saved, dloss):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("router_entropy_backward", rows(len(dlogits)), *saved, read(dloss), dlogits, *dlogits.shape)
    return dlogits


IMPL = Impl(forward, backward)
