"""experts.gelu."""

from moespec_numba_cuda.experts._pointwise import pointwise

IMPL = pointwise("gelu")
