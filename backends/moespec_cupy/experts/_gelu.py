"""experts.gelu."""

from moespec_cupy.experts._pointwise import pointwise

IMPL = pointwise("gelu")
