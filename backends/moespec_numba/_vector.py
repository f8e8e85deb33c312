"""Rows inside kernels.  Loops of their own: an assignment of slices in a parallel kernel takes seconds to compile."""

from moespec_numba._kernel import REORDER, kernel


@kernel(entry=False)
def clear(row):
    """0 everywhere."""
    for d in range(len(row)):
        row[d] = 0


@kernel(entry=False)
def copy(row, values):
    """row[:] = values."""
    for d in range(len(row)):
        row[d] = values[d]


@kernel(entry=False)
def add_scaled(total, factor, values):
    """total += factor * values."""
    for d in range(len(total)):
        total[d] += factor * values[d]


@kernel(fastmath=REORDER, entry=False)
def inner(a, b):
    """The inner product, in vector lanes."""
    total = a.dtype.type(0)
    for d in range(len(a)):
        total += a[d] * b[d]
    return total


@kernel(fastmath=REORDER, entry=False)
def total(a):
    """The sum, in vector lanes."""
    found = a.dtype.type(0)
    for d in range(len(a)):
        found += a[d]
    return found


@kernel(fastmath=REORDER, entry=False)
def squared_distance(a, b):
    """|a - b|^2, in vector lanes."""
    total = a.dtype.type(0)
    for d in range(len(a)):
        total += (a[d] - b[d]) * (a[d] - b[d])
    return total


@kernel(entry=False)
def scale(row, factor, values):
    """row[:] = factor * values."""
    for d in range(len(row)):
        row[d] = factor * values[d]
