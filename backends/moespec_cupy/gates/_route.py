"""gates.route, in one pass."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._routed import routed, through_route


def forward(logits, indices=None, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    admit("gates.route", logits, indices, k=k, score=score, over=over, norm=norm, eps=eps, scale=scale, p=p)
    return routed(logits, indices, k, score=score, over=over, norm=norm, eps=eps, scale=scale, p=p)


IMPL = Impl(forward, through_route)
