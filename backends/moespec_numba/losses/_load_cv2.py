"""losses.load_cv2."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS
from moespec_numba.losses._cv2 import cv2, cv2_backward
from moespec_numba.losses._load import Chances, chances, chances_backward
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    chances: Chances
    load: np.ndarray        # E


def forward(clean, sigma, noisy, order=None, *, k):
    dims = OPS["losses.load_cv2"].admit(clean, sigma, noisy, order, k=k)
    (load,), inner = chances(clean, sigma, noisy, order, k, np.ones(dims.T), 1)
    return (rounded(cv2(load), clean.dtype), inner.order), Saved(inner, load)


def backward(saved, dloss):
    return chances_backward(saved.chances, cv2_backward(saved.load, dloss)[None])


IMPL = Impl(forward, backward)
