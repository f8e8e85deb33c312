"""Gates on the device."""

from moespec_numba_cuda.gates import (
    _add_noise,
    _limit_ids,
    _lookup,
    _mix_in,
    _of_kind,
    _pair_sums,
    _rescale,
    _scale_experts,
    _scale_weights,
    _selected_sigmoid,
    _selected_sqrt_softplus,
    _sigmoid,
    _softcap,
    _softmax,
    _sqrt_softplus,
    _topk,
)

OPS = {
    "gates.add_noise": _add_noise.IMPL,
    "gates.limit_ids": _limit_ids.IMPL,
    "gates.lookup": _lookup.IMPL,
    "gates.mix_in": _mix_in.IMPL,
    "gates.of_kind": _of_kind.IMPL,
    "gates.pair_sums": _pair_sums.IMPL,
    "gates.rescale": _rescale.IMPL,
    "gates.scale_experts": _scale_experts.IMPL,
    "gates.scale_weights": _scale_weights.IMPL,
    "gates.selected_sigmoid": _selected_sigmoid.IMPL,
    "gates.selected_sqrt_softplus": _selected_sqrt_softplus.IMPL,
    "gates.sigmoid": _sigmoid.IMPL,
    "gates.softcap": _softcap.IMPL,
    "gates.softmax": _softmax.IMPL,
    "gates.sqrt_softplus": _sqrt_softplus.IMPL,
    "gates.topk": _topk.IMPL,
}
