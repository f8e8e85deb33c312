"""Stage `bench`: layers forward and backward, every candidate in turn, beside torch and beside their matrix products alone."""

from __future__ import annotations

import gc
import sys

import numpy as np

from gpu.layers import Layer, Shape
from gpu.machine import machine
from gpu.stage import main
from gpu.torch_layer import Absent, TorchLayer
from moespec_cupy._options import GEMM

T = 8192
SHAPES = [Shape(T, 768, 256, 128, 8), Shape(T, 1536, 512, 64, 4), Shape(T, 4096, 1024, 64, 4), Shape(T, 4096, 14336, 8, 2)]
DTYPES = ["bfloat16", "float32"]
IN_A_DRY_RUN = [Shape(12, 16, 8, 4, 2)], ["float32", "bfloat16"]
BURST = 30.0                    # ms, about, of calls of one candidate before the next has its turn
AGREE = {"float32": 1e-3, "bfloat16": 3e-2}       # relative difference of a token, the median over all: ties may be routed otherwise


def work(options):
    here, rows = machine(options.dry_run), []
    shapes, dtypes = IN_A_DRY_RUN if options.dry_run else (SHAPES, DTYPES)
    for shape in shapes:
        for dtype in dtypes:
            rows.append(measured(here, shape, dtype, rounds=2 if options.dry_run else 3 if options.quick else 9))
            options.save({"ok": False, "message": "not all shapes were measured", "rows": rows})
            print(rows[-1], flush=True)
            gc.collect()
            here.tidy()
    broken = [name for row in rows for name, c in row["candidates"].items() if "failed" in c]
    return {"ok": not broken, "execution": here.execution, "rows": rows}


def measured(here, shape, dtype, rounds):
    """Everything about one shape in one dtype."""
    layer = Layer(here, shape, dtype)
    candidates = timed(here, makers(layer), shape.flops, AGREE[dtype], rounds)
    parts = {name: (here.milliseconds(run), here.milliseconds(run, 5), size) for name, (run, size) in layer.parts().items()}
    return {"shape": list(shape), "dtype": dtype, "candidates": candidates,
            "parts": {name: {"ms": ms, "gb_per_s": size / ms / 1e6} for name, (_, ms, size) in parts.items()}}


def timed(here, makers, flops, agree, rounds):
    """What is known of every candidate, with its times if it runs and agrees."""
    runs, known = ready(here, makers, agree)
    times = alternated(here, {name: run for name, (run, _) in runs.items()}, rounds)
    for name, (_, peak) in runs.items():
        known[name] |= {"min_ms": min(times[name]), "median_ms": float(np.median(times[name])), "peak_bytes": peak(),
                        "tflops": flops / min(times[name]) / 1e9}
        here.tidy()
    return known


def ready(here, makers, agree):
    """({name: (run, peak)} of the candidates that run and agree with the first, what is known of every candidate)."""
    runs, known, wanted = {}, {}, None
    for name, make in makers:
        try:
            run, peak, to_numpy = make()
            found = [to_numpy(a) for a in run() or ()]
        except (Absent, ModuleNotFoundError) as error:
            known[name] = {"absent": str(error)}
        except Exception as error:          # another candidate's trouble is no reason to measure nothing
            known[name] = {"absent" if name == "torch" else "failed": f"{type(error).__name__}: {error}"[:500]}
        else:
            wanted = wanted or found
            apart = max((apart_by(a, b) for a, b in zip(found, wanted, strict=False)), default=0.0)
            known[name] = {"differs_by": apart}
            if apart <= agree:
                runs[name] = run, peak
            else:
                known[name]["failed"] = f"differs from {makers[0][0]} by {apart:.2g}"
        here.tidy()
    return runs, known


def makers(layer):
    """(name, a function that makes (run, peak, to_numpy))."""
    here = layer.machine

    def ours(way):
        run = layer.step(way)
        return run, lambda: here.peak(run), lambda a: here.backend.to_numpy(a).astype("float32")

    def rival():
        torch = TorchLayer(layer)
        return torch.step, torch.peak, torch.to_numpy

    def floor():
        return layer.floor(), lambda: 0, None

    return [*((way, lambda way=way: ours(way)) for way in GEMM), ("torch", rival), ("floor", floor)]


def apart_by(a, b):
    """The median over tokens of the relative difference."""
    return float(np.median(np.linalg.norm(a - b, axis=1) / (np.linalg.norm(b, axis=1) + 1e-30)))


def alternated(here, runs, rounds):
    """Times in ms by name; the candidates have their turns, so that a device that grows warm is so for all."""
    calls = {name: int(np.clip(BURST / here.milliseconds(run), 1, 20)) for name, run in runs.items()}
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(here.milliseconds(run, calls[name]))
    return times


if __name__ == "__main__":
    sys.exit(main(work))
