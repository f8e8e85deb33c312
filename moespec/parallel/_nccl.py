"""Ranks with a GPU each, through NCCL: an all-to-all of rows as grouped sends and receives."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from moespec.parallel._arrays import namespace
from moespec.parallel._link import Link, width
from moespec.parallel._protocol import Pending, Traffic

ID = 128                # numbers in NCCL's unique id


class NCCLComm:
    """A communicator over NCCL: one process per GPU.  It has not run on GPUs yet; its calls are checked against a stand-in.

    Everything is queued on a stream of its own, which waits for the current stream; `Pending.wait` lets the current stream wait for it, so
    that the host waits for nothing.  NumPy arrays (counts and checks) are copied to the device and back.

    Parameters
    ----------
    rank, size : int
    unique : tuple of int
        ``cupy.cuda.nccl.get_unique_id()`` of rank 0: see `over`.
    """

    def __init__(self, rank: int, size: int, unique):
        self.rank, self.size, self.traffic = rank, size, Traffic()
        self.cupy: Any = import_module("cupy")
        self.nccl: Any = import_module("cupy.cuda.nccl")
        self.comm = self.nccl.NcclCommunicator(size, tuple(unique), rank)
        self.stream = self.cupy.cuda.Stream(non_blocking=True)

    @classmethod
    def over(cls, comm) -> NCCLComm:
        """The same ranks as those of `comm`, over which the unique id is told: ``NCCLComm.over(MPIComm())``."""
        mine = import_module("cupy.cuda.nccl").get_unique_id() if comm.rank == 0 else [0] * ID
        told = Link(comm).all_gather("unique id", np.array(mine, np.int64)[None], [1] * comm.size)
        return cls(comm.rank, comm.size, told[0].tolist())

    def start(self, rows, send, receive):
        """See `Communicator.start`: one group of sends and receives on the current stream."""
        cupy, host = self.cupy, namespace(rows) is np
        rows = cupy.ascontiguousarray(cupy.asarray(rows))
        arrived = cupy.empty((int(receive.sum()), *rows.shape[1:]), rows.dtype)
        self.stream.wait_event(cupy.cuda.get_current_stream().record())
        self._exchange(rows, arrived, send.tolist(), receive.tolist())
        return Pending(partial(self._arrived, rows, arrived, self.stream.record(), host))

    def _arrived(self, rows, arrived, done, host):
        """What arrived; `rows` is kept until then, so that the memory pool does not hand it out."""
        self.cupy.cuda.get_current_stream().wait_event(done)
        return arrived.get() if host else arrived

    def _exchange(self, rows, arrived, send, receive):
        b, out, into = width(rows), 0, 0
        self.nccl.groupStart()
        for peer, (n, m) in enumerate(zip(send, receive, strict=True)):
            if peer == self.rank:
                own = slice(into, into + m), slice(out, out + n)
            else:
                self._ask(self.comm.send, rows, out * b, n * b, peer)
                self._ask(self.comm.recv, arrived, into * b, m * b, peer)
            out, into = out + n, into + m
        self.nccl.groupEnd()
        with self.stream:
            arrived[own[0]] = rows[own[1]]

    def _ask(self, call, array, start, size, peer):
        """Bytes, so that every dtype has a type; nothing is asked for no bytes, on either side."""
        if size:
            call(array.data.ptr + start, size, self.nccl.NCCL_INT8, peer, self.stream.ptr)
