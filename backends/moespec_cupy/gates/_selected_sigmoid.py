"""gates.selected_sigmoid."""

from moespec_cupy.gates._scores import scored

IMPL = scored("selected_sigmoid")
