"""Matrix products of a router, by the library: two-dimensional ones only, which accumulate in float32 at least."""

from moespec_cupy import _launcher
from moespec_cupy._kernel import accumulation, empty, zeros
from moespec_cupy.gates._elementwise import cast


def product(a, b, dtype):
    """a @ b, rounded once to `dtype`; arrays of one dtype are multiplied as they are, others in the accumulation dtype."""
    shape = (a.shape[0], b.shape[1])
    if not a.size or not b.size:
        return zeros(shape, dtype)
    if a.dtype != b.dtype or a.dtype != dtype:
        wide = accumulation(a.dtype, b.dtype, dtype)
        return cast(_multiplied(cast(a, wide), cast(b, wide), shape), dtype)
    return _multiplied(a, b, shape)


def _multiplied(a, b, shape):
    out = empty(shape, a.dtype)
    _launcher.get().matmul(a, b, out)
    return out
