"""ReLU routing: a token goes to every expert whose logit is positive, and weighs it by that (Wang et al. 2024, ReMoE)."""

from typing import NamedTuple

import numpy as np

from moespec import corpus, indexing
from moespec.gates._batchwise import require_columns
from moespec.gates._routing import Routing
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Saved(NamedTuple):
    passes: np.ndarray      # T E   on the mask, and not cut off by the ReLU
    dtype: np.dtype


def relu_route(logits, indices=None):
    r"""Weigh every expert by the ReLU of its logit.

    .. math:: w_{ti} = \max(l_{ti}, 0)

    An expert is off (-1) exactly where its weight is 0.  How many are on is not fixed: a regulariser (`losses.gate_l1`) holds the
    number down.  Nothing is normalised.  A NaN is on and has weight NaN.

    Parameters
    ----------
    logits : (T, E) real
    indices : (T, E) integer, optional
        A given mask (replay): column i holds i or -1.  A logit that is not positive has weight 0 there too.

    Returns
    -------
    Routing(indices, weights)
        A column per expert: i or -1; int64.  Weights in the dtype of `logits`, exact.
    Saved

    Raises
    ------
    ValueError
        A column that holds another id.

    References
    ----------
    Wang, Zhu and Chen 2024 (ReMoE), eq. 5.
    """
    dims = OP.admit(logits, indices)
    on = (logits > 0) | np.isnan(logits)
    mask = indexing.decide(on, None if indices is None else indices >= 0)
    ids = np.where(mask, np.arange(dims.E), -1).astype(np.int64)
    passes = on & mask
    return Routing(ids, np.where(passes, logits, 0.0).astype(logits.dtype)), Saved(passes, logits.dtype)


def relu_route_backward(saved, dweights):
    r"""Where the weight is not 0; an expert that is off learns nothing.

    .. math:: \bar l_{ti} = [l_{ti} > 0] \, \bar w_{ti}
    """
    return np.where(saved.passes, widen(dweights), 0.0).astype(saved.dtype)


def _check(dims, logits, indices):
    require_columns("relu_route", indices)


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.logits(rng):                    # no arithmetic: exact, whatever the values
        zeros = frozenset({"kink"}) if (np.asarray(case.inputs["logits"]) == 0).any() else frozenset()
        yield case._replace(tags=case.tags | {"exact"} | zeros)
    logits = corpus.off_zero(rng, 6, 4)
    given = np.where(rng.random((6, 4)) < 0.5, np.arange(4), -1)
    yield Case("given", {"logits": logits, "indices": given}, {}, frozenset({"exact"}))
    yield Case("given_all", {"logits": logits, "indices": np.tile(np.arange(4), (6, 1))}, {}, frozenset({"exact"}))
    yield Case("given_none", {"logits": logits, "indices": np.full((6, 4), -1)}, {}, frozenset({"exact"}))


INVALID = (
    (Case("other_column", {"logits": np.zeros((2, 3)), "indices": np.array([[0, 1, 2], [1, 1, -1]])}), ValueError,
     r"^relu_route: indices\[1, 0\]=1 must be 0 or -1 \(indices has shape \(2, 3\)\)"),
    (Case("other_width", {"logits": np.zeros((2, 3)), "indices": np.zeros((2, 2), int)}), ValueError,
     r"^relu_route: indices has shape \(2, 2\), but E must be 3"),
)


def _relu(run):
    l = np.asarray(run.inputs["logits"], float)
    given = run.inputs["indices"]
    want = np.maximum(l, 0) if given is None else np.where(given >= 0, np.maximum(l, 0), 0)
    w = np.asarray(run.outputs.weights, float)
    return (w == want) | (np.isnan(w) & np.isnan(want))


REQUIREMENTS = (
    Req("RELU_ROUTE-1", "A weight is max(logit, 0), bit for bit.", _relu),
    Req("RELU_ROUTE-2", "An expert is -1 exactly where its weight is 0.",
        lambda r: None if r.inputs["indices"] is not None else (r.outputs.indices < 0) == (r.outputs.weights == 0)),
    Req("RELU_ROUTE-3", "The gradient is that of the weight where it is not 0, and 0 elsewhere, at 0 too.",
        lambda r: r.grads["logits"] == np.where(r.outputs.weights == 0, 0, r.cotangents["weights"])),
)

OP = Op(
    name="gates.relu_route",
    inputs=(Arg("logits", "T E"), Arg("indices", "T E", "index", of="E", optional=True)),
    outputs=(Arg("indices", "T E", "index", of="E"), Arg("weights", "T E")),
    forward=relu_route,
    backward=relu_route_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, E, **_: (T * E, T * E),
    refs=("Wang, Zhu and Chen 2024 (ReMoE), eq. 5",),
)
