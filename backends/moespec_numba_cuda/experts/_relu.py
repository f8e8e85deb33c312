"""experts.relu."""

from moespec_numba_cuda.experts._pointwise import pointwise

IMPL = pointwise("relu")
