"""gates.tree: a launch for every level."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, read, rows, zeros

KERNELS = Kernels(__file__, "_tree.cu")


class Saved(NamedTuple):
    logits: Any             # T N
    branching: tuple


def forward(logits, *, branching):
    admit("gates.tree", logits, branching=branching)
    x = read(logits)
    (tokens, edges), first, nodes = x.shape, 0, 1
    leaf = zeros((tokens, 1), accumulation(x.dtype))
    for children in branching:
        above, leaf = leaf, empty((tokens, nodes * children), leaf.dtype)
        KERNELS("tree_level", rows(tokens * nodes), x, above, leaf, tokens, edges, first, nodes, children)
        nodes *= children
        first += nodes
    return leaf.astype(x.dtype, copy=False), Saved(x, tuple(branching))


def backward(saved, dlog_probs):
    x = saved.logits
    (tokens, edges), below = x.shape, read(dlog_probs, accumulation(x.dtype))
    dlogits, first, nodes = empty(x.shape, x.dtype), edges, below.shape[1]
    for children in reversed(saved.branching):
        first -= nodes
        nodes //= children
        whole = empty((tokens, nodes), below.dtype)
        KERNELS("tree_level_backward", rows(tokens * nodes), x, below, whole, dlogits, tokens, edges, first, nodes, children)
        below = whole
    return dlogits


IMPL = Impl(forward, backward)
