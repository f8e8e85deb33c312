"""losses.z_loss."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows
from moespec_cupy.losses._mean import valid_mean

KERNELS = Kernels(__file__, "_z_loss.cu")


class Saved(NamedTuple):
    logits: Any             # T E
    mask: Any               # T
    lse: Any                # T   0 where the mask is False
    share: Any              # ()


def forward(logits, mask=None):
    dims, acc = admit("losses.z_loss", logits, mask), accumulation(logits.dtype)
    x, mask, lse, squares = read(logits), read(mask), empty(len(logits), acc), empty(len(logits), acc)
    KERNELS("squared_lse", rows(dims.T), x, mask, lse, squares, dims.T, dims.E)
    loss, share = valid_mean(squares, mask)
    return loss, Saved(x, mask, lse, share)


def backward(saved, dloss):
    dlogits = empty(saved.logits.shape, saved.logits.dtype)
    KERNELS("z_loss_backward", rows(len(dlogits)), *saved, read(dloss), dlogits, *dlogits.shape)
    return dlogits


IMPL = Impl(forward, backward)
