"""gates.sqrt_softplus."""

from moespec.program import Impl
from moespec_numba.gates._scores import SQRT_SOFTPLUS, scored

IMPL = Impl(*scored("gates.sqrt_softplus", SQRT_SOFTPLUS))
