"""gates.softcap."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, items, read

KERNELS = Kernels(__file__, "_by_constant.cu")


def forward(logits, *, cap):
    admit("gates.softcap", logits, cap=cap)
    x, capped = read(logits), empty(logits.shape, logits.dtype)
    KERNELS("softcap", items(x.size), x, capped, x.size, cap)
    return capped, (x, cap)


def backward(saved, dcapped):
    x, cap = saved
    dlogits = empty(x.shape, x.dtype)
    KERNELS("softcap_backward", items(x.size), x, read(dcapped), dlogits, x.size, cap)
    return dlogits


IMPL = Impl(forward, backward)
