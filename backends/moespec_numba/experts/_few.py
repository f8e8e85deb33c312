"""Products of a few rows with a matrix: it is read once, straight through, where BLAS would first copy it into panels."""

from moespec_numba._kernel import REORDER, kernel

FEW = 4                 # rows up to which these are faster than BLAS


@kernel(fastmath=REORDER)
def few_nn(x, w, out):
    """out = x w, four rows of w at a time."""
    n, depth, width = len(x), w.shape[0], w.shape[1]
    out[:n] = 0
    for d in range(0, depth - 3, 4):
        for r in range(n):
            a, b, c, e = x[r, d], x[r, d + 1], x[r, d + 2], x[r, d + 3]
            for j in range(width):
                out[r, j] += a * w[d, j] + b * w[d + 1, j] + c * w[d + 2, j] + e * w[d + 3, j]
    for d in range(depth - depth % 4, depth):
        for r in range(n):
            a = x[r, d]
            for j in range(width):
                out[r, j] += a * w[d, j]


@kernel(fastmath=REORDER)
def few_nt_tn(y, w, x, add, out, dw):
    """out = y w^T (added to out where `add`), and dw = x^T y: one pass over w, one over dw."""
    width = w.shape[1]
    for i in range(len(w)):
        for r in range(len(y)):
            c, total = x[r, i], w.dtype.type(0)
            if r == 0:
                for j in range(width):
                    total += y[r, j] * w[i, j]
                    dw[i, j] = c * y[r, j]
            else:
                for j in range(width):
                    total += y[r, j] * w[i, j]
                    dw[i, j] += c * y[r, j]
            out[r, i] = out[r, i] + total if add else total
