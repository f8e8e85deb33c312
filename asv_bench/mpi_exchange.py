"""What an exchange of rows takes between MPI ranks, and whether the cluster simulator predicts it.

    python asv_bench/mpi_exchange.py --ranks 2 4 --fit docs/reports/mpi-exchange.json --plot docs/reports/mpi-exchange.png

starts `mpiexec -n N python -m mpi4py asv_bench/mpi_exchange.py --json FILE` for one rank (loopback) and every N, calibrates links on every
other size, and states how far the simulator is off on the sizes between.  Needs mpi4py and an MPI; the plot needs matplotlib.

Times are the largest of all ranks, each repetition after a barrier; sizes take turns, so that a busy moment of the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

WIDTH, HIDDEN, EXPERTS, CHOICES = 256, 64, 8, 2          # of the layer: rows of 1 KiB in float32, 6 * WIDTH * HIDDEN operations a row
SIZES = tuple(1 << p for p in range(10, 25))             # bytes for each peer
TOKENS = tuple(1 << p for p in range(6, 13))             # a rank


def main(argv=None):
    """0 if everything could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="measure in the ranks that mpiexec has started")
    parser.add_argument("--ranks", type=int, nargs="+", metavar="N", default=[2, 4], help="start mpiexec for each (2 4)")
    parser.add_argument("--rounds", type=int, default=30, help="turns of all sizes (30), after two that do not count")
    parser.add_argument("--quick", action="store_true", help="small messages, few tokens, two rounds: whether it runs")
    parser.add_argument("--fit", type=Path, metavar="FILE.json", help="write measurements, links and errors")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    options = parser.parse_args(argv)
    if options.json:
        return measure(options.json, options.rounds, *((SIZES[:7], TOKENS[:3]) if options.quick else (SIZES, TOKENS)))
    from mpi_report import plot, report, table
    more = ["--quick", "--rounds", "2"] if options.quick else ["--rounds", str(options.rounds)]
    runs = [start(n, more) for n in sorted({1, *options.ranks})]
    found = report(runs)
    print(table(found))
    if options.fit:
        options.fit.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)
    return 0


def start(ranks: int, more: list[str], seconds: int = 600) -> dict:
    """The measurement of one number of ranks; RuntimeError if it fails or takes longer than `seconds`."""
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise RuntimeError("mpi_exchange: no mpiexec beside the interpreter or on the path: pip install mpich")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        command = [launcher, "-n", str(ranks), sys.executable, "-m", "mpi4py", __file__, "--json", str(out), *more]
        done = subprocess.run(command, env=os.environ | {"MPIEXEC_TIMEOUT": str(seconds), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                              timeout=seconds + 30, capture_output=True, text=True)
        if done.returncode or not out.exists():
            raise RuntimeError(f"mpi_exchange: {ranks} ranks ended with {done.returncode}: {done.stderr[-2000:]}")
        run = json.loads(out.read_text())
    if run["ranks"] != ranks:
        raise RuntimeError(f"mpi_exchange: asked for {ranks} ranks, MPI says {run['ranks']}: another MPI's mpiexec")
    return run


def measure(path: Path, rounds: int, sizes, amounts) -> int:
    """Called in every rank: exchanges, products and whole steps; rank 0 writes."""
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
    row = MPI.FLOAT.Create_contiguous(WIDTH).Commit()
    largest = max(max(sizes) // (4 * WIDTH) * comm.size, amounts[-1] * CHOICES * 4)
    send, receive = np.ones((largest, WIDTH), np.float32), np.ones((largest, WIDTH), np.float32)
    layer = Experts(comm.size)
    routes = {tokens: counts(comm.size, comm.rank, tokens) for tokens in amounts}

    def exchange(out, back):
        comm.Alltoallv([send, out, ends(out), row], [receive, back, ends(back), row])

    def step(tokens):
        out, back = routes[tokens]
        exchange(out, back)
        layer.run(receive[:back.sum()])
        exchange(back, out)

    even = {size: np.full(comm.size, size // (4 * WIDTH), np.int64) for size in sizes}
    tasks = {("exchange", size): lambda size=size: exchange(even[size], even[size]) for size in sizes}
    tasks |= {("product", tokens): lambda tokens=tokens: layer.run(receive[:tokens * CHOICES]) for tokens in amounts}
    tasks |= {("step", tokens): lambda tokens=tokens: step(tokens) for tokens in amounts}
    timed = take_turns(comm, tasks, rounds)
    row.Free()
    if comm.rank == 0:
        about = {"ranks": comm.size, "mpi": MPI.Get_library_version().splitlines()[0], "cores": len(os.sched_getaffinity(0)),
                 "load": os.getloadavg()[0], "machine": platform.machine(), "numpy": np.__version__, "rounds": rounds}
        path.write_text(json.dumps(about | timed))
    return 0


class Experts:
    """This rank's gated experts; the rows that arrive are shared equally among them."""

    def __init__(self, ranks):
        rng = np.random.default_rng(0)
        shape = max(1, EXPERTS // ranks), WIDTH, HIDDEN
        self.gate, self.up = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        self.down = rng.standard_normal((shape[0], HIDDEN, WIDTH)).astype(np.float32)

    def run(self, rows):
        """One expert's products after the other's."""
        for part, gate, up, down in zip(np.array_split(rows, len(self.gate)), self.gate, self.up, self.down, strict=True):
            np.matmul((part @ gate) * (part @ up), down)


def counts(ranks, rank, tokens):
    """Rows to and from every rank where each token of each rank chooses CHOICES of EXPERTS experts at random."""
    rng = np.random.default_rng(tokens)
    ids = rng.permuted(np.tile(np.arange(EXPERTS), (ranks * tokens, 1)), axis=1)[:, :CHOICES]
    source = np.repeat(np.arange(ranks), tokens)[:, None]
    matrix = np.bincount((source * ranks + ids * ranks // EXPERTS).reshape(-1), minlength=ranks * ranks).reshape(ranks, ranks)
    return matrix[rank].copy(), matrix[:, rank].copy()


def ends(counted):
    """Where each rank's rows begin."""
    return np.concatenate([[0], np.cumsum(counted)[:-1]])


def take_turns(comm, tasks, rounds):
    """Median and least seconds of every task over `rounds` turns, quick ones several times a turn; the largest of all ranks counts."""
    from mpi4py import MPI
    samples = {name: [] for name in tasks}
    often = dict.fromkeys(tasks, 1)
    for turn in range(rounds + 2):
        for name, task in tasks.items():
            for _ in range(often[name]):
                comm.Barrier()
                begin = MPI.Wtime()
                task()
                samples[name].append(MPI.Wtime() - begin)
        if turn < 2:
            slowest = comm.allreduce({n: s[-1] for n, s in samples.items()}, op=lambda a, b: {n: max(a[n], b[n]) for n in a})
            often = {n: int(np.clip(2e-3 / s, 1, 8)) for n, s in slowest.items()}
            samples = {name: [] for name in tasks}
    timed: dict = {"exchange": [], "product": [], "step": []}
    for (kind, amount), own in samples.items():
        seconds = np.array(own)
        comm.Allreduce(MPI.IN_PLACE, seconds, MPI.MAX)
        timed[kind].append({"amount": amount, "median": float(np.median(seconds)), "min": float(seconds.min()), "repetitions": len(seconds)})
    return timed


if __name__ == "__main__":
    sys.exit(main())
