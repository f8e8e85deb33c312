"""gates.selected_sqrt_softplus."""

from moespec.program import Impl
from moespec_numba.gates._scores import SQRT_SOFTPLUS, selected

IMPL = Impl(*selected("gates.selected_sqrt_softplus", SQRT_SOFTPLUS))
