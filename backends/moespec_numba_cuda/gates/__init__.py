"""Gates on the device."""

from moespec_numba_cuda.gates import (
    _accept,
    _cast_like,
    _gather,
    _jitter,
    _linear,
    _noisy_logits,
    _relu_route,
    _renormalize,
    _route,
    _selected_softmax,
    _softmax,
    _softmax_topk,
    _top_p,
    _topk,
    _topk_softmax,
)

OPS = {
    "gates.accept": _accept.IMPL,
    "gates.cast_like": _cast_like.IMPL,
    "gates.gather": _gather.IMPL,
    "gates.jitter": _jitter.IMPL,
    "gates.linear": _linear.IMPL,
    "gates.noisy_logits": _noisy_logits.IMPL,
    "gates.relu_route": _relu_route.IMPL,
    "gates.renormalize": _renormalize.IMPL,
    "gates.route": _route.IMPL,
    "gates.selected_softmax": _selected_softmax.IMPL,
    "gates.softmax": _softmax.IMPL,
    "gates.softmax_topk": _softmax_topk.IMPL,
    "gates.top_p": _top_p.IMPL,
    "gates.topk": _topk.IMPL,
    "gates.topk_softmax": _topk_softmax.IMPL,
}
