"""Layers of transformers checkpoints: tensors to parameters and back, linearly."""

from moespec.interop.hf._convert import export, load, spec
from moespec.interop.hf._read import read

__all__ = ["export", "load", "read", "spec"]
