"""Columns: their sums over all tokens."""

from moespec_cupy._kernel import Grid, Kernels, empty, items, read

KERNELS = Kernels(__file__, "_columns.cu")


def columns(width):
    """The grid that columns.cuh wants."""
    return Grid(items(width, 32).blocks, 1024)


def sum_columns(x, dtype):
    """The sum of `x` [T, D] over the tokens."""
    sums = empty(x.shape[1], dtype)
    KERNELS("sum_columns", columns(x.shape[1]), read(x), sums, *x.shape)
    return sums


def sum_products(x, y):
    """The sum of x y over the tokens, in the dtype of `y`."""
    sums = empty(x.shape[1], y.dtype)
    KERNELS("sum_products", columns(x.shape[1]), read(x), read(y), sums, *x.shape)
    return sums
