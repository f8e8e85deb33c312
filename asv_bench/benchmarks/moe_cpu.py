"""One SwiGLU layer on the CPU, float32: the Numba backend beside its floor, torch and transformers.

`python -m benchmarks.moe_cpu` in this directory's parent prints the table of the documentation, minimum and median.  Every candidate has
its burst of calls in turn, in one process, after a pause in which everybody's waiting threads fall asleep: as in training or decoding,
where a layer is called again and again, the first call of a burst meets cold caches and the others do not.  Torch and transformers are
measured where they are installed; transformers after the others, since beside its copies of large layers nobody finds huge pages.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep

import numpy as np

from .swiglu import ONE_TOKEN, Layer

SHAPES = ["2048,512,1024,8,2", "2048,256,256,64,4", "512,512,1024,64,2", "4096,256,128,64,8", "64,1024,2048,8,2", "8,1024,2048,64,8"]
PAUSE = 0.05
BURST = 4                       # calls
DECODING = 20                   # calls: one token is followed by another


def candidates(layer, training=True):
    """Functions by name, each a whole call."""
    found = {"moespec": layer.step if training else lambda: layer.forward()[0].y}
    try:
        import moe_peers as peers  # beside this package: asv would import it here
    except ImportError:
        pass
    else:
        found["torch"] = _peer(peers, peers.Grouped, layer, training)
    found["floor"] = layer.floor() if training else layer.reading()
    return found


def eager(layer, training=True):
    """Transformers' block, by name."""
    try:
        import moe_peers as peers
        return {"transformers": _peer(peers, peers.Eager, layer, training)}
    except ImportError:
        return {}


def _peer(peers, kind, layer, training):
    theirs = kind(layer.weights, layer.k)
    return peers.step(theirs, layer.x, layer.dy) if training else peers.inference(theirs, layer.x)


def bursts(functions, rounds, calls=BURST):
    """Times in ms by name: a burst of each in every round."""
    times = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            sleep(PAUSE)
            for _ in range(calls):
                start = perf_counter()
                function()
                times[name].append(1e3 * (perf_counter() - start))
    return times


def peak(name, shape):
    """MiB of memory that a process of its own holds at most while it runs three steps, beyond what it held before (Linux)."""
    code = f"from benchmarks.moe_cpu import _peak; print(_peak({name!r}, {shape!r}))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def _peak(name, shape):
    run = candidates(Layer(shape))[name]
    candidates(Layer("4,16,16,4,2"))[name]()              # what is loaded or compiled once
    Path("/proc/self/clear_refs").write_text("5")         # the peak starts again from here
    before = _kib("VmRSS")
    for _ in range(3):
        run()
    return (_kib("VmHWM") - before) / 1024


def _kib(field):
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))


def row(shape, rounds, training=True, calls=BURST):
    """One line of the table, from bursts of `calls`, and torch's best minimum over ours."""
    layer = Layer(shape)
    times = _measured(layer, candidates(layer, training), training, rounds, calls)
    times |= _measured(layer, eager(layer, training), training, *((2, 2) if training else (rounds, calls)))
    best = {name: min(t) for name, t in times.items()}
    rivals = [best[name] for name in ("torch", "transformers") if name in best]
    gain = min(rivals) / best["moespec"] if rivals else float("nan")
    cells = [f"{best[name]:.1f} / {np.median(times[name]):.1f}" if name in times else "" for name in ("moespec", "torch", "transformers", "floor")]
    cells += [f"{gain:.2f}", f"{best['moespec'] / best['floor']:.2f}"]
    if training:
        bound = 8 * layer.x.shape[0] * layer.k * layer.f
        peaks = [f"{peak(name, shape):.0f}" for name in ("moespec", "torch") if name in times]
        cells += [f"{layer.saved_bytes() / 2**20:.1f} ({bound / 2**20:.1f})", *peaks]
    return f"| {shape} | {' | '.join(cells)} |", gain


def _measured(layer, functions, training, rounds, calls):
    """`bursts` of functions that agree with the layer."""
    wanted = layer.step() if training else layer.forward()[0].y
    for name in set(functions) - {"floor"}:
        for a, b in zip(np.atleast_2d(*functions[name]()), np.atleast_2d(*wanted), strict=True):
            assert np.abs(a - b).max() <= 2e-4 * np.abs(b).max(), (name, layer.x.shape)
    return bursts(functions, rounds, calls)


def main(rounds=9):
    head = ["T,D,F,E,K", "moespec", "torch", "transformers", "floor", "torch's best / moespec", "moespec / floor",
            "saved, MiB (8NF)", "peak, MiB", "torch's peak"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    gains = []
    for shape in SHAPES:
        line, gain = row(shape, rounds)
        gains.append(gain)
        print(line, flush=True)
    for times, calls in (10, BURST), (2, DECODING):
        print(f"{row(ONE_TOKEN, times * rounds, training=False, calls=calls)[0]} forward only, bursts of {calls}", flush=True)
    print(f"\ngeometric mean of torch's best / moespec: {np.exp(np.mean(np.log(gains))):.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
