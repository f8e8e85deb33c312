"""Refusing wrong calls, values included if asked to."""

from __future__ import annotations

from moespec.registry import OPS
from moespec.unread import admit_unread
from moespec_cupy import _launcher

validate = False              # whether values are checked as well: copies every input to the host, and waits for it


def admit(name, *inputs, **attrs):
    """Refuse wrong shapes, dtypes and attributes; with `validate` wrong values too.  Returns the named dimensions.

    Without it an id out of range is no error, and nobody: kernels treat it as -1.
    """
    if validate:
        return OPS[name].admit(*(None if x is None else _launcher.get().to_numpy(x) for x in inputs), **attrs)
    return admit_unread(OPS[name], *inputs, **attrs)
