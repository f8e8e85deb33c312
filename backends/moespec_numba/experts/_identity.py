"""experts.identity."""

from moespec_numba.experts._pointwise import pointwise

IMPL = pointwise("identity")
