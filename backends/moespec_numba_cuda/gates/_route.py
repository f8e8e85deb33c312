"""gates.route, in one pass."""

from __future__ import annotations

from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda.gates._routed import routed, through_route


def forward(logits, indices=None, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    how = {"score": score, "over": over, "norm": norm, "eps": eps, "scale": scale, "p": p}
    admit("gates.route", logits, indices, k=k, **how)
    return routed(logits, indices, k, **how)


IMPL = Impl(forward, through_route)
