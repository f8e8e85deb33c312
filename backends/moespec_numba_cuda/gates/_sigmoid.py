"""gates.sigmoid."""

from __future__ import annotations

from moespec_numba_cuda.gates._scored import scored

IMPL = scored("sigmoid")
