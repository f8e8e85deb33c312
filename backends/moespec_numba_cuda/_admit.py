"""Refusing wrong calls, values included if asked to."""

from __future__ import annotations

from moespec.registry import OPS
from moespec.unread import admit_unread
from moespec_numba_cuda._backend import BACKEND


def admit(name, *inputs, **attrs):
    """Refuse wrong shapes, dtypes and attributes; with `BACKEND.validate` wrong values too.  Returns the named dimensions.

    Without it an id out of range is no error, and nobody: kernels treat it as -1.
    """
    if BACKEND.validate:
        return OPS[name].admit(*(None if x is None else BACKEND.to_numpy(x) for x in inputs), **attrs)
    return admit_unread(OPS[name], *inputs, **attrs)
