"""experts.silu."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("silu")
