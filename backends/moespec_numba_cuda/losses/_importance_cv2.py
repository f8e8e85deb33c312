"""losses.importance_cv2."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda._arrays import convert, like, read
from moespec_numba_cuda.losses._choices import choice_sums, to_choices
from moespec_numba_cuda.losses._cv2 import cv2, cv2_backward
from moespec_numba_cuda.losses._mean import masked


class Saved(NamedTuple):
    ids: Any                # T K
    weights: Any            # T K
    importance: Any         # E
    moments: Any            # 2


def forward(indices, weights, *, experts):
    admit("losses.importance_cv2", indices, weights, experts=experts)
    ids, w = read(indices, "int64"), read(weights)
    importance = choice_sums(ids, experts, masked(None), w)
    loss, moments = cv2(importance, w.dtype)
    return loss, Saved(ids, weights, importance, moments)


def backward(saved, dloss):
    each = cv2_backward(saved.importance, saved.moments, dloss)
    return like(saved.weights, to_choices(saved.ids, convert(each, acc(saved.weights)), masked(None)))


IMPL = Impl(forward, backward)
