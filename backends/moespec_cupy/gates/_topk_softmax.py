"""gates.topk_softmax."""

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy.gates._routed import routed, through_route


def forward(logits, indices=None, *, k=None):
    admit("gates.topk_softmax", logits, indices, k=k)
    return routed(logits, indices, k, over="selected")


IMPL = Impl(forward, through_route)
