"""One rank of a job under mpiexec: runs what its command line says; rank 0 prints what came out."""

import json
import os
import resource
import signal
import sys
import time

import numpy as np
from parallel_cases import cuts, on_rank, reference, together, whole

from moespec.parallel import Link, MPIComm


def gathered(comm, value):
    """Everybody's value, for the assertions of rank 0; beside the communicator that is tested."""
    return comm.comm.allgather(value)


def layers(comm, names, ordered):
    """Every layer in three cuts, bit for bit against one process (`ordered`), or to rounding."""
    done = 0
    for name in names.split(","):
        batch = whole(name, (12,))
        want = reference(*batch)
        for seed in range(3):
            sizes = cuts(12, comm.size, np.random.default_rng(seed))
            parts = gathered(comm, on_rank(comm, batch, sizes, ordered=ordered, chunks=1 + seed))
            got = together(batch[0], parts)
            for key, array in want.items():
                close = np.array_equal(got[key], array) if ordered else np.allclose(got[key], array, rtol=0, atol=1e-12 * (1 + np.abs(array).max(initial=0)))
                assert close, f"{name} {sizes}: {key}"
            done += 1
    return done


def exact(comm, names):
    return layers(comm, names, True)


def summed(comm, names):
    return layers(comm, names, False)


def dtypes(comm):
    """Rows of every dtype arrive as they were sent, uneven counts and empty rows among them."""
    import ml_dtypes
    link, r, n = Link(comm), comm.rank, comm.size
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8):
        for shape in ((), (3,), (2, 0), (2, 5)):
            send = np.array([(r + s) % 3 for s in range(n)])
            rows = np.concatenate([np.full((k, *shape), 10 * r + s) for s, k in enumerate(send)]).astype(dtype)
            got = link.exchange("rows", rows, send, send)             # (r + s) % 3 is symmetric
            want = np.concatenate([np.full((k, *shape), 10 * s + r) for s, k in enumerate(send)]).astype(dtype)
            assert got.dtype == want.dtype
            assert np.array_equal(got, want)
    return True


def leaks(comm):
    """A thousand exchanges: no datatype, request or buffer is left."""
    link, rows = Link(comm, check=False), np.zeros((comm.size * 8, 512))
    each = np.full(comm.size, 8)
    before = None
    for turn in range(1000):
        link.exchange("rows", rows, each, each)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if turn == 200 else before
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def late(comm):
    """A rank that comes late changes nothing."""
    time.sleep(0.3 * comm.rank)
    return exact(comm, "mixtral")


def traffic(comm, names):
    """Bytes by exchange, of every rank, for rank 0 to print."""
    found = {}
    for name in names.split(","):
        comm.traffic.clear()
        batch = whole(name, (12,))
        on_rank(comm, batch, cuts(12, comm.size, np.random.default_rng(1)))
        found[name] = gathered(comm, (dict(comm.traffic.sent), dict(comm.traffic.received)))
    return found


# ---- ranks that fail: the job must end, not wait ---------------------------------------------------------------------

def meet(comm):
    return Link(comm).all_gather("meet", np.zeros(1), [1] * comm.size)


def raises(comm):
    if comm.rank == 1:
        raise KeyError("lost")
    meet(comm)


def exits(comm):
    if comm.rank == 1:
        sys.exit(3)
    meet(comm)


def killed(comm):
    if comm.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    meet(comm)


def stalls(comm):
    if comm.rank == 1:
        time.sleep(1000)
    meet(comm)


def stalls_within(comm):
    """The ranks that wait give up by themselves."""
    comm.timeout = 1.0
    stalls(comm)


def mismatch(comm):
    counts = np.array([2, 2])
    Link(comm).exchange("rows", np.zeros((4, 3)), counts, counts + (comm.rank == 0))


def main(size, case, *arguments):
    comm = MPIComm()
    assert comm.size == int(size), f"{comm.size} ranks, wanted {size}: mpiexec and mpi4py do not belong together"
    result = globals()[case](comm, *arguments)
    if comm.rank == 0:
        print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
