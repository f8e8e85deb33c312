"""dispatch.permute."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.dispatch._take import add_rows, take_rows


class Saved(NamedTuple):
    token: Any              # N
    tokens: int


def forward(x, token):
    dims = admit("dispatch.permute", x, token)
    return take_rows(x, token), Saved(token, dims.T)


def backward(saved, drows):
    return add_rows(drows, *saved)


IMPL = Impl(forward, backward)
