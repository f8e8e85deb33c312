"""experts.relu."""

from moespec_cupy.experts._pointwise import pointwise

IMPL = pointwise("relu")
