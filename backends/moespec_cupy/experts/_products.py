"""Products of rows that are sorted by expert: by tiles, where the number of rows of each stays on the device, or by cuBLAS."""

from itertools import pairwise
from typing import Any, NamedTuple

from moespec_cupy import _launcher, _options
from moespec_cupy._kernel import Grid, Kernels, accumulation, empty, items, read

KERNELS = Kernels(__file__, "_grouped.cu")
THREADS = 256                 # as in simt.cuh and tensor.cuh


class Groups(NamedTuple):
    """Rows offsets[e] : offsets[e+1] belong to expert e."""

    offsets: Any                # E+1, on the device
    bounds: Any                 # the same as a list, where cuBLAS needs it

    def loop(self):
        """(expert, its rows), of experts that have any."""
        return [(e, slice(start, stop)) for e, (start, stop) in enumerate(pairwise(self.bounds)) if stop > start]


def groups(offsets) -> Groups:
    """Waits for the device only if cuBLAS is to compute the products."""
    offsets = read(offsets, "int64")
    return Groups(offsets, _launcher.get().to_numpy(offsets).tolist() if _options.gemm() != "tile" else None)


def side(dtype):
    """Rows and columns of a tile."""
    return 128 if dtype.itemsize == 2 else 64


def tiles(rows, columns, experts, dtype):
    """A block for every tile of [rows, columns], some of which turn out to be empty."""
    return Grid((rows // side(dtype) + experts + 1) * -(-columns // side(dtype)), THREADS)


def nn(x, w, own, b=None):
    """[N, F]: x_n W_e + b_e; dead rows are 0."""
    (experts, depth, width), rows = w.shape, len(x)
    out = empty((rows, width), x.dtype)
    if own.bounds is None or b is not None:
        KERNELS("grouped_nn", tiles(rows, width, experts, x.dtype), x, None, w, b, own.offsets, out, rows, rows, depth, width, experts)
        return out
    out[own.bounds[-1]:] = 0
    by_expert(x, w, out, own)
    return out


def nt(dy, w, own, dy2=None, w2=None):
    """[N, D]: dy_n W_e^T, plus the same of a second pair; dead rows are 0."""
    (experts, width, depth), rows = w.shape, len(dy)
    dx = empty((rows, width), dy.dtype)
    if own.bounds is None:
        KERNELS("grouped_nt", tiles(rows, width, experts, dy.dtype), dy, w, dy2, w2, own.offsets, dx, rows, depth, width, experts)
        return dx
    dx[own.bounds[-1]:] = 0
    by_expert(dy, w, dx, own, transpose_b=True)
    return dx if dy2 is None else dx + nt(dy2, w2, own)


def tn(x, dy, own, index=None):
    """[E, D, F]: the sum of x_n^T dy_n over the rows of every expert; with an index (tiles only) row n of x is x[index[n]]."""
    (rows, width), height, experts = dy.shape, x.shape[1], len(own.offsets) - 1
    dw = empty((experts, height, width), x.dtype)
    if own.bounds is None:
        grid = Grid(experts * -(-height // side(x.dtype)) * -(-width // side(x.dtype)), THREADS)
        KERNELS("grouped_tn", grid, x, index, dy, own.offsets, dw, rows, len(x), height, width, experts)
        return dw
    dw[...] = 0
    by_expert(x, dy, dw, own, transpose_a=True)
    return dw


def by_expert(a, b, out, own, transpose_a=False, transpose_b=False):
    """out_e = a_e b_e for every expert that has rows: its rows of an array [N, .], its matrix of an array [E, ., .]; others stay as they are."""
    if _options.gemm() == "nvmath" and _launcher.get().grouped_matmul(a, b, out, own.bounds, transpose_a, transpose_b):
        return
    for e, s in own.loop():
        left, right, to = (array[s if array.ndim == 2 else e] for array in (a, b, out))
        _launcher.get().matmul(left.T if transpose_a else left, right.T if transpose_b else right, to)


def sums(dy, own, b):
    """[E, F]: the sum of dy_n over the rows of every expert; None where there is no bias `b`."""
    if b is None:
        return None
    db = empty(b.shape, dy.dtype)
    KERNELS("grouped_sums", items(b.size), dy, own.offsets, db, *dy.shape, len(b))
    return db


def common(*arrays):
    """The arrays in one dtype: theirs, or the accumulation dtype where they differ; None stays None."""
    dtypes = {a.dtype for a in arrays if a is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else accumulation(*dtypes)
    return [read(a, dtype) for a in arrays]


def like(array, result):
    """`result` in the dtype of the input `array`; None where there is none."""
    return None if array is None else result.astype(array.dtype, copy=False)
