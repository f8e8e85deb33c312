"""One rank of a job under mpiexec: runs the cases on its command line; rank 0 writes what came out as JSON."""

import json
import resource
import sys
import time

import ml_dtypes
import numpy as np
from parallel_cases import cuts, on_rank, reference, together, whole

from moespec.parallel import Link, MPIComm


def layers(comm, names, seeds, ordered):
    """Every layer, its tokens cut in some ways: bit for bit what one process computes (`ordered`), or to rounding."""
    for name in names.split(","):
        batch = whole(name, (12,))
        want = reference(*batch)
        for seed in range(int(seeds)):
            sizes = cuts(12, comm.size, np.random.default_rng(seed))
            parts = comm.comm.allgather(on_rank(comm, batch, sizes, ordered=ordered, chunks=1 + seed))
            got = together(batch[0], parts)
            for key, array in want.items():
                size = 0 if ordered else 1e-12 * (1 + np.abs(array).max(initial=0))
                assert np.allclose(got[key], array, rtol=0, atol=size), f"{name} {sizes}: {key}"
    return True


def ordered(comm, names, seeds):
    return layers(comm, names, seeds, True)


def summed(comm, names, seeds):
    return layers(comm, names, seeds, False)


def dtypes(comm):
    """Rows of every dtype arrive as they were sent, uneven counts and empty rows among them."""
    link, r, n = Link(comm), comm.rank, comm.size
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8):
        for shape in ((), (3,), (2, 0), (2, 5)):
            send = np.array([(r + s) % 3 for s in range(n)])              # symmetric: as many come back
            rows = np.concatenate([np.full((k, *shape), 10 * r + s) for s, k in enumerate(send)]).astype(dtype)
            got = link.exchange("rows", rows, send, send)
            want = np.concatenate([np.full((k, *shape), 10 * s + r) for s, k in enumerate(send)]).astype(dtype)
            assert got.dtype == want.dtype
            assert np.array_equal(got, want)
    return True


def leak(comm):
    """Growth of the process, in KiB, over the last 800 of a thousand exchanges."""
    link, rows, each, before = Link(comm, check=False), np.zeros((comm.size * 8, 512)), np.full(comm.size, 8), 0
    for turn in range(1000):
        link.exchange("rows", rows, each, each)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if turn == 200 else before
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def late(comm):
    """Ranks that come late change nothing, and none of them is given up."""
    comm.timeout = 20.0
    time.sleep(0.2 * comm.rank)
    found = ordered(comm, "mixtral", 1)
    comm.timeout = None
    return found


def traffic(comm, names):
    """Bytes by exchange of every rank, and the cut of the batch."""
    found, sizes = {}, cuts(12, comm.size, np.random.default_rng(1))
    for name in names.split(","):
        comm.traffic.sent.clear()
        comm.traffic.received.clear()
        on_rank(comm, whole(name, (12,)), sizes)
        found[name] = comm.comm.allgather((dict(comm.traffic.sent), dict(comm.traffic.received)))
    return {"sizes": sizes, "layers": found}


def main(size, *cases):
    comm = MPIComm()
    assert comm.size == int(size), f"{comm.size} ranks, wanted {size}: mpiexec and mpi4py do not belong together"
    found = {}
    for case in cases:
        name, *arguments = case.split(":")
        found[name] = globals()[name](comm, *arguments)
    if comm.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
