"""Take out of a routing the ids that are no experts: skip, zero and identity classes of a router."""

from typing import NamedTuple

import numpy as np

from moespec import corpus
from moespec.numerics import widen
from moespec.op import Arg, Case, Op, Req


class Limited(NamedTuple):
    """The routing of the experts proper."""

    kept: np.ndarray            # T K
    kept_weights: np.ndarray    # T K


class Saved(NamedTuple):
    kept: np.ndarray        # T K
    dtype: np.dtype


def limit_ids(indices, weights, *, experts):
    r"""Keep the choices below `experts`; the others become "none".

    .. math:: (k_{tj}, v_{tj}) = \begin{cases} (i_{tj}, w_{tj}) & 0 \le i_{tj} < \mathrm{experts} \\ (-1, 0) & \text{otherwise} \end{cases}

    A router may score more classes than there are experts: a class that skips the layer, identity experts, experts that return zero.
    They take part in the selection and in the normalisation of the weights; nothing is renormalised here.  What identity experts
    return is computed from the routing as it was (`experts.copy`).

    Parameters
    ----------
    indices : (T, K) integer
        -1 = no expert.
    weights : (T, K) real
    experts : int
        >= 0.

    Returns
    -------
    Limited(kept, kept_weights)
        int64; the dtype of `weights`.
    Saved

    Raises
    ------
    ValueError
        A negative number of experts; an id below -1.

    References
    ----------
    Jin et al. 2024 (MoE++), section 3.1; LongCat-Flash 2025, eq. 1.
    """
    OP.admit(indices, weights, experts=experts)
    live = (indices >= 0) & (indices < experts)
    kept = np.where(live, indices, -1).astype(np.int64)
    return Limited(kept, np.where(live, weights, 0.0).astype(weights.dtype)), Saved(kept, weights.dtype)


def limit_ids_backward(saved, dkept_weights):
    r"""What was kept passes.

    .. math:: \bar w_{tj} = [k_{tj} \ge 0] \, \bar v_{tj}
    """
    return np.where(saved.kept >= 0, widen(dkept_weights), 0.0).astype(saved.dtype)


def _check(dims, indices, weights, *, experts):
    if experts < 0:
        raise ValueError(f"limit_ids: experts={experts} must be at least 0 (indices has shape {indices.shape})")
    if indices.min(initial=0) < -1:
        raise ValueError(f"limit_ids: indices holds {indices.min()}, below -1 (indices has shape {indices.shape})")


# ---- what is checked -------------------------------------------------------------------------------------------------

def cases(rng):
    for case in corpus.routings(rng):
        case = case.add(weights=corpus.normal(rng, *case.inputs["indices"].shape), tags=("exact",))
        yield case.with_("6_of_8", experts=6)
    yield Case("boundary", {"indices": np.array([[3, 4], [4, 5], [2, 3]]), "weights": np.ones((3, 2))}, {"experts": 4}, frozenset({"exact"}))
    yield Case("no_experts", {"indices": np.array([[0, 1]]), "weights": np.ones((1, 2))}, {"experts": 0}, frozenset({"exact"}))
    yield Case("all_experts", {"indices": np.array([[0, 1]]), "weights": np.ones((1, 2))}, {"experts": 2}, frozenset({"exact"}))
    yield Case("nan_taken_out", {"indices": np.array([[0, 2], [1, -1]]), "weights": np.array([[0.5, np.nan], [0.5, np.inf]])}, {"experts": 2},
               frozenset({"exact", "nan", "inf"}))


_RIGHT = {"indices": np.zeros((2, 2), int), "weights": np.ones((2, 2))}
INVALID = (
    (Case("experts_negative", _RIGHT, {"experts": -1}), ValueError, r"^limit_ids: experts=-1 must be at least 0 \(indices has shape \(2, 2\)\)"),
    (Case("id_below_none", {**_RIGHT, "indices": np.full((2, 2), -2)}, {"experts": 1}), ValueError, r"^limit_ids: indices holds -2, below -1"),
    (Case("other_choices", {**_RIGHT, "weights": np.ones((2, 3))}, {"experts": 1}), ValueError,
     r"^limit_ids: weights has shape \(2, 3\), but K must be 2"),
)


def _by_loop(run):
    allowed = set(range(run.attrs["experts"]))
    for i, w, k, v in zip(*(a.ravel().tolist() for a in (run.inputs["indices"], run.inputs["weights"], *vars(run.outputs).values())), strict=True):
        if (k, v) != ((i, w) if i in allowed else (-1, 0.0)) and w == w:
            return False
    return True


REQUIREMENTS = (
    Req("LIMIT_IDS-1", "An id below the limit keeps its place and its weight, bit for bit; any other is -1 with weight 0.", _by_loop),
    Req("LIMIT_IDS-2", "What was taken out gets gradient 0, whatever its weight is.",
        lambda r: (r.outputs.kept >= 0) | ((r.grads["weights"] == 0) & (r.outputs.kept_weights == 0))),
    Req("LIMIT_IDS-3", "Limiting twice is limiting once.",
        lambda r: np.array_equal(r.rerun(indices=r.outputs.kept, weights=r.outputs.kept_weights).kept, r.outputs.kept)),
)

OP = Op(
    name="gates.limit_ids",
    inputs=(Arg("indices", "T K", "index", of="E"), Arg("weights", "T K")),
    outputs=(Arg("kept", "T K", "index", of="E"), Arg("kept_weights", "T K")),
    forward=limit_ids,
    backward=limit_ids_backward,
    cases=cases,
    invalid=INVALID,
    requirements=REQUIREMENTS,
    check=_check,
    flops=lambda T, K, **_: (0, 0),
    refs=("Jin et al. 2024, section 3.1", "LongCat-Flash 2025, eq. 1"),
)
