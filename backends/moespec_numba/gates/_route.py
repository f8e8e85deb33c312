"""gates.route in one pass: each of its two orders is one kernel."""

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.gates import _softmax_topk, _topk_softmax

ORDERS = {"all": _softmax_topk, "selected": _topk_softmax}
COMPOSED = ("sigmoid", "sqrt_softplus")


def forward(logits, indices=None, *, k=None, score="softmax", over="all", norm="none", eps=0.0, scale=1.0, p=1.0):
    OPS["gates.route"].admit(logits, indices, k=k, score=score, over=over, norm=norm, eps=eps, scale=scale, p=p)
    order = ORDERS[over]
    routing, saved = order.routed(logits, indices, k, norm, eps, scale)
    return routing, (order, saved)


def backward(saved, dweights):
    order, saved = saved
    return order.backward(saved, dweights)


def supports(*, score="softmax", norm="none", **_):
    """What is fused; another score or a p-norm is composed of the steps."""
    if norm == "lp":
        return "norm='lp' has no fused kernel: composed of its steps"
    return f"score={score!r} has no fused kernel: composed of its steps" if score in COMPOSED else None


IMPL = Impl(forward, backward, supports)
