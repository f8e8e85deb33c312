"""gates.topk_softmax."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda.gates._routed import routed, through_route


def forward(logits, indices=None, *, k=None):
    admit("gates.topk_softmax", logits, indices, k=k)
    return routed(logits, indices, k, over="selected")


IMPL = Impl(forward, through_route)
