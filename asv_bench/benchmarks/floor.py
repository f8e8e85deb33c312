"""The floor of a layer's time: its grouped matrix products alone, on the real loads, with nothing around them; of one token, reading."""

from time import perf_counter

import numpy as np

from moespec.memory import aligned

PARTS, STREAMS = 16, 8  # of a matrix that is read, so that every thread has some; of a part, side by side


def grouped_products(offsets, d, f, dtype="float32", seed=0):
    """A function that runs the nine products of a GLU forward and backward, per expert, and nothing else.

    Results go to memory that is there already and used again, one gradient of each shape for all experts: less than a layer needs.
    """
    rng = np.random.default_rng(seed)
    n, experts = int(offsets[-1]), len(offsets) - 1

    def drawn(*shape):
        array = aligned(shape, dtype)
        array[...] = rng.standard_normal(shape, "float32")
        return array

    x, g, dx, h, dh, du = (drawn(n, size) for size in (d, d, d, f, f, f))
    gate, up, down = drawn(experts, d, f), drawn(experts, d, f), drawn(experts, f, d)
    dgate, ddown, made = aligned((d, f), dtype), aligned((f, d), dtype), aligned((n, f), dtype)

    def run():
        for e in range(experts):
            s = slice(offsets[e], offsets[e + 1])
            if s.start == s.stop:
                continue
            for w in gate, up:                                                  # forward
                np.matmul(x[s], w[e], out=made[s])
            np.matmul(h[s], down[e], out=dx[s])
            np.matmul(g[s], down[e].T, out=made[s])                             # down
            np.matmul(h[s].T, g[s], out=ddown)
            for w, dw in (gate, dh), (up, du):                                  # gate and up
                np.matmul(dw[s], w[e].T, out=dx[s])
                np.matmul(x[s].T, dw[s], out=dgate)

    return run


def reading(matrices):
    """A function that loads every number of `matrices` once, by Numba's threads: who multiplies one row with them does no less.

    Eight streams a thread: of a single one the memory delivers little more than half as much.
    """
    import numba
    parts, sums = tuple(m.reshape(PARTS, STREAMS, -1) for m in matrices), np.zeros(len(matrices) * PARTS, matrices[0].dtype)

    @numba.njit(parallel=True, fastmath=True)
    def load(parts, sums):
        for i in numba.prange(len(sums)):
            p = parts[i // PARTS][i % PARTS]
            total = p.dtype.type(0)
            for j in range(p.shape[1]):
                total += p[0, j] + p[1, j] + p[2, j] + p[3, j] + p[4, j] + p[5, j] + p[6, j] + p[7, j]
            sums[i] = total

    return lambda: load(parts, sums)


def ratio(run, floor, repeats=7):
    """Median over pairs of time(run) / time(floor), the two in turn so that a drifting machine moves both."""
    run(), floor()
    pairs = []
    for _ in range(repeats):
        start = perf_counter()
        floor()
        middle = perf_counter()
        run()
        pairs.append((perf_counter() - middle) / (middle - start))
    return float(np.median(pairs))
