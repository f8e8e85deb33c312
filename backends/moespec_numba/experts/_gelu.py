"""experts.gelu."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("gelu")
