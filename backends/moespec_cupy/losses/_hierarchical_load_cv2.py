"""losses.hierarchical_load_cv2."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Kernels, accumulation, empty, items, read, rows
from moespec_cupy.dispatch._column_sums import column_sums
from moespec_cupy.losses import _chances
from moespec_cupy.losses._cv2 import cv2, cv2_backward

KERNELS = Kernels(__file__, "_hierarchical_load_cv2.cu")


class Saved(NamedTuple):
    primary: _chances.Saved
    secondary: _chances.Saved
    loads: tuple            # primary load [G], secondary load [G, M], tokens per group [G]
    both: Any               # G M   hierarchical load


def forward(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary=None, order=None,
            *, k_primary, k, groups):
    dims = admit("losses.hierarchical_load_cv2", clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices,
                 order_primary, order, k_primary=k_primary, k=k, groups=groups)
    tokens, each = dims.T, dims.E // groups
    acc = accumulation(*(a.dtype for a in (clean_primary, sigma_primary, logits_primary, clean, sigma, noisy)))
    ids, member = read(group_indices, "int64"), empty((tokens, groups), accumulation(clean.dtype, sigma.dtype, noisy.dtype))
    KERNELS("members", items(member.size), ids, member, tokens, ids.shape[1], groups)
    p, primary = _chances.chances(clean_primary, sigma_primary, logits_primary, order_primary, k_primary, (tokens, groups))
    q, secondary = _chances.chances(clean, sigma, noisy, order, k, (tokens * groups, each), member.reshape(tokens * groups))
    loads = column_sums(p, acc), column_sums(q.reshape(tokens, dims.E), acc), column_sums(member, acc)
    both = empty((groups, each), acc)
    KERNELS("both_loads", items(both.size), *loads, both, both.size, each)
    orders = primary.order, secondary.order.reshape(tokens, groups * secondary.order.shape[1])
    return (cv2(both).astype(accumulation(clean_primary.dtype), copy=False), *orders), Saved(primary, secondary, loads, both)


def backward(saved, dloss):
    both = saved.both
    dboth, dprimary, dsecondary = cv2_backward(both, read(dloss, both.dtype)), empty(len(both), both.dtype), empty(both.shape, both.dtype)
    KERNELS("both_loads_backward", rows(len(both)), *saved.loads, dboth, dprimary, dsecondary, *both.shape)
    tokens, groups = saved.primary.logits[0].shape
    first = _chances.chances_backward(saved.primary, dprimary, (tokens, groups))
    return (*first, *_chances.chances_backward(saved.secondary, dsecondary, (tokens, both.size)))


IMPL = Impl(forward, backward)
