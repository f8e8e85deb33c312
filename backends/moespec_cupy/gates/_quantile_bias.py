"""gates.quantile_bias."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Grid, Kernels, accumulation, empty, read, rows, threads

KERNELS = Kernels(__file__, "_quantile_bias.cu")


def forward(scores, bias, *, k):
    dims = admit("gates.quantile_bias", scores, bias, k=k)
    if dims.T == 0:
        return bias.copy(), None
    x, limits, updated = read(scores), empty(dims.T, accumulation(scores.dtype, bias.dtype)), empty(dims.E, bias.dtype)
    KERNELS("token_limits", rows(dims.T), x, read(bias), limits, dims.T, dims.E, k)
    KERNELS("quantile_bias", Grid(dims.E, threads(dims.T)), x, limits, updated, dims.T, dims.E, k * dims.T // dims.E)
    return updated, None


IMPL = Impl(forward)
