"""gates.l2_normalize."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, columns, empty, items, one_block, read, rows

KERNELS = Kernels(__file__, "_l2_normalize.cu")


class Saved(NamedTuple):
    x: Any                  # N D
    scale: Any              # (), or None
    squares: Any            # N or D: of the lengths, in the accumulation dtype
    by_rows: bool
    eps: float


def forward(x, scale=None, *, axis=1, eps=1e-6):
    admit("gates.l2_normalize", x, scale, axis=axis, eps=eps)
    x, scale, y = read(x), read(scale), empty(x.shape, x.dtype)
    saved = Saved(x, scale, _inner(x, x, axis == 1, scale), axis == 1, eps)
    KERNELS("l2_normalize", items(x.size), *saved, y, *_size(x))
    return y, saved


def backward(saved, dy):
    x, dy, dx = saved.x, read(dy), empty(saved.x.shape, saved.x.dtype)
    inner = _inner(x, dy, saved.by_rows, saved.scale)
    KERNELS("l2_normalize_backward", items(x.size), *saved, dy, inner, dx, *_size(x))
    if saved.scale is None:
        return dx, None
    dscale = empty((), saved.scale.dtype)
    KERNELS("scale_backward", one_block(), saved.squares, inner, saved.eps, dscale, inner.size)
    return dx, dscale


def _inner(a, b, by_rows, scale):
    """The inner products of rows or columns, in the dtype that all of the op is computed in."""
    count, width = a.shape
    dtype = accumulation(a.dtype)
    inner = empty(count if by_rows else width, dtype)
    if by_rows:
        KERNELS("inner_of_rows", rows(count), a, b, inner, count, width)
    else:
        KERNELS("inner_of_columns", columns(width, count), a, b, inner, count, width)
    return inner.astype(accumulation(dtype, dtype if scale is None else scale.dtype))


def _size(x):
    return x.size, x.shape[1]


IMPL = Impl(forward, backward)
