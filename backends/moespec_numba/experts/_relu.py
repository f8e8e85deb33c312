"""experts.relu."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("relu")
