"""gates.bias_sign, and with the mean of its update taken off gates.bias_centred."""

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read


def forward(bias, counts, *, rate):
    OPS["gates.bias_sign"].admit(bias, counts, rate=rate)
    return moved(bias, counts, rate, False), None


def moved(bias, counts, rate, centred):
    """The updated bias; computed in float64 and rounded once."""
    updated = empty(bias.shape, bias.dtype)
    _move(read(bias), read(counts, "int64"), float(rate), centred, updated)
    return updated


@kernel
def _move(bias, counts, rate, centred, updated):
    experts, total, above = len(counts), 0, 0
    for n in counts:
        total += n
    for n in counts:
        above += (total > n * experts) - (total < n * experts)
    mean = above / experts if centred and experts else 0.0
    for e in range(experts):
        n = counts[e] * experts
        updated[e] = bias[e] + rate * ((total > n) - (total < n) - mean)


IMPL = Impl(forward)
