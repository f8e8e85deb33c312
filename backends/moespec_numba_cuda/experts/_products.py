"""The grouped products: rows sorted by expert times its matrix, and the two products of backward.

Blocks take tiles of the result; a tile finds its expert in the offsets on the device, so that nobody waits to learn how many rows there
are.  A block stages panels of both operands in shared memory, a thread holds a small square of the result in registers.
"""

from __future__ import annotations

from moespec_numba_cuda._arrays import empty
from moespec_numba_cuda._device import SIMULATED, cuda, device
from moespec_numba_cuda._kernel import MOST, Grid, kernel

EDGE = 4 if SIMULATED else 64           # of a tile, rows and columns
DEPTH = 3 if SIMULATED else 16          # of a panel
ROW = EDGE + 1                          # of it in shared memory: neighbours in a column lie in different banks
OWN = 2 if SIMULATED else 4             # edge of the square that a thread holds
SIDE = EDGE // OWN                      # threads of a block, in either direction
THREADS = SIDE * SIDE


def nn(x, w, offsets):
    """[N, F]: x_n W_e; dead rows are 0."""
    out = empty((x.shape[0], w.shape[2]), x.dtype)
    _nn(_tiles(out.shape[0], out.shape[1], len(w)), x, w, offsets, out)
    return out


def nt(dy, w, offsets):
    """[N, D]: dy_n W_e^T; dead rows are 0."""
    dx = empty((dy.shape[0], w.shape[1]), dy.dtype)
    _nt(_tiles(dx.shape[0], dx.shape[1], len(w)), dy, w, offsets, dx)
    return dx


def tn(x, dy, offsets):
    """[E, D, F]: the sum of x_n^T dy_n over the rows of every expert."""
    dw = empty((len(offsets) - 1, x.shape[1], dy.shape[1]), x.dtype)
    _tn(Grid(min(len(dw) * -(-dw.shape[1] // EDGE) * -(-dw.shape[2] // EDGE), MOST), THREADS), x, dy, offsets, dw)
    return dw


def _tiles(rows, columns, experts):
    """A block for every tile, some of which turn out to be empty: an expert has a last tile that is not full, and so do the dead rows."""
    return Grid(min((rows // EDGE + experts + 1) * -(-columns // EDGE), MOST), THREADS)


@device
def _find(tile, offsets, rows):
    """(expert, first row, row after the last) of a tile of rows; the dead rows are those of the expert after the last."""
    start, experts = 0, len(offsets) - 1
    for e in range(experts + 1):
        stop = offsets[e + 1] if e < experts else rows
        here = (stop - start + EDGE - 1) // EDGE
        if tile < here:
            return e, start + tile * EDGE, stop
        tile -= here
        start = stop
    return experts, rows, rows


@device
def _clear(held):
    for m in range(OWN):
        for n in range(OWN):
            held[m, n] = 0


@device
def _store(held, out, first, stop, column):
    """The thread's square of the tile that begins at (first, column); rows from `stop` on are somebody else's."""
    for m in range(OWN):
        for n in range(OWN):
            r, c = first + cuda.threadIdx.x // SIDE * OWN + m, column + cuda.threadIdx.x % SIDE + SIDE * n
            if r < stop and c < out.shape[1]:
                out[r, c] = held[m, n]


@device
def _add_products(a, b, depth, held):
    """held += a^T b over a panel: a[k, m] of the rows, b[k, n] of the columns.

    The columns of a thread lie SIDE apart: neighbours read different banks.
    """
    line, column = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
    for k in range(depth):
        for m in range(OWN):
            for n in range(OWN):
                held[m, n] += a[k, line * OWN + m] * b[k, column + SIDE * n]


@kernel("T2 T3 i1 T2")
def _nn(x, w, offsets, out):
    a = cuda.shared.array((DEPTH, ROW), x.dtype)
    b = cuda.shared.array((DEPTH, ROW), x.dtype)
    held = cuda.local.array((OWN, OWN), x.dtype)
    rows, (experts, depth, width) = out.shape[0], w.shape
    across = (width + EDGE - 1) // EDGE
    for tile in range(cuda.blockIdx.x, (rows // EDGE + experts + 1) * across, cuda.gridDim.x):
        e, first, stop = _find(tile // across, offsets, rows)
        column = tile % across * EDGE
        _clear(held)
        for start in range(0, depth if e < experts and first < stop else 0, DEPTH):
            for i in range(cuda.threadIdx.x, DEPTH * EDGE, THREADS):
                r, k = i // DEPTH, i % DEPTH                              # neighbours read along a row of x
                a[k, r] = x[first + r, start + k] if first + r < stop and start + k < depth else 0
            for i in range(cuda.threadIdx.x, DEPTH * EDGE, THREADS):
                k, c = i // EDGE, i % EDGE                                # and along one of w
                b[k, c] = w[e, start + k, column + c] if start + k < depth and column + c < width else 0
            cuda.syncthreads()
            _add_products(a, b, DEPTH, held)
            cuda.syncthreads()
        _store(held, out, first, stop, column)


@kernel("T2 T3 i1 T2")
def _nt(dy, w, offsets, dx):
    a = cuda.shared.array((DEPTH, ROW), dy.dtype)
    b = cuda.shared.array((DEPTH, ROW), dy.dtype)
    held = cuda.local.array((OWN, OWN), dy.dtype)
    rows, (experts, width, depth) = dx.shape[0], w.shape
    across = (width + EDGE - 1) // EDGE
    for tile in range(cuda.blockIdx.x, (rows // EDGE + experts + 1) * across, cuda.gridDim.x):
        e, first, stop = _find(tile // across, offsets, rows)
        column = tile % across * EDGE
        _clear(held)
        for start in range(0, depth if e < experts and first < stop else 0, DEPTH):
            for i in range(cuda.threadIdx.x, DEPTH * EDGE, THREADS):
                r, k = i // DEPTH, i % DEPTH
                a[k, r] = dy[first + r, start + k] if first + r < stop and start + k < depth else 0
                b[k, r] = w[e, column + r, start + k] if column + r < width and start + k < depth else 0
            cuda.syncthreads()
            _add_products(a, b, DEPTH, held)
            cuda.syncthreads()
        _store(held, dx, first, stop, column)


@kernel("T2 T2 i1 T3")
def _tn(x, dy, offsets, dw):
    a = cuda.shared.array((DEPTH, ROW), x.dtype)
    b = cuda.shared.array((DEPTH, ROW), x.dtype)
    held = cuda.local.array((OWN, OWN), x.dtype)
    experts, height, width = dw.shape
    down, across = (height + EDGE - 1) // EDGE, (width + EDGE - 1) // EDGE
    for tile in range(cuda.blockIdx.x, experts * down * across, cuda.gridDim.x):
        e, line, column = tile // (down * across), tile // across % down * EDGE, tile % across * EDGE
        _clear(held)
        stop = offsets[e + 1]
        for start in range(offsets[e], stop, DEPTH):
            for i in range(cuda.threadIdx.x, DEPTH * EDGE, THREADS):
                k, c = i // EDGE, i % EDGE
                a[k, c] = x[start + k, line + c] if start + k < stop and line + c < height else 0
                b[k, c] = dy[start + k, column + c] if start + k < stop and column + c < width else 0
            cuda.syncthreads()
            _add_products(a, b, DEPTH, held)
            cuda.syncthreads()
        _store(held, dw[e], line, height, column)
