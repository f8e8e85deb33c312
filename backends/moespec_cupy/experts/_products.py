"""Products of rows that are sorted by expert: how many each expert has stays on the device."""

from moespec_cupy._kernel import Grid, Kernels, accumulation, empty, items, read

KERNELS = Kernels(__file__, "_grouped.cu")
THREADS = 256                 # as in simt.cuh and tensor.cuh
MOST = 1 << 16


def tiles(rows, columns, groups, dtype):
    """A block for every tile of [rows, columns], some of which turn out to be empty."""
    size = 128 if dtype.itemsize == 2 else 64
    return Grid(min((rows // size + groups + 1) * -(-columns // size), MOST), THREADS)


def nn(x, w, offsets, b=None, index=None):
    """[N, F]: x_n W_e + b_e; with an index row n is x[index[n]].  Dead rows are 0."""
    (experts, depth, width), rows = w.shape, len(x if index is None else index)
    out = empty((rows, width), x.dtype)
    KERNELS("grouped_nn", tiles(rows, width, experts, x.dtype), x, index, w, b, offsets, out, rows, len(x), depth, width, experts)
    return out


def nt(dy, w, offsets, dy2=None, w2=None):
    """[N, D]: dy_n W_e^T, plus the same of a second pair.  Dead rows are 0."""
    (experts, width, depth), rows = w.shape, len(dy)
    dx = empty((rows, width), dy.dtype)
    KERNELS("grouped_nt", tiles(rows, width, experts, dy.dtype), dy, w, dy2, w2, offsets, dx, rows, depth, width, experts)
    return dx


def tn(x, dy, offsets, index=None):
    """[E, D, F]: the sum of x_n^T dy_n over the rows of every expert."""
    (rows, width), height, experts = dy.shape, x.shape[1], len(offsets) - 1
    dw = empty((experts, height, width), x.dtype)
    grid = Grid(min(experts * -(-height // 64) * -(-width // 64), MOST), THREADS)
    KERNELS("grouped_tn", grid, x, index, dy, offsets, dw, rows, len(x), height, width, experts)
    return dw


def sums(dy, offsets, b):
    """[E, F]: the sum of dy_n over the rows of every expert; None where there is no bias `b`."""
    if b is None:
        return None
    db = empty(b.shape, dy.dtype)
    KERNELS("grouped_sums", items(b.size), dy, offsets, db, *dy.shape, len(b))
    return db


def common(*arrays):
    """The arrays in one dtype: theirs, or the accumulation dtype where they differ; None stays None."""
    dtypes = {a.dtype for a in arrays if a is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else accumulation(*dtypes)
    return [read(a, dtype) for a in arrays]


def like(array, result):
    """`result` in the dtype of the input `array`; None where there is none."""
    return None if array is None else result.astype(array.dtype, copy=False)
