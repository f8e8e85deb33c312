"""Losses on the device."""

from moespec.program import Impl

OPS: dict[str, Impl] = {
}
