"""experts.gelu_tanh."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("gelu_tanh")
