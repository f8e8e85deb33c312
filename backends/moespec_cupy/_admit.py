"""Refusing wrong calls in the specification's words, without reading a value from the device unless asked to."""

from __future__ import annotations

from contextlib import suppress

from moespec.registry import OPS
from moespec_cupy import _launcher

validate = False              # whether values are checked as well: copies every input to the host, and waits for it


def admit(name, *inputs, **attrs):
    """Refuse wrong shapes, dtypes and attributes; with `validate` wrong values too.  Returns the named dimensions.

    Without it an id out of range is no error, and nobody: kernels treat it as -1.
    """
    op = OPS[name]
    if validate:
        return op.admit(*(None if x is None else _launcher.get().to_numpy(x) for x in inputs), **attrs)
    dims = op.bind(*inputs, values=False)
    with suppress(NeedsValues):
        op.check(dims, *(None if x is None else Unread(x) for x in inputs), **attrs)
    return dims


class NeedsValues(Exception):
    """A check asks for values."""


def _refuse(self, *args, **kwargs):
    raise NeedsValues


class Unread:
    """The shape and the dtype of an array; whoever asks for more needs values."""

    def __init__(self, array):
        self.shape, self.dtype = tuple(array.shape), array.dtype
        self.ndim, self.size = len(self.shape), int(array.size)

    def __len__(self):
        return self.shape[0]

    __getattr__ = __getitem__ = __array__ = __array_ufunc__ = __array_function__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __bool__ = __iter__ = __float__ = __int__ = __index__ = _refuse
    __add__ = __sub__ = __mul__ = __truediv__ = __neg__ = __invert__ = __and__ = __or__ = _refuse
    __hash__ = None  # type: ignore[assignment]
