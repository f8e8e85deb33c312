"""Products of a few rows with a matrix: it is read once, straight through, where BLAS would first copy it into panels.

Rows are taken together, so that what is loaded of the matrix is used for several of them.
"""

from moespec_numba._kernel import CONTRACT, REORDER, kernel
from moespec_numba._vector import add_scaled, clear, inner, scale

FEW = 16                # rows up to which these are faster than BLAS


@kernel(entry=False)
def few_nn(x, w, out):
    """out = x w."""
    if len(x) == 1:
        _one_nn(x[0], w, out[0])
    else:
        _some_nn(x, w, out)


@kernel(fastmath=CONTRACT, entry=False)
def _one_nn(x, w, out):
    """One row: eight parts of w side by side, each read straight through.  Only memory limits this, and it gives eight streams more than one."""
    clear(out)
    part = len(w) // 8
    for i in range(part):
        j, k, l, m, n, o, p = i + part, i + 2 * part, i + 3 * part, i + 4 * part, i + 5 * part, i + 6 * part, i + 7 * part
        a, b, c, d, e, f, g, h = x[i], x[j], x[k], x[l], x[m], x[n], x[o], x[p]
        for q in range(len(out)):
            out[q] = (out[q] + a * w[i, q] + b * w[j, q] + c * w[k, q] + d * w[l, q] + e * w[m, q] + f * w[n, q] + g * w[o, q]
                      + h * w[p, q])
    for i in range(8 * part, len(w)):
        a = x[i]
        for q in range(len(out)):
            out[q] += a * w[i, q]


@kernel(fastmath=CONTRACT, entry=False)
def _some_nn(x, w, out):
    """Several rows: four parts of w side by side, and two rows of x at a time."""
    n, depth, width = len(x), w.shape[0], w.shape[1]
    part = depth // 4
    for r in range(n):
        clear(out[r])
    for d in range(part):
        k, l, m = d + part, d + 2 * part, d + 3 * part
        for r in range(0, n - 1, 2):
            a, b, c, e = x[r, d], x[r, k], x[r, l], x[r, m]
            p, q, s, t = x[r + 1, d], x[r + 1, k], x[r + 1, l], x[r + 1, m]
            for j in range(width):
                out[r, j] = out[r, j] + a * w[d, j] + b * w[k, j] + c * w[l, j] + e * w[m, j]
                out[r + 1, j] = out[r + 1, j] + p * w[d, j] + q * w[k, j] + s * w[l, j] + t * w[m, j]
        if n % 2:
            a, b, c, e = x[n - 1, d], x[n - 1, k], x[n - 1, l], x[n - 1, m]
            for j in range(width):
                out[n - 1, j] = out[n - 1, j] + a * w[d, j] + b * w[k, j] + c * w[l, j] + e * w[m, j]
    for d in range(4 * part, depth):
        for r in range(n):
            a = x[r, d]
            for j in range(width):
                out[r, j] += a * w[d, j]


@kernel(entry=False)
def few_nt_tn(y, w, x, add, out, dw):
    """out = y w^T (added to out where `add`), and dw = x^T y: rows of y one by one until fours are left, which take two rows of w at a time."""
    n, depth = len(y), len(w)
    for i in range(0, depth, 2):
        both = i + 1 < depth
        for m in range(i, min(i + 2, depth)):
            _ones(y, w[m], x, m, n % 4 if both else n, add, out, dw[m])
        for r in range(n % 4 if both else n, n, 4):
            sums = _inner_of_four(y[r], y[r + 1], y[r + 2], y[r + 3], w[i], w[i + 1])
            for m in range(4):
                out[r + m, i] = sums[m] + (out[r + m, i] if add else 0)
                out[r + m, i + 1] = sums[4 + m] + (out[r + m, i + 1] if add else 0)
            _outer_of_four(x, y, r, i, dw[i], dw[i + 1])


@kernel(entry=False)
def _ones(y, w, x, i, rows, add, out, dw):
    """Column i of out and row i of dw, for the first rows of y."""
    if len(y) == 0:
        clear(dw)
    for r in range(rows):
        total = inner(y[r], w)
        out[r, i] = out[r, i] + total if add else total
        if r == 0:
            scale(dw, x[r, i], y[r])
        else:
            add_scaled(dw, x[r, i], y[r])


@kernel(fastmath=REORDER, entry=False)
def _inner_of_four(a, b, c, e, v, w):
    """The inner products of four rows with v, and with w."""
    zero = w.dtype.type(0)
    s, t, p, q, k, l, m, n = zero, zero, zero, zero, zero, zero, zero, zero
    for j in range(len(w)):
        s += a[j] * v[j]
        t += b[j] * v[j]
        p += c[j] * v[j]
        q += e[j] * v[j]
        k += a[j] * w[j]
        l += b[j] * w[j]
        m += c[j] * w[j]
        n += e[j] * w[j]
    return s, t, p, q, k, l, m, n


@kernel(fastmath=CONTRACT, entry=False)
def _outer_of_four(x, y, r, i, v, w):
    """What four rows of y add to rows i and i + 1 of x^T y; the first ones are not added to anything."""
    a, b, c, e = x[r, i], x[r + 1, i], x[r + 2, i], x[r + 3, i]
    p, q, s, t = x[r, i + 1], x[r + 1, i + 1], x[r + 2, i + 1], x[r + 3, i + 1]
    if r == 0:
        for j in range(len(w)):
            v[j] = a * y[r, j] + b * y[r + 1, j] + c * y[r + 2, j] + e * y[r + 3, j]
            w[j] = p * y[r, j] + q * y[r + 1, j] + s * y[r + 2, j] + t * y[r + 3, j]
    else:
        for j in range(len(w)):
            v[j] += a * y[r, j] + b * y[r + 1, j] + c * y[r + 2, j] + e * y[r + 3, j]
            w[j] += p * y[r, j] + q * y[r + 1, j] + s * y[r + 2, j] + t * y[r + 3, j]
