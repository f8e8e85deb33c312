"""gates.sigmoid."""

from moespec.program import Impl
from moespec_numba.gates._scores import SIGMOID, scored

IMPL = Impl(*scored("gates.sigmoid", SIGMOID))
