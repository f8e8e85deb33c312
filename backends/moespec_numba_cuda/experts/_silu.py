"""experts.silu."""

from moespec_numba_cuda.experts._pointwise import pointwise

IMPL = pointwise("silu")
