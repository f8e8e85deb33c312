"""Losses on Numba: one file per op, as in the reference."""

from moespec.program import Impl

OPS: dict[str, Impl] = {}
