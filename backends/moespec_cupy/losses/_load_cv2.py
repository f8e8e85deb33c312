"""losses.load_cv2."""

from typing import Any, NamedTuple

from moespec.program import Impl
from moespec_cupy._admit import admit
from moespec_cupy._kernel import accumulation, read
from moespec_cupy.dispatch._column_sums import column_sums
from moespec_cupy.losses import _chances
from moespec_cupy.losses._cv2 import cv2, cv2_backward


class Saved(NamedTuple):
    inner: _chances.Saved
    load: Any               # E


def forward(clean, sigma, noisy, order=None, *, k):
    dims = admit("losses.load_cv2", clean, sigma, noisy, order, k=k)
    p, inner = _chances.chances(clean, sigma, noisy, order, k, (dims.T, dims.E))
    load = column_sums(p, accumulation(clean.dtype))
    return (cv2(load), inner.order), Saved(inner, load)


def backward(saved, dloss):
    return _chances.chances_backward(saved.inner, cv2_backward(saved.load, read(dloss)), saved.inner.logits[0].shape)


IMPL = Impl(forward, backward)
