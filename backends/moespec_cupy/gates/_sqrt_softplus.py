"""gates.sqrt_softplus."""

from moespec_cupy.gates._scores import scored

IMPL = scored("sqrt_softplus")
