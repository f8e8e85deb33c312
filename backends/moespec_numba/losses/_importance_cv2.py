"""losses.importance_cv2."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, empty, kernel, read, zeros
from moespec_numba.losses._cv2 import cv2, cv2_backward
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    ids: np.ndarray         # T K
    importance: np.ndarray  # E
    dtype: np.dtype


def forward(indices, weights, *, experts):
    OPS["losses.importance_cv2"].admit(indices, weights, experts=experts)
    ids, importance = read(indices, "int64"), zeros(experts, "float64")
    _importance(ids, read(weights), importance)
    return rounded(cv2(importance), weights.dtype), Saved(ids, importance, weights.dtype)


def backward(saved, dloss):
    dweights = empty(saved.ids.shape, saved.dtype)
    _backward(saved.ids, read(cv2_backward(saved.importance, dloss)), dweights)
    return dweights


@kernel
def _importance(ids, weights, importance):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            if ids[t, j] >= 0:
                importance[ids[t, j]] += weights[t, j]


@kernel
def _backward(ids, dimportance, dweights):
    for t in range(len(ids)):
        for j in range(ids.shape[1]):
            dweights[t, j] = dimportance[ids[t, j]] if ids[t, j] >= 0 else 0


IMPL = Impl(forward, backward)
