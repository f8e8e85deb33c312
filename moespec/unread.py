"""Refusing wrong calls without reading a value: what backends do whose arrays lie on a device."""

from __future__ import annotations

from contextlib import suppress

from moespec.op import Op


def admit_unread(op: Op, *inputs, **attrs):
    """Refuse wrong shapes, dtypes and attributes of `op`, in the specification's words; returns the named dimensions.

    Values are not looked at: a check stops at the first one that it asks for, so that it has to come after those that ask for none.
    """
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
