"""experts.moe_block for a few tokens: from the tokens to the output in one call.

Between kernels that together take no longer than memory needs to deliver the chosen experts, Python's own code and objects have to come
back into the caches each time, since the experts' matrices have driven them out: most of a millisecond a layer.
"""

import numpy as np

from moespec_numba._few import few_nn
from moespec_numba._kernel import kernel
from moespec_numba._queue import BLOCK, list_blocks
from moespec_numba._vector import copy
from moespec_numba.dispatch._combine import combine_in_order
from moespec_numba.dispatch._counting_sort import APART, sort_in_one
from moespec_numba.experts import _moe_forward
from moespec_numba.experts._gated import Gating
from moespec_numba.experts._moe_forward import Rows, Weights
from moespec_numba.gates import _softmax_topk, _topk_softmax


@kernel
def run(x, router, bias, w_gate, w_up, w_down, b_gate, b_up, b_down, given, score_all, kind, norm, eps, scale, unit,
        logits, ids, scores, gates, weights, token, place, offsets, g, u, y):
    """Fill everything from `logits` on; `scores`: of all experts or of the chosen ones, as gates.route keeps them."""
    few_nn(x, router, logits)
    if len(bias):
        for t in range(len(x)):
            for e in range(len(bias)):
                logits[t, e] += bias[e]
    if score_all:
        _softmax_topk.route_block(logits, kind, given, norm, eps, scale, ids, scores, gates)
    else:
        _topk_softmax.route_block(logits, kind, given, norm, eps, scale, ids, scores, gates)
    sort_in_one(ids, np.zeros((1, len(offsets) - 1 + APART), np.int64), token, place, offsets)
    live, tasks = offsets[-1], np.empty((len(token), 3), np.int64)
    tasks = tasks[:list_blocks(offsets, np.zeros(BLOCK, np.int64), tasks)]
    size = tasks[0, 2] - tasks[0, 1] if len(tasks) else 0
    out = np.empty((live, x.shape[1]), x.dtype)
    threads, own = len(tasks), Rows(token[:live], g[:live], u[:live])           # no more than there is to do
    rows, hidden, scratch = (np.empty((threads, size, x.shape[1]), x.dtype), np.empty((threads, size, g.shape[1]), x.dtype),
                             np.empty((threads, g.shape[1]), x.dtype))
    w, a = Weights(w_gate, w_up, w_down, b_gate, b_up, b_down), Gating(*unit)
    _moe_forward.run(x, w, a, tasks, np.zeros(1, np.int64), own, out, (rows, hidden, scratch))
    for t in range(len(gates)):
        copy(weights[t], gates[t])
    combine_in_order(out, gates, place, y)
