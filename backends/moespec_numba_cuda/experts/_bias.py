"""The biases of row groups: added to the rows of every expert, and their gradients, summed over these rows."""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel


def add_bias(out, bias, offsets):
    """Add to every live row the bias of its expert, in place; nothing where `bias` is None."""
    if bias is not None:
        _add(items(out.size), out, bias, offsets)


def bias_gradient(dout, bias, offsets):
    """[E, F]: the rows of every expert added up; None where `bias` is."""
    if bias is None:
        return None
    found = empty(bias.shape, dout.dtype)
    _sums(items(found.size), dout, offsets, found)
    return found


@kernel("T2 T2 i1")
def _add(out, bias, offsets):
    experts, width = bias.shape
    for i in range(cuda.grid(1), out.shape[0] * width, cuda.gridsize(1)):
        n, j = i // width, i % width
        if n < offsets[experts]:
            low, high = 0, experts - 1
            while low < high:                           # the last expert that begins at or before n
                middle = (low + high + 1) // 2
                if offsets[middle] <= n:
                    low = middle
                else:
                    high = middle - 1
            out[n, j] += bias[low, j]


@kernel("T2 i1 T2")
def _sums(dout, offsets, found):
    experts, width = found.shape
    for i in range(cuda.grid(1), experts * width, cuda.gridsize(1)):
        e, j = i // width, i % width
        total = dout.dtype.type(0)
        for n in range(offsets[e], offsets[e + 1]):
            total += dout[n, j]
        found[e, j] = total
