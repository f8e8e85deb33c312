"""losses.importance_cv2."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import Grid, Kernels, accumulation, empty, items, read
from moespec_cupy.dispatch._counting_sort import counting_sort
from moespec_cupy.losses._cv2 import cv2, cv2_backward

KERNELS = Kernels(__file__, "_importance_cv2.cu")
MOST = 1 << 16                # blocks


class Saved(NamedTuple):
    ids: Any                # T K
    dtype: Any
    importance: Any         # E


def forward(indices, weights, *, experts):
    admit("losses.importance_cv2", indices, weights, experts=experts)
    found, importance = counting_sort(indices, experts), empty(experts, accumulation(weights.dtype))
    KERNELS("add_importance", Grid(min(experts, MOST), 256), read(weights), found.order, found.offsets, importance, experts)
    return cv2(importance), Saved(read(indices, "int64"), weights.dtype, importance)


def backward(saved, dloss):
    dweights, dimportance = empty(saved.ids.shape, saved.dtype), cv2_backward(saved.importance, read(dloss))
    KERNELS("importance_to_weights", items(dweights.size), saved.ids, dimportance, dweights, dweights.size, dimportance.size)
    return dweights


IMPL = Impl(forward, backward)
