"""Ranks that are processes under MPI, through mpi4py's buffer methods: nothing is pickled."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

import numpy as np

from moespec.parallel._arrays import namespace, pinned, to_device, to_host, words
from moespec.parallel._protocol import Pending, Traffic


class MPIComm:
    """A communicator over ``MPI.COMM_WORLD`` or another one.

    Rows travel by one Ialltoallv whose unit is a row (a datatype of its own), so that counts are rows, int64, and never a multiple of the
    width.  float16 and bfloat16 travel as 16-bit integers.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        COMM_WORLD by default.
    timeout : float, optional
        Seconds after which an exchange that has not ended is a TimeoutError, which ends the job under ``python -m mpi4py``; None
        waits as long as the launcher lets it.
    direct : bool
        Hand arrays of a GPU to MPI as they are, which only a CUDA-aware MPI takes.  By default they travel through page-locked host memory.

    Notes
    -----
    Start the job as ``mpiexec -n 4 python -m mpi4py program.py``.  Without ``-m mpi4py`` an uncaught exception still ends all ranks (this
    object sees to it), but a rank that calls `sys.exit` leaves the others waiting.
    """

    def __init__(self, comm: Any = None, *, timeout: float | None = None, direct: bool = False):
        if timeout is not None and not timeout > 0:
            raise ValueError(f"MPIComm: timeout={timeout} must be above 0")
        if comm is None:
            from mpi4py import MPI  # starts MPI: not before it is asked for
            comm = MPI.COMM_WORLD
        self.comm, self.timeout, self.direct, self.traffic = comm, timeout, direct, Traffic()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        if self.size > 1:
            _end_all_on_error(comm)

    def start(self, rows, send, receive):
        """See `Communicator.start`: one Ialltoallv."""
        xp, shape = namespace(rows), (int(receive.sum()), *rows.shape[1:])
        staged = xp is not np and not self.direct
        rows = to_host(xp.ascontiguousarray(rows)) if staged else xp.ascontiguousarray(rows)
        arrived = pinned(shape, rows.dtype) if staged else xp.empty(shape, rows.dtype)
        if xp is not np and self.direct:
            xp.cuda.get_current_stream().synchronize()            # MPI does not know the stream that writes `rows`
        row = row_type(rows)
        request = self.comm.Ialltoallv([words(rows), (send, _starts(send)), row], [words(arrived), (receive, _starts(receive)), row])
        row.Free()                                                # MPI keeps it as long as the request needs it
        return Pending(lambda: self._arrived(request, rows, arrived, staged))

    def _arrived(self, request, rows, arrived, staged):
        """The rows that arrived; `rows` is kept alive until then."""
        if self.timeout is None:
            request.Wait()
        elif not _ended(request, self.timeout):
            raise TimeoutError(f"MPIComm: rank {self.rank} waited {self.timeout} s for {rows.dtype} rows of shape {rows.shape[1:]}")
        return to_device(arrived) if staged else arrived


def _ended(request, timeout) -> bool:
    """Whether the request ends within so many seconds."""
    until = time.monotonic() + timeout
    while not request.Test():
        if time.monotonic() > until:
            return False
        time.sleep(1e-4)
    return True


def _end_all_on_error(comm):
    """Let an uncaught exception, once reported, end the job: the other ranks would wait for this one."""
    if getattr(sys.excepthook, "func", None) is not _report_and_end:
        sys.excepthook = partial(_report_and_end, sys.excepthook, comm)


def _report_and_end(report, comm, *error):
    report(*error)
    sys.stderr.flush()
    comm.Abort(1)


def row_type(rows) -> Any:
    """MPI's datatype of a row."""
    from mpi4py.util import dtlib
    return dtlib.from_numpy_dtype(words(rows[:0]).dtype).Create_contiguous(int(np.prod(rows.shape[1:], dtype=np.int64))).Commit()


def _starts(counts):
    return np.cumsum(counts) - counts
