"""Gates on the device."""

from moespec_numba_cuda.gates import (
    _softmax,
    _topk,
)

OPS = {
    "gates.softmax": _softmax.IMPL,
    "gates.topk": _topk.IMPL,
}
