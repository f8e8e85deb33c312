"""gates.sinkhorn."""

import math

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, columns, empty, items, read, rows, zeros

KERNELS = Kernels(__file__, "_sinkhorn.cu")


def forward(logits, *, iterations=20):
    dims = admit("gates.sinkhorn", logits, iterations=iterations)
    l, plan, acc = read(logits), empty(logits.shape, logits.dtype), accumulation(logits.dtype)
    if l.size:
        of_rows, of_columns, share = empty(dims.T, acc), zeros(dims.E, acc), math.log(dims.T / dims.E)
        for _ in range(iterations):
            KERNELS("scale_rows", rows(dims.T), l, of_columns, of_rows, dims.T, dims.E)
            KERNELS("scale_columns", columns(dims.E, dims.T), l, of_rows, share, of_columns, dims.T, dims.E)
        KERNELS("scaled", items(l.size), l, of_rows, of_columns, plan, l.size, dims.E)
    return plan, None


IMPL = Impl(forward)
