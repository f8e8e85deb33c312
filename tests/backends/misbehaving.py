"""Backends that crash, hang and cheat: each has one op."""

import ctypes
import os
import time

import numpy as np

from moespec import backend as spec
from moespec.program import Impl


class OneOp(spec.NumpyBackend):
    """gates.softmax by one function; nothing else."""

    def __init__(self, name, forward):
        self.name, self.forward = name, forward

    def ops(self):
        return {"gates.softmax": Impl(self.forward, lambda p, d: p * (d - (p * d).sum(1, keepdims=True)))}


def right(logits):
    if not len(logits):
        return logits.copy(), logits
    wide = logits.astype(np.promote_types(logits.dtype, np.float32))
    with np.errstate(all="ignore"):
        e = np.exp(wide - wide.max(1, keepdims=True))
        p = e / e.sum(1, keepdims=True)
    return p.astype(logits.dtype), p


def only_for(rows, act):
    """`act` for inputs of so many rows, right for all others."""
    def forward(logits):
        if len(logits) == rows:
            act(logits)
        return right(logits)
    return forward


def write(logits):
    ctypes.memmove(logits.ctypes.data, b"\0" * 8, 8)        # past NumPy's read-only flag


def call_reference(logits):
    from moespec import gates
    return gates.softmax(logits)


def call_record(logits):
    from moespec.registry import OPS
    return OPS["gates.softmax"].forward(logits)


def leave_zeros(logits):
    p, saved = right(logits)
    out = np.empty((len(p), 512), p.dtype)[:, :p.shape[1]]           # wide: not from NumPy's cache of small blocks
    np.copyto(out, p, where=p != 0)                                   # right wherever memory happens to be zero
    return out, saved


RIGHT = OneOp("right", right)
PRINTS = OneOp("prints", only_for(12, lambda x: (print("noise"), os.write(1, b"more noise\n"))))
SEGFAULTS = OneOp("segfaults", only_for(12, lambda x: ctypes.string_at(0)))
EXITS = OneOp("exits", only_for(12, lambda x: os._exit(3)))
HANGS = OneOp("hangs", only_for(12, lambda x: time.sleep(3600)))
WRITES = OneOp("writes", only_for(12, write))
CHEATS = OneOp("cheats", only_for(12, call_reference))
CHEATS_BY_RECORD = OneOp("cheats", only_for(12, call_record))
LEAVES = OneOp("leaves", leave_zeros)
