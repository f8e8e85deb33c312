"""gates.bias_sign, and with the mean of its update taken off gates.bias_centred."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, one_block, read

KERNELS = Kernels(__file__, "_bias.cu")


def forward(bias, counts, *, rate):
    admit("gates.bias_sign", bias, counts, rate=rate)
    return moved(bias, counts, rate, False), None


def moved(bias, counts, rate, centred):
    """The updated bias."""
    updated = empty(bias.shape, bias.dtype)
    KERNELS("move_by_sign", one_block(256), read(bias), read(counts, "int64"), rate, centred, updated, bias.size)
    return updated


IMPL = Impl(forward)
