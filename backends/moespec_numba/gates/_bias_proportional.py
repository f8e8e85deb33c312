"""gates.bias_proportional."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(bias, counts, *, rate, k, expected=None, ffn_experts=None):
    dims = OPS["gates.bias_proportional"].admit(bias, counts, rate=rate, k=k, expected=expected, ffn_experts=ffn_experts)
    real = dims.E if ffn_experts is None else ffn_experts
    target = (k if expected is None else expected) / (k * real) if real else 0.0
    updated = empty(bias.shape, bias.dtype)
    _move(read(bias), read(counts, "int64"), float(rate), float(target), real, updated)
    return updated, None


@kernel
def _move(bias, counts, rate, target, real, updated):
    """Computed in float64 and rounded once."""
    total = 0
    for n in counts:
        total += n
    for e in range(len(bias)):
        updated[e] = bias[e] + rate * (target - counts[e] / total) if e < real and total > 0 else bias[e]


IMPL = Impl(forward)
