"""Products of a few rows with a matrix: it is read once, straight through, where BLAS would first copy it into panels.

Rows are taken together, so that what is loaded of the matrix is used for several of them.
"""

from moespec_numba._kernel import CONTRACT, REORDER, kernel
from moespec_numba._vector import inner

FEW = 16                # rows up to which these are faster than BLAS


@kernel(fastmath=CONTRACT, entry=False)
def few_nn(x, w, out):
    """out = x w, four rows of w and two of x at a time."""
    n, depth, width = len(x), w.shape[0], w.shape[1]
    for r in range(n):
        for j in range(width):
            out[r, j] = 0
    for d in range(0, depth - 3, 4):
        for r in range(0, n - 1, 2):
            a, b, c, e = x[r, d], x[r, d + 1], x[r, d + 2], x[r, d + 3]
            p, q, s, t = x[r + 1, d], x[r + 1, d + 1], x[r + 1, d + 2], x[r + 1, d + 3]
            for j in range(width):
                out[r, j] = out[r, j] + a * w[d, j] + b * w[d + 1, j] + c * w[d + 2, j] + e * w[d + 3, j]
                out[r + 1, j] = out[r + 1, j] + p * w[d, j] + q * w[d + 1, j] + s * w[d + 2, j] + t * w[d + 3, j]
        if n % 2:
            a, b, c, e = x[n - 1, d], x[n - 1, d + 1], x[n - 1, d + 2], x[n - 1, d + 3]
            for j in range(width):
                out[n - 1, j] = out[n - 1, j] + a * w[d, j] + b * w[d + 1, j] + c * w[d + 2, j] + e * w[d + 3, j]
    for d in range(depth - depth % 4, depth):
        for r in range(n):
            a = x[r, d]
            for j in range(width):
                out[r, j] += a * w[d, j]


@kernel(fastmath=CONTRACT, entry=False)
def few_nt_tn(y, w, x, add, out, dw):
    """out = y w^T (added to out where `add`), and dw = x^T y: one pass over w, and one over dw for every four rows."""
    n, width = len(y), w.shape[1]
    for i in range(len(w)):
        for r in range(0, n - 3, 4):
            s, t, p, q = _inner_of_four(y[r], y[r + 1], y[r + 2], y[r + 3], w[i])
            if add:
                s, t, p, q = s + out[r, i], t + out[r + 1, i], p + out[r + 2, i], q + out[r + 3, i]
            out[r, i], out[r + 1, i], out[r + 2, i], out[r + 3, i] = s, t, p, q
        for r in range(n - n % 4, n):
            s = inner(y[r], w[i])
            out[r, i] = out[r, i] + s if add else s
        for r in range(n % 4):
            a = x[r, i]
            for j in range(width):
                dw[i, j] = a * y[r, j] if r == 0 else dw[i, j] + a * y[r, j]
        for r in range(n % 4, n, 4):
            a, b, c, e = x[r, i], x[r + 1, i], x[r + 2, i], x[r + 3, i]
            for j in range(width):
                more = a * y[r, j] + b * y[r + 1, j] + c * y[r + 2, j] + e * y[r + 3, j]
                dw[i, j] = more if r == 0 else dw[i, j] + more
        if n == 0:
            for j in range(width):
                dw[i, j] = 0


@kernel(fastmath=REORDER, entry=False)
def _inner_of_four(a, b, c, e, w):
    """Four inner products with one row of w."""
    s, t, p, q = w.dtype.type(0), w.dtype.type(0), w.dtype.type(0), w.dtype.type(0)
    for j in range(len(w)):
        s += a[j] * w[j]
        t += b[j] * w[j]
        p += c[j] * w[j]
        q += e[j] * w[j]
    return s, t, p, q
