"""Stand-ins for CuPy and NCCL that record what is called in which order; nothing here says how a GPU behaves."""

import ctypes
import queue
import sys
import threading
import types

import numpy as np

calls: list[tuple] = []                 # of this thread's rank, as (what, ...), in order of time
GUARD = threading.Lock()


def note(*what):
    with GUARD:
        calls.append(what)


class ndarray(np.ndarray):
    """An array that is not NumPy's for those who ask by its type."""

    __module__ = "cupy"

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.__array_interface__["data"][0])

    def get(self, out=None):
        note("get")
        found = np.array(self.view(np.ndarray))
        if out is None:
            return found
        out[...] = found
        return out

    def set(self, host):
        note("set")
        self[...] = host


class Stream:
    def __init__(self, name="own", non_blocking=True):
        self.name, self.ptr = name, 7

    def synchronize(self):
        note("synchronize", self.name)

    def record(self):
        note("record", self.name)
        return f"event of {self.name}"

    def wait_event(self, event):
        note("wait_event", self.name, event)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class Communicator:
    """Sends and receives of one rank, carried out when the group ends."""

    def __init__(self, size, unique, rank):
        assert len(unique) == 128
        self.rank, self.boxes = rank, BOXES.setdefault(unique, {(a, b): queue.Queue() for a in range(size) for b in range(size)})

    def send(self, ptr, count, kind, peer, stream):
        assert OPEN.group is not None, "outside of a group"
        assert (count > 0, kind, stream) == (True, 0, 7)
        OPEN.group.append(lambda: self.boxes[self.rank, peer].put(ctypes.string_at(ptr, count)))

    def recv(self, ptr, count, kind, peer, stream):
        assert OPEN.group is not None, "outside of a group"
        assert (count > 0, kind, stream) == (True, 0, 7)
        OPEN.receives.append((ptr, count, self.boxes[peer, self.rank]))


BOXES: dict = {}
OPEN = threading.local()


def group_start():
    OPEN.group, OPEN.receives = [], []


def group_end():
    for send in OPEN.group:
        send()
    for ptr, count, box in OPEN.receives:
        sent = box.get(timeout=10)
        assert len(sent) == count
        ctypes.memmove(ptr, sent, count)
    OPEN.group = None


def like_numpy(name):
    return lambda *args, **kwargs: np.asarray(getattr(np, name)(*args, **kwargs)).view(ndarray)


def installed(monkeypatch):
    """Modules cupy, cupyx and cupy.cuda.nccl, for the time of a test; returns the first."""
    calls.clear()
    BOXES.clear()
    cupy, cupyx, nccl = (types.ModuleType(name) for name in ("cupy", "cupyx", "cupy.cuda.nccl"))
    for name in ("concatenate", "empty", "zeros", "ascontiguousarray", "asarray"):
        setattr(cupy, name, like_numpy(name))
    cupy.ndarray = ndarray
    cupy.cuda = types.SimpleNamespace(get_current_stream=lambda: Stream("current"), Stream=Stream, nccl=nccl)
    cupyx.empty_pinned = lambda shape, dtype: note("pinned") or np.empty(shape, dtype)
    nccl.NcclCommunicator, nccl.groupStart, nccl.groupEnd, nccl.NCCL_INT8 = Communicator, group_start, group_end, 0
    nccl.get_unique_id = lambda: tuple(range(128))
    for name, module in (("cupy", cupy), ("cupyx", cupyx), ("cupy.cuda.nccl", nccl)):
        monkeypatch.setitem(sys.modules, name, module)
    return cupy
