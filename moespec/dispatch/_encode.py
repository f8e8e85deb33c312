"""Encode: tokens to expert buffers by the one-hot form (GShard's dispatch einsum)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.dispatch._one_hot import one_hot
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    mask: np.ndarray        # T E C
    dtype: np.dtype


def encode(mask, x):
    r"""Fill the buffers of the experts; a place that nobody has is 0.

    .. math:: \mathrm{buffers}_{ecd} = \sum_t \mathrm{mask}_{tec} \, x_{td}

    A dense sum over all tokens: a NaN in one token spreads to every buffer (0 times NaN), as it does in GShard's einsum.

    Parameters
    ----------
    mask : (T, E, C) bool
        See `one_hot`.
    x : (T, D) real

    Returns
    -------
    buffers : (E, C, D) real
        In the dtype of `x`.
    Saved
        mask.

    References
    ----------
    Lepikhin et al. 2020, section 3.2 (GSEC,GSM->EGCM).
    """
    OP.admit(mask, x)
    x_wide = widen(x)
    return np.einsum("tec,td->ecd", mask.astype(x_wide.dtype), x_wide).astype(x.dtype), Saved(mask, x.dtype)


def encode_backward(saved, dbuffers):
    r"""Every token adds up its places.

    .. math:: \bar x_{td} = \sum_{ec} \mathrm{mask}_{tec} \, \overline{\mathrm{buffers}}_{ecd}
    """
    d = widen(dbuffers)
    return np.einsum("tec,ecd->td", saved.mask.astype(d.dtype), d).astype(saved.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def masks(rng):
    """(name, mask, combine) of every routing of the corpus at two capacities."""
    for case in corpus.routings(rng, experts=4, tokens=6):
        ids = case.inputs["indices"]
        for c in (1, 7):
            (mask, combine), _ = one_hot(ids, corpus.dyadic(rng, *ids.shape, bits=2, high=2), experts=4, capacity=c)
            yield f"{case.name}_capacity_{c}", mask, combine, case.tags


def cases(rng):
    for name, mask, _, tags in masks(rng):
        yield Case(name, {"mask": mask, "x": corpus.normal(rng, len(mask), 3)}, {}, tags)
        yield Case(f"{name}_integers", {"mask": mask, "x": corpus.integers(rng, len(mask), 3)}, {}, tags | {"exact"})


INVALID = (
    (Case("real_mask", {"mask": np.zeros((2, 3, 1)), "x": np.zeros((2, 4))}), TypeError, r"encode: mask has dtype float64, wanted bool"),
    (Case("other_tokens", {"mask": np.zeros((2, 3, 1), bool), "x": np.zeros((3, 4))}), ValueError,
     r"encode: x has shape \(3, 4\), but T must be 2"),
)

REQUIREMENTS = (
    Req("ENCODE-1", "A place that nobody has is 0.", lambda r: r.inputs["mask"].any(0)[..., None] | (r.outputs.buffers == 0)),
    Req("ENCODE-2", "A place holds its token, bit for bit.",
        lambda r: [(r.outputs.buffers[e, c] == r.inputs["x"][t]).all() for t, e, c in np.argwhere(r.inputs["mask"])]),
)

OP = Op(
    name="dispatch.encode",
    inputs=(Arg("mask", "T E C", "mask"), Arg("x", "T D")),
    outputs=(Arg("buffers", "E C D"),),
    forward=encode,
    backward=encode_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, D, **_: (2 * T * E * C * D, 2 * T * E * C * D),
    refs=("Lepikhin et al. 2020, section 3.2",),
)
