"""gates.selected_sqrt_softplus."""

from moespec_cupy.gates._scores import scored

IMPL = scored("selected_sqrt_softplus")
