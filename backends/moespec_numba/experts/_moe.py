"""experts.moe: the whole routed layer in a few parallel regions, without a gathered copy of the tokens or of the hidden layer."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._few import FEW
from moespec_numba._kernel import OPS, empty, read, zeros
from moespec_numba._products import TILE, gradient, longest, row_blocks
from moespec_numba._queue import BLOCK, blocks, counter, largest_first
from moespec_numba._threads import one_blas_thread
from moespec_numba.dispatch._combine import combine_rows
from moespec_numba.dispatch._counting_sort import counting_sort
from moespec_numba.experts import _moe_backward, _moe_forward
from moespec_numba.experts._gated import gating
from moespec_numba.experts._moe_backward import DOWN, GATE, ROWS, UP, WHOLE, Back, Given
from moespec_numba.experts._moe_forward import Rows, Weights
from moespec_numba.experts._types import absent, common, like


class Saved(NamedTuple):
    inputs: tuple               # x, weights, w_gate, w_up, w_down, b_gate, b_up, b_down
    own: Rows
    place: np.ndarray           # T K, the row of every assignment
    offsets: np.ndarray         # E+1
    attrs: dict


def forward(x, indices, weights, w_gate, w_up, w_down, b_gate=None, b_up=None, b_down=None, *, activation="silu", limit=None,
            limit_at="pre", alpha=1.0, up_offset=0.0, cap_gate=None, cap_up=None, rows=None):
    attrs = {"activation": activation, "limit": limit, "limit_at": limit_at, "alpha": alpha, "up_offset": up_offset,
             "cap_gate": cap_gate, "cap_up": cap_up}
    inputs = x, weights, w_gate, w_up, w_down, b_gate, b_up, b_down
    dims = OPS["experts.moe"].admit(x, indices, *inputs[1:], rows=rows, **attrs)
    token, place, offsets = counting_sort(indices, dims.E)
    tokens, shares, w = _computed(inputs)
    live, dtype = int(offsets[-1]), tokens.dtype
    own = Rows(token[:live], empty((live, dims.F), dtype), empty((live, dims.F), dtype))
    out, y = empty((live, dims.D), dtype), empty((dims.T, dims.D), dtype)
    tasks = row_blocks(offsets)
    size = longest(tasks)
    with one_blas_thread(size > FEW) as threads:
        buffers = tuple(empty((threads, *shape), dtype) for shape in ((size, dims.D), (size, dims.F), (dims.F,)))
        _moe_forward.run(tokens, w, gating(dtype, **attrs), tasks, counter(), own, out, buffers)
    combine_rows(read(out), shares, read(place), y)
    return like(x, y), Saved(inputs, own, place, offsets, attrs)


def backward(saved, dy):
    inputs, own, place, offsets, attrs = saved
    tokens, shares, w = _computed(inputs)
    dtype, (T, D), F, live = tokens.dtype, tokens.shape, w.gate.shape[2], len(own.token)
    scale = empty(live, dtype)
    scale[place[place >= 0]] = shares[place >= 0]
    given = Given(tokens, read(dy, dtype), scale, offsets)
    dw = Weights(*(gradient(a, offsets) for a in w))
    with one_blas_thread(np.diff(offsets).max(initial=0) > FEW) as threads:
        tasks, tiles = _tasks(offsets, D, F, threads)
        kept = live if len(tiles) else 0
        back = Back(empty((live, D), dtype), empty(live, dtype), *(empty((kept, F), dtype) for _ in range(3)))
        size = min(BLOCK, int((tasks[:, 3] - tasks[:, 2]).max(initial=0)))
        buffers = tuple(empty((threads, *shape), dtype) for shape in ((size, D), (3, size, F), (3, F)))
        for phase in (tasks, tiles):
            if len(phase):
                _moe_backward.run(given, own, w, gating(dtype, **attrs), phase, counter(), size, back, dw, buffers)
    dx, live_place = empty((T, D), dtype), place >= 0
    combine_rows(read(back.dx), read(np.ones(place.shape, dtype)), read(place), dx)
    dweights = zeros(place.shape, dtype)
    dweights[live_place] = back.inner[place[live_place]]
    grads = dx, dweights, *dw
    return tuple(like(a, d) for a, d in zip(inputs, grads, strict=True))


def _computed(inputs):
    """x, the routing weights and the parameters in the dtype of the computation; a missing bias is an empty one."""
    x, weights, *w = common(*inputs)
    return x, weights, Weights(*(absent(2, x.dtype) if a is None else a for a in w))


def _tasks(offsets, D, F, threads):
    """Tasks (kind, expert, first row, last + 1), and tiles (gradient, expert, first row of it, last + 1) of the experts that are split."""
    sizes = np.diff(offsets)
    large = (sizes * 2 * threads > offsets[-1]) & (sizes > FEW) & (threads > 1)
    split, whole = np.flatnonzero(large), np.flatnonzero(~large & (sizes > 0))
    rows = blocks(offsets[split], offsets[split + 1], BLOCK)
    rows[:, 0] = split[rows[:, 0]]
    first = np.column_stack([np.full(len(rows), ROWS), rows])
    rest = np.column_stack([np.full(len(whole), WHOLE), whole, offsets[whole], offsets[whole + 1]])
    tasks = np.concatenate([first, largest_first(rest, sizes[whole])])
    tiles = [(which, e, a, min(a + TILE, depth)) for e in split for which, depth in ((DOWN, F), (GATE, D), (UP, D))
             for a in range(0, depth, TILE)]
    return tasks, np.array(tiles, np.int64).reshape(-1, 4)


IMPL = Impl(forward, backward)
