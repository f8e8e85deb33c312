"""Experts on the device."""

from moespec_numba_cuda.experts import (
    _grouped_matmul,
)

OPS = {
    "experts.grouped_matmul": _grouped_matmul.IMPL,
}
