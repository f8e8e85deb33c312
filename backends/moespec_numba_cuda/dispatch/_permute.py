"""dispatch.permute."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, read
from moespec_numba_cuda.dispatch._take import add_rows, take_rows


def forward(x, token):
    dims = admit("dispatch.permute", x, token)
    return convert(take_rows(read(x), token), x.dtype), (token, dims.T, x.dtype)


def backward(saved, drows):
    token, tokens, dtype = saved
    return convert(add_rows(read(drows), token, tokens), dtype)


IMPL = Impl(forward, backward)
