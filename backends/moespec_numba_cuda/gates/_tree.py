"""gates.tree: a launch for every level, a thread for a token and node."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import empty, like, read, zeros
from moespec_numba_cuda._device import cuda
from moespec_numba_cuda._kernel import items, kernel
from moespec_numba_cuda._rows import total
from moespec_numba_cuda.gates._softmax import softmax_row
from moespec_numba_cuda.losses._lse import lse_row


class Saved(NamedTuple):
    logits: Any             # T N
    branching: tuple


def forward(logits, *, branching):
    admit("gates.tree", logits, branching=branching)
    x, first, nodes = read(logits), 0, 1
    leaf = zeros((len(x), 1), x.dtype)
    for children in branching:
        above, leaf = leaf, empty((len(x), nodes * children), x.dtype)
        _level(items(above.size), x, above, first, children, leaf)
        nodes *= children
        first += nodes
    return like(logits, leaf), Saved(logits, tuple(branching))


def backward(saved, dlog_probs):
    x = read(saved.logits)
    below, dlogits, first, nodes = read(dlog_probs, x.dtype), empty(x.shape, x.dtype), x.shape[1], dlog_probs.shape[1]
    for children in reversed(saved.branching):
        first -= nodes
        nodes //= children
        whole = empty((len(x), nodes), x.dtype)
        _level_backward(items(whole.size), x, below, first, children, whole, dlogits)
        below = whole
    return like(saved.logits, dlogits)


@kernel("T2 T2 i i T2")
def _level(logits, above, first, children, leaf):
    nodes = above.shape[1]
    for i in range(cuda.grid(1), above.shape[0] * nodes, cuda.gridsize(1)):
        t, n = i // nodes, i % nodes
        own = logits[t, first + n * children:first + (n + 1) * children]
        whole = lse_row(own)
        for c in range(children):
            leaf[t, n * children + c] = above[t, n] + (own[c] - whole)


@kernel("T2 T2 i i T2 T2")
def _level_backward(logits, below, first, children, whole, dlogits):
    nodes = whole.shape[1]
    for i in range(cuda.grid(1), whole.shape[0] * nodes, cuda.gridsize(1)):
        t, n = i // nodes, i % nodes
        start = first + n * children
        gate, asked = dlogits[t, start:start + children], below[t, n * children:(n + 1) * children]
        softmax_row(logits[t, start:start + children], gate)
        whole[t, n] = total(asked)
        for c in range(children):
            gate[c] = asked[c] - gate[c] * whole[t, n]


IMPL = Impl(forward, backward)
