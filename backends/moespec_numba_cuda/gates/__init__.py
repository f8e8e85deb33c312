"""Gates on the device."""

from moespec_numba_cuda.gates import (
    _accept,
    _cast_like,
    _gather,
    _jitter,
    _noisy_logits,
    _relu_route,
    _renormalize,
    _selected_softmax,
    _softmax,
    _top_p,
    _topk,
)

OPS = {
    "gates.accept": _accept.IMPL,
    "gates.cast_like": _cast_like.IMPL,
    "gates.gather": _gather.IMPL,
    "gates.jitter": _jitter.IMPL,
    "gates.noisy_logits": _noisy_logits.IMPL,
    "gates.relu_route": _relu_route.IMPL,
    "gates.renormalize": _renormalize.IMPL,
    "gates.selected_softmax": _selected_softmax.IMPL,
    "gates.softmax": _softmax.IMPL,
    "gates.top_p": _top_p.IMPL,
    "gates.topk": _topk.IMPL,
}
