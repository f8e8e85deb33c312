"""gates.softmax_topk."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda.gates._routed import routed, through_route


def forward(logits, indices=None, *, k=None, norm="none", eps=0.0, scale=1.0):
    admit("gates.softmax_topk", logits, indices, k=k, norm=norm, eps=eps, scale=scale)
    return routed(logits, indices, k, norm=norm, eps=eps, scale=scale)


IMPL = Impl(forward, through_route)
