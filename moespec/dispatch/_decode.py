"""Decode: expert buffers back to tokens by the one-hot form (GShard's combine einsum)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.dispatch._encode import masks
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    combine: np.ndarray     # T E C
    buffers: np.ndarray     # E C D


def decode(combine, buffers):
    r"""Every token adds up the places it has, weighted.

    .. math:: y_{td} = \sum_{ec} \mathrm{combine}_{tec} \, \mathrm{buffers}_{ecd}

    A dense sum: a NaN in a buffer spreads to every token.

    Parameters
    ----------
    combine : (T, E, C) real
        See `one_hot`.
    buffers : (E, C, D) real

    Returns
    -------
    y : (T, D) real
        In the dtype of `buffers`.
    Saved
        The inputs.

    References
    ----------
    Lepikhin et al. 2020, section 3.2 (GSEC,GECM->GSM).
    """
    OP.admit(combine, buffers)
    return np.einsum("tec,ecd->td", widen(combine), widen(buffers)).astype(buffers.dtype), Saved(combine, buffers)


def decode_backward(saved, dy):
    r"""Both factors of the sum.

    .. math:: \overline{\mathrm{combine}}_{tec} = \sum_d \mathrm{buffers}_{ecd} \bar y_{td}, \qquad
              \overline{\mathrm{buffers}}_{ecd} = \sum_t \mathrm{combine}_{tec} \bar y_{td}
    """
    d = widen(dy)
    dcombine = np.einsum("td,ecd->tec", d, widen(saved.buffers))
    dbuffers = np.einsum("tec,td->ecd", widen(saved.combine), d)
    return dcombine.astype(saved.combine.dtype), dbuffers.astype(saved.buffers.dtype)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for name, _, combine, tags in masks(rng):
        _, e, c = combine.shape
        yield Case(name, {"combine": combine, "buffers": corpus.normal(rng, e, c, 2)}, {}, tags)
        yield Case(f"{name}_integers", {"combine": combine, "buffers": corpus.integers(rng, e, c, 2)}, {}, tags | {"exact"})


INVALID = (
    (Case("other_capacity", {"combine": np.zeros((2, 3, 1)), "buffers": np.zeros((3, 2, 4))}), ValueError,
     r"decode: buffers has shape \(3, 2, 4\), but C must be 1"),
)

REQUIREMENTS = (
    Req("DECODE-1", "A token without a place gives 0.", lambda r: (r.inputs["combine"] != 0).any((1, 2))[:, None] | (r.outputs.y == 0)),
)

OP = Op(
    name="dispatch.decode",
    inputs=(Arg("combine", "T E C"), Arg("buffers", "E C D")),
    outputs=(Arg("y", "T D", like="buffers"),),
    forward=decode,
    backward=decode_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda T, E, C, D, **_: (2 * T * E * C * D, 4 * T * E * C * D),
    refs=("Lepikhin et al. 2020, section 3.2",),
)
