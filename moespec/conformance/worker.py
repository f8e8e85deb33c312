"""The process that a tested backend runs in: it is given inputs, never what is expected of it.

    python -m moespec.conformance.worker NAME

Messages come on standard input and go to what was standard output; whatever the backend prints goes to standard error.
"""

from __future__ import annotations

import os
import sys
from itertools import count

import numpy as np

from moespec.backend import NUMPY, load, resolver
from moespec.conformance import wire
from moespec.conformance.execute import validating
from moespec.op import as_tuple
from moespec.registry import OPS

KEPT = 64        # saved states held: a composite has a few dozen steps at most


class CalledReference(RuntimeError):
    """The backend asked the reference for its answer."""


def main(name):
    requests, replies = _own_pipes()
    numpy_before = _numpy_functions()
    backend = NUMPY if name == "numpy" else _load_without_reference(name)
    patched = sorted(n for n, f in _numpy_functions().items() if numpy_before.get(n) is not f)
    ready, device = backend.available()
    wire.send(replies, {
        "name": backend.name, "spec_version": backend.spec_version, "execution": getattr(backend, "execution", "real"),
        "ready": ready, "device": device, "patched": patched,
        "dtypes": sorted(backend.dtypes), "deterministic": backend.deterministic, "declares": dict(backend.declares),
        "native": sorted(backend.ops())})
    saved: dict[int, tuple] = {}
    handles, read = count(), wire.exactly(requests)
    while True:
        try:
            header, arrays = wire.receive(read)
        except wire.Broken:
            return
        try:
            reply, found = (_forward if header["call"] == "forward" else _backward)(backend, header, arrays, saved, handles)
        except Exception as error:        # whatever it raises is the answer
            reply, found = {"raised": type(error).__name__, "message": str(error)}, ()
        wire.send(replies, reply, found)


def _own_pipes():
    """The two ends of the conversation, out of reach of print and of C libraries that write to descriptor 1."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return requests, replies


def _numpy_functions():
    return {f"{space.__name__}.{n}": f for space in (np, np.linalg, np.random) for n, f in vars(space).items() if callable(f)}


def _load_without_reference(name):
    """Import the backend when the reference's functions are already gone."""
    for op in OPS.values():
        for part in ("forward", "backward"):
            function = getattr(op, part)
            if function is not None:
                stub = _refuse(op.name)
                for module in (sys.modules[function.__module__], sys.modules[function.__module__.rpartition(".")[0]]):
                    setattr(module, function.__name__, stub)
                object.__setattr__(op, part, stub)
    return load(name)


def _refuse(name):
    def called(*args, **kwargs):
        raise CalledReference(f"the backend called the reference of {name}")
    return called


def _forward(backend, header, arrays, saved, handles):
    op = OPS[header["op"]]
    impl = backend.ops()[op.name] if op.name in backend.ops() else resolver(backend)(op, header["attrs"])
    reason = impl.supports(**header["attrs"])
    if reason is not None:
        return {"unsupported": reason}, ()
    for a in arrays:
        if a is not None:
            a.setflags(write=False)
    before = [None if a is None else a.tobytes() for a in arrays]
    with validating(backend, header["validate"]):
        outputs, kept = impl.forward(*(None if a is None else backend.from_numpy(a) for a in arrays), **header["attrs"])
    backend.synchronize()
    found = [np.asarray(backend.to_numpy(y)) for y in as_tuple(outputs)]
    changed = [i for i, (a, b) in enumerate(zip(arrays, before, strict=True)) if a is not None and a.tobytes() != b]
    handle = next(handles)
    saved[handle] = (impl, kept)
    saved.pop(handle - KEPT, None)
    return {"saved": handle, "backward": impl.backward is not None, "changed": changed}, found


def _backward(backend, header, arrays, saved, handles):
    impl, kept = saved[header["saved"]]
    grads = impl.backward(kept, *(None if a is None else backend.from_numpy(a) for a in arrays))
    backend.synchronize()
    return {}, [None if d is None else np.asarray(backend.to_numpy(d)) for d in as_tuple(grads)]


if __name__ == "__main__":
    main(sys.argv[1])
