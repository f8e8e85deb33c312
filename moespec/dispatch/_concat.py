"""Concatenate: experts that make a part of the features, beside what all tokens share."""

from typing import NamedTuple

import numpy as np

from moespec.dispatch._tokens import beside
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    width: int              # P
    dtypes: tuple           # of a, of b


def concat(a, b):
    r"""Put the features of two branches side by side.

    .. math:: y_t = (a_t, b_t)

    Parameters
    ----------
    a : (T, P) real
        Any bits pass unchanged.
    b : (T, Q) real
        Brought to the dtype of `a`.

    Returns
    -------
    y : (T, P + Q) real
        In the dtype of `a`.
    Saved
        P.

    References
    ----------
    Xu et al. 2022 (ViTPose++): part of the features from a shared map, the rest from an expert per task.
    """
    OP.admit(a, b)
    return np.concatenate([a, b.astype(a.dtype, copy=False)], axis=1), Saved(a.shape[1], (a.dtype, b.dtype))


def concat_backward(saved, dy):
    r"""Each its own columns."""
    return dy[:, :saved.width].astype(saved.dtypes[0]), dy[:, saved.width:].astype(saved.dtypes[1])


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in beside(rng, "a", "b", lambda t, d: (t, d + 2)):
        yield case._replace(tags=case.tags | {"exact"})                 # no arithmetic
    yield Case("nothing_beside", {"a": np.ones((3, 2)), "b": np.zeros((3, 0))}, {}, frozenset({"exact"}))
    yield Case("nothing_first", {"a": np.zeros((3, 0)), "b": np.ones((3, 2))}, {}, frozenset({"exact"}))


INVALID = (
    (Case("other_tokens", {"a": np.zeros((4, 3)), "b": np.zeros((5, 2))}), ValueError,
     r"^concat: b has shape \(5, 2\), but T must be 4 \(T=4, a has shape \(4, 3\)\)"),
    (Case("one_dimension", {"a": np.zeros((4, 3)), "b": np.zeros(4)}), ValueError, r"^concat: b has shape \(4,\), wanted 2 dimensions \(T, Q\)"),
)

REQUIREMENTS = (
    Req("CONCAT-1", "The first P columns are a's, bit for bit.", lambda r: r.outputs.y[:, :r.dims.P].tobytes() == r.inputs["a"].tobytes()),
    Req("CONCAT-2", "The other Q columns are b's, bit for bit.", lambda r: r.outputs.y[:, r.dims.P:].tobytes() == r.inputs["b"].tobytes()),
    Req("CONCAT-3", "The gradients side by side are the cotangent.",
        lambda r: np.concatenate([r.grads["a"], r.grads["b"]], 1) == r.cotangents["y"]),
)

OP = Op(
    name="dispatch.concat",
    inputs=(Arg("a", "T P"), Arg("b", "T Q")),
    outputs=(Arg("y", "T D"),),                                         # D = P + Q
    forward=concat,
    backward=concat_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    flops=lambda **_: (0, 0),
    refs=("Xu et al. 2022 (ViTPose++)",),
)
