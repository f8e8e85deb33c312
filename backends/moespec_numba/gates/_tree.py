"""gates.tree."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read
from moespec_numba._vector import total
from moespec_numba.gates._softmax import softmax_row
from moespec_numba.losses._lse import lse_row


class Saved(NamedTuple):
    logits: np.ndarray      # T N
    branching: np.ndarray   # int64, children of a node of each level


def forward(logits, *, branching):
    OPS["gates.tree"].admit(logits, branching=branching)
    saved, log_probs = Saved(read(logits), read(np.array(branching, "int64"))), empty((len(logits), int(np.prod(branching))), logits.dtype)
    _forward(*saved, log_probs)
    return log_probs, saved


def backward(saved, dlog_probs):
    dlogits, below, gate = (empty(n, dlog_probs.dtype) for n in (saved.logits.shape, dlog_probs.shape[1], max(saved.branching)))
    _backward(*saved, read(dlog_probs), below, gate, dlogits)
    return dlogits


@kernel
def _forward(logits, branching, log_probs):
    """Every level takes the place of the one above, from the last node on, so that nothing is overwritten before it is read."""
    for t in range(len(logits)):
        log_probs[t, 0] = 0
        first, nodes = 0, 1
        for children in branching:
            for n in range(nodes - 1, -1, -1):
                own, above = logits[t, first + n * children:first + (n + 1) * children], log_probs[t, n]
                whole = lse_row(own)
                for c in range(children):
                    log_probs[t, n * children + c] = above + (own[c] - whole)
            nodes *= children
            first += nodes


@kernel
def _backward(logits, branching, dlog_probs, below, gate, dlogits):
    """From the leaves up: `below` becomes what all leaves below a node ask for."""
    for t in range(len(logits)):
        for e in range(len(below)):
            below[e] = dlog_probs[t, e]
        first, nodes = logits.shape[1], len(below)
        for level in range(len(branching) - 1, -1, -1):
            children = branching[level]
            first -= nodes
            nodes //= children
            for n in range(nodes):
                start = first + n * children
                softmax_row(logits[t, start:start + children], gate[:children])
                whole = total(below[n * children:(n + 1) * children])
                for c in range(children):
                    dlogits[t, start + c] = below[n * children + c] - gate[c] * whole
                below[n] = whole


IMPL = Impl(forward, backward)
