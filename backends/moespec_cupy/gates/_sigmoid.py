"""gates.sigmoid."""

from moespec_cupy.gates._scores import scored

IMPL = scored("sigmoid")
