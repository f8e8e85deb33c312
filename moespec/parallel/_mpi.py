"""Ranks that are processes under MPI, through mpi4py's buffer methods: nothing is pickled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from moespec.parallel._protocol import Pending, Traffic
from moespec.parallel._virtual import namespace


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
        Whether arrays of a GPU are handed to MPI as they are, which only a CUDA-aware MPI takes; otherwise they travel through host memory.

    Notes
    -----
    Start the job as ``mpiexec -n 4 python -m mpi4py program.py``: without ``-m mpi4py`` a rank that raises leaves the others waiting.
    """

    def __init__(self, comm=None, *, timeout: float | None = None, direct: bool = False):
        if timeout is not None and not timeout > 0:
            raise ValueError(f"MPIComm: timeout={timeout} must be above 0")
        from mpi4py import MPI  # starts MPI: not before it is asked for
        self.comm = MPI.COMM_WORLD if comm is None else comm
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self.timeout, self.device, self.traffic = timeout, direct, Traffic()

    def start(self, rows, send, receive):
        xp = namespace(rows)
        rows = xp.ascontiguousarray(rows)
        arrived = xp.empty((int(receive.sum()), *rows.shape[1:]), rows.dtype)
        if xp is not np:
            xp.cuda.get_current_stream().synchronize()            # MPI does not know the stream that writes `rows`
        row = _row_type(rows)
        ask = [_words(rows), (send, _starts(send)), row]
        get = [_words(arrived), (receive, _starts(receive)), row]
        request = self.comm.Ialltoallv(ask, get)
        row.Free()                                                # MPI keeps it as long as the request needs it
        return Pending(lambda: self._wait(request, rows, arrived))

    def _wait(self, request, rows, arrived):
        """The rows that arrived; `rows` is kept alive until then."""
        if self.timeout is None:
            request.Wait()
            return arrived
        until = time.monotonic() + self.timeout
        while not request.Test():
            if time.monotonic() > until:
                raise TimeoutError(f"MPIComm: rank {self.rank} waited {self.timeout} s for {rows.dtype} rows of shape {rows.shape[1:]}")
            time.sleep(1e-4)
        return arrived


def _words(array) -> Any:
    """The array as something that MPI has a type for."""
    return array.view(np.uint16) if array.dtype.itemsize == 2 else array


def _row_type(rows):
    from mpi4py.util import dtlib
    return dtlib.from_numpy_dtype(_words(rows[:0]).dtype).Create_contiguous(int(np.prod(rows.shape[1:], dtype=np.int64))).Commit()


def _starts(counts):
    return np.cumsum(counts) - counts
