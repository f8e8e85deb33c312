"""Numba's simulator with other threads, imported only where it is in force.

Its own manager polls the threads of a block, which takes 5 ms a barrier; it accepts barriers that some threads never reach, and two threads
may make two shared arrays where there should be one.  Here threads meet at a barrier of Python's, which breaks where one is missing; a
kernel without barriers runs its threads one after the other.
"""

from __future__ import annotations

import sys
from threading import Barrier, Lock, current_thread
from typing import Any

import numpy as np
from numba.core import types
from numba.cuda.simulator import kernel as simulator
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray, FakeWithinKernelCUDAArray
from numba.cuda.simulator.kernelapi import Dim3, FakeCUDAShared
from numba.np.numpy_support import as_dtype

PATIENCE = 60.0         # seconds that a thread waits at a barrier for the others
_lock = Lock()


def _run_block(self, grid_point, *args):
    plain = [a._item._ary if isinstance(a, FakeWithinKernelCUDAArray) else a for a in args]        # its wrapper takes most of the time
    run = _run_together if "syncthreads" in self._f.__code__.co_names else _run_in_turn
    run(self, grid_point, list(np.ndindex(*self._block_dim)), plain)


def _run_in_turn(self, grid_point, points, args):
    """Kernels ask the current thread who they are: the one that launched is every one of them."""
    here: Any = current_thread()
    here.blockIdx = Dim3(*grid_point)
    for point in points:
        here.threadIdx = Dim3(*point)
        self._f(*args)


def _run_together(self, grid_point, points, args):
    self.barrier = Barrier(len(points))

    def run():
        try:
            self._f(*args)
        except BaseException:
            self.barrier.abort()
            raise

    threads = [simulator.BlockThread(run, self, grid_point, point, self._debug) for point in points]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [t.exception for t in threads if t.exception]
    for error, trace in sorted(failed, key=lambda e: "BrokenBarrier" in type(e[0]).__name__):
        raise error.with_traceback(trace)


def _meet(self):
    self._manager.barrier.wait(PATIENCE)


def _shared_array(self, shape, dtype):
    """One array a line of the kernel."""
    frame = sys._getframe(1)
    where = frame.f_code.co_filename, frame.f_lineno
    with _lock:
        if where not in self._allocations:
            self._allocations[where] = np.empty(shape, as_dtype(dtype) if isinstance(dtype, types.Type) else dtype)
        return self._allocations[where]


simulator.BlockManager.run = _run_block
simulator.BlockThread.syncthreads = _meet
FakeCUDAShared.array = _shared_array
FakeCUDAArray.shape = property(lambda self: self._ary.shape)           # a device array's has negative indices as well
