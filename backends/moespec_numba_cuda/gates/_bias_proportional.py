"""gates.bias_proportional."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, empty, read
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import blocks, items, kernel
from moespec_numba_cuda.gates._bias_sign import add_up


def forward(bias, counts, *, rate, k, expected=None, ffn_experts=None):
    dims = admit("gates.bias_proportional", bias, counts, rate=rate, k=k, expected=expected, ffn_experts=ffn_experts)
    real = dims.E if ffn_experts is None else ffn_experts
    target = (k if expected is None else expected) / (k * real) if real else 0.0
    n, sums, updated = read(counts, "int64"), empty(2, "int64"), empty(bias.shape, "float64")
    add_up(blocks(1, 1), n, sums)
    _move(items(len(n)), read(bias, "float64"), n, sums, rate, target, real, updated)
    return convert(updated, bias.dtype), None


@kernel("d1 i1 i1 d d i d1")
def _move(bias, counts, sums, rate, target, real, updated):
    """The first `real` experts move, if there are choices at all."""
    for e in range(cuda.grid(1), len(counts), cuda.gridsize(1)):
        far = target - counts[e] / sums[0] if e < real and sums[0] > 0 else 0.0
        updated[e] = bias[e] + rate * far


IMPL = Impl(forward)
