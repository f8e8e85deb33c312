"""experts.relu2."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("relu2")
