"""Stage `bench_numba_cuda`: in float32, beside CuPy and cuBLAS, the products of experts, the launch of a kernel, and a layer."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import numpy as np

import moespec
from gpu.bench import AGREE, SHAPES, timed
from gpu.layers import Layer
from gpu.machine import machine
from gpu.numba_cuda import missing
from gpu.stage import main
from moespec_cupy import _launcher

IN_A_DRY_RUN = SHAPES[0]._replace(T=12, D=16, F=8, E=4, K=2)
OF_LAYERS, OF_PRODUCTS = SHAPES[:3], SHAPES[1:3]
LAUNCHES = 10_000


def work(options):
    if why := missing(options.dry_run):
        return {"ok": True, "not_run": why}
    from moespec_numba_cuda import BACKEND
    ready, told = BACKEND.available()
    if not ready:
        return {"ok": False, "message": told}
    here, dry = machine(options.dry_run), options.dry_run
    rounds, found = 2 if dry else 3 if options.quick else 9, {"execution": here.execution, "device": told, "products": [], "layers": []}
    with BACKEND.using(here.stream()):
        found["launches"] = launches(here, 3 if dry else LAUNCHES)
        for kind, measure, shapes in (("products", products, OF_PRODUCTS), ("layers", layer, OF_LAYERS)):
            for shape in [IN_A_DRY_RUN] if dry else shapes:
                found[kind] += measure(here, shape, rounds)
                options.save({"ok": False, "message": "not everything was measured", **found})
                print(found[kind][-1], flush=True)
                here.tidy()
    broken = [name for row in found["products"] + found["layers"] for name, c in row["candidates"].items() if "failed" in c]
    return {"ok": not broken, **found}


def launches(here, count):
    """Microseconds of one launch among many: by the backend, which checks what it hands over, by Numba alone, by CuPy."""
    from moespec_numba_cuda._device import cuda, stream
    from moespec_numba_cuda._kernel import Grid, kernel

    def nothing(x):
        x[0] = 0

    x = here.normal((1,), "float32")
    y, ours = numba_array(here, x), kernel("f1")(nothing)
    bare = cuda.jit([ours.signature("float32")])(nothing)[1, 1, stream()]
    runs = {"numba-cuda": lambda: ours(Grid(1, 1), y), "Numba": lambda: bare(y), "cupy": here.bare_launch(x)}
    for run in runs.values():
        here.milliseconds(run, 3)
    return {name: 1e3 * here.milliseconds(run, count) for name, run in runs.items()}


def products(here, shape, rounds):
    """A row a product: over experts in tiles, results in CuPy's memory, and dense by cuBLAS with as many operations."""
    from moespec_numba_cuda.experts._products import nn, nt, tn
    t, d, f, e, k = shape
    n, dense = t * k, _launcher.get().matmul
    x, dy, w, one, y, dx, dw = (here.normal(size, "float32") for size in ((n, d), (n, f), (e, d, f), (d, f), (n, f), (n, d), (d, f)))
    rows, cotangents, matrices = (numba_array(here, a) for a in (x, dy, w))
    offsets = np.cumsum([0, *np.random.default_rng(0).multinomial(n, np.full(e, 1 / e))])
    own = numba_array(here, here.backend.from_numpy(offsets))
    pairs = {"nn": (silent(nn, rows, matrices, own), silent(dense, x, one, y)),
             "nt": (silent(nt, cotangents, matrices, own), silent(dense, dy, one.T, dx)),
             "tn": (silent(tn, rows, cotangents, own), silent(dense, x.T, dy, dw))}
    found = []
    for name, (ours, floor) in pairs.items():
        makers = [("numba-cuda", candidate(pooled(here, ours))), ("cublas", candidate(floor))]
        found.append({"shape": list(shape), "dtype": "float32", "product": name,
                      "candidates": timed(here, makers, 2 * n * d * f, AGREE["float32"], rounds)})
    return found


def layer(here, shape, rounds):
    """One row: forward and backward on CuPy and on Numba-CUDA, the latter in memory of its own and in CuPy's."""
    from moespec_numba_cuda import BACKEND
    one = Layer(here, shape, "float32")
    weights, x, dy = {name: here.to_numba(a) for name, a in one.weights.items()}, here.to_numba(one.x), here.to_numba(one.dy)

    def step():
        out, saved = moespec.forward(one.spec, weights, x, backend=BACKEND)
        return out.y, moespec.backward(saved, dy).x

    tile, shared = one.step("tile"), pooled(here, step)
    makers = [("cupy", candidate(tile, lambda: here.peak(tile), here.backend.to_numpy)), ("numba-cuda", candidate(step, to_numpy=BACKEND.to_numpy)),
              ("numba-cuda, CuPy's memory", candidate(shared, lambda: here.peak(shared), BACKEND.to_numpy))]
    return [{"shape": list(shape), "dtype": "float32", "candidates": timed(here, makers, shape.flops, AGREE["float32"], rounds)}]


def numba_array(here, array):
    from moespec_numba_cuda._arrays import accept
    return accept(here.to_numba(array))


def candidate(run, peak=lambda: 0, to_numpy=None):
    """What makes it."""
    return lambda: (run, peak, to_numpy)


def silent(function, *args):
    """Results are nobody's: experts have matrices of their own, a dense product has one."""
    def run():
        function(*args)
    return run


def pooled(here, run):
    """`run` with what the backend allocates taken from CuPy's pool: by itself Numba asks the driver for every array."""
    def inside():
        with memory_of(here):
            return run()
    return inside


@contextmanager
def memory_of(here):
    from moespec_numba_cuda import _arrays
    own, _arrays.allocate = _arrays.allocate, here.memory_for_numba
    try:
        yield
    finally:
        _arrays.allocate = own


if __name__ == "__main__":
    sys.exit(main(work))
