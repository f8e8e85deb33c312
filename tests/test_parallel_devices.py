"""What is called for arrays of a GPU, and in which order: on stand-ins, not on a GPU."""

import device_stand_in
import ml_dtypes
import numpy as np
import pytest
from device_stand_in import calls

from moespec import parallel
from moespec.parallel import Link, MPIComm, NCCLComm, _mpi, virtual


@pytest.fixture
def cupy(monkeypatch):
    return device_stand_in.installed(monkeypatch)


class OneRank:
    """A communicator of MPI with one rank: rows come back."""

    def Get_rank(self):
        return 0

    def Get_size(self):
        return 1

    def Ialltoallv(self, ask, get):
        calls.append(("Ialltoallv", type(ask[0]).__module__, ask[0].dtype.name))
        self.ask, self.get = ask, get
        return self

    def Wait(self):
        calls.append(("Wait",))
        self.get[0][...] = self.ask[0]


class Row:
    def Free(self):
        calls.append(("Free",))


def exchanged(cupy, monkeypatch, dtype, **how):
    monkeypatch.setattr(_mpi, "row_type", lambda rows: Row())
    rows = cupy.asarray(np.arange(6).reshape(2, 3).astype(dtype))
    got = MPIComm(OneRank(), **how).start(rows, np.array([2]), np.array([2])).wait()
    assert isinstance(got, cupy.ndarray)
    assert got.dtype == dtype
    assert np.array_equal(np.asarray(got).astype(float), np.arange(6).reshape(2, 3))
    return [c[0] if c[0] != "Ialltoallv" else c for c in calls]


@pytest.mark.parametrize(("dtype", "wire"), [(np.float32, "float32"), (np.float16, "uint16"), (ml_dtypes.bfloat16, "uint16")])
def test_staged_by_default(cupy, monkeypatch, dtype, wire):
    """Device to page-locked memory, MPI on that, and back; nothing of the device reaches MPI."""
    order = exchanged(cupy, monkeypatch, dtype)
    assert order == ["pinned", "get", "pinned", ("Ialltoallv", "numpy", wire), "Free", "Wait", "set", "synchronize"]


def test_direct_when_asked(cupy, monkeypatch):
    """MPI gets device arrays, after the stream that writes them has ended."""
    order = exchanged(cupy, monkeypatch, np.float32, direct=True)
    assert order == ["synchronize", ("Ialltoallv", "cupy", "float32"), "Free", "Wait"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_nccl_moves_what_virtual_ranks_move(cupy, ranks, dtype):
    """Uneven counts, ranks that send nothing, all-gather and all-reduce, device arrays and NumPy's."""
    def work(comm):
        found = []
        for other in (comm, NCCLComm.over(comm)):
            link, here = Link(other), cupy.asarray if other is not comm else np.asarray
            send = np.array([(comm.rank * s) % 3 for s in range(ranks)])
            rows = here((100 * comm.rank + np.arange(2 * send.sum())).reshape(-1, 2).astype(dtype))
            got = [link.exchange("rows", rows, send, send), link.all_gather("g", rows, [sum(r * s % 3 for s in range(ranks)) for r in range(ranks)]),
                   link.all_reduce("r", here(np.full((2, 3), comm.rank + 1, dtype)))]
            assert all(isinstance(a, cupy.ndarray) is (other is not comm) for a in got)
            assert type(link.exchange("counts", np.arange(ranks), np.ones(ranks, int), np.ones(ranks, int))) is np.ndarray
            found.append(([np.asarray(a) for a in got], dict(other.traffic.sent)))
        (want, sent), (got, sent_there) = found
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(want, got, strict=True))
        assert {n: b for n, b in sent.items() if n != "unique id"}.keys() == sent_there.keys()

    virtual(ranks, work)


def test_nccl_is_ordered_against_the_current_stream(cupy):
    """Its stream waits for the work that writes the rows; whoever reads what arrived waits for its stream."""
    comm = virtual(1, lambda comm: NCCLComm.over(comm))[0]
    calls.clear()
    comm.start(cupy.asarray(np.ones((2, 2))), np.array([2]), np.array([2])).wait()
    assert calls == [("record", "current"), ("wait_event", "own", "event of current"), ("record", "own"),
                     ("wait_event", "current", "event of own")]


def test_other_arrays_are_refused():
    class Other:
        shape, dtype = (2, 2), np.dtype(float)

    with pytest.raises(TypeError, match=r"arrays must be NumPy's or CuPy's, got test_parallel_devices\."):
        parallel.MPIComm(OneRank()).start(Other(), np.array([2]), np.array([2]))
