"""gates.bias_proportional."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, empty, one_block, read

KERNELS = Kernels(__file__, "_bias.cu")


def forward(bias, counts, *, rate, k, expected=None, ffn_experts=None):
    dims = admit("gates.bias_proportional", bias, counts, rate=rate, k=k, expected=expected, ffn_experts=ffn_experts)
    real, updated = dims.E if ffn_experts is None else ffn_experts, empty(bias.shape, bias.dtype)
    target = (k if expected is None else expected) / (k * max(real, 1))
    KERNELS("move_in_proportion", one_block(256), read(bias), read(counts, "int64"), rate, target, real, updated, dims.E)
    return updated, None


IMPL = Impl(forward)
