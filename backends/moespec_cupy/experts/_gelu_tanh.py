"""experts.gelu_tanh."""

from moespec_cupy.experts._pointwise import pointwise

IMPL = pointwise("gelu_tanh")
