"""Bridges: `hf` (checkpoints), `trace` (routing decisions), `torch`, `jax` and `transformers` (each needs its library)."""
