"""Bridges: `moespec.interop.hf` (checkpoints), `moespec.interop.torch` and `moespec.interop.jax` (each needs its library)."""
