"""gates.selected_sigmoid."""

from moespec.program import Impl
from moespec_numba.gates._scores import SIGMOID, selected

IMPL = Impl(*selected("gates.selected_sigmoid", SIGMOID))
