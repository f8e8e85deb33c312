"""A backend in a process of its own: what crashes, hangs or cheats there is a failure here, and the run goes on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

from moespec.conformance import wire
from moespec.program import Impl
from moespec.registry import OPS


class Died(RuntimeError):
    """The process ended, or had to be ended."""


class Isolated:
    """The backend called `name`, run by `moespec.conformance.worker`; itself a backend.

    Parameters
    ----------
    name : str
        A registered name or "pkg.module:OBJ".
    seconds : float
        Time limit of one call; five times as long for the first one of an op in a dtype, which may compile.  `start_seconds` is the
        limit of the import.
    """

    host = True
    validate = False

    def __init__(self, name, seconds=60.0, start_seconds=300.0):
        self.source, self.seconds, self.start_seconds = name, seconds, start_seconds
        self._process: subprocess.Popen | None = None
        self._called: set = set()
        self._last = ""
        self._start()
        hello = self._hello
        if hello["patched"]:
            self.close()
            raise ValueError(f"backend {name!r} replaces functions of NumPy when imported: {', '.join(hello['patched'][:5])}")
        self.name, self.spec_version, self.execution = hello["name"], hello["spec_version"], hello["execution"]
        self.dtypes, self.deterministic, self.declares = frozenset(hello["dtypes"]), hello["deterministic"], hello["declares"]

    def available(self):
        return self._hello["ready"], self._hello["device"]

    def owns(self, array):
        return True

    def ops(self):
        return {name: Impl(self._forward(name), self._backward if OPS[name].grads else None) for name in self._hello["native"] if name in OPS}

    def add(self, a, b):
        return a + b

    def scale(self, a, c):
        return (a * c).astype(a.dtype)

    def from_numpy(self, a):
        return a

    def to_numpy(self, a):
        return a

    def synchronize(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def _start(self):
        command = [sys.executable, "-m", "moespec.conformance.worker", self.source]
        settings = {
            "MALLOC_PERTURB_": "128",          # glibc: fresh memory is 0x7f7f..., 3.4e38 as float32, never zero by luck
            "OMP_WAIT_POLICY": "passive",      # idle threads sleep: spinning ones would take the cores of the other processes
        }
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**settings, **os.environ})
        try:
            self._hello, _ = self._receive(self.start_seconds)
        except Died as error:
            raise Died(f"backend {self.source!r} could not be loaded: {error} (what it printed is on standard error)") from None

    def _forward(self, name):
        def forward(*inputs, **attrs):
            inputs += (None,) * (len(OPS[name].inputs) - len(inputs))
            reply, outputs = self._ask({"call": "forward", "op": name, "attrs": attrs, "validate": self.validate}, inputs)
            if reply["changed"]:
                names = [OPS[name].inputs[i].name for i in reply["changed"]]
                raise ValueError(f"it wrote into its inputs: {', '.join(names)}")
            return tuple(outputs) if len(outputs) != 1 else outputs[0], SimpleNamespace(handle=reply["saved"], backward=reply["backward"])
        return forward

    def _backward(self, saved, *cotangents):
        if not saved.backward:
            raise NotImplementedError(f"backend {self.name!r} has no backward here")
        _, grads = self._ask({"call": "backward", "saved": saved.handle}, cotangents)
        return tuple(grads)

    def _ask(self, header, arrays):
        if self._process is None:
            self._start()
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            wire.send(self._process.stdin, header, arrays)
        except OSError:
            raise self._end("closed its pipe") from None
        reply, found = self._receive(self._limit(header, arrays))
        if "unsupported" in reply:
            raise NotImplementedError(reply["unsupported"])
        if "raised" in reply:
            raise _raised(reply)
        return reply, found

    def _limit(self, header, arrays):
        """The time limit of a call."""
        what = header["call"], header.get("op", self._last), *(str(a.dtype) for a in arrays if a is not None)
        self._last = what[1]
        first = what not in self._called
        self._called.add(what)
        return self.seconds * (5 if first else 1)

    def _receive(self, seconds):
        assert self._process is not None
        assert self._process.stdout is not None
        pipe, end = self._process.stdout.fileno(), time.monotonic() + seconds

        def read(n):
            data = bytearray()
            while len(data) < n:
                left = end - time.monotonic()
                if left <= 0 or not select.select([pipe], [], [], left)[0]:
                    raise self._end(f"did not return within {seconds:g} s")
                part = os.read(pipe, min(n - len(data), 2**20))
                if not part:
                    raise self._end("")
                data += part
            return bytes(data)

        try:
            return wire.receive(read)
        except wire.Broken as error:
            raise self._end(f"sent {error}") from None

    def _end(self, why):
        """The error that tells how the process ended; the next call starts another."""
        assert self._process is not None
        try:
            code = self._process.wait(0.2 if why else 5)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        if code is not None and code < 0:
            return Died(f"its process was ended by {signal.Signals(-code).name}")
        return Died(f"its process {why}" if why else f"its process exited with status {code}")


def _raised(reply):
    """The exception of the worker, of the same class where it is a built-in one that the specification names."""
    known = {"ValueError": ValueError, "TypeError": TypeError, "NotImplementedError": NotImplementedError}
    kind = known.get(reply["raised"])
    return kind(reply["message"]) if kind else RuntimeError(f"{reply['raised']}: {reply['message']}")
