"""losses.hierarchical_load_cv2."""

from typing import NamedTuple

import numpy as np

from moespec.program import Impl
from moespec_numba._kernel import OPS, kernel, read, zeros
from moespec_numba.losses._cv2 import cv2, cv2_backward
from moespec_numba.losses._load import Chances, chances, chances_backward
from moespec_numba.losses._scalar import rounded


class Saved(NamedTuple):
    first: Chances          # of the primary gate, a row per token
    second: Chances         # of the secondary gates, a row per token and group
    primary: np.ndarray     # G     load
    secondary: np.ndarray   # G M   load over the tokens of the group, per token of the group
    tokens: np.ndarray      # G 1   at least 1


def forward(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices, order_primary=None, order=None, *,
            k_primary, k, groups):
    dims = OPS["losses.hierarchical_load_cv2"].admit(clean_primary, sigma_primary, logits_primary, clean, sigma, noisy, group_indices,
                                                     order_primary, order, k_primary=k_primary, k=k, groups=groups)
    rows, size = dims.T * groups, dims.E // groups
    member = zeros((dims.T, groups), "float64")
    _members(read(group_indices, "int64"), member)
    (primary,), first = chances(clean_primary, sigma_primary, logits_primary, order_primary, k_primary, np.ones(dims.T), 1)
    clean, sigma, noisy = (a.reshape(rows, size) for a in (clean, sigma, noisy))
    order = None if order is None else order.reshape(rows, min(k + 1, size))
    sent, second = chances(clean, sigma, noisy, order, k, member.ravel(), groups)
    tokens = np.maximum(member.sum(0), 1)[:, None]
    loss = rounded(cv2((primary[:, None] * (sent / tokens)).ravel()), clean_primary.dtype)
    orders = first.order, second.order.reshape(dims.T, groups * second.order.shape[1])
    return (loss, *orders), Saved(first, second, primary, sent / tokens, tokens)


def backward(saved, dloss):
    primary, secondary = saved.primary[:, None], saved.secondary
    d = cv2_backward((primary * secondary).ravel(), dloss).reshape(secondary.shape)
    first = chances_backward(saved.first, (d * secondary).sum(1)[None])
    second = chances_backward(saved.second, d * (primary / saved.tokens))
    return *first, *(g.reshape(len(first[0]), secondary.size) for g in second)


@kernel
def _members(group_indices, member):
    """1 where a token is in a group."""
    for t in range(len(group_indices)):
        for a in range(group_indices.shape[1]):
            if group_indices[t, a] >= 0:
                member[t, group_indices[t, a]] = 1


IMPL = Impl(forward, backward)
