"""losses.load_cv2."""

from __future__ import annotations

from typing import Any, NamedTuple

from moespec.numerics import acc
from moespec.program import Impl
from moespec_numba_cuda._admit import admit
from moespec_numba_cuda.losses._chances import Chances, chances, chances_backward
from moespec_numba_cuda.losses._cv2 import cv2, cv2_backward
from moespec_numba_cuda.losses._mean import column_sums, masked


class Saved(NamedTuple):
    inner: Chances
    load: Any               # E
    moments: Any            # 2


def forward(clean, sigma, noisy, order=None, *, k):
    dims = admit("losses.load_cv2", clean, sigma, noisy, order, k=k)
    p, inner = chances(clean, sigma, noisy, order, k, (dims.T, dims.E))
    load = column_sums(p, masked(None))
    loss, moments = cv2(load, acc(clean))
    return (loss, inner.order), Saved(inner, load, moments)


def backward(saved, dloss):
    dload = cv2_backward(saved.load, saved.moments, dloss)
    return chances_backward(saved.inner, dload.reshape(1, dload.size))


IMPL = Impl(forward, backward)
