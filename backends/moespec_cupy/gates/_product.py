"""Matrix products of a router, by the library: two-dimensional ones only, which accumulate in float32 at least.

CuPy lets nobody call cuBLAS while a stream is captured into a graph: then they are tiles of one group.
"""

from moespec_cupy import _launcher
from moespec_cupy._kernel import accumulation, empty, read, zeros
from moespec_cupy.experts._products import Groups, nn
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
    if _launcher.get().capturing():
        return nn(read(a), read(b)[None], Groups(_launcher.get().xp.arange(2, dtype="int64") * len(a), None))
    out = empty(shape, a.dtype)
    _launcher.get().matmul(a, b, out)
    return out
