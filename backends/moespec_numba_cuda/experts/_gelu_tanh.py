"""experts.gelu_tanh."""

from moespec_numba_cuda.experts._pointwise import pointwise

IMPL = pointwise("gelu_tanh")
